"""A speaker's training in bf16."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from test_speaker_train import run

from agent import speak
from clip_core.checkpoint import LAST, read_checkpoint

STEPS = 3


def test_bf16_learns_nearly_the_same(places: list[str], tmp_path: Path):
    """Weights stay fp32, losses differ by what bfloat16 rounds, and the speaker can be asked in either."""
    for precision in ("fp32", "bf16"):
        flags = ["--precision", precision, "--log-every", "1", "--dropout", "0", "--eval-splits", "none"]
        assert run(places, tmp_path / precision, STEPS, *flags) == 0
    logs = [(tmp_path / p / "log.jsonl").read_text().splitlines() for p in ("fp32", "bf16")]
    exact, rounded = ([json.loads(line)["loss"] for line in lines[:STEPS]] for lines in logs)
    assert exact != rounded
    torch.testing.assert_close(torch.tensor(rounded), torch.tensor(exact), rtol=5e-3, atol=0)
    model = read_checkpoint(tmp_path / "bf16" / LAST).model_state()
    assert {tensor.dtype for tensor in model.values()} == {torch.float32}
    out = tmp_path / "spoken.json"
    asked = ["--checkpoint", str(tmp_path / "bf16"), "--split", "val_seen", "--precision", "bf16", "--out", str(out)]
    assert speak.main([*places, *asked]) == 0
    assert len(json.loads(out.read_text())) == 3

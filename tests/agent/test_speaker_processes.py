"""A speaker's training in bf16, and on two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import agent_toy
import torch
from test_speaker_train import TINY, run

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


def test_two_processes_learn_as_one_with_the_double_batch(places: list[str], tmp_path: Path):
    """Without dropout nothing is random but the order of the instructions. Texts differ in length, so that the mean
    over the tokens of both ranks is not the mean of their means."""
    settings = ["--dropout", "0", "--feature-dropout", "0", "--eval-splits", "none"]
    assert run(places, tmp_path / "one", STEPS, *settings, "--batch", "6") == 0
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "agent.train"]
    command = [*places, "--out", str(tmp_path / "two"), "--steps", str(STEPS), *TINY, *settings, "--batch", "3"]
    done = subprocess.run(
        [sys.executable, *launch, *command],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    one, two = (read_checkpoint(tmp_path / name / LAST).model_state() for name in ("one", "two"))
    agent_toy.assert_close(two, one, 1e-6)

"""The command agent.train, in process: a short run, its resumption, every input it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import agent_toy
import pytest
import torch

from agent import train
from clip_core.checkpoint import BEST, LAST, load_model, read_checkpoint


def run(places: list[str], out: Path, steps: int, *more: str) -> int:
    return train.main([*places, "--out", str(out), "--steps", str(steps), *agent_toy.TINY, *more])


def test_a_run_leaves_what_its_help_promises(blind_run: Path, capsys: pytest.CaptureFixture):
    names = {path.name for path in blind_run.iterdir()}
    assert names >= {LAST, BEST, "log.jsonl", "curves.png", "routes_val_seen.png", "routes_val_unseen.png", "vocab.txt"}
    lines = [json.loads(line) for line in (blind_run / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 3
    assert any("val_unseen/success" in line for line in lines)
    state, config = load_model(blind_run, "follower.")
    assert config["sizes"]["hidden"] == 16
    assert config["features"] is None
    assert state["encoder.embedding.weight"].shape == (len(config["vocabulary"]), 8)
    assert (blind_run / "vocab.txt").read_text().split("\n")[:-1] == config["vocabulary"][:-1]


@pytest.mark.parametrize("flags", [["--objective", "imitation"], ["--objective", "imitation", "--feedback", "student"]])
def test_the_other_objectives(places: list[str], tmp_path: Path, flags: list[str], capsys: pytest.CaptureFixture):
    assert run(places, tmp_path / "run", 2, *flags) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "36 instructions in 2 buildings, evaluated on val_seen, val_unseen" in told
    assert "blind" in told
    losses = [k for k in json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[0]) if k.startswith("loss")]
    assert losses == ["loss"]


def test_options_of_the_trainer_learn_too(places: list[str], tmp_path: Path):
    options = {"plain": (), "bf16": ("--precision", "bf16"), "sum": ("--accumulate", "2"), "angle": ("--angle", "4")}
    found = {}
    for option, flags in options.items():
        assert run(places, tmp_path / option, 2, *flags, "--eval-splits", "none") == 0
        found[option] = read_checkpoint(tmp_path / option / LAST).tensors["model/follower.decoder.lstm.weight_hh"]
    plain = found.pop("plain")
    for option, weights in found.items():
        assert torch.isfinite(weights).all(), option
        assert not torch.equal(plain, weights), option
        assert weights.dtype == torch.float32, option


def test_resumed_run_ends_with_the_same_weights(places: list[str], tmp_path: Path):
    saving = ["--save-every", "2", "--eval-every", "3", "--eval-splits", "val_seen", "--seed", "3"]
    assert run(places, tmp_path / "whole", 6, *saving) == 0
    assert run(places, tmp_path / "parts", 3, *saving) == 0
    torch.manual_seed(99)  # what the process did before counts for nothing
    assert run(places, tmp_path / "parts", 6, *saving, "--resume") == 0
    whole, parts = (read_checkpoint(tmp_path / name / LAST) for name in ("whole", "parts"))
    assert whole.document["step"] == parts.document["step"] == 6
    assert whole.tensors.keys() == parts.tensors.keys()
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, parts.tensors[name]), name
    first = read_checkpoint(tmp_path / "parts" / BEST).document["step"]
    assert first in (3, 6)


def test_same_seed_same_weights(places: list[str], tmp_path: Path):
    for name, seed in (("one", "1"), ("again", "1"), ("other", "2")):
        assert run(places, tmp_path / name, 1, "--seed", seed, "--eval-splits", "none") == 0
    one, again, other = (read_checkpoint(tmp_path / name / LAST).model_state() for name in ("one", "again", "other"))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["follower.critic.0.weight"], other["follower.critic.0.weight"])


def test_folder_that_holds_a_run(places: list[str], blind_run: Path, capsys: pytest.CaptureFixture):
    before = {path: path.read_bytes() for path in blind_run.iterdir()}
    assert run(places, blind_run, 3) == 2
    told = capsys.readouterr().err
    assert "already holds a run" in told
    assert "--resume" in told
    assert {path: path.read_bytes() for path in blind_run.iterdir()} == before


def test_resume_with_another_config(places: list[str], blind_run: Path, capsys: pytest.CaptureFixture):
    before = (blind_run / LAST).read_bytes()
    command = [*places, "--out", str(blind_run), "--steps", "5", "--resume", *agent_toy.TINY]
    assert train.main([*command, "--hidden", "24", "--gamma", "0.5"]) == 2
    told = capsys.readouterr().err
    assert "follower.gamma: found 0.9, expected 0.5" in told
    assert "sizes.hidden: found 16, expected 24" in told
    assert (blind_run / LAST).read_bytes() == before


def test_resume_where_there_is_nothing(places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture):
    assert run(places, tmp_path / "run", 3, "--resume") == 2
    assert "cannot resume" in capsys.readouterr().err


def test_damaged_checkpoint_names_the_good_one(places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "run"
    assert run(places, out, 2) == 0
    data = bytearray((out / LAST).read_bytes())
    data[-100] ^= 1
    (out / LAST).write_bytes(data)
    assert run(places, out, 4, "--resume") == 2
    told = capsys.readouterr().err
    assert "damaged" in told
    assert f"cp {out / BEST} {out / LAST}" in told


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--data", "none"], ["no folder none"]),
        (["--connectivity", "none"], ["no folder none", "connectivity files"]),
        (["--features", "none/store"], ["no feature store at none/store", "python -m precompute convert"]),
        (["--device", "tpu"], ["'tpu'"]),
        (["--steps", "0"], ["steps is 0", "expected 1 or more"]),
        (["--hidden", "15"], ["hidden is 15", "expected a multiple of 2"]),
        (["--angle", "6"], ["angle is 6", "expected a multiple of 4"]),
        (["--batch", "0"], ["batch is 0", "expected 1 or more"]),
        (["--dropout", "1"], ["dropout is 1.0", "less than 1"]),
        (["--feedback", "student"], ["feedback is 'student'", "--objective imitation"]),
    ],
)
def test_bad_input(places: list[str], tmp_path: Path, capsys, monkeypatch, flags: list[str], parts: list[str]):
    monkeypatch.chdir(tmp_path)
    assert run(places, tmp_path / "run", 1, *flags) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "Traceback" not in told
    for part in parts:
        assert part in told
    assert not (tmp_path / "run").exists()


def test_building_of_an_unseen_split_in_train(small_data: Path, data_dir: Path, tmp_path: Path, capsys):
    items = (small_data / "R2R_train.json").read_text()
    for split in ("train", "val_unseen"):
        (tmp_path / f"R2R_{split}.json").write_text(items)
    command = [
        "--data",
        str(tmp_path),
        "--connectivity",
        str(data_dir / "connectivity"),
        "--out",
        str(tmp_path / "run"),
    ]
    assert train.main([*command, "--steps", "1", *agent_toy.TINY]) == 2
    assert "expected disjoint buildings" in capsys.readouterr().err

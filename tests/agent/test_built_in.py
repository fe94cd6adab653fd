"""Training and evaluation without --data: the built-in houses, made once, in a small version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import agent_toy
import pytest
import torch

from agent import evaluate, speak, train
from agent.config import BUILT_IN, PRESETS, by_layout
from clip_core.features import FeatureStore
from clip_core.shipped import MODEL
from envs.houses.built_in import CACHE_VARIABLE, world_folder
from envs.houses.world import WorldConfig
from precompute import prepare

SMALL = WorldConfig(seed=1, train=1, unseen=1, face_px=32, train_routes=4, eval_routes=4)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder and a small world to make in it."""
    monkeypatch.setattr(prepare, "WORLD", SMALL)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path / "cache"
    torch.set_num_threads(threads)


def test_from_nothing_to_the_table(cache: Path, capsys: pytest.CaptureFixture):
    assert train.main(["--steps", "2", *agent_toy.TINY, "--eval-every", "0"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for words in ("using the built-in procedural houses", "Making the built-in houses", "Encoding their panoramas",
                  "The same follower blind", "this agent", "shortest", "random", "Next, for example"):  # fmt: skip
        assert words in told, words
    world = world_folder()
    assert world.is_relative_to(cache)
    store = FeatureStore.open(prepare.features_folder())
    assert store.header.model == MODEL
    assert len(store) > 10
    tables = json.loads(Path("runs/houses/table.json").read_text())
    assert set(tables) == {"val_seen", "val_unseen"}
    for rows in tables.values():
        assert list(rows) == ["shortest", "random", "blind", "this agent"]
        assert rows["shortest"]["success"] == rows["shortest"]["spl"] == 1
        assert 0 <= rows["random"]["success"] < 1
    assert Path("runs/houses/blind/last.safetensors").is_file()

    before = {path: path.stat().st_mtime_ns for path in world.rglob("*") if path.is_file()}
    assert train.main(["--steps", "3", *agent_toy.TINY, "--eval-every", "0", "--resume"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Making the built-in houses" not in told
    assert "Encoding" not in told
    for flags in (["--checkpoint", "runs/houses"], ["--checkpoint", "runs/houses/blind"], ["--policy", "stop"]):
        assert evaluate.main([*flags, "--split", "val_unseen"]) == 0
    tiny = ["--train", "speaker", "--steps", "1", "--hidden", "16", "--word", "8", "--batch", "4", "--eval-every", "0"]
    assert train.main(tiny) == 0
    command = ["--checkpoint", "runs/houses_speaker", "--split", "val_unseen", "--out", "spoken.json"]
    assert speak.main(command) == 0
    scans = {item["scan"] for item in json.loads((world / "R2R_val_unseen.json").read_text())}
    assert {item["scan"] for item in json.loads(Path("spoken.json").read_text())} == scans
    assert before == {path: path.stat().st_mtime_ns for path in world.rglob("*") if path.is_file()}


def test_blind_in_the_houses_needs_no_features(cache: Path, capsys: pytest.CaptureFixture):
    command = ["--features", "none", "--steps", "1", *agent_toy.TINY, "--eval-splits", "val_unseen"]
    assert train.main([*command, "--out", "blind"]) == 0
    assert "Encoding" not in capsys.readouterr().out
    assert not prepare.features_folder().exists()
    assert list(json.loads(Path("blind/table.json").read_text())["val_unseen"]) == ["shortest", "random", "blind"]


def test_cache_that_cannot_be_written(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    cache.write_text("a file")
    assert train.main(["--steps", "1"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "cannot be written" in told
    assert CACHE_VARIABLE in told


def test_the_presets_differ_where_no_data_is_named():
    assert train.parse(["--env", "r2r"]) == by_layout(BUILT_IN["r2r"]())
    assert train.parse(["--env", "r2r", "--recipe", "envdrop"]) == BUILT_IN["r2r"]()
    named = train.parse(["--data", "R2R"])
    assert named.follower == PRESETS["r2r"]().follower
    assert not named.blind_twin
    assert train.parse(["--data=R2R"]).follower == named.follower

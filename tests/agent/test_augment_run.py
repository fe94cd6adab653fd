"""Back-translation from the command line: runs, their resumption, files of routes, every input that is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import agent_toy
import pytest
import torch

from agent import evaluate, speak, train
from clip_core.checkpoint import LAST, load_model, read_checkpoint
from envs.episodes import load_episodes

TINY_SPEAKER = ["--train", "speaker", "--hidden", "16", "--word", "8", "--batch", "4", "--angle", "8"]
QUIET = ["--eval-splits", "none"]


def train_speaker(places: list[str], out: Path, *flags: str) -> Path:
    command = [*places, "--out", str(out), "--steps", "20", *TINY_SPEAKER, *QUIET, *flags]
    assert train.main(command) == 0
    return out


@pytest.fixture(scope="module")
def speaker_run(places: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A blind speaker of 20 steps."""
    return train_speaker(places, tmp_path_factory.mktemp("speakers") / "run")


@pytest.fixture(scope="module")
def routes_file(places: list[str], speaker_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 sampled routes with two drawn instructions each."""
    out = tmp_path_factory.mktemp("routes") / "new.json"
    flags = ["--sample-routes", "40", "--search", "sample", "--instructions", "2", "--out", str(out)]
    assert speak.main([*places, "--checkpoint", str(speaker_run), *flags]) == 0
    return out


def run(places: list[str], out: Path, steps: int, *flags: str) -> int:
    return train.main([*places, "--out", str(out), "--steps", str(steps), *agent_toy.TINY, *flags])


def refused(capsys: pytest.CaptureFixture) -> str:
    return " ".join(capsys.readouterr().err.split())


def record(folder: Path) -> dict[str, Any]:
    return load_model(folder / LAST)[1]


def test_a_run_with_sampled_routes(places: list[str], speaker_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    flags = ["--augment-speaker", str(speaker_run), "--augment-count", "50", "--log-every", "1"]
    assert run(places, tmp_path / "run", 4, *flags) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "back-translation: every second batch from 50 routes sampled (2 buildings" in told
    assert told.count("a blind agent has no feature channels to leave out") == 1
    assert "PRE-EXPLORATION" not in told
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    kinds = ["generated_reached" in line for line in lines if "loss" in line]
    assert kinds == [False, True, False, True]
    kept = record(tmp_path / "run")["augment"]
    assert kept["explored"] == []
    assert kept["pre_explore"] is False
    assert kept["speaker_path"] == str(speaker_run)
    assert read_checkpoint(tmp_path / "run" / LAST).model_state("author") == {}


def test_resumed_run_ends_with_the_same_weights(places: list[str], speaker_run: Path, tmp_path: Path):
    flags = ["--augment-speaker", str(speaker_run), "--augment-count", "30", "--augment-search", "sample"]
    flags += ["--seed", "3", *QUIET]
    assert run(places, tmp_path / "whole", 6, *flags) == 0
    assert run(places, tmp_path / "parts", 3, *flags) == 0
    torch.manual_seed(99)
    assert run(places, tmp_path / "parts", 6, *flags, "--resume") == 0
    whole, parts = (read_checkpoint(tmp_path / name / LAST).tensors for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


def test_both_kinds_in_one_update(places: list[str], speaker_run: Path, tmp_path: Path):
    """R2R-EnvDrop's --accumulateGrad."""
    flags = ["--augment-speaker", str(speaker_run), "--augment-count", "30", "--accumulate", "2", "--log-every", "1"]
    assert run(places, tmp_path / "run", 2, *flags, *QUIET) == 0
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert all({"reached", "generated_reached"} <= set(line) for line in lines if "loss" in line)


def test_written_routes_lie_in_train_and_are_new(small_data: Path, routes_file: Path):
    items = json.loads(routes_file.read_text())
    known = load_episodes(small_data, "train")
    assert {item["scan"] for item in items} <= {e.scan for e in known}
    assert not {tuple(item["path"]) for item in items} & {e.path for e in known}
    assert all(1 <= len(item["instructions"]) <= 2 and all(item["instructions"]) for item in items)
    assert 30 < len(items) <= 40


def test_a_written_file_is_learned_from(
    places: list[str], routes_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert run(places, tmp_path / "run", 2, "--augment-routes", str(routes_file), *QUIET) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "with the instructions of the file" in told
    assert record(tmp_path / "run")["augment"]["speaker_sha256"] is None
    items = json.loads(routes_file.read_text())
    items[0]["instructions"] = ["Turn left."]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(items))
    assert run(places, tmp_path / "run", 4, "--augment-routes", str(other), *QUIET, "--resume") == 2
    assert "augment.routes_sha256" in refused(capsys)
    moved = routes_file.rename(tmp_path / "moved.json")
    assert run(places, tmp_path / "run", 4, "--augment-routes", str(moved), *QUIET, "--resume") == 0
    moved.rename(routes_file)


def test_pre_exploration_is_asked_for_said_and_recorded(
    places: list[str], small_data: Path, speaker_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    unseen = {e.scan for e in load_episodes(small_data, "val_unseen")}
    flags = ["--augment-speaker", str(speaker_run), "--augment-count", "20"]
    assert run(places, tmp_path / "run", 2, *flags, "--pre-explore") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"PRE-EXPLORATION: the generated routes walk {len(unseen)} UNSEEN buildings" in told
    assert set(record(tmp_path / "run")["augment"]["explored"]) == unseen
    assert evaluate.main([*places, "--checkpoint", str(tmp_path / "run"), "--split", "val_unseen"]) == 0
    assert "PRE-EXPLORED: the follower learned in" in " ".join(capsys.readouterr().out.split())
    assert run(places, tmp_path / "next", 2, "--start-from", str(tmp_path / "run")) == 2
    assert "has explored" in refused(capsys)
    assert run(places, tmp_path / "next", 2, *flags, "--pre-explore", "--eval-splits", "val_seen") == 2
    assert "found no unseen buildings" in refused(capsys)


def test_a_follower_starts_from_another(places: list[str], blind_run: Path, speaker_run: Path, tmp_path: Path, capsys):
    """With a learning rate of 0 it stays there."""
    assert run(places, tmp_path / "same", 2, "--start-from", str(blind_run / LAST), "--lr", "0", *QUIET) == 0
    start, end = (load_model(folder / LAST, "follower.")[0] for folder in (blind_run, tmp_path / "same"))
    assert all(torch.equal(start[name], end[name]) for name in start)
    anew = ["--start-from", str(blind_run)]
    for flags, message in (
        (["--hidden", "32"], "has hidden 16 instead of 32"),
        (["--min-word-count", "1"], "they differ; expected the same"),
    ):
        assert run(places, tmp_path / "other", 2, *anew, *flags) == 2
        assert message in refused(capsys)
    assert run(places, tmp_path / "other", 2, "--start-from", str(speaker_run)) == 2
    assert "holds a speaker; expected a follower" in refused(capsys)


def test_speakers_that_do_not_fit(
    places: list[str], data_dir: Path, small_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    other_words = train_speaker(places, tmp_path / "words", "--min-word-count", "1")
    assert run(places, tmp_path / "run", 2, "--augment-speaker", str(other_words)) == 2
    assert "the speaker was trained with another vocabulary than the follower" in refused(capsys)
    store = agent_toy.write_store(tmp_path / "store", small_data, data_dir / "connectivity", "ViT-B-32")
    seeing = train_speaker(places, tmp_path / "seeing", "--features", str(store))
    assert run(places, tmp_path / "run", 2, "--augment-speaker", str(seeing)) == 2
    assert "the speaker was trained with the features model ViT-B-32" in refused(capsys)
    other_angles = train_speaker(places, tmp_path / "angles", "--elevation-base", "view")
    assert run(places, tmp_path / "run", 2, "--augment-speaker", str(other_angles)) == 2
    assert "the speaker was trained with --elevation-base view" in refused(capsys)
    assert not (tmp_path / "run").exists()

    # With the features of the follower it is welcome, and there are channels to drop.
    flags = ["--features", str(store), "--augment-speaker", str(seeing), "--augment-count", "20", *QUIET]
    assert run(places, tmp_path / "sees", 2, *flags) == 0
    assert "environmental dropout 0.4" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("leaves", "but scan"),
        ("unseen", "which is not among the 2 buildings to learn in"),
        ("unknown", "has no viewpoint 'nowhere'"),
        ("cut", "is not complete JSON"),
        ("absent", "no file"),
    ],
)
def test_files_that_are_refused(
    places: list[str],
    small_data: Path,
    routes_file: Path,
    tmp_path: Path,
    fault: str,
    message: str,
    capsys: pytest.CaptureFixture,
):
    items = json.loads(routes_file.read_text())
    route = items[3]
    if fault == "leaves":
        route["path"] = [route["path"][0], route["path"][-1]]
    elif fault == "unseen":
        route["scan"] = load_episodes(small_data, "val_unseen")[0].scan
    elif fault == "unknown":
        route["path"][1] = "nowhere"
    file = tmp_path / "faulty.json"
    if fault != "absent":
        file.write_text(json.dumps(items)[: -50 if fault == "cut" else None])
    assert run(places, tmp_path / "run", 2, "--augment-routes", str(file)) == 2
    told = refused(capsys)
    assert message in told
    assert fault in ("cut", "absent") or str(route["path_id"]) in told
    assert not (tmp_path / "run").exists()


def test_flags_of_speak(places: list[str], speaker_run: Path, capsys: pytest.CaptureFixture):
    assert speak.main([*places, "--checkpoint", str(speaker_run), "--sample-routes", "5"]) == 2
    assert "name a file with --out" in refused(capsys)
    assert speak.main([*places, "--checkpoint", str(speaker_run), "--sample-routes", "-1"]) == 2
    assert "sample_routes is -1" in refused(capsys)

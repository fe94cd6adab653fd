"""The command agent.evaluate with searches, a speaker, several checkpoints: what it says, writes, refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import agent_toy
import numpy as np
import pytest
import tyro

from agent import evaluate, inference, train
from agent.candidates import Candidates
from agent.evaluate_config import EvaluateConfig
from agent.loading import load_trained
from agent.pragmatics import WEIGHTS, WeightChoice, choose_weight
from clip_core.checkpoint import BEST, LAST
from envs.episodes import load_episodes
from envs.metrics import METRICS
from envs.scenes import load_scenes
from envs.submission import read_predictions, validate
from envs.tables import World

SMALL_SPEAKER = ["--train", "speaker", "--hidden", "16", "--word", "8", "--batch", "4", "--angle", "8", "--steps", "2"]


@pytest.fixture(scope="module")
def speaker_run(places: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A blind speaker of the words that `blind_run` knows."""
    out = tmp_path_factory.mktemp("runs") / "speaker"
    assert train.main([*places, *SMALL_SPEAKER, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def other_words(places: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A follower and a speaker that know every word of train."""
    folder = tmp_path_factory.mktemp("other")
    every = [*places, "--min-word-count", "1", "--steps", "1"]
    assert train.main([*every, *agent_toy.TINY, "--out", str(folder / "follower")]) == 0
    assert train.main([*every, *SMALL_SPEAKER, "--out", str(folder / "speaker")]) == 0
    return folder / "follower", folder / "speaker"


def said(capsys: pytest.CaptureFixture) -> str:
    """What was printed, in one line."""
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("method", ["beam", "dijkstra", "best-first"])
def test_a_search_is_scored_written_and_told(
    places: list[str], small_data: Path, data_dir: Path, blind_run: Path, tmp_path: Path, capsys, method: str
):
    command = [*places, "--split", "val_unseen"]
    searched = [*command, "--checkpoint", str(blind_run), "--search", method, "--k", "4"]
    found = {}
    for counted in ("", "--count-exploration"):
        out, submission = tmp_path / f"{counted}.json", tmp_path / f"{counted}submission.json"
        written = ["--json", str(out), "--submission", str(submission)]
        assert evaluate.main([*searched, *written, *([counted] if counted else [])]) == 0
        told = said(capsys)
        how = "exploration counted" if counted else "exploration not counted"
        assert f"val_unseen: {method} search, k 4, {how}" in told
        assert "best of 4" in told
        assert "follower alone" not in told
        found[counted] = json.loads(out.read_text())
        episodes = load_episodes(small_data, "val_unseen")
        scenes = load_scenes(data_dir / "connectivity", {e.scan for e in episodes})
        assert validate(read_predictions(submission), episodes, scenes) == []
        again = tmp_path / "again.json"
        assert evaluate.main([*command, "--predictions", str(submission), "--json", str(again)]) == 0
        assert {m: json.loads(again.read_text())[m] for m in METRICS} == {m: found[counted][m] for m in METRICS}
        capsys.readouterr()
    plain, walked = found[""], found["--count-exploration"]
    assert plain["search"]["method"] == method
    assert (plain["search"]["k"], plain["search"]["candidates"], plain["search"]["with_fewer"]) == (4, 4.0, 0)
    assert (plain["search"]["exploration_counted"], walked["search"]["exploration_counted"]) == (False, True)
    assert (plain["search"]["speaker"], plain["search"]["speaker_weight"]) == (None, None)
    for name in ("nav_error", "success"):  # the same ends
        assert plain[name] == walked[name]
        assert plain["beside"]["best of 4"][name] == walked["beside"]["best of 4"][name]
    assert walked["length"] > 2 * plain["length"]
    assert plain["beside"]["best of 4"]["nav_error"] <= plain["nav_error"]


@pytest.mark.parametrize("method", ["beam", "dijkstra", "best-first"])
def test_bfloat16_finds_nearly_the_same(
    places: list[str], blind_run: Path, speaker_run: Path, tmp_path: Path, method: str
):
    base = [*places, "--split", "val_unseen", "--checkpoint", str(blind_run), "--search", method, "--k", "20"]
    heard = ["--speaker", str(speaker_run), "--speaker-weight", "0.5", "--json", str(tmp_path / "a.json")]
    found = {}
    for precision in ("fp32", "bf16"):
        assert evaluate.main([*base, *heard, "--precision", precision]) == 0
        found[precision] = json.loads((tmp_path / "a.json").read_text())
    one, other = ([item["nav_error"] for item in found[p]["per_item"]] for p in found)
    assert sum(a == b for a, b in zip(one, other, strict=True)) >= 5


def test_fewer_routes_than_asked_for_is_said(places: list[str], blind_run: Path, capsys: pytest.CaptureFixture):
    """A scan has some hundred viewpoints, and as many routes that Dijkstra's search can find."""
    command = [*places, "--split", "val_unseen", "--checkpoint", str(blind_run), "--search", "dijkstra"]
    assert evaluate.main([*command, "--k", "5000"]) == 0
    assert "fewer than 5000 routes for 9 of 9 instructions, at least" in said(capsys)
    assert evaluate.main([*command, "--k", "50", "--max-expansions", "5"]) == 0
    assert "9 of 9 searches gave up after 5 places" in said(capsys)


def test_greedy_says_nothing_of_a_search(places: list[str], blind_run: Path, tmp_path: Path, capsys):
    command = [*places, "--split", "val_unseen", "--checkpoint", str(blind_run), "--json", str(tmp_path / "a.json")]
    assert evaluate.main(command) == 0
    told = said(capsys)
    assert "exploration" not in told
    assert "best of" not in told
    document = json.loads((tmp_path / "a.json").read_text())
    assert (document["search"], document["beside"]) == ({"method": "greedy", "speaker": None}, {})


def test_the_speakers_weight_comes_from_val_seen(
    places: list[str], blind_run: Path, speaker_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    """Chosen there, it gives what the same weight given gives; on val_seen itself it is the best one."""
    base = [*places, "--checkpoint", str(blind_run), "--search", "dijkstra", "--k", "12", "--speaker", str(speaker_run)]
    unseen = [*base, "--split", "val_unseen"]

    def evaluated(name: str, command: list[str]) -> dict:
        assert evaluate.main([*command, "--json", str(tmp_path / name)]) == 0
        return json.loads((tmp_path / name).read_text())

    chosen = evaluated("chosen", unseen)
    told, weight = said(capsys), chosen["search"]["speaker_weight"]
    assert f"speaker weight {weight:.2f} (chosen on val_seen), exploration not counted" in told
    assert f"success on val_seen is highest with speaker weight {weight:.2f}" in told
    assert "follower alone" in told
    assert chosen["search"]["weight_chosen_on"] == "val_seen"
    assert chosen["search"]["speaker"] == str(speaker_run / BEST)
    curve = {point["weight"]: point["success"] for point in chosen["search"]["weight_curve"]}
    assert list(curve) == WEIGHTS.tolist()
    assert curve[weight] == max(curve.values())
    given = evaluated("given", [*unseen, "--speaker-weight", str(weight)])
    assert f"speaker weight {weight:.2f}, exploration not counted" in said(capsys)
    assert "weight_curve" not in given["search"]
    assert [given[m] for m in METRICS] == [chosen[m] for m in METRICS]
    assert given["beside"] == chosen["beside"]
    seen = evaluated("seen", [*base, "--split", "val_seen"])
    assert seen["search"]["speaker_weight"] == weight
    assert seen["success"] == max(curve.values())
    alone = evaluated("alone", [*unseen, "--speaker-weight", "1"])
    assert alone["per_item"] != evaluated("follower", [*unseen, "--speaker-weight", "0"])["per_item"]
    without = evaluated("without", [*unseen[:-4], "--split", "val_unseen"])
    assert {m: without[m] for m in METRICS} == chosen["beside"]["follower alone"]


def test_nothing_of_the_unseen_split_chooses_the_weight(
    places: list[str], small_data: Path, blind_run: Path, speaker_run: Path, monkeypatch: pytest.MonkeyPatch
):
    used = list[tuple[Candidates, World]]()

    def spy(candidates: Candidates, heard: np.ndarray, world: World, name: str) -> WeightChoice:
        used.append((candidates, world))
        return choose_weight(candidates, heard, world, name)

    monkeypatch.setattr(inference, "choose_weight", spy)
    search = ["--search", "beam", "--k", "3", "--speaker", str(speaker_run)]
    assert evaluate.main([*places, "--split", "val_unseen", "--checkpoint", str(blind_run), *search]) == 0
    ((candidates, world),) = used
    seen = load_episodes(small_data, "val_seen")
    assert [e.instr_id for e in world.episodes] == [e.instr_id for e in seen]
    starts = candidates.viewpoint[candidates.best(candidates.log_prob), 0].tolist()
    assert starts == [world.row(e.scan, e.start) for e in seen]


def test_several_checkpoints(places: list[str], blind_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    command = [*places, "--split", "val_unseen"]
    both = ["--checkpoint", str(blind_run / BEST), str(blind_run / LAST)]
    assert evaluate.main([*command, *both, "--json", str(tmp_path / "both.json")]) == 0
    document = json.loads((tmp_path / "both.json").read_text())
    assert document["source"]["name"] == f"{blind_run / BEST} + {blind_run / LAST}"
    assert document["source"]["chosen_by"] == ["val_unseen/success", None]
    twice = ["--checkpoint", str(blind_run / BEST), str(blind_run / BEST), "--search", "beam", "--k", "3"]
    once = ["--checkpoint", str(blind_run / BEST), "--search", "beam", "--k", "3"]
    found = []
    for flags in (twice, once):
        assert evaluate.main([*command, *flags, "--json", str(tmp_path / "a.json")]) == 0
        found.append(json.loads((tmp_path / "a.json").read_text())["per_item"])
    assert found[0] == found[1]


def test_the_test_split_takes_a_search(places: list[str], blind_run: Path, speaker_run: Path, tmp_path: Path, capsys):
    """Without goals there is no oracle row, and the weight is still chosen on val_seen."""
    submission = tmp_path / "submission.json"
    search = ["--search", "best-first", "--k", "3", "--speaker", str(speaker_run), "--count-exploration"]
    command = [*places, "--split", "test", "--checkpoint", str(blind_run), *search, "--submission", str(submission)]
    assert evaluate.main(command) == 0
    told = said(capsys)
    assert "9 routes in EvalAI's format, checked" in told
    assert "success on val_seen is highest" in told
    assert max(len(item["trajectory"]) for item in read_predictions(submission)) > 3


def bad_inputs(run: Path, speaker: Path, others: tuple[Path, Path]) -> dict[str, tuple[list[str], list[str]]]:
    """Name -> flags, parts of the message."""
    blind, beam = ["--checkpoint", str(run)], ["--search", "beam"]
    heard = [*blind, *beam, "--speaker", str(speaker)]
    return {
        "k 0": ([*blind, *beam, "--k", "0"], ["k is 0: expected 1 or more candidates"]),
        "k of greedy": ([*blind, "--k", "3"], ["--k goes with --search beam, dijkstra or best-first", "greedy"]),
        "no expansion": ([*blind, "--search", "dijkstra", "--max-expansions", "0"], ["max_expansions is 0"]),
        "policy": (["--policy", "stop", *beam], ["--search beam goes with --checkpoint, found --policy"]),
        "greedy speaker": ([*blind, "--speaker", str(speaker)], ["--speaker goes with --search"]),
        "greedy walk": ([*blind, "--count-exploration"], ["--count-exploration goes with --search"]),
        "no speaker": ([*blind, *beam, "--speaker-weight", "0.5"], ["there is no speaker", "--speaker RUN"]),
        "weight above": ([*heard, "--speaker-weight", "1.5"], ["--speaker-weight is 1.5", "the follower alone"]),
        "weight below": ([*heard, "--speaker-weight", "-0.1"], ["--speaker-weight is -0.1"]),
        "speaker's words": (
            [*blind, *beam, "--speaker", str(others[1])],
            ["another vocabulary than the follower", "--vocabulary RUN/vocab.txt"],
        ),
        "no speaker there": ([*blind, *beam, "--speaker", "nowhere"], ["no checkpoint found", "nowhere"]),
        "follower for speaker": ([*blind, *beam, "--speaker", str(run)], ["holds a follower; expected a speaker"]),
        "unlike": (
            ["--checkpoint", str(run), str(others[0])],
            [f"{others[0]} and {run} cannot decide together", "vocabularies differ"],
        ),
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "k 0", "k of greedy", "no expansion", "policy", "greedy speaker", "greedy walk", "no speaker", "weight above",
        "weight below", "speaker's words", "no speaker there", "follower for speaker", "unlike",
    ],
)  # fmt: skip
def test_bad_input(
    places: list[str], blind_run: Path, speaker_run: Path, other_words: tuple[Path, Path], capsys, name: str
):
    flags, parts = bad_inputs(blind_run, speaker_run, other_words)[name]
    assert evaluate.main([*places, "--split", "val_seen", *flags]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    for part in parts:
        assert part in " ".join(captured.err.split()), part
    assert "Traceback" not in captured.err


def test_without_val_seen_the_weight_must_be_given(
    small_data: Path, data_dir: Path, blind_run: Path, speaker_run: Path, tmp_path: Path, capsys
):
    shutil.copy(small_data / "R2R_val_unseen.json", tmp_path)
    places = ["--data", str(tmp_path), "--connectivity", str(data_dir / "connectivity"), "--device", "cpu"]
    search = ["--search", "beam", "--k", "2", "--speaker", str(speaker_run)]
    command = [*places, "--split", "val_unseen", "--checkpoint", str(blind_run), *search]
    assert evaluate.main(command) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"{tmp_path} has no split val_seen to choose the speaker's weight on" in told
    assert "--speaker-weight 0.9" in told
    assert evaluate.main([*command, "--speaker-weight", "0.9"]) == 0
    assert "speaker weight 0.90, exploration not counted" in said(capsys)


def test_a_speaker_of_the_unseen_buildings_is_refused(
    small_data: Path, data_dir: Path, blind_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    """Trained on another cut of the data: its train is the follower's val_unseen."""
    for split, source in {"train": "val_unseen", "val_unseen": "val_unseen", "val_seen": "val_seen"}.items():
        shutil.copy(small_data / f"R2R_{source}.json", tmp_path / f"R2R_{split}.json")
    graphs = ["--connectivity", str(data_dir / "connectivity"), "--device", "cpu"]
    vocabulary = ["--vocabulary", str(blind_run / "vocab.txt"), "--eval-splits", "val_seen"]
    out = ["--out", str(tmp_path / "speaker")]
    assert train.main(["--data", str(tmp_path), *graphs, *SMALL_SPEAKER, *vocabulary, *out]) == 0
    command = ["--data", str(small_data), *graphs, "--split", "val_unseen", "--checkpoint", str(blind_run)]
    assert evaluate.main([*command, "--search", "beam", "--speaker", str(tmp_path / "speaker")]) == 2
    assert "the speaker was trained in" in " ".join(capsys.readouterr().err.split())


def test_searches_do_not_penalise_the_way_back_unless_asked(places: list[str], tmp_path: Path):
    layout = ["--layout", "4", "--way-back-penalty", "0.5", "--steps", "1"]
    assert train.main([*places, *agent_toy.TINY, *layout, "--out", str(tmp_path)]) == 0

    def penalty(*flags: str) -> float:
        member = load_trained(tmp_path / LAST, agent_toy.CPU)
        evaluate.penalise_way_back([member], tyro.cli(EvaluateConfig, args=["--checkpoint", str(tmp_path), *flags]))
        return member.model.way_back_penalty

    assert penalty() == 0.5
    assert penalty("--search", "beam") == 0
    assert penalty("--way-back-penalty", "2") == penalty("--search", "beam", "--way-back-penalty", "2") == 2

"""The command agent.evaluate, in process: what it prints and writes, every input it refuses."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import agent_toy
import pytest

from agent import evaluate
from clip_core.checkpoint import BEST
from envs.episodes import load_episodes
from envs.metrics import METRICS
from envs.scenes import load_scenes
from envs.submission import read_predictions, validate


@pytest.fixture
def graphs(data_dir: Path) -> Path:
    return data_dir / "connectivity"


@pytest.mark.parametrize("policy", ["shortest", "random", "stop"])
def test_policy_prints_a_table_and_writes_metrics(
    places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, policy: str
):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "new" / "scores.json"
    assert evaluate.main([*places, "--split", "val_seen", "--policy", policy, "--json", str(out)]) == 0
    told = capsys.readouterr().out
    assert f"{policy} on r2r val_seen" in told
    for heading in ("NE", "OE", "steps", "TL", "SR", "OSR", "SPL", "nDTW", "SDTW", "CLS"):
        assert heading in told
    assert max(map(len, told.replace(str(out), "").splitlines())) <= 80
    found = json.loads(out.read_text())
    assert list(found)[: len(METRICS)] == list(METRICS)
    assert all(0 <= found[name] <= 1 for name in ("success", "oracle_success", "spl", "ndtw", "sdtw", "cls"))
    assert (found["split"], found["count"], found["source"]) == ("val_seen", 9, {"kind": "policy", "name": policy})
    assert len(found["per_item"]) == 9
    for name in METRICS:
        assert sum(item[name] for item in found["per_item"]) / 9 == pytest.approx(found[name], abs=1e-12)
    if policy == "shortest":
        assert (found["success"], found["nav_error"]) == (1.0, 0.0)


def test_random_over_several_seeds(places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture):
    command = [*places, "--split", "val_seen", "--policy", "random"]
    for name, more in {"one": ["--seed", "4"], "two": ["--seed", "5"], "mean": ["--seed", "4", "--seeds", "2"]}.items():
        assert evaluate.main([*command, *more, "--json", str(tmp_path / name)]) == 0
    assert "over seeds" in capsys.readouterr().out
    one, two, mean = (json.loads((tmp_path / name).read_text()) for name in ("one", "two", "mean"))
    assert one["per_item"] != two["per_item"]
    assert [s["seed"] for s in mean["per_seed"]] == [4, 5]
    for metric in METRICS:
        assert mean[metric] == pytest.approx((one[metric] + two[metric]) / 2, abs=1e-12)
        assert mean["per_item"][3][metric] == pytest.approx(
            (one["per_item"][3][metric] + two["per_item"][3][metric]) / 2, abs=1e-12
        )


def test_golden_predictions_score_as_the_public_evaluators(data_dir: Path, golden_dir: Path, tmp_path: Path):
    out = tmp_path / "scores.json"
    predictions = golden_dir / "metrics/predictions_val_seen.json.gz"
    command = ["--data", str(data_dir / "r2r"), "--split", "val_seen", "--predictions", str(predictions)]
    assert evaluate.main([*command, "--keep-repeats", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    with gzip.open(golden_dir / "metrics/scores_val_seen.json.gz") as file:
        golden = json.load(file)
    assert {name: found[name] for name in METRICS} == pytest.approx(golden["mean"], rel=0, abs=1e-9)
    expected = {item["instr_id"]: item for item in golden["per_item"]}
    assert len(found["per_item"]) == found["count"] == len(expected) == 1021
    for item in found["per_item"]:
        theirs = expected[item["instr_id"]]
        assert [item[m] for m in METRICS] == pytest.approx([float(theirs[m]) for m in METRICS], rel=0, abs=1e-9)


def test_turns_on_the_spot_count_when_asked(places: list[str], tmp_path: Path):
    submission, command = tmp_path / "p.json", [*places, "--split", "val_seen"]
    assert evaluate.main([*command, "--policy", "random", "--submission", str(submission)]) == 0
    items = json.loads(submission.read_text())
    for item in items:
        item["trajectory"] = [entry for entry in item["trajectory"] for _ in (0, 1)]
    submission.write_text(json.dumps(items))
    found = {}
    for flag in ("--no-keep-repeats", "--keep-repeats"):
        out = tmp_path / flag
        assert evaluate.main([*command, "--predictions", str(submission), flag, "--json", str(out)]) == 0
        found[flag] = json.loads(out.read_text())
    assert [found[flag]["keep_repeats"] for flag in found] == [False, True]
    assert [found[flag]["steps"] for flag in found] == [5.0, 11.0]
    assert found["--keep-repeats"]["ndtw"] < found["--no-keep-repeats"]["ndtw"]


def test_checkpoint_scores_as_in_training(places: list[str], blind_run: Path, tmp_path: Path):
    """The metrics of the best checkpoint in the log, the routes drawn, the submission valid and scored the same."""
    logged = [json.loads(line) for line in (blind_run / "log.jsonl").read_text().splitlines()]
    expected = {k.split("/")[1]: v for line in logged for k, v in line.items() if k.startswith("val_unseen/")}
    out, submission, routes = (tmp_path / name for name in ("a.json", "submission.json", "routes.png"))
    command = [*places, "--split", "val_unseen"]
    written = ["--json", str(out), "--submission", str(submission), "--routes", str(routes)]
    assert evaluate.main([*command, "--checkpoint", str(blind_run), *written]) == 0
    found = json.loads(out.read_text())
    assert {name: found[name] for name in METRICS} == pytest.approx(expected, abs=1e-6)
    assert found["source"] == {
        "kind": "checkpoint",
        "name": str(blind_run / BEST),
        "chosen_by": "val_unseen/success",
    }
    assert routes.read_bytes().startswith(b"\x89PNG")
    assert evaluate.main([*command, "--predictions", str(submission), "--json", str(tmp_path / "b.json")]) == 0
    again = json.loads((tmp_path / "b.json").read_text())
    assert {k: again[k] for k in (*METRICS, "per_item")} == {k: found[k] for k in (*METRICS, "per_item")}


def test_the_test_split_has_a_submission_and_no_metrics(
    places: list[str], small_data: Path, graphs: Path, blind_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    submission, command = tmp_path / "submission.json", [*places, "--split", "test"]
    assert evaluate.main([*command, "--checkpoint", str(blind_run), "--submission", str(submission)]) == 0
    assert "9 routes in EvalAI's format, checked" in capsys.readouterr().out
    episodes = load_episodes(small_data, "test")
    scenes = load_scenes(graphs, {e.scan for e in episodes})
    assert validate(read_predictions(submission), episodes, scenes) == []
    assert evaluate.main([*command, "--predictions", str(submission)]) == 0
    assert "has no fault: 9 routes, every instruction of test" in capsys.readouterr().out


def test_faulty_predictions_are_summed_up(
    places: list[str], tmp_path: Path, blind_run: Path, capsys: pytest.CaptureFixture
):
    file, command = tmp_path / "p.json", [*places, "--split", "val_seen"]
    assert evaluate.main([*command, "--checkpoint", str(blind_run), "--submission", str(file)]) == 0
    items = json.loads(file.read_text())
    items[0]["trajectory"] = [items[0]["trajectory"]]
    items[1]["trajectory"][0][0] = "nowhere"
    items[2]["instr_id"] = "0_0"
    file.write_text(json.dumps(items[:-1]))
    capsys.readouterr()
    assert evaluate.main([*command, "--predictions", str(file)]) == 2
    told = capsys.readouterr().err
    for part in (str(file), "nested (1)", "viewpoint (1)", "unknown (1)", "missing (2)", "start (1)"):
        assert part in told, part


def bad_inputs(run: Path, folder: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Name -> flags, parts of the message."""
    blind = ["--checkpoint", str(run)]
    damaged = folder / "damaged.safetensors"
    damaged.write_bytes((run / BEST).read_bytes()[:-7])
    cut = folder / "cut.json"
    cut.write_text('[{"instr_id": ')
    return {
        "nothing": ([], ["nothing given to evaluate", "exactly one of --checkpoint RUN"]),
        "two sources": ([*blind, "--policy", "stop"], ["--checkpoint and --policy given", "exactly one"]),
        "no checkpoint": (["--checkpoint", str(folder / "none")], ["no checkpoint found", str(folder / "none")]),
        "damaged": (["--checkpoint", str(damaged)], ["damaged", str(damaged)]),
        "no predictions": (["--predictions", str(folder / "none")], ["no predictions file", str(folder / "none")]),
        "cut predictions": (["--predictions", str(cut)], [str(cut), "not complete JSON"]),
        "unknown split": (
            ["--policy", "stop", "--split", "val_unsen"],
            ["no file", "R2R_val_unsen.json", "splits found there: test, train, val_seen, val_unseen"],
        ),
        "no data": (["--policy", "stop", "--data", str(folder / "none")], ["no folder", str(folder / "none")]),
        "no graphs": (["--policy", "stop", "--connectivity", "none"], ["no folder none", "connectivity files"]),
        "seeds": (["--policy", "stop", "--seeds", "3"], ["--seeds is 3", "--policy random"]),
        "two submissions": (["--policy", "random", "--seeds", "3", "--submission", "x"], ["one run", "--seeds 3"]),
        "submitted twice": (["--predictions", str(cut), "--submission", "x"], ["--predictions", "already"]),
        "features of no one": (["--policy", "stop", "--features", "x"], ["--features goes with --checkpoint"]),
        "penalty of no one": (["--policy", "stop", "--way-back-penalty", "1"], ["goes with --checkpoint"]),
        "penalty": ([*blind, "--way-back-penalty", "1"], ["without a layout", "--recipe layout in training"]),
        "blind with features": ([*blind, "--features", "x"], ["trained blind", "leave --features away"]),
        "output folder": (["--policy", "stop", "--json", str(folder)], [str(folder), "is a folder"]),
        "test without submission": (["--policy", "stop", "--split", "test"], ["no goals", "--submission FILE"]),
        "test with json": ([*blind, "--split", "test", "--json", "x"], ["no goals", "--json"]),
        "shortest": (["--policy", "shortest", "--split", "test", "--submission", "x"], ["no goals", "shortest needs"]),
        "device": ([*blind, "--device", "tpu"], ["'tpu'", "expected auto, cpu, cuda"]),
    }  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "nothing", "two sources", "no checkpoint", "damaged", "no predictions", "cut predictions", "unknown split",
        "no data", "no graphs", "seeds", "two submissions", "submitted twice", "features of no one",
        "penalty of no one",
        "penalty", "blind with features", "output folder", "test without submission", "test with json", "shortest",
        "device",
    ],
)  # fmt: skip
def test_bad_input(
    places: list[str], blind_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch, name: str
):
    monkeypatch.chdir(tmp_path)
    flags, parts = bad_inputs(blind_run, tmp_path)[name]
    split = [] if "--split" in flags else ["--split", "val_seen"]
    before = sorted(tmp_path.iterdir())
    assert evaluate.main([*places, *split, *flags]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    for part in parts:
        assert part in captured.err, part
    assert "Traceback" not in captured.err
    assert sorted(tmp_path.iterdir()) == before


def test_checkpoint_of_something_else(places: list[str], blind_run: Path, tmp_path: Path, capsys, monkeypatch):
    """A run of a version with other sizes."""
    from agent import loading

    monkeypatch.setattr(loading, "load_model", lambda *_: ({}, {"follower": {"colour": 1}, "sizes": {}}))
    assert evaluate.main([*places, "--split", "val_seen", "--checkpoint", str(blind_run)]) == 2
    assert "not of this version's follower" in capsys.readouterr().err


@pytest.fixture(scope="module")
def seeing_run(places: list[str], small_data: Path, data_dir: Path, tmp_path_factory) -> tuple[Path, Path]:
    """A run that sees, and its store."""
    from agent import train

    folder = tmp_path_factory.mktemp("seeing")
    store = agent_toy.write_store(folder / "store", small_data, data_dir / "connectivity", "ViT-B-32")
    command = [*places, "--features", str(store), "--out", str(folder / "run"), "--steps", "2", *agent_toy.TINY]
    assert train.main(command) == 0
    return folder / "run", store


def test_features_are_those_of_the_training(
    places: list[str], small_data: Path, graphs: Path, seeing_run: tuple[Path, Path], tmp_path: Path, capsys
):
    run, store = seeing_run
    command = [*places, "--split", "val_unseen", "--checkpoint", str(run)]
    assert evaluate.main([*command, "--features", str(store)]) == 0
    capsys.readouterr()
    assert evaluate.main(command) == 2
    told = capsys.readouterr().err
    assert "trained with features model ViT-B-32, pretrained openai" in told
    assert "--features" in told
    other = agent_toy.write_store(tmp_path / "other", small_data, graphs, "RN50")
    assert evaluate.main([*command, "--features", str(other)]) == 2
    told = capsys.readouterr().err
    assert "model is 'RN50', expected 'ViT-B-32'" in told
    e = load_episodes(small_data, "val_unseen")[0]
    lacking = agent_toy.write_store(
        tmp_path / "lacking", small_data, graphs, "ViT-B-32", leave_out=f"{e.scan}_{e.goal}"
    )
    assert evaluate.main([*command, "--features", str(lacking)]) == 2
    assert "lacks 1 of" in capsys.readouterr().err
    assert evaluate.main([*command, "--features", str(tmp_path / "none")]) == 2
    assert f"no feature store at {tmp_path / 'none'}" in capsys.readouterr().err


def test_buildings_of_the_training_are_no_unseen_split(
    small_data: Path, blind_run: Path, graphs: Path, tmp_path, capsys
):
    """The trap: trained on one cut of R2R, evaluated on the unseen split of another."""
    (tmp_path / "R2R_val_unseen.json").write_text((small_data / "R2R_train.json").read_text())
    command = ["--data", str(tmp_path), "--connectivity", str(graphs), "--device", "cpu"]
    assert evaluate.main([*command, "--split", "val_unseen", "--checkpoint", str(blind_run)]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "of the buildings of val_unseen" in told
    assert "expected none" in told

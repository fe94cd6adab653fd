"""R4R and RxR end to end: generated or written in their exact format, trained on for some steps, evaluated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import agent_toy
import pytest
import rxr_files
import torch

from agent import evaluate, train
from agent.config import PRESETS, FollowerConfig, TrainConfig
from agent.data import Split
from agent.evaluation import poses
from agent.loading import chosen_by, load_trained
from agent.objectives import Batch, FollowerObjective
from agent.rollout import Choice, rollout
from agent.sight import Eyes
from clip_core.checkpoint import BEST, LAST, read_checkpoint
from clip_core.subword_tokenizer import SubwordTokenizer
from clip_core.tokenizer import WordTokenizer
from envs import r4r
from envs.guide_annotations import LANGUAGES
from envs.submission_rxr import read_rxr_predictions
from envs.tables import load_world

SPLITS = ("train", "val_seen", "val_unseen")


def in_place(data: Path, data_dir: Path) -> list[str]:
    return ["--data", str(data), "--connectivity", str(data_dir / "connectivity"), "--device", "cpu"]


def run(places: Sequence[str], env: str, out: Path, *more: str) -> int:
    return train.main(["--env", env, *places, "--out", str(out), "--steps", "2", *agent_toy.TINY, *more])


@pytest.fixture(scope="module")
def r4r_places(small_data: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags for R4R made from the small data."""
    out = tmp_path_factory.mktemp("r4r")
    made = r4r.main(
        [
            "--data",
            str(small_data),
            "--connectivity",
            str(data_dir / "connectivity"),
            "--out",
            str(out),
            "--join-m",
            "9",
        ]
    )
    assert made == 0
    return in_place(out, data_dir)


@pytest.fixture(scope="module")
def rxr_places(small_data: Path, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Flags for annotations in RxR's format on routes of the small data."""
    out = tmp_path_factory.mktemp("rxr")
    for i, split in enumerate(SPLITS):
        routes = json.loads((small_data / f"R2R_{split}.json").read_text())
        rxr_files.write_guide(out, split, rxr_files.guide_lines(split, routes, 1000 * i))
    hidden = rxr_files.public_lines(rxr_files.guide_lines("test_standard", routes, 9000))
    rxr_files.write_guide(out, "test_standard_public", hidden)
    return in_place(out, data_dir)


@pytest.fixture(scope="module")
def rxr_run(rxr_places: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "rxr"
    assert run(rxr_places, "rxr", out, "--subwords", "300", "--eval-every", "1") == 0
    return out


def log_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_presets() -> None:
    found = {env: train.parse(["--env", env, "--data", "D"]) for env in PRESETS}
    assert {env: config.env for env, config in found.items()} == {env: env for env in ("r2r", "r4r", "rxr")}
    configs = {env: config for env, config in found.items() if isinstance(config, TrainConfig)}
    assert {env: config.best_by for env, config in configs.items()} == {"r2r": "success", "r4r": "ndtw", "rxr": "ndtw"}
    assert {env: config.follower.teacher for env, config in configs.items()} == {
        "r2r": "shortest",
        "r4r": "route",
        "rxr": "route",
    }
    assert configs["rxr"].tokenizer == "subwords"
    assert configs["rxr"].follower.imitation_weight == 0.4
    assert configs["r4r"].tokenizer == "words"
    chosen = train.parse(["--env", "rxr", "--data", "D", "--best-by", "sdtw", "--languages", "en", "hi"])
    assert isinstance(chosen, TrainConfig)
    assert (chosen.best_by, chosen.languages) == ("sdtw", ("en", "hi"))


def test_rxr_run_records_its_subwords(rxr_run: Path, capsys: pytest.CaptureFixture) -> None:
    assert {path.name for path in rxr_run.iterdir()} >= {LAST, BEST, "subwords.json", "table.json", "log.jsonl"}
    assert not (rxr_run / "vocab.txt").exists()
    trained = load_trained(rxr_run, agent_toy.CPU)
    assert isinstance(trained.tokenizer, SubwordTokenizer)
    assert 100 < len(trained.tokenizer) <= 300
    assert trained.tokenizer.max_length == trained.config.max_words == 160
    text = rxr_files.text_of("te-IN", 4)
    assert trained.tokenizer.decode(trained.tokenizer.encode(text)).split() == trained.tokenizer.split(text)
    assert trained.model.encoder.embedding.num_embeddings == len(trained.tokenizer)


def test_best_checkpoint_of_rxr_is_that_of_ndtw(rxr_run: Path) -> None:
    judged = {line["step"]: line["val_unseen/ndtw"] for line in log_lines(rxr_run) if "val_unseen/ndtw" in line}
    assert len(judged) == 2
    assert read_checkpoint(rxr_run / BEST).document["step"] == max(judged, key=lambda step: judged[step])
    assert chosen_by(rxr_run) == chosen_by(rxr_run / BEST) == "val_unseen/ndtw"
    assert chosen_by(rxr_run / LAST) is None
    assert load_trained(rxr_run, agent_toy.CPU).config.teacher == "route"


def test_rxr_is_evaluated_by_language(
    rxr_places: list[str], rxr_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    common = ["--env", "rxr", *rxr_places, "--split", "val_unseen", "--checkpoint", str(rxr_run)]
    assert evaluate.main([*common, "--json", str(tmp_path / "all.json")]) == 0
    told = capsys.readouterr().out
    assert [line.split()[0] for line in told.splitlines() if line.split()[:1] and line.split()[0] in LANGUAGES] == [
        *LANGUAGES
    ]
    assert "weights best by ndtw on val_unseen" in told
    every = json.loads((tmp_path / "all.json").read_text())
    assert every["count"] == 12
    assert every["source"]["chosen_by"] == "val_unseen/ndtw"
    assert list(every["per_language"]) == [*LANGUAGES]
    assert all({"ndtw", "sdtw", "cls"} <= set(metrics) for metrics in every["per_language"].values())
    assert evaluate.main([*common, "--languages", "te", "--json", str(tmp_path / "te.json")]) == 0
    telugu = json.loads((tmp_path / "te.json").read_text())
    assert telugu["count"] == 3
    assert "per_language" not in telugu
    assert every["per_language"]["te-IN"]["ndtw"] == pytest.approx(telugu["ndtw"])
    of_all = {item["instr_id"]: item for item in every["per_item"]}
    assert [item == of_all[item["instr_id"]] for item in telugu["per_item"]] == [True] * 3
    assert "te-IN" not in capsys.readouterr().out  # one language needs no row beside the split's


def test_rxr_in_one_language(
    rxr_places: list[str], rxr_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "en"
    vocabulary = ["--vocabulary", str(rxr_run / "subwords.json")]
    assert run(rxr_places, "rxr", out, "--languages", "en", "--eval-splits", "val_seen", *vocabulary) == 0
    assert "24 instructions in 2 buildings" in " ".join(capsys.readouterr().out.split())
    found, first = (load_trained(folder, agent_toy.CPU).tokenizer.vocabulary for folder in (out, rxr_run))
    assert found == first
    words = ["--tokenizer", "words", "--eval-splits", "none"]
    assert run(rxr_places, "rxr", tmp_path / "words", "--languages", "en-US", *words) == 0
    assert isinstance(load_trained(tmp_path / "words", agent_toy.CPU).tokenizer, WordTokenizer)


def test_rxr_run_goes_on(rxr_places: list[str], rxr_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    tiny = [*rxr_places, "--out", str(tmp_path / "run"), *agent_toy.TINY, "--subwords", "300"]
    assert train.main(["--env", "rxr", *tiny, "--steps", "1"]) == 0
    assert train.main(["--env", "rxr", *tiny, "--steps", "2", "--resume", "--eval-every", "1"]) == 0
    *_, line = (line for line in capsys.readouterr().err.splitlines() if "evaluation (" in line)
    assert [word for word in line.split() if "/" in word][1:] == [
        f"{split}/{name}" for split in SPLITS[1:] for name in ("ndtw", "sdtw", "success", "spl")
    ]
    whole, parts = (read_checkpoint(folder / LAST).model_state() for folder in (rxr_run, tmp_path / "run"))
    agent_toy.assert_close(parts, whole, 1e-6)
    assert train.main(["--env", "rxr", *tiny, "--steps", "3", "--resume", "--languages", "hi"]) == 2
    told = capsys.readouterr().err
    assert "vocabulary" in told
    assert max(map(len, told.splitlines())) < 300  # not the whole document


def test_submission_of_a_split_without_goals(
    rxr_places: list[str], rxr_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "test.jsonl"
    common = ["--env", "rxr", *rxr_places, "--split", "test_standard_public"]
    assert evaluate.main([*common, "--checkpoint", str(rxr_run), "--submission", str(file)]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "12 routes in the form of the RxR competition, checked" in told
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["instruction_id"] for line in lines] == list(range(9000, 9012))
    assert {frozenset(line) for line in lines} == {frozenset({"instruction_id", "path"})}
    assert evaluate.main([*common, "--predictions", str(file)]) == 0
    file.write_text("\n".join(file.read_text().splitlines()[1:]))
    assert evaluate.main([*common, "--predictions", str(file)]) == 2
    assert "missing (1)" in capsys.readouterr().err


def test_submission_of_a_split_with_goals_scores_the_same(
    rxr_places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    common = ["--env", "rxr", *rxr_places, "--split", "val_seen"]
    walked, scored = tmp_path / "walked.json", tmp_path / "scored.json"
    submission = ["--submission", str(tmp_path / "val.jsonl")]
    assert evaluate.main([*common, "--policy", "random", *submission, "--json", str(walked)]) == 0
    assert evaluate.main([*common, "--predictions", str(tmp_path / "val.jsonl"), "--json", str(scored)]) == 0
    one, two = (json.loads(file.read_text()) for file in (walked, scored))
    assert one["per_item"] == two["per_item"]
    assert 0 < one["ndtw"] < 1
    assert len(read_rxr_predictions(tmp_path / "val.jsonl")) == one["count"] == 12


@pytest.fixture(scope="module")
def r4r_split(r4r_places: list[str], data_dir: Path) -> Split:
    """The train split of the small R4R, at most 60 episodes."""
    world = load_world(r4r_places[1], "train", data_dir / "connectivity", env="r4r")
    return agent_toy.first_episodes(world, 60)


def test_the_route_is_taught(r4r_split: Split) -> None:
    """Where forced it is walked to its end; where the follower goes its own way, the way back to it is recorded."""
    world, count = r4r_split.world, len(r4r_split.world.episodes)
    follower = agent_toy.tiny_follower(r4r_split)
    forced = torch.arange(count) % 2 == 0

    def walk(teacher: str) -> tuple[dict[str, list[str]], torch.Tensor]:
        recurrent = follower.read(r4r_split.ids, r4r_split.lengths)
        choice = Choice(forced, greedy=True)
        taught = rollout(
            follower, Eyes(), r4r_split.tables, torch.arange(count), recurrent, choice, 35, teacher=teacher
        )
        assert (taught.action == taught.teacher)[taught.active & forced[taught.row]].all()
        return {k: [pose[0] for pose in v] for k, v in poses(taught, range(count), world).items()}, taught.ended

    routes, ended = walk("route")
    shortest, _ = walk("shortest")
    assert ended[forced].all()
    followed = [e for e, is_forced in zip(world.episodes, forced.tolist(), strict=True) if is_forced]
    assert [routes[e.instr_id] for e in followed] == [list(e.path) for e in followed]
    assert any(shortest[e.instr_id] != list(e.path) for e in followed)
    free = [e.instr_id for e, is_forced in zip(world.episodes, forced.tolist(), strict=True) if not is_forced]
    assert [routes[i] for i in free] == [shortest[i] for i in free]


def test_the_objective_asks_its_teacher(r4r_split: Split) -> None:
    """Teacher forced, an episode takes as many decisions as its route has viewpoints (the stop is one)."""
    world, count = r4r_split.world, len(r4r_split.world.episodes)
    steps = {}
    for teacher in ("route", "shortest"):
        config = FollowerConfig(objective="imitation", teacher=teacher)  # type: ignore[arg-type]
        made = FollowerObjective(agent_toy.tiny_follower(r4r_split), Eyes(), r4r_split, {}, config, 0)
        steps[teacher] = float(
            made(Batch(torch.arange(count), torch.ones(count, dtype=torch.bool)))["steps_per_episode"]
        )
    assert steps["route"] == pytest.approx(sum(len(e.path) for e in world.episodes) / count)
    assert steps["shortest"] < steps["route"] - 1


def test_r4r_run_is_trained_and_evaluated(r4r_places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "run"
    assert run(r4r_places, "r4r", out, "--objective", "imitation") == 0
    assert any("val_unseen/ndtw" in line for line in log_lines(out))
    trained = load_trained(out, agent_toy.CPU)
    assert isinstance(trained.tokenizer, WordTokenizer)
    assert trained.tokenizer.max_length == 160
    common = ["--env", "r4r", *r4r_places, "--split", "val_unseen", "--json", str(tmp_path / "found.json")]
    assert evaluate.main([*common, "--checkpoint", str(out)]) == 0
    assert evaluate.main([*common, "--policy", "shortest", "--spl-by", "reference"]) == 0
    shortest = json.loads((tmp_path / "found.json").read_text())
    assert shortest["success"] == 1.0
    assert shortest["ndtw"] < 0.9  # the shortest path is not the route that the instruction describes


def test_data_sets_that_are_not_there(
    small_data: Path, data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def refused(*arguments: str) -> str:
        assert run(list(arguments[1:]), arguments[0], tmp_path / "run") == 2
        assert not (tmp_path / "run").exists()
        return " ".join(capsys.readouterr().err.split())

    assert "--env rxr needs --data" in refused("rxr")
    assert "python -m envs.r4r" in refused("r4r")
    assert "R4R_train.json; splits found there: none" in refused("r4r", *in_place(small_data, data_dir))
    assert "rxr_train_guide.jsonl.gz" in refused("rxr", *in_place(small_data, data_dir))
    assert evaluate.main(["--env", "rxr", "--policy", "stop"]) == 2
    assert "--env rxr needs --data" in " ".join(capsys.readouterr().err.split())


def test_wrong_languages_and_vocabularies(
    rxr_places: list[str], rxr_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def refused(*flags: str) -> str:
        assert run(rxr_places, "rxr", tmp_path / "run", *flags) == 2
        return " ".join(capsys.readouterr().err.split())

    assert "unknown language 'fr'" in refused("--languages", "fr")
    (tmp_path / "vocab.txt").write_text("<PAD>\n<UNK>\n<EOS>\nleft\n")
    assert "not a subword vocabulary" in refused("--vocabulary", str(tmp_path / "vocab.txt"))
    assert "the vocabulary" in refused("--tokenizer", "words", "--vocabulary", str(rxr_run / "subwords.json"))
    assert "size is 3" in refused("--subwords", "3")

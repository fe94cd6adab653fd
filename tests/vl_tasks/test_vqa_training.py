"""Question answering from files to a report: it learns, is exact under accumulation and resume, answers for others."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from seen_world import CPU, QUIET, with_grids
from vqa_world import COLOURS, write_world

from clip_core.accumulation import accumulate_gradients, wrap
from clip_core.checkpoint import LAST, read_checkpoint
from clip_core.log import Meter, read_log
from clip_core.trainer import TrainerConfig
from vl_tasks.__main__ import main
from vl_tasks.question_sets import VQA
from vl_tasks.sources import VisionConfig, choose_data
from vl_tasks.task import OptimConfig
from vl_tasks.vqa_config import TrainVqa
from vl_tasks.vqa_objective import VqaObjective, build_model, collate
from vl_tasks.vqa_parts import VqaModelConfig
from vl_tasks.vqa_run import Parts, load_parts, train_vqa


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colours' data set, the encoder `rn` and the store `grids`."""
    return with_grids(write_world(tmp_path_factory.mktemp("vqa") / "world"))


def small(world: Path, out: Path, **changes) -> TrainVqa:
    config = TrainVqa(
        data=world,
        out=out,
        device="cpu",
        batch=24,
        vision=VisionConfig(features=(world.parent / "grids",)),
        model=VqaModelConfig(
            hidden=32,
            layers=1,
            heads=2,
            word=16,
            pooling=16,
            fused=32,
            dropout=0.0,
            grid_positions="learned",
            feature_norm=True,
        ),
        optim=OptimConfig(lr=3e-3, eps=1e-8),
        trainer=TrainerConfig(steps=300, eval_every=300, save_every=0, log_every=20),
    )
    return replace(config, **changes)


def loaded(config: TrainVqa) -> tuple[Parts, VqaObjective]:
    data, _ = choose_data(config.data, None, config.vision, CPU, QUIET)
    parts = load_parts(config, data, VQA, CPU, QUIET)
    torch.manual_seed(0)
    model = build_model(config.model, len(parts.tokenizer), len(parts.vocabulary), parts.vision.sizes)
    score = VQA.score
    made = VqaObjective(
        model, parts.vision, parts.train, parts.judged, parts.vocabulary, lambda q, a: score(q, a, 10), config.batch, 0
    )
    return parts, made


@pytest.fixture(scope="module")
def trained(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a model that has learned the colours so well that no rounding changes an answer (half the
    steps were enough for two seeds of eight)."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train_vqa(small(world, out), QUIET)
    return out


def test_it_learns_and_reports(world: Path, trained: Path) -> None:
    last = [line for line in read_log(trained / "log.jsonl") if "val2014/accuracy" in line][-1]
    assert last["val2014/accuracy"] > 0.8  # one colour of three, or yes and no, would be 0.4
    assert last["val2014/yes_no"] > 0.6
    table = json.loads((trained / "table.json").read_text())["model"]["val2014"]
    assert table["overall"] == pytest.approx(last["val2014/accuracy"])
    assert set(table) == {"overall", "answer type", "question type"}
    page = (trained / "report.html").read_text()
    assert page.count('class="card') == 27
    assert "What color is on the left?" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)  # needs no other file
    assert {path.name for path in trained.glob("accuracy_*.png")} == {
        "accuracy_val2014_answer_type.png",
        "accuracy_val2014_question_type.png",
    }


def test_blind_knows_nothing_of_the_colours(world: Path, tmp_path: Path) -> None:
    config = small(world, tmp_path / "blind", vision=VisionConfig(blind=True))
    config = replace(config, trainer=replace(config.trainer, steps=100, eval_every=100))
    train_vqa(config, QUIET)
    table = json.loads((tmp_path / "blind" / "table.json").read_text())["blind"]["val2014"]
    assert table["answer type"]["other"] < 0.7


def test_eval_predict_and_ask(world: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = ["--encoder", f"local-dir:{world.parent / 'rn'}"]
    where = ["--data", str(world), "--device", "cpu", *encoder]
    scores, results = tmp_path / "scores.json", tmp_path / "results.json"
    assert main(["vqa", "eval", "--checkpoint", str(trained), "--json", str(scores), *where]) == 0
    accuracy = json.loads(scores.read_text())["overall"]
    assert accuracy == json.loads((trained / "table.json").read_text())["model"]["val2014"]["overall"]
    assert main(["vqa", "predict", "--checkpoint", str(trained), "--out", str(results), *where]) == 0
    assert results.read_bytes() == (trained / "results_val2014.json").read_bytes()
    capsys.readouterr()
    assert main(["vqa", "eval", "--results", str(results), "--data", str(world)]) == 0
    assert f"val2014: accuracy {100 * accuracy:.2f} % of 27 questions" in capsys.readouterr().out
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48], pixels[:, 48:] = COLOURS["blue"], COLOURS["green"]
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    overlay = tmp_path / "seen.png"
    asked = ["vqa", "ask", "--checkpoint", str(trained), "--image", str(tmp_path / "picture.png"), "--device", "cpu"]
    asked += [*encoder, "--overlay", str(overlay), "--top", "2", "--question"]
    for side, colour in (("left", "blue"), ("right", "green")):
        assert main([*asked, f"What color is on the {side}?"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split()[-1] == colour
        assert len(lines) == 3
    with Image.open(overlay) as picture:
        assert picture.size == (96, 64)


def test_faults_end_with_a_message(
    world: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--data", str(world), "--device", "cpu"]
    (tmp_path / "results.json").write_text('[{"question_id": 10010, "answer": "red"}]')
    for command, message in (
        (["vqa", "eval", "--results", str(tmp_path / "results.json"), *here], "has no answer to 26 questions"),
        (["vqa", "eval", "--checkpoint", str(tmp_path), *here], "no checkpoint found"),
        (["gqa", "eval", "--checkpoint", str(trained), *here], "is of vqa; expected a run of python -m vl_tasks gqa"),
        (["vqa", "train", "--out", str(trained), "--blind", *here], "already holds a run"),
        (["vqa", "train", "--out", str(tmp_path / "x"), *here], "nothing to see with"),
        (["vqa", "eval", "--results", "none.json", "--data", str(tmp_path / "none")], "no folder"),
        (["vqa", "sing"], "expected one of train, eval, predict, ask"),
        (["dance", "train"], "found the task 'dance'"),
    ):
        assert main(command) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(SystemExit, match="2"):
        main(["vqa", "eval", *here])
    assert "exactly one of --checkpoint" in " ".join("".join(capsys.readouterr()).split())


def test_accumulation_of_four_times_eight_is_a_batch_of_thirty_two(world: Path, tmp_path: Path) -> None:
    """Questions of a micro-batch are cut to the longest of them, so the micro-batches have unequal numbers of words."""
    parts, objective = loaded(small(world, tmp_path))
    numbers = torch.arange(len(parts.train)).roll(5)[:32]
    found = []
    for pieces in (numbers.split(32), numbers.split(8)):
        batches = iter([collate(parts.vision, parts.train, some) for some in pieces])
        losses = accumulate_gradients(wrap(objective, CPU), batches, len(pieces), CPU, Meter())
        found.append((losses["loss"], [p.grad.clone() for p in objective.parameters() if p.grad is not None]))
        objective.zero_grad()
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-6, rtol=1e-6)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("train_encoder", [False, True])
def test_resume_is_exact(world: Path, tmp_path: Path, train_encoder: bool) -> None:
    vision = VisionConfig(encoder=f"local-dir:{world.parent / 'rn'}", size="64x64", train_encoder=train_encoder)
    model = VqaModelConfig(hidden=16, layers=1, heads=2, word=8, pooling=8, fused=16, dropout=0.3)
    optim = OptimConfig(lr=1e-3, schedule="constant")
    trainer = TrainerConfig(steps=6, eval_every=0, save_every=3, log_every=3)
    settings = {"vision": vision, "model": model, "optim": optim, "trainer": trainer, "batch": 8, "eval_splits": ()}
    whole = small(world, tmp_path / "whole", **settings)
    train_vqa(whole, QUIET)
    part = replace(whole, out=tmp_path / "part", trainer=replace(trainer, steps=3))
    train_vqa(part, QUIET)
    train_vqa(replace(part, trainer=trainer, resume=True), QUIET)
    first, second = (read_checkpoint(tmp_path / name / LAST) for name in ("whole", "part"))
    assert first.tensors.keys() == second.tensors.keys()
    for name, value in first.tensors.items():
        assert torch.equal(value, second.tensors[name]), name
    assert any("encoders.0.clip.visual" in name for name in first.tensors) is train_encoder


def test_report_of_the_parts(world: Path, tmp_path: Path) -> None:
    parts, _ = loaded(small(world, tmp_path))
    assert sorted(parts.vocabulary) == ["blue", "green", "no", "red", "yes"]
    assert parts.train.answerable == len(parts.train) == 72
    few = small(world, tmp_path, min_answer_count=20)
    parts, _ = loaded(few)
    assert set(parts.vocabulary) <= {"yes", "no", "red", "green", "blue"}
    assert parts.train.answerable < len(parts.train)


def test_gqa_learns_by_the_same_model(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "gqa"
    folder.mkdir()
    for split, count in (("train", 12), ("testdev", 4)):
        names = sorted((world / "images").glob("COCO_train*"))[:count]
        items = {
            f"{split}{i}": {
                "imageId": path.stem,
                "question": "Who is the one?" if i % 2 else "Is it so?",
                "answer": "the man" if i % 2 else "yes",
                "types": {"structural": "query" if i % 2 else "verify", "semantic": "rel"},
            }
            for i, path in enumerate(names)
        }
        (folder / f"{split}_balanced_questions.json").write_text(json.dumps(items))
    where = ["--data", str(folder), "--device", "cpu"]
    flags = ["--train-splits", "train", "--blind", "--hidden", "16", "--layers", "1", "--heads", "2", "--steps", "30"]
    flags += ["--lr", "0.01", "--batch", "8", "--warmup", "0", "--milestones", "--eval-every", "0"]
    assert main(["gqa", "train", *where, *flags, "--out", str(tmp_path / "run")]) == 0
    assert json.loads((tmp_path / "run" / "answers.json").read_text()) == ["the man", "yes"]  # "the" stays
    assert (
        main(["gqa", "predict", *where, "--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "p.json")]) == 0
    )
    predictions = json.loads((tmp_path / "p.json").read_text())
    assert [p["prediction"] for p in predictions] == ["yes", "the man"] * 2
    capsys.readouterr()
    assert main(["gqa", "eval", *where, "--results", str(tmp_path / "p.json")]) == 0
    assert "testdev: accuracy 100.00 % of 4 questions" in capsys.readouterr().out

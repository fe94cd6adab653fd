"""Captioning from files to a report: both phases learn, are exact under accumulation and resume, write for others."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from caption_world import captions_of, write_caption_world
from PIL import Image
from seen_world import CPU, QUIET, with_grids
from vqa_world import COLOURS

from clip_core.accumulation import accumulate_gradients, wrap
from clip_core.checkpoint import LAST, read_checkpoint
from clip_core.log import Meter, read_log
from clip_core.trainer import TrainerConfig
from vl_tasks import coco_scorers
from vl_tasks.__main__ import main
from vl_tasks.captioner import Captioner, CaptionerConfig
from vl_tasks.captioning_config import TrainCaptioning
from vl_tasks.captioning_data import CaptionFiles
from vl_tasks.captioning_objective import CaptioningObjective
from vl_tasks.captioning_run import Parts, load_parts, train_captioning
from vl_tasks.self_critical import SelfCriticalConfig
from vl_tasks.sources import VisionConfig, choose_data
from vl_tasks.task import OptimConfig, TextConfig

MODEL = CaptionerConfig(
    hidden=32, layers=1, heads=2, inner=64, dropout=0.0, input_dropout=0.0, grid_positions="learned"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colours' captions, the encoder `rn` and the store `grids`."""
    return with_grids(write_caption_world(tmp_path_factory.mktemp("captions") / "world"))


def small(world: Path, out: Path, **changes) -> TrainCaptioning:
    config = TrainCaptioning(
        data=world,
        out=out,
        device="cpu",
        batch=12,
        captions_each=3,
        longest=12,
        vision=VisionConfig(features=(world.parent / "grids",)),
        text=TextConfig(max_words=14),
        model=MODEL,
        optim=OptimConfig(lr=5e-3, eps=1e-8),
        trainer=TrainerConfig(steps=100, eval_every=20, save_every=0, log_every=20, clip_norm=1.0),
        self_critical=SelfCriticalConfig(self_critical_from=60, self_critical_lr=2e-3, baseline="others"),
    )
    return replace(config, **changes)


def loaded(config: TrainCaptioning) -> tuple[Parts, CaptioningObjective]:
    data, _ = choose_data(config.data, None, config.vision, CPU, QUIET)
    parts = load_parts(config, data, None, CPU, QUIET)
    torch.manual_seed(0)
    model = Captioner(len(parts.tokenizer), parts.vision.sizes, config.model, parts.tokenizer.pad_id)
    settings = (config.self_critical, config.batch, config.captions_each, config.longest, config.trainer.accumulate, 0)
    return parts, CaptioningObjective(model, parts.vision, parts.train, parts.judged, parts.tokenizer, *settings)


@pytest.fixture(scope="module")
def trained(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a model that has learned the colours, in both phases."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train_captioning(small(world, out), QUIET)
    return out


def test_both_phases_learn_and_report(world: Path, trained: Path) -> None:
    ciders = {line["step"]: line["val/cider"] for line in read_log(trained / "log.jsonl") if "val/cider" in line}
    rewards = [line["reward"] for line in read_log(trained / "log.jsonl") if "reward" in line]
    assert ciders[60] > 1.5 * ciders[20]
    assert ciders[60] > 3
    assert len(rewards) == 2
    assert rewards[1] > rewards[0]
    table = json.loads((trained / "table.json").read_text())
    assert list(table) == ["val", "test"]
    assert all(list(ways) == ["beam 5", "greedy", "retrieval"] for ways in table.values())
    assert table["val"]["greedy"]["cider"] == pytest.approx(max(ciders.values()))
    results = json.loads((trained / "results_test.json").read_text())
    assert [item["image_id"] for item in results] == list(range(45, 51))
    assert all(any(colour in item["caption"] for colour in COLOURS) for item in results)
    page = (trained / "report.html").read_text()
    assert page.count('class="card') == 6
    assert "greedy, end" not in page  # drawn into a picture
    assert not re.findall(r'(?:src|href)="(?!data:)', page)  # needs no other file
    assert {path.name for path in trained.glob("*.png")} >= {"cider_val.png", "metrics_test.png", "curves.png"}


def test_eval_predict_and_ask(
    world: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ["--data", str(world), "--device", "cpu", "--features", str(world.parent / "grids")]
    scores, results = tmp_path / "scores.json", tmp_path / "captions.json"
    assert main(["captioning", "eval", "--checkpoint", str(trained), "--json", str(scores), *where]) == 0
    table = json.loads((trained / "table.json").read_text())["test"]
    found = json.loads(scores.read_text())
    assert found["corpus"] == pytest.approx(table["beam 5"])
    assert len(found["images"]) == 6
    assert main(["captioning", "predict", "--checkpoint", str(trained), "--out", str(results), *where]) == 0
    assert results.read_bytes() == (trained / "results_test.json").read_bytes()
    monkeypatch.setattr(coco_scorers.shutil, "which", lambda name: None)
    capsys.readouterr()
    scored = ["captioning", "eval", "--results", str(results), "--data", str(world), "--meteor", "--spice"]
    assert main(scored) == 0  # METEOR and SPICE are told of, not failed for
    printed = capsys.readouterr().out
    assert f"cider {100 * table['beam 5']['cider']:.1f}" in printed
    assert "METEOR is left out: it needs Java" in printed
    assert "SPICE is left out: it needs Java" in printed
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48], pixels[:, 48:] = COLOURS["blue"], COLOURS["green"]
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    overlay = tmp_path / "seen.png"
    asked = ["captioning", "ask", "--checkpoint", str(trained), "--image", str(tmp_path / "picture.png")]
    asked += ["--device", "cpu", "--encoder", f"local-dir:{world.parent / 'rn'}", "--overlay", str(overlay)]
    assert main([*asked, "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"blue", "green"} <= set(lines[0].split()) | set(lines[1].split())
    chances = [float(line.split()[0]) for line in lines[:2]]
    assert 100 >= chances[0] >= chances[1] > 0
    words = len(lines[0].split()) - 2
    with Image.open(overlay) as sheet:
        assert sheet.width == 230 * min(1 + words, 6) - 6
        assert sheet.getpixel((56, 60)) == COLOURS["blue"]  # the image itself comes first


def test_faults_end_with_a_message(
    world: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--data", str(world), "--device", "cpu"]
    store = ["--features", str(world.parent / "grids")]
    (tmp_path / "results.json").write_text('[{"image_id": 45, "caption": "red"}]')
    broken = tmp_path / "broken.png"
    broken.write_bytes(next((world / "images").iterdir()).read_bytes()[:60])
    ask = ["captioning", "ask", "--checkpoint", str(trained), "--image"]
    for command, message in (
        (["captioning", "eval", "--results", str(tmp_path / "results.json"), *here], "has no caption for 5 images"),
        (["captioning", "eval", "--checkpoint", str(trained), "--split", "test2014", *here, *store], "no captions of"),
        (["captioning", "eval", "--checkpoint", str(trained), *here], "saw with local-dir:rn, which is not found"),
        (["captioning", "train", "--out", str(tmp_path / "x"), *here], "nothing to see with"),
        (["captioning", "train", "--out", str(tmp_path / "x"), "--eval-splits", "train", *here, *store,
          "--final-splits", "restval", "--train-splits", "restval", "train", "train"], "have images in common"),
        ([*ask, str(tmp_path / "none.png")], "no image at"),
        ([*ask, str(broken)], "broken image"),
    ):  # fmt: skip
        assert main(command) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def rewritten(world: Path, folder: Path, change) -> Path:
    """The captions with each entry changed; None leaves it out."""
    shutil.copytree(world, folder, ignore=shutil.ignore_patterns("images"))
    document = json.loads((world / "dataset_coco.json").read_text())
    document["images"] = [entry for entry in map(change, document["images"]) if entry is not None]
    (folder / "dataset_coco.json").write_text(json.dumps(document))
    return folder


def test_files_with_something_missing(world: Path, tmp_path: Path) -> None:
    lone = rewritten(world, tmp_path / "lone", lambda entry: None if entry["split"] == "restval" else entry)
    files = CaptionFiles(lone)
    assert len(files.read(["train", "restval"])) == 32
    assert "no split restval: training uses train alone (32 images)" in files.notes[0]
    (lone / "captions_dots.json").write_text(
        json.dumps({"images": [{"id": 7}], "annotations": [{"id": 1, "image_id": 7, "caption": "..."}]})
    )
    with pytest.raises(ValueError, match="train: image 7 has no caption with a word"):
        loaded(replace(small(lone, tmp_path), vision=VisionConfig(blind=True), train_splits=("dots",)))
    (lone / "image_info_test2014.json").write_text(json.dumps({"images": [{"id": 5, "file_name": "five.jpg"}]}))
    assert [record.images for record in files.images("test2014")] == [("five.jpg",)]
    first = next(record for record in files.read(["val"]))
    same = {"images": [{"id": first.image_id}], "annotations": [{"id": 1, "image_id": first.image_id, "caption": "a"}]}
    (lone / "captions_same.json").write_text(json.dumps(same))
    with pytest.raises(ValueError, match="1 images to judge on are among those to learn from"):
        loaded(small(lone, tmp_path, train_splits=("same",)))
    gone = rewritten(world, tmp_path / "gone", lambda e: {**e, "filename": "nowhere.png"} if e["imgid"] == 3 else e)
    with pytest.raises(ValueError, match=r"grids lacks 1 of 50 images: nowhere.png; download them"):
        loaded(small(gone, tmp_path, vision=VisionConfig(features=(world.parent / "grids",))))


def test_captions_take_turns(world: Path, tmp_path: Path) -> None:
    """An image with five captions shows others in each epoch; one with two repeats them in a ring."""
    parts, _ = loaded(small(world, tmp_path))
    split = parts.train
    counts = split.first.diff().tolist()
    assert set(counts) == {2, 5}
    five, two = counts.index(5), counts.index(2)
    numbers = torch.tensor([five, two])

    def shown(turn: int) -> list[str]:
        ids, _ = split.take(numbers, 3, torch.tensor([turn, turn]))
        return [parts.tokenizer.decode(row) for row in ids]

    said = [[text.lower().replace(".", "").replace(",", "") for text in split.records[n].captions] for n in (five, two)]
    assert shown(0) == [*said[0][:3], said[1][0], said[1][1], said[1][0]]
    assert shown(1) == [said[0][3], said[0][4], said[0][0], said[1][1], said[1][0], said[1][1]]
    assert len(captions_of("red", "blue")) == 5


@pytest.mark.parametrize("critical", [False, True])
def test_accumulation_of_four_times_eight_is_a_batch_of_thirty_two(world: Path, tmp_path: Path, critical: bool) -> None:
    """Captions, drawn ones too, have unequal numbers of words; the same ones are drawn."""
    found = []
    settings = SelfCriticalConfig(0 if critical else None, samples=2)
    for batch, pieces in ((32, 1), (8, 4)):
        _, objective = loaded(small(world, tmp_path, batch=batch, self_critical=settings))
        objective.double().train()
        losses = accumulate_gradients(wrap(objective, CPU), objective.batches(0), pieces, CPU, Meter())
        found.append((losses["loss"], [p.grad.clone() for p in objective.parameters() if p.grad is not None]))
    assert float(found[0][0]) != 0
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-6, rtol=1e-6)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("stop", [2, 4])
def test_resume_is_exact_in_both_phases(world: Path, tmp_path: Path, stop: int) -> None:
    """Cut before and within the self-critical phase; samples, dropout, moments go on as if nothing had happened."""
    trainer = TrainerConfig(steps=6, accumulate=2, eval_every=0, save_every=0, log_every=1)
    critical = SelfCriticalConfig(self_critical_from=3, self_critical_lr=1e-3, samples=2, sample_dropout=True)
    whole = small(
        world,
        tmp_path / "whole",
        batch=3,
        trainer=trainer,
        self_critical=critical,
        model=replace(MODEL, dropout=0.2),
        optim=OptimConfig(lr=1e-3, schedule="constant"),
        final_splits=(),
    )
    train_captioning(whole, QUIET)
    part = replace(whole, out=tmp_path / "part", trainer=replace(trainer, steps=stop))
    train_captioning(part, QUIET)
    train_captioning(replace(part, trainer=trainer, resume=True), QUIET)
    first, second = (read_checkpoint(tmp_path / name / LAST) for name in ("whole", "part"))
    assert first.tensors.keys() == second.tensors.keys()
    for name, value in first.tensors.items():
        assert torch.equal(value, second.tensors[name]), name
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("whole", "part")]
    assert logs[0][-1]["reward"] == logs[1][-1]["reward"]


def test_second_phase_from_another_run(world: Path, trained: Path, tmp_path: Path) -> None:
    """Weights, words, model settings are those of the first run."""
    trainer = TrainerConfig(steps=2, eval_every=2, save_every=0, log_every=1, evaluate_first=True)
    critical = SelfCriticalConfig(self_critical_from=0, self_critical_lr=1e-6)
    again = small(world, tmp_path / "again", start_from=trained, trainer=trainer, self_critical=critical)
    train_captioning(replace(again, model=CaptionerConfig()), QUIET)
    lines = read_log(tmp_path / "again" / "log.jsonl")
    table = json.loads((trained / "table.json").read_text())["val"]["greedy"]
    assert lines[0]["val/cider"] == pytest.approx(table["cider"])
    assert all("reward" in line for line in lines if "loss" in line)
    blind = replace(again, vision=VisionConfig(blind=True), out=tmp_path / "blind")
    with pytest.raises(ValueError, match="saw 2 x 4 cells of 256 numbers, expected one that saw 1 x 1 cells of 1 "):
        train_captioning(blind, QUIET)

"""Visual entailment from files to a report: it learns what the blind model cannot know, resumes exactly, judges."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from clip_toy import make_folder
from entailment_world import label_of, picture, write_pairs_world
from PIL import Image
from rich.console import Console
from seen_world import CPU, QUIET, with_grids
from test_one_stream import tiny_bert

from clip_core.accumulation import accumulate_gradients, wrap
from clip_core.checkpoint import LAST, read_checkpoint
from clip_core.encoder import ClipEncoder
from clip_core.log import Meter, read_log
from clip_core.trainer import TrainerConfig
from vl_tasks.__main__ import main
from vl_tasks.entailment_config import TrainEntailment, bert_base, entailment_preset
from vl_tasks.entailment_data import confusion, encode_texts, image_numbers, pair_scores, pair_set
from vl_tasks.entailment_files import LABELS, Pair, read_pairs
from vl_tasks.entailment_objective import EntailmentObjective, collate
from vl_tasks.entailment_run import LEAK, build_model, load_parts, train_entailment
from vl_tasks.entailment_use import load_judge
from vl_tasks.one_stream import OneStreamConfig
from vl_tasks.sources import VisionConfig, choose_data
from vl_tasks.task import OptimConfig


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The halves' data set, the encoder `rn` and the store `grids`."""
    return with_grids(write_pairs_world(tmp_path_factory.mktemp("entailment") / "world"))


def small(world: Path, out: Path, **changes) -> TrainEntailment:
    config = TrainEntailment(
        data=world,
        out=out,
        device="cpu",
        batch=40,
        vision=VisionConfig(features=(world.parent / "grids",)),
        model=OneStreamConfig(
            hidden=32,
            layers=2,
            heads=2,
            inner=64,
            max_positions=48,
            dropout=0.0,
            attention_dropout=0.0,
            feature_norm=True,
        ),
        optim=OptimConfig(lr=2e-3, eps=1e-8, warmup=30),
        trainer=TrainerConfig(steps=200, eval_every=100, seed=1, save_every=0, log_every=20, clip_norm=1.0),
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def trained(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a model that has learned the halves, with its blind twin."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train_entailment(small(world, out, blind_twin=True), QUIET)
    return out


def test_it_learns_what_the_blind_model_cannot_know(trained: Path) -> None:
    table = json.loads((trained / "table.json").read_text())
    assert set(table) == {"model", "blind"}
    seen, blind = table["model"]["dev"], table["blind"]["dev"]
    assert seen["overall"] > 0.8
    assert seen["overall"] > blind["overall"] + 0.2
    assert set(seen["label"]) == set(LABELS)
    last = max(line["dev/accuracy"] for line in read_log(trained / "log.jsonl") if "dev/accuracy" in line)
    assert last == pytest.approx(seen["overall"])
    page = (trained / "report.html").read_text()
    assert page.count('class="card') == 24
    assert "hypothesis-only" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)  # needs no other file
    assert {path.name for path in trained.glob("*_dev.png")} == {"accuracy_dev.png", "confusion_dev.png"}


def test_eval_predict_and_ask(world: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = ["--encoder", f"local-dir:{world.parent / 'rn'}"]
    where = ["--data", str(world), "--device", "cpu", *encoder]
    scores, found = tmp_path / "scores.json", tmp_path / "predictions.jsonl"
    assert main(["entailment", "eval", "--checkpoint", str(trained), "--json", str(scores), *where]) == 0
    assert "dev: 1 pairs without a label (-) left out" in capsys.readouterr().out
    document = json.loads(scores.read_text())
    assert document["overall"] == json.loads((trained / "table.json").read_text())["model"]["dev"]["overall"]
    assert sum(document["confusion"][label][label] for label in LABELS) == pytest.approx(24 * document["overall"])
    assert main(["entailment", "predict", "--checkpoint", str(trained), "--out", str(found), *where]) == 0
    lines = [json.loads(line) for line in found.read_text().splitlines()]
    expected = [json.loads(line) for line in (trained / "predictions_dev.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines] == [line["prediction"] for line in expected]
    assert all(sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5) for line in lines)
    capsys.readouterr()
    assert main(["entailment", "eval", "--predictions", str(found), "--data", str(world)]) == 0
    assert f"dev: accuracy {100 * document['overall']:.2f} %" in capsys.readouterr().out
    ask = ["entailment", "ask", "--checkpoint", str(trained), "--image", str(tmp_path / "picture.png"), *encoder]
    ask += ["--device", "cpu", "--overlay", str(tmp_path / "spoke.png"), "--hypothesis"]
    for left, claimed in (("blue", "blue"), ("blue", "red"), (None, "green")):
        picture(left, "red").save(tmp_path / "picture.png")
        assert main([*ask, f"The left half is {claimed}."]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[0].split()[-1] == label_of(left, claimed)
        assert len(out) == 4
    with Image.open(tmp_path / "spoke.png") as shown:
        assert shown.size == (96, 64)


def test_what_spoke_for_a_judgement_lies_where_the_hypothesis_points(world: Path, trained: Path) -> None:
    """Only the left half decides; a map that knows nothing would have half of its heat there."""
    judge, config = load_judge(trained, CPU.device), small(world, trained)
    data, _ = choose_data(world, None, config.vision, CPU, QUIET)
    parts = load_parts(config, data, CPU, QUIET)
    split = parts.judged["dev"]
    batch = collate(parts.vision, split, torch.arange(len(split)))
    logits, maps = judge.model.explain(parts.vision(batch.loaded), batch.ids, batch.lengths)
    assert maps[0].shape == (24, 2, 4)
    left, whole = maps[0][:, :, :2].sum((1, 2)), maps[0].sum((1, 2))
    assert float((left / whole.clamp(min=1e-9)).mean()) > 0.7
    assert float((logits.argmax(1) == split.labels).float().mean()) > 0.85


def test_the_premise_is_read_only_when_asked_for(
    world: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blind = VisionConfig(blind=True)
    data, _ = choose_data(world, None, blind, CPU, QUIET)
    config = small(world, tmp_path / "leak", vision=blind, read_premise=True)
    config = replace(config, trainer=replace(config.trainer, steps=100))
    without = load_parts(replace(config, read_premise=False), data, CPU, QUIET)
    assert "hidden" not in without.tokenizer.vocabulary
    assert int(without.train.ids.max()) < len(without.tokenizer)
    told = Console(width=400)
    train_entailment(config, told)
    out = capsys.readouterr().out
    assert LEAK in out
    assert json.loads((tmp_path / "leak" / "table.json").read_text())["blind"]["dev"]["overall"] > 0.6  # it leaks
    ids, lengths = encode_texts(without.tokenizer, ["The left half is red."], ["right"])
    tokenizer = without.tokenizer
    both = [*tokenizer.encode("right"), *tokenizer.encode("The left half is red.")[1:]]
    assert ids[0].tolist() == both
    assert lengths.tolist() == [len(both)]
    picture("blue", "red").save(tmp_path / "p.png")
    ask = ["entailment", "ask", "--image", str(tmp_path / "p.png"), "--hypothesis", "It is red.", "--device", "cpu"]
    for run, more, message in (
        (tmp_path / "leak", [], "the model reads premises: expected --premise CAPTION"),
        (trained, ["--premise", "red"], "the model never read premises: leave out --premise"),
    ):
        assert main([*ask, "--checkpoint", str(run), *more]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_accumulation_of_four_times_eight_is_a_batch_of_thirty_two(world: Path, tmp_path: Path) -> None:
    """A micro-batch is cut to its longest hypothesis; here they are sorted, so each has its own number of words."""
    config = small(world, tmp_path)
    data, _ = choose_data(world, None, config.vision, CPU, QUIET)
    parts = load_parts(config, data, CPU, QUIET)
    pairs = [
        replace(pair, hypothesis="Left " * (i % 7) + pair.hypothesis) for i, pair in enumerate(parts.train.pairs[:32])
    ]
    split = pair_set("train", pairs, image_numbers({"train": pairs}), parts.tokenizer, False)
    torch.manual_seed(0)
    objective = EntailmentObjective(build_model(parts, config), parts.vision, split, {}, 32, 0)
    numbers = split.lengths.argsort()
    assert len({int(split.lengths[some].max()) for some in numbers.split(8)}) > 2
    found = []
    for pieces in (numbers.split(32), numbers.split(8)):
        batches = iter([collate(parts.vision, split, some) for some in pieces])
        losses = accumulate_gradients(wrap(objective, CPU), batches, len(pieces), CPU, Meter())
        found.append((losses["loss"], {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}))
        objective.zero_grad()
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-6, rtol=1e-6)
    assert len(found[0][1]) > 30
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][name], atol=1e-6, rtol=1e-6, msg=name)


def test_a_run_leaves_the_encoder_as_it_was_loaded_until_it_learns(world: Path, tmp_path: Path) -> None:
    """CLIP-ViL's pre-training drew its ViT anew when it initialised the rest (specs 0.2)."""
    name = make_folder(tmp_path / "vit", "vit")
    model = OneStreamConfig(hidden=16, layers=1, heads=2, inner=16, max_positions=20)
    vision, trainer = VisionConfig(encoder=name, train_encoder=True), TrainerConfig(steps=1, eval_every=0, save_every=0)
    config = small(world, tmp_path / "run", vision=vision, model=model, trainer=trainer, batch=4)
    train_entailment(replace(config, optim=OptimConfig(lr=1e-3, encoder_lr=0.0)), QUIET)
    state, own = read_checkpoint(tmp_path / "run" / LAST).model_state("vision.encoders.0."), ClipEncoder.load(name)
    assert state.keys() == own.state_dict().keys()
    for key, value in own.state_dict().items():
        assert torch.equal(value, state[key]), key


def test_resume_is_exact(world: Path, tmp_path: Path) -> None:
    vision = VisionConfig(encoder=f"local-dir:{world.parent / 'rn'}", size="64x64", train_encoder=True)
    model = OneStreamConfig(hidden=16, layers=1, heads=2, inner=16, max_positions=20, dropout=0.3)
    trainer = TrainerConfig(steps=6, eval_every=0, save_every=3, log_every=3)
    optim = OptimConfig(lr=1e-3, schedule="constant")
    whole = small(world, tmp_path / "whole", vision=vision, model=model, optim=optim, batch=8, trainer=trainer)
    train_entailment(whole, QUIET)
    part = replace(whole, out=tmp_path / "part", trainer=replace(trainer, steps=3))
    train_entailment(part, QUIET)
    train_entailment(replace(part, trainer=trainer, resume=True), QUIET)
    first, second = (read_checkpoint(tmp_path / name / LAST) for name in ("whole", "part"))
    assert first.tensors.keys() == second.tensors.keys()
    for name, value in first.tensors.items():
        assert torch.equal(value, second.tensors[name]), name
    assert any("encoders.0.clip.visual" in name for name in first.tensors)


def test_a_bert_of_a_folder_is_started_from_and_then_needed_no_more(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bert"
    tiny_bert(folder)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *["the", "left", "right", "half", "is", "red", "green", "blue", "."]]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    optim = OptimConfig(lr=0.0)
    trainer = TrainerConfig(steps=1, eval_every=1, save_every=0)
    train_entailment(small(world, tmp_path / "run", bert=folder, optim=optim, trainer=trainer, batch=4), QUIET)
    checkpoint = read_checkpoint(tmp_path / "run" / LAST)
    bert = tiny_bert(tmp_path / "same").state_dict()
    state = checkpoint.model_state("model.bert.")
    assert state.keys() == bert.keys()
    assert all(torch.equal(state[name], bert[name]) for name in bert)
    folder.rename(tmp_path / "gone")
    where = ["--data", str(world), "--device", "cpu", "--features", str(world.parent / "grids")]
    assert main(["entailment", "eval", "--checkpoint", str(tmp_path / "run"), *where]) == 0


def test_faults_end_with_a_message(
    world: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = ["--data", str(world), "--device", "cpu"]
    line = {"pairID": "dev0000#0", "prediction": "neutral"}
    (tmp_path / "few.jsonl").write_text(json.dumps(line))
    (tmp_path / "odd.jsonl").write_text(json.dumps({**line, "prediction": "maybe"}))
    (tmp_path / "twice.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(line)}")
    judged = ["entailment", "eval", *here, "--predictions"]
    image = ["--image", str(tmp_path / "none.png"), "--hypothesis", "It is red."]
    (tmp_path / "none").mkdir()
    for command, message in (
        ([*judged, str(tmp_path / "few.jsonl")], "has no prediction for 23 pairs"),
        ([*judged, str(tmp_path / "odd.jsonl")], "found prediction 'maybe'"),
        ([*judged, str(tmp_path / "twice.jsonl")], "comes twice"),
        (["entailment", "eval", "--checkpoint", str(trained), *here, "--split", "test"], "no file"),
        (["vqa", "eval", "--checkpoint", str(trained), *here], "is of entailment; expected a run of"),
        (["entailment", "ask", "--checkpoint", str(trained), *image], "no image at"),
        (["entailment", "train", "--out", str(tmp_path / "x"), "--bert", str(tmp_path / "none"), *here], "neither"),
        (["entailment", "train", "--out", str(tmp_path / "x"), *here], "nothing to see with"),
    ):
        assert main(command) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    with pytest.raises(ValueError, match="--eval-splits is empty"):
        TrainEntailment(eval_splits=())
    line = (world / "snli_ve_dev.jsonl").read_text().splitlines()[0]
    (world / "snli_ve_bare.jsonl").write_text(re.sub(r'"sentence1": "[^"]*"', '"sentence1": ""', line))
    bare = small(world, tmp_path, read_premise=True, eval_splits=("bare",), vision=VisionConfig(blind=True))
    data, _ = choose_data(world, None, bare.vision, CPU, QUIET)
    with pytest.raises(ValueError, match="leave out --read-premise"):
        load_parts(bare, data, CPU, QUIET)


def test_scores_by_hand(world: Path) -> None:
    pairs = [Pair(str(i), ("a",), "x", label, "") for i, label in enumerate([*LABELS, "neutral"])]  # type: ignore[arg-type]
    found = ["contradiction", "entailment", "entailment", "neutral"]
    scores = pair_scores(pairs, found)
    assert scores.overall == 0.75
    assert scores.groups["label"] == {"contradiction": 1.0, "neutral": 0.5, "entailment": 1.0}
    assert scores.metrics()["neutral"] == 0.5
    assert confusion(pairs, found)["neutral"] == {"contradiction": 0, "neutral": 1, "entailment": 1}
    assert read_pairs(world, "dev").without_label == 1


def test_recipes() -> None:
    assert entailment_preset([]).recipe == "houses"
    assert entailment_preset(["--data", "x"]) == bert_base()
    assert entailment_preset(["--data", "x", "--recipe", "houses"]).blind_twin
    base = bert_base()
    assert base.batch * base.trainer.accumulate == 256
    assert base.trainer.steps == 10_342

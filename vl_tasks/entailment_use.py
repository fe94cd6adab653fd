"""Uses of a trained judge of hypotheses: score it, judge a split, judge a hypothesis about an image file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from clip_core.runtime import Runtime, start_runtime
from clip_core.tokenizer import Tokenizer
from envs.files import replacing
from precompute.screen import say
from vl_tasks.entailment_config import AskEntailment, EvalEntailment, PredictEntailment
from vl_tasks.entailment_data import PairSet, confusion, encode_texts, image_numbers, pair_scores, pair_set
from vl_tasks.entailment_files import LABELS, Pair, read_pairs, read_predictions, write_predictions
from vl_tasks.entailment_objective import EntailmentObjective, labels_of
from vl_tasks.entailment_run import TASK, chances_of, restored
from vl_tasks.one_stream import OneStream, OneStreamConfig
from vl_tasks.records import load_record, of_this_version, part_of
from vl_tasks.scores import Scores
from vl_tasks.sources import VisionConfig, choose_data, reopen_vision
from vl_tasks.task import UseConfig
from vl_tasks.trained import see_file, trained_data, write_overlay
from vl_tasks.vision import Size


@dataclass(frozen=True, eq=False)
class TrainedJudge:
    """A model as it was trained, what it reads with. vision: weights of encoders that were trained with it; record: of
    its sources."""

    model: OneStream
    tokenizer: Tokenizer
    read_premise: bool
    record: list[dict[str, Any]]
    vision: dict[str, Tensor]


def load_judge(checkpoint: Path, device: torch.device) -> TrainedJudge:
    """The model of a run folder or a checkpoint file; ValueError for one of something else, or of another version."""
    state, record = load_record(checkpoint, TASK)
    with of_this_version(checkpoint):
        sizes = [Size(**size) for size in record["sizes"]]
        tokenizer = restored(record["tokenizer"], record["max_words"])
        config = OneStreamConfig(**record["model"])
        model = OneStream(record["words"], len(LABELS), sizes, config, tokenizer.pad_id)
        model.load_state_dict(part_of(state, "model."))
        model.to(device).eval()
        return TrainedJudge(model, tokenizer, record["read_premise"], record["vision"], part_of(state, "vision."))


def predict_entailment(config: PredictEntailment, console: Console) -> None:
    """The command: a file of judgements."""
    with start_runtime(config.device, config.precision) as runtime, runtime.autocast():
        split, found = _judged(config, config.checkpoint, config.split, runtime, console)
        write_predictions(config.out, split.pairs, chances_of(found))
        say(console, f"{config.out}: {len(split):,} judgements of {config.split}")


def eval_entailment(config: EvalEntailment, console: Console) -> Scores:
    """The command: the accuracy of a model or of a file of predictions."""
    labels: Sequence[str]
    with start_runtime(config.device, config.precision) as runtime, runtime.autocast():
        if config.predictions is not None:
            data, _ = choose_data(config.data, config.images, VisionConfig(blind=True), runtime, console)
            pairs: list[Pair] = _pairs(data.folder, config.split, console)
            labels = read_predictions(config.predictions, pairs)
        else:
            assert config.checkpoint is not None
            split, found = _judged(config, config.checkpoint, config.split, runtime, console)
            pairs, labels = split.pairs, labels_of(found)
    scores, table = pair_scores(pairs, labels), confusion(pairs, labels)
    say(console, f"{config.split}: {scores.line()}  of {len(pairs):,} pairs")
    say(console, f"  {'true label':14}" + "".join(f"{label:>15}" for label in LABELS))
    for true, row in table.items():
        say(console, f"  {true:14}" + "".join(f"{count:15,}" for count in row.values()))
    if config.json is not None:
        with replacing(config.json) as file:
            file.write((json.dumps({**scores.table(), "confusion": table}, indent=1) + "\n").encode())
    return scores


def _pairs(folder: Path, split: str, console: Console) -> list[Pair]:
    file = read_pairs(folder, split)
    if file.without_label:
        say(console, f"{split}: {file.without_label:,} pairs without a label (-) left out")
    return file.pairs


def _judged(
    config: UseConfig, checkpoint: Path, name: str, runtime: Runtime, console: Console
) -> tuple[PairSet, Tensor]:
    """A split, with a trained model's probabilities [P, C]."""
    trained = load_judge(checkpoint, runtime.device)
    data, vision_config = trained_data(config, trained.record, runtime, console)
    pairs = _pairs(data.folder, name, console)
    images = image_numbers({name: pairs})
    vision = reopen_vision(trained.record, vision_config, list(images), data.images, runtime.device)
    vision.load_state_dict(trained.vision)
    split = pair_set(name, pairs, images, trained.tokenizer, trained.read_premise)
    objective = EntailmentObjective(trained.model, vision, split, {}, 1, 0)
    return split, objective.probabilities(split)


def ask_entailment(config: AskEntailment, console: Console) -> list[tuple[str, float]]:
    """The command: the probability of each class, the likeliest first, and a picture of what spoke for it."""
    with start_runtime(config.device) as runtime:
        trained = load_judge(config.checkpoint, runtime.device)
        if trained.read_premise != (config.premise is not None):
            expected = "expected --premise CAPTION" if trained.read_premise else "leave out --premise"
            learned = "reads" if trained.read_premise else "never read"
            raise ValueError(f"the model {learned} premises: {expected}")
        seen = see_file(config, trained.record, trained.vision, runtime.device)
        premises = None if config.premise is None else [config.premise]
        ids, lengths = encode_texts(trained.tokenizer, [config.hypothesis], premises)
        logits, maps = trained.model.explain(seen.features, ids.to(runtime.device), lengths)
    chances = logits[0].float().softmax(0).tolist()
    judged = sorted(zip(LABELS, chances, strict=True), key=lambda item: -item[1])
    for label, chance in judged:
        say(console, f"{100 * chance:5.1f} %  {label}")
    heat = maps[0][0].float().cpu().numpy()
    write_overlay(config, seen.overlay(heat), console, f"What spoke for {judged[0][0]}")
    return [(label, chance) for label, chance in judged]

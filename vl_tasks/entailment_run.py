"""A training run of visual entailment, from the folders named to a report page."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from torch import Tensor

from clip_core.checkpoint import load_model
from clip_core.reading import make_tokenizer, record_tokenizer, restore_tokenizer, write_tokenizer
from clip_core.runtime import Runtime, start_runtime
from clip_core.tokenizer import Tokenizer
from precompute.screen import say
from vl_tasks.entailment_config import TrainEntailment
from vl_tasks.entailment_data import PairSet, image_numbers, pair_scores, pair_set
from vl_tasks.entailment_files import LABELS, Label, Pair, read_pairs, write_predictions
from vl_tasks.entailment_objective import EntailmentObjective, labels_of
from vl_tasks.entailment_report import report_entailment
from vl_tasks.one_stream import OneStream, OneStreamConfig, bert_settings
from vl_tasks.records import shared_record
from vl_tasks.sources import Data, choose_data, open_vision
from vl_tasks.task import run_line, train_task
from vl_tasks.twin import Ended, train_beside_twin
from vl_tasks.vision import Vision
from vl_tasks.wordpieces import WordPieceTokenizer, read_wordpieces

TASK = "entailment"
LEAK = (
    "--read-premise: sentence1 is a caption of the image, so its words tell what the image shows; such accuracies "
    "do not compare with those published for SNLI-VE"
)


def train_entailment(config: TrainEntailment, console: Console) -> None:
    """The whole job of the command on one rank."""
    trainer = config.trainer
    with start_runtime(config.device, trainer.precision, trainer.seed) as runtime:
        if config.read_premise and runtime.is_main:
            say(console, LEAK)
        data, vision = choose_data(config.data, config.images, config.vision, runtime, console)
        seeing = replace(config, vision=vision)

        def train(one: TrainEntailment) -> Ended | None:
            return _run(one, data, runtime, console)

        if config.blind_twin and not vision.blind:
            train_beside_twin(seeing, train, "blind (hypothesis-only)", runtime, console)
        else:
            train(seeing)


def _run(config: TrainEntailment, data: Data, runtime: Runtime, console: Console) -> Ended | None:
    """Trains one model on one rank; what came out, on the main one."""
    parts = load_parts(config, data, runtime, console)
    model = build_model(parts, config)
    place = config.trainer.seed, runtime.rank, runtime.world
    objective = EntailmentObjective(model, parts.vision, parts.train, parts.judged, config.batch, *place)
    objective.to(runtime.device)
    if runtime.is_main:
        describe(console, config, parts, objective, runtime)
    train_task(objective, config, run_record(config, parts), runtime)
    return finish(config, data, parts, objective, console) if runtime.is_main else None


def finish(
    config: TrainEntailment, data: Data, parts: Parts, objective: EntailmentObjective, console: Console
) -> Ended:
    """Vocabulary, predictions of the best weights, table, report."""
    objective.load_state_dict(load_model(config.out)[0])
    if not isinstance(parts.tokenizer, WordPieceTokenizer):
        write_tokenizer(config.out, parts.tokenizer)
    found = {name: objective.probabilities(split) for name, split in parts.judged.items()}
    for name, probabilities in found.items():
        path = config.out / f"predictions_{name}.jsonl"
        write_predictions(path, parts.judged[name].pairs, chances_of(probabilities))
    judged = parts.judged
    scores = {name: pair_scores(judged[name].pairs, labels_of(chances)) for name, chances in found.items()}
    ended = Ended(config, scores, lambda blind: report_entailment(config, data, objective, found, scores, blind))
    ended.show(console)
    return ended


def chances_of(probabilities_PC: Tensor) -> list[dict[Label, float]]:
    """Probability of each label, by name, for each pair."""
    return [dict(zip(LABELS, row, strict=True)) for row in probabilities_PC.tolist()]


@dataclass(frozen=True, eq=False)
class Parts:
    """All that a run reads. words: rows of the word embedding; model: the config, its sizes those of --bert."""

    train: PairSet
    judged: dict[str, PairSet]
    tokenizer: Tokenizer
    words: int
    model: OneStreamConfig
    vision: Vision


def load_parts(config: TrainEntailment, data: Data, runtime: Runtime, console: Console) -> Parts:
    """Pairs, vocabulary, what is seen; says what a user should know of them."""
    names = [*config.train_splits, *(name for name in config.eval_splits if name not in config.train_splits)]
    splits: dict[str, list[Pair]] = {}
    for name in names:
        file = read_pairs(data.folder, name)
        splits[name] = file.pairs
        if file.without_label and runtime.is_main:
            say(console, f"{name}: {file.without_label:,} pairs without a label (-) left out")
    train = [pair for name in config.train_splits for pair in splits[name]]
    text = config.text
    tokenizer: Tokenizer
    if config.bert is not None:
        tokenizer = WordPieceTokenizer(read_wordpieces(config.bert), text.max_words)
        model, words = bert_settings(config.bert, config.model)
        if len(tokenizer) > words:
            raise ValueError(
                f"{config.bert}: {len(tokenizer)} word pieces, {words} embeddings; expected files of one model"
            )
    else:
        texts = [pair.hypothesis for pair in train] + [pair.premise for pair in train if config.read_premise]
        tokenizer = make_tokenizer(
            text.tokenizer, text.vocabulary, texts, text.min_word_count, text.subwords, text.max_words
        )
        model, words = config.model, len(tokenizer)
    images = image_numbers(splits)
    vision = open_vision(config.vision, list(images), data.images, runtime.device, config.trainer.precision)

    def made(name: str, pairs: list[Pair]) -> PairSet:
        return pair_set(name, pairs, images, tokenizer, config.read_premise)

    judged = {name: made(name, splits[name]) for name in config.eval_splits}
    return Parts(made("train", train), judged, tokenizer, words, model, vision)


def build_model(parts: Parts, config: TrainEntailment) -> OneStream:
    """The model that a run starts from."""
    model = OneStream(parts.words, len(LABELS), parts.vision.sizes, parts.model, parts.tokenizer.pad_id)
    if config.bert is not None and not config.resume:
        model.load_bert(config.bert)
    return model


def describe(
    console: Console, config: TrainEntailment, parts: Parts, objective: EntailmentObjective, runtime: Runtime
) -> None:
    """One look at what is about to run."""
    for split in (parts.train, *parts.judged.values()):
        say(console, f"{split.name}: {len(split):,} pairs about {len(split.image.unique()):,} images")
    start = "untrained" if config.bert is None else f"from {config.bert.name}"
    name = f"one-stream transformer of {parts.words:,} words ({config.recipe}, {start})"
    say(console, run_line(config, name, objective, runtime))


def run_record(config: TrainEntailment, parts: Parts) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {
        **shared_record(config, TASK, parts.vision),
        "model": dataclasses.asdict(parts.model),
        "words": parts.words,
        "read_premise": config.read_premise,
        "from_bert": config.bert is not None,
        "train_splits": list(config.train_splits),
        "tokenizer": recorded(parts.tokenizer),
    }


def recorded(tokenizer: Tokenizer) -> Any:
    """What a checkpoint keeps of a tokenizer."""
    if isinstance(tokenizer, WordPieceTokenizer):
        return {"wordpieces": tokenizer.document}
    return record_tokenizer(tokenizer)


def restored(record: Any, max_words: int) -> Tokenizer:
    """The tokenizer of what `recorded` gave."""
    if isinstance(record, dict):
        return WordPieceTokenizer(record["wordpieces"], max_words)
    return restore_tokenizer(record, max_words)

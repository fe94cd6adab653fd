"""A training run of question answering, from the folders named to a report page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console

from clip_core.checkpoint import load_model
from clip_core.reading import make_tokenizer, record_tokenizer, write_tokenizer
from clip_core.runtime import Runtime, start_runtime
from clip_core.tokenizer import Tokenizer
from envs.files import replacing
from precompute.screen import say
from vl_tasks.answers import answer_vocabulary, scaled_min_count
from vl_tasks.question_sets import VQA, DataSet
from vl_tasks.records import shared_record
from vl_tasks.sources import Data, choose_data, open_vision
from vl_tasks.task import run_line, train_task
from vl_tasks.twin import Ended, train_beside_twin
from vl_tasks.vision import Vision
from vl_tasks.vqa_accuracy import ANSWERS
from vl_tasks.vqa_config import TrainVqa
from vl_tasks.vqa_data import QuestionSet, image_numbers, question_set
from vl_tasks.vqa_files import Question
from vl_tasks.vqa_objective import VqaObjective, build_model
from vl_tasks.vqa_parts import QuestionTokens
from vl_tasks.vqa_report import report_vqa
from vl_tasks.word_vectors import read_word_vectors

ANSWERS_NAME = "answers.json"


def train_vqa(config: TrainVqa, console: Console, data_set: DataSet = VQA) -> None:
    """The whole job of the command on one rank."""
    data_set.check(config.data)
    trainer = config.trainer
    with start_runtime(config.device, trainer.precision, trainer.seed) as runtime:
        data, vision = choose_data(config.data, config.images, config.vision, runtime, console)
        seeing = replace(config, vision=vision)

        def train(one: TrainVqa) -> Ended | None:
            return _run(one, data, data_set, runtime, console)

        if config.blind_twin and not vision.blind:
            train_beside_twin(seeing, train, "blind", runtime, console)
        else:
            train(seeing)


def _run(config: TrainVqa, data: Data, data_set: DataSet, runtime: Runtime, console: Console) -> Ended | None:
    """Trains one model on one rank; what came out, on the main one."""
    parts = load_parts(config, data, data_set, runtime, console)
    model = build_model(
        config.model, len(parts.tokenizer), len(parts.vocabulary), parts.vision.sizes, parts.tokenizer.pad_id
    )
    if config.word_vectors is not None and not config.resume:
        vectors = read_word_vectors(config.word_vectors, parts.tokenizer.vocabulary, config.model.word)
        assert isinstance(model.read, QuestionTokens)
        with torch.no_grad():
            for number, vector in vectors.items():
                model.read.embedding.weight[number] = vector
        if runtime.is_main:
            say(console, f"{len(vectors):,} of {len(parts.tokenizer):,} words start from {config.word_vectors}")
    place = config.trainer.seed, runtime.rank, runtime.world
    answers_each = None if config.any_number_of_answers else ANSWERS
    objective = VqaObjective(
        model,
        parts.vision,
        parts.train,
        parts.judged,
        parts.vocabulary,
        lambda questions, answers: data_set.score(questions, answers, answers_each),
        config.batch,
        *place,
    ).to(runtime.device)
    if runtime.is_main:
        describe(console, config, parts, objective, runtime)
    train_task(objective, config, run_record(config, parts, data_set), runtime)
    return finish(config, data, data_set, parts, objective, console) if runtime.is_main else None


def finish(
    config: TrainVqa, data: Data, data_set: DataSet, parts: Parts, objective: VqaObjective, console: Console
) -> Ended:
    """Vocabularies, and of the best weights results of each judged split."""
    state, _ = load_model(config.out)
    objective.load_state_dict(state)
    write_tokenizer(config.out, parts.tokenizer)
    with replacing(config.out / ANSWERS_NAME) as file:
        file.write(json.dumps(parts.vocabulary, indent=0).encode())
    scores = {}
    for name, split in parts.judged.items():
        answers = objective.answers(split)
        found = {q.question_id: answer for q, answer in zip(split.questions, answers, strict=True)}
        data_set.write(config.out / f"results_{name}.json", found)
        scores[name] = objective.score(split.questions, answers)
    ended = Ended(config, scores, lambda blind: report_vqa(config, data, objective, scores, blind))
    ended.show(console)
    return ended


@dataclass(frozen=True, eq=False)
class Parts:
    """All that a run reads."""

    train: QuestionSet
    judged: dict[str, QuestionSet]
    vocabulary: list[str]
    tokenizer: Tokenizer
    vision: Vision


def load_parts(config: TrainVqa, data: Data, data_set: DataSet, runtime: Runtime, console: Console) -> Parts:
    """Questions, vocabularies, what is seen; says what a user should know of them."""
    answers_each = None if config.any_number_of_answers else ANSWERS
    names = [*config.train_splits, *(name for name in config.eval_splits if name not in config.train_splits)]
    splits = {name: data_set.read(data.folder, name, answers_each) for name in names}
    train = [question for name in config.train_splits for question in splits[name]]
    if not all(question.answers for question in train):
        raise ValueError(f"{' '.join(config.train_splits)}: found questions without answers; expected answers to learn")
    judged = {name: splits[name] for name in config.eval_splits if all(q.answers for q in splits[name])}
    vocabulary = _vocabulary(config, splits, data_set, runtime, console)
    text = config.text
    texts = (question.text for question in train)
    tokenizer = make_tokenizer(
        text.tokenizer, text.vocabulary, texts, text.min_word_count, text.subwords, text.max_words
    )
    images = image_numbers(splits)
    vision = open_vision(config.vision, list(images), data.images, runtime.device, config.trainer.precision)

    def made(name: str, questions: list[Question]) -> QuestionSet:
        return question_set(name, questions, images, tokenizer, vocabulary, data_set.form)

    return Parts(
        made("train", train),
        {name: made(name, questions) for name, questions in judged.items()},
        vocabulary,
        tokenizer,
        vision,
    )


def _vocabulary(
    config: TrainVqa, splits: Mapping[str, list[Question]], data_set: DataSet, runtime: Runtime, console: Console
) -> list[str]:
    """The answers, from the splits to learn from and those to judge on, as the field does it."""
    most_common = [question.answer for questions in splits.values() for question in questions]
    known = [answer for answer in most_common if answer is not None]
    least = config.min_answer_count or scaled_min_count(len(known))
    vocabulary = answer_vocabulary(known, least, data_set.form)
    if runtime.is_main:
        rule = "" if config.min_answer_count else " (the field's 9, scaled to this size)" if least < 9 else ""
        say(
            console,
            f"{len(vocabulary):,} answers that are the most common one of {least} or more{rule} of {len(known):,} "
            f"questions of {' '.join(splits)}",
        )
    return vocabulary


def describe(console: Console, config: TrainVqa, parts: Parts, objective: VqaObjective, runtime: Runtime) -> None:
    """One look at what is about to run."""
    for split in (parts.train, *parts.judged.values()):
        images, lost = len(split.image.unique()), len(split) - split.answerable
        words = f"{split.name}: {len(split):,} questions about {images:,} images"
        say(console, words + (f", {lost:,} without an answer in the vocabulary (--min-answer-count)" if lost else ""))
    say(console, run_line(config, f"{config.model.model} ({config.recipe})", objective, runtime))


def run_record(config: TrainVqa, parts: Parts, data_set: DataSet) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {
        **shared_record(config, data_set.name, parts.vision),
        "model": dataclasses.asdict(config.model),
        "train_splits": list(config.train_splits),
        "tokenizer": record_tokenizer(parts.tokenizer),
        "answers": parts.vocabulary,
    }

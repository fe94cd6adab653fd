"""Questions, answers, results in the files of VQA v2 (visualqa.org)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envs.files import replacing
from vl_tasks.data import DOCUMENTATION, coco_names, field_of, items_of, named, read_answers, read_json
from vl_tasks.vqa_accuracy import ANSWERS


@dataclass(frozen=True)
class Question:
    """A question about an image.

    `question_id` is a text in GQA; `images`: what the image's file may be called; `answers`: those of people, none
    where they are not published; `annotation`: the entry that the official evaluator reads, empty without answers.
    """

    question_id: int | str
    images: tuple[str, ...]
    text: str
    answers: tuple[str, ...] = ()
    answer: str | None = None
    question_type: str | None = None
    answer_type: str | None = None
    annotation: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


def questions_file(folder: Path, split: str) -> Path:
    """The questions of a split such as `val2014`."""
    return folder / f"v2_OpenEnded_mscoco_{split}_questions.json"


def annotations_file(folder: Path, split: str) -> Path:
    """The answers of a split such as `val2014`."""
    return folder / f"v2_mscoco_{split}_annotations.json"


def read_questions(folder: Path, split: str, answers_each: int | None = ANSWERS) -> list[Question]:
    """Questions of a split with their answers, in the order of the file; without answers where there is no such file.

    answers_each: human answers that each question must have; None: any number from one.
    Raises ValueError for files that are missing or of another format, a question without annotation, an annotation
    without question, an id that comes twice, a question with too few answers.
    """
    path, answered = questions_file(folder, split), annotations_file(folder, split)
    document = read_json(path)
    subset = str(document.get("data_subtype") or split) if isinstance(document, dict) else split
    asked = items_of(path, document, "questions")
    known = _annotations(answered, answers_each) if answered.exists() else None
    questions: dict[int, Question] = {}
    for item in asked:
        identity = field_of(path, item, "question_id", int)
        if identity in questions:
            raise ValueError(f"{path}: question {identity} comes twice; expected every question_id once")
        images = coco_names(subset, field_of(path, item, "image_id", int))
        text = field_of(path, item, "question", str)
        questions[identity] = _with_answers(identity, images, text, None if known is None else known.get(identity))
    if known is not None:
        _check_pairs(path, answered, list(questions), list(known))
    if not questions:
        raise ValueError(f"{path} has no question; expected one or more")
    return list(questions.values())


def _annotations(path: Path, answers_each: int | None) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for item in items_of(path, read_json(path), "annotations"):
        identity = field_of(path, item, "question_id", int)
        if identity in found:
            raise ValueError(f"{path}: question {identity} comes twice; expected every question_id once")
        for name in ("multiple_choice_answer", "question_type", "answer_type"):
            field_of(path, item, name, str)
        given = field_of(path, item, "answers", list)
        if not given or (answers_each is not None and len(given) != answers_each):
            raise ValueError(
                f"{path}: question {identity} has {len(given)} human answers; expected {answers_each or 'one or more'}"
                + (" (--any-number-of-answers takes what there is)" if given else "")
            )
        for answer in given:
            field_of(path, answer, "answer", str)
        found[identity] = item
    return found


def _with_answers(identity: int, images: tuple[str, ...], text: str, item: dict[str, Any] | None) -> Question:
    if item is None:
        return Question(identity, images, text)
    answers = tuple(answer["answer"] for answer in item["answers"])
    types = item["question_type"], item["answer_type"]
    return Question(identity, images, text, answers, item["multiple_choice_answer"], *types, item)


def _check_pairs(path: Path, answered: Path, asked: Sequence[int], known: Sequence[int]) -> None:
    for name, ids, other in ((path, set(asked) - set(known), answered), (answered, set(known) - set(asked), path)):
        if ids:
            raise ValueError(
                f"{len(ids)} questions of {name} are not in {other.name}: {named(sorted(ids))}; expected the two files "
                f"of one split; {DOCUMENTATION}"
            )


def write_results(path: Path, answers: Mapping[int, str]) -> None:
    """The file that the evaluation server takes: [{"question_id": 7, "answer": "two"}, ...]."""
    results = [{"question_id": question, "answer": answer} for question, answer in answers.items()]
    with replacing(path) as file:
        file.write(json.dumps(results).encode())


def read_results(path: Path) -> dict[int, str]:
    """Answer by question id of such a file; ValueError for another format or an id that comes twice."""
    return read_answers(path, "question_id", "answer", int)

"""Questions, predictions in the files of GQA (cs.stanford.edu/people/dorarad/gqa)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envs.files import replacing
from vl_tasks.data import field_of, read_answers, read_json


@dataclass(frozen=True)
class GqaQuestion:
    """A question about an image. `answer` is None in the test splits. structural, semantic: types of the question, by
    which accuracy is reported (`query` questions are open, the others binary)."""

    question_id: str
    images: tuple[str, ...]
    text: str
    answer: str | None
    structural: str | None
    semantic: str | None


def questions_file(folder: Path, split: str) -> Path:
    """The balanced questions of a split: train, val, testdev, test, challenge."""
    return folder / f"{split}_balanced_questions.json"


def read_questions(folder: Path, split: str) -> list[GqaQuestion]:
    """Balanced questions of a split, in the order of the file; ValueError for files that are missing or of another
    format."""
    path = questions_file(folder, split)
    document = read_json(path)
    if not isinstance(document, dict) or not document:
        raise ValueError(f"{path}: found {type(document).__name__}; expected an object of questions by id")
    questions = []
    for identity, item in document.items():
        if not isinstance(item, dict):
            raise ValueError(f"{path}: question {identity}: found {str(item)[:40]}; expected an object")
        types = item.get("types") or {}
        questions.append(
            GqaQuestion(
                identity,
                (field_of(path, item, "imageId", str),),
                field_of(path, item, "question", str),
                item.get("answer"),
                types.get("structural"),
                types.get("semantic"),
            )
        )
    return questions


def write_predictions(path: Path, answers: Mapping[str, str]) -> None:
    """The file that GQA's evaluation takes: [{"questionId": "7", "prediction": "two"}, ...]."""
    found = [{"questionId": question, "prediction": answer} for question, answer in answers.items()]
    with replacing(path) as file:
        file.write(json.dumps(found).encode())


def read_predictions(path: Path) -> dict[str, str]:
    """Prediction by question id of such a file; ValueError for another format or an id that comes twice."""
    return read_answers(path, "questionId", "prediction", str)

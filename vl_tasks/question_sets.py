"""Data sets of questions that one model learns: VQA v2, GQA."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vl_tasks import gqa_files, vqa_files
from vl_tasks.answers import vocabulary_form
from vl_tasks.data import check_ids
from vl_tasks.scores import Scores
from vl_tasks.vqa_data import as_questions, gqa_scores, vqa_scores
from vl_tasks.vqa_files import Question


@dataclass(frozen=True)
class DataSet:
    """What differs between data sets of questions.

    name: also the task of a checkpoint; judged: the split that is judged on by default; read: folder, split, human
    answers that each question must have -> questions; score: questions, an answer to each, the same number -> scores;
    form: what is done to an answer before it enters the vocabulary; write: file, answer by question id; read_results:
    file -> answer by question id; built_in: whether the built-in houses have questions of this kind.
    """

    name: str
    judged: str
    read: Callable[[Path, str, int | None], list[Question]]
    score: Callable[[Sequence[Question], Sequence[str], int | None], Scores]
    form: Callable[[str], str]
    write: Callable[[Path, Mapping[Any, str]], None]
    read_results: Callable[[Path], Mapping[Any, str]]
    built_in: bool = True

    def check(self, data: Path | None) -> None:
        """ValueError where the built-in houses are to stand in for data that they do not have."""
        if data is None and not self.built_in:
            raise ValueError(
                f"no --data given, and the built-in houses have no questions of {self.name.upper()}; expected --data "
                f"FOLDER with its files (docs/data.md), or python -m vl_tasks {VQA.name}, which has them"
            )


def _read_gqa(folder: Path, split: str, answers_each: int | None) -> list[Question]:
    return as_questions(gqa_files.read_questions(folder, split))


def _score_gqa(questions: Sequence[Question], answers: Sequence[str], answers_each: int | None) -> Scores:
    return gqa_scores(questions, answers)


VQA = DataSet(
    "vqa",
    "val2014",
    vqa_files.read_questions,
    vqa_scores,
    vocabulary_form,
    vqa_files.write_results,
    vqa_files.read_results,
)
GQA = DataSet(
    "gqa", "testdev", _read_gqa, _score_gqa, str, gqa_files.write_predictions, gqa_files.read_predictions, False
)
DATA_SETS = {data_set.name: data_set for data_set in (VQA, GQA)}


def answers_in_order(path: Path, questions: Sequence[Question], found: Mapping[Any, str]) -> list[str]:
    """The answer of a results file to each question; ValueError for questions that it lacks or that do not exist."""
    known = [question.question_id for question in questions]
    check_ids(path, found, known, "has no answer to", "answers unknown", "questions")
    return [found[question.question_id] for question in questions]

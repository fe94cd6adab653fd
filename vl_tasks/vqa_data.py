"""Questions of a split as tensors, and how right a model's answers to them are.

Legend: Q questions, L tokens, K answers of a question, V answers of the vocabulary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clip_core.tokenizer import Tokenizer
from vl_tasks import gqa_files
from vl_tasks.answers import soft_targets
from vl_tasks.scores import Scores
from vl_tasks.vqa_accuracy import ANSWERS, vqa_accuracy
from vl_tasks.vqa_files import Question


@dataclass(frozen=True, eq=False)
class QuestionSet:
    """A split. image [Q]: number of the image among those of the run; ids [Q, L], lengths [Q]: the questions;
    target_ids, target_scores [Q, K]: see `soft_targets`. All on the CPU."""

    name: str
    questions: list[Question]
    image: Tensor
    ids: Tensor
    lengths: Tensor
    target_ids: Tensor
    target_scores: Tensor

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def is_answered(self) -> bool:
        """Whether people's answers are known."""
        return bool(self.questions[0].answers)

    @property
    def answerable(self) -> int:
        """Questions of which some human answer is in the vocabulary."""
        return int((self.target_scores.sum(1) > 0).sum())


def image_numbers(splits: Mapping[str, Sequence[Question]]) -> dict[tuple[str, ...], int]:
    """The images of all splits, by the names that their files may have, with their numbers."""
    names = dict.fromkeys(question.images for questions in splits.values() for question in questions)
    return {image: number for number, image in enumerate(names)}


def question_set(
    name: str,
    questions: list[Question],
    images: Mapping[tuple[str, ...], int],
    tokenizer: Tokenizer,
    vocabulary: Sequence[str],
    form: Callable[[str], str],
) -> QuestionSet:
    """The questions as tensors; `form`: what is done to a human answer before it is looked up in the vocabulary.

    ValueError for a question without a word.
    """
    empty = [question.question_id for question in questions if not question.text.strip()]
    if empty:
        raise ValueError(f"{name}: question {empty[0]} has no word ({len(empty)} such); expected a question")
    ids, lengths = tokenizer.encode_batch([question.text for question in questions])
    numbers = {answer: number for number, answer in enumerate(vocabulary)}
    target_ids, scores = soft_targets([question.answers for question in questions], numbers, form)
    return QuestionSet(
        name,
        questions,
        torch.tensor([images[question.images] for question in questions]),
        torch.from_numpy(ids[:, : lengths.max()]),
        torch.from_numpy(lengths),
        torch.from_numpy(target_ids),
        torch.from_numpy(scores),
    )


def dense_targets(ids_BK: Tensor, scores_BK: Tensor, answers: int) -> Tensor:
    """Scores [B, V] of every answer."""
    return scores_BK.new_zeros(len(ids_BK), answers).scatter_add_(1, ids_BK, scores_BK)


Scorer = Callable[[Sequence[Question], Sequence[str]], Scores]


def vqa_scores(questions: Sequence[Question], answers: Sequence[str], answers_each: int | None = ANSWERS) -> Scores:
    """The official accuracy of an answer to each question, by answer type and question type."""
    results = [
        {"question_id": question.question_id, "answer": answer}
        for question, answer in zip(questions, answers, strict=True)
    ]
    found = vqa_accuracy([question.annotation for question in questions], results, answers_each)
    return _grouped(questions, list(found.question.values()), found.overall)


def gqa_scores(questions: Sequence[Question], answers: Sequence[str]) -> Scores:
    """GQA's accuracy: equal strings; by binary and open questions, by structural and semantic type.

    Validity, plausibility, consistency and distribution need files that this project does not read.
    """
    each = [float(question.answer == answer) for question, answer in zip(questions, answers, strict=True)]
    return _grouped(questions, each, sum(each) / len(each))


def _grouped(questions: Sequence[Question], each: Sequence[float], overall: float) -> Scores:
    names = {"answer type": "answer_type", "question type": "question_type"}
    groups: dict[str, dict[str, list[float]]] = {group: defaultdict(list) for group in names}
    for question, score in zip(questions, each, strict=True):
        for group, field in names.items():
            groups[group][str(getattr(question, field))].append(score)
    ordered = {group: sorted(found.items(), key=lambda item: -len(item[1])) for group, found in groups.items()}
    means = {group: {name: sum(some) / len(some) for name, some in found} for group, found in ordered.items()}
    counts = {group: {name: len(some) for name, some in found} for group, found in ordered.items()}
    return Scores(overall, means, counts, list(each))


def as_questions(questions: Sequence[gqa_files.GqaQuestion]) -> list[Question]:
    """GQA's questions in the form of VQA's: one answer; answer type binary or open, question type the semantic one."""
    return [
        Question(
            question.question_id,
            question.images,
            question.text,
            () if question.answer is None else (question.answer,),
            question.answer,
            question.semantic or "unknown",
            "open" if question.structural == "query" else "binary",
        )
        for question in questions
    ]

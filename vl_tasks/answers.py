"""The answers that a model chooses from, and how right each one is.

Q questions, K answers of one question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from vl_tasks.vqa_accuracy import ENOUGH, normalise_answer

MIN_COUNT, FULL_SIZE = 9, 658_111
"""The field's rule: an answer enters the vocabulary if it is the most common one of at least 9 of the 658,111 questions
of VQA v2 train and val; that gives 3,129 answers."""


def vocabulary_form(answer: str) -> str:
    """An answer as the vocabulary has it: normalised as the official accuracy does, all commas removed
    (compute_softscore.py of bottom-up-attention-vqa); "the" becomes the empty answer, which the 3,129 have."""
    return normalise_answer(answer).replace(",", "")


def scaled_min_count(questions: int) -> int:
    """The field's minimum count for so many questions: 9 at the size of VQA v2 train and val, in proportion below, at
    least 1."""
    return max(1, round(MIN_COUNT * min(1.0, questions / FULL_SIZE)))


def answer_vocabulary(
    answers: Iterable[str], min_count: int, form: Callable[[str], str] = vocabulary_form
) -> list[str]:
    """Answers that are the most common one of at least `min_count` questions, frequent ones first, then by alphabet.

    answers: `multiple_choice_answer` of every question of train and val; form: what is done to them before (GQA's stay
    as they are). ValueError if none is left.
    """
    counts = Counter(map(form, answers))
    kept = sorted((answer for answer, n in counts.items() if n >= min_count), key=lambda a: (-counts[a], a))
    if not kept:
        raise ValueError(
            f"no answer is that of {min_count} questions or more ({len(counts)} different ones); expected a smaller "
            "--min-answer-count"
        )
    return kept


def soft_targets(
    answers: Sequence[Sequence[str]], numbers: Mapping[str, int], form: Callable[[str], str] = vocabulary_form
) -> tuple[np.ndarray, np.ndarray]:
    """Vocabulary numbers int64 [Q, K] and scores float32 [Q, K] of what people answered, filled up with score 0.

    An answer that k of ten people gave scores min(1, 0.3 k), which is the mean of the official accuracy over those left
    out; of n people min(1, 3 k / n). Each human answer is brought into the vocabulary's form first (as openvqa does;
    others look the raw one up). Answers outside the vocabulary count nothing.
    """
    scored = []
    for given in answers:
        counts = Counter(number for answer in given if (number := numbers.get(form(answer))) is not None)
        scored.append([(number, min(1.0, ENOUGH * count / len(given))) for number, count in counts.items()])
    width = max(1, *map(len, scored)) if scored else 1
    ids, scores = np.zeros((len(scored), width), np.int64), np.zeros((len(scored), width), np.float32)
    for row, pairs in enumerate(scored):
        for column, (number, score) in enumerate(pairs):
            ids[row, column], scores[row, column] = number, score
    return ids, scores

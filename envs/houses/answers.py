"""Ten people's answers to a question: most agree, some use another word, a few err."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from envs.houses.questions import Question
from envs.houses.wording import MATERIAL_WORDS, SYNONYMS, pick

PEOPLE = 10
OTHER_WORDS: dict[str, tuple[str, ...]] = {
    **SYNONYMS,
    "painting": ("picture", "art"),
    "gray": ("grey",),
    "wood": ("wooden",),
    "fabric": ("cloth",),
    "living room": ("lounge",),
    "office": ("study",),
    "gym": ("exercise room",),
    "laundry room": ("utility room",),
    "hallway": ("corridor",),
    "playroom": ("kids room",),
}
"""What people say instead."""
LIKE = {
    "orange": "red", "red": "orange", "pink": "purple", "purple": "blue", "blue": "purple", "black": "gray",
    "gray": "black", "brown": "black", "white": "gray", "yellow": "orange", "green": "blue",
}  # fmt: skip
"""What one who errs takes a colour for."""
OTHER_WORD, ERROR = 0.12, 0.03


def ten_answers(question: Question, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The field `answers` of VQA v2; the answer that is true is always the commonest."""
    words = OTHER_WORDS.get(question.answer, ())
    given = []
    for _ in range(PEOPLE):
        draw = rng.random()
        if draw < ERROR:
            given.append((_wrong(question, rng), "maybe"))
        elif words and draw < ERROR + OTHER_WORD:
            given.append((pick(rng, words), "yes"))
        else:
            given.append((question.answer, "maybe" if rng.random() < 0.08 else "yes"))
    count = Counter(answer for answer, _ in given)
    while max(count.items(), key=lambda entry: entry[1])[0] != question.answer or count[question.answer] < PEOPLE // 2:
        other = next(i for i, (answer, _) in enumerate(given) if answer != question.answer)
        given[other] = (question.answer, "yes")
        count = Counter(answer for answer, _ in given)
    return [
        {"answer": answer, "answer_confidence": confidence, "answer_id": i}
        for i, (answer, confidence) in enumerate(given, start=1)
    ]


def _wrong(question: Question, rng: np.random.Generator) -> str:
    """What one says who has not looked well."""
    answer = question.answer
    if question.answer_type == "yes/no":
        return "no" if answer == "yes" else "yes"
    if question.answer_type == "number":
        return str(max(int(answer) + (1 if rng.random() < 0.5 else -1), 0))
    if question.kind == "colour":
        return LIKE[answer]
    if question.kind == "material":
        return pick(rng, sorted(set(MATERIAL_WORDS) - {answer}))
    if answer in ("left", "right"):
        return "right" if answer == "left" else "left"
    return answer

"""The official accuracy of visual question answering, quirks included (GT-Vision-Lab/VQA, vqaEval.py).

An answer scores min(matches / 3, 1) against nine of the ten human answers, averaged over which one is left out. Where
the ten are not all equal, both sides are normalised first: punctuation, number words, articles, contractions.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

ANSWERS = 10
"""Human answers to a question of VQA v2."""
ENOUGH = 3
"""Humans that must agree with an answer for the full score."""
SHOWN = 5  # ids named in an error

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGITS_AROUND_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS = 32
"""Periods that are removed at most: the original hands a flag (re.UNICODE, 32) to `sub` where a count is expected."""
_ARTICLES = frozenset(["a", "an", "the"])
_WORDS_OF_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_WORDS_OF_NUMBERS)}}
_CONTRACTED = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _contractions() -> dict[str, str]:
    """Contractions by how they are written when one apostrophe is missing.

    The original's table without what never happens: entries with capitals (words are lower-case then) and entries that
    change nothing. One of its entries removes an apostrophe.
    """
    table = {"somebody'd": "somebodyd"}
    for word in _CONTRACTED.split():
        for i, letter in enumerate(word):
            if letter == "'":
                table[word[:i] + word[i + 1 :]] = word
    return table


_CONTRACTIONS = _contractions()


def remove_punctuation(text: str) -> str:
    """Punctuation becomes a space, or nothing where it touches a space anywhere in the text or a comma stands between
    digits; of periods those that no digit follows."""
    comma = _DIGITS_AROUND_COMMA.search(text) is not None
    kept = text
    for sign in _PUNCTUATION:
        kept = kept.replace(sign, "" if comma or sign + " " in text or " " + sign in text else " ")
    return _PERIOD.sub("", kept, count=_PERIODS)


def normalise_words(text: str) -> str:
    """Lower case, digits for zero to ten, no articles, apostrophes where contractions lack them."""
    words = (_NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def strip_answer(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=1 << 17)
def normalise_answer(answer: str) -> str:
    """An answer as the official evaluation compares it."""
    return normalise_words(remove_punctuation(strip_answer(answer)))


def answer_accuracy(answer: str, humans: Sequence[str]) -> float:
    """Accuracy 0 to 1 of an answer against what people answered, in the official way."""
    mine, theirs = strip_answer(answer), [strip_answer(human) for human in humans]
    if len(set(theirs)) > 1:
        mine, theirs = normalise_answer(mine), [normalise_answer(human) for human in theirs]
    matches = sum(human == mine for human in theirs)
    others = [matches - (human == mine) for human in theirs]
    return sum(min(1.0, count / ENOUGH) for count in others) / len(others)


@dataclass(frozen=True)
class VqaAccuracy:
    """Fractions: over all questions, by answer type, by question type, by question id."""

    overall: float
    answer_type: dict[str, float]
    question_type: dict[str, float]
    question: dict[int, float]

    def official(self) -> dict[str, Any]:
        """Percent rounded to two places, under the names of the official evaluator's `accuracy` and `evalQA`."""
        return {
            "overall": round(100 * self.overall, 2),
            "perAnswerType": {kind: round(100 * value, 2) for kind, value in self.answer_type.items()},
            "perQuestionType": {kind: round(100 * value, 2) for kind, value in self.question_type.items()},
            "evalQA": {question: round(100 * value, 2) for question, value in self.question.items()},
        }


def vqa_accuracy(
    annotations: Sequence[Mapping[str, Any]],
    results: Sequence[Mapping[str, Any]],
    answers_each: int | None = ANSWERS,
) -> VqaAccuracy:
    """Official accuracy of results, [{"question_id": 7, "answer": "two"}], on the "annotations" of a VQA v2 file.

    answers_each: human answers that every question must have; None takes any number from one, as the original does.
    ValueError: ids that are missing, unknown or twice there; answers that are no text; too few human answers.
    """
    answers = _by_id(results, "results")
    known = _by_id(annotations, "annotations")
    for fault, ids in (
        ("of the annotations have no result", [i for i in known if i not in answers]),
        ("of the results have no annotation", [i for i in answers if i not in known]),
    ):
        if ids:
            named = ", ".join(map(str, ids[:SHOWN])) + (", ..." if len(ids) > SHOWN else "")
            raise ValueError(
                f"{len(ids)} questions {fault}: {named}; expected one result for each of {len(known)} questions"
            )
    if not known:
        raise ValueError("found no annotations; expected one question or more")
    question: dict[int, float] = {}
    by_type: dict[str, dict[str, list[float]]] = {"answer_type": defaultdict(list), "question_type": defaultdict(list)}
    for identity, annotation in known.items():
        humans = _human_answers(annotation, answers_each)
        answer = answers[identity].get("answer")
        if not isinstance(answer, str):
            raise ValueError(f"question {identity}: found the answer {answer!r}; expected a text")
        question[identity] = answer_accuracy(answer, humans)
        for name, groups in by_type.items():
            groups[annotation[name]].append(question[identity])
    means = {name: {kind: sum(v) / len(v) for kind, v in groups.items()} for name, groups in by_type.items()}
    overall = sum(question.values()) / len(question)
    return VqaAccuracy(overall, means["answer_type"], means["question_type"], question)


def _by_id(items: Sequence[Mapping[str, Any]], name: str) -> dict[int, Mapping[str, Any]]:
    """Items by question id, in their order."""
    counts = Counter(item.get("question_id") for item in items)
    twice = [i for i, count in counts.items() if count > 1]
    if None in counts or twice:
        fault = "an entry without question_id" if None in counts else f"question {twice[0]} {counts[twice[0]]} times"
        raise ValueError(f"{name}: found {fault}; expected every question_id once")
    return {item["question_id"]: item for item in items}


def _human_answers(annotation: Mapping[str, Any], answers_each: int | None) -> list[str]:
    humans = [answer["answer"] for answer in annotation.get("answers", ())]
    if not humans or (answers_each is not None and len(humans) != answers_each):
        question, expected = annotation["question_id"], answers_each or "one or more"
        raise ValueError(f"question {question}: found {len(humans)} human answers; expected {expected}")
    return humans

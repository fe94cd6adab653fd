"""Questions with an answer as texts that CLIP can compare with an image."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from vl_tasks.analyse_config import Prompt

YES, NO = "yes", "no"
_ARTICLE = re.compile(r"^(a|an|any|some)\s+")
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"what colou?r (?:is|are) (.+)"), "{0} is {answer}"),
    (re.compile(r"what is the colou?r of (.+)"), "{0} is {answer}"),
    (re.compile(r"what (?:is|are) (.+) (?:made of|doing|wearing|holding)"), "{0} {answer}"),
    (re.compile(r"how many (.+?) (?:are|is|can|do|does|hang|has|have)\b.*"), "{answer} {0}"),
    (re.compile(r"what (\w+) (?:is|are) (.+)"), "{answer}, the {0} {1}"),
    (re.compile(r"(?:what|who|which|where) (?:is|are) (.+)"), "{0} is {answer}"),
    (re.compile(r"(?:what|who|which) (.+)"), "{answer} {0}"),
)


def statement(question: str, answer: str) -> str:
    """A sentence that says what the answer says; the idea is that of TAP-C (arXiv 2203.07190).

    By rules, for English questions; where none fits, question and answer stand side by side.
    """
    asked = question.strip().rstrip("?. ").lower()
    found = re.fullmatch(r"(is|are|was|were) there (.+)", asked)
    if found and answer in (YES, NO):
        what = found[2] if answer == YES else f"no {_ARTICLE.sub('', found[2])}"
        return f"there {found[1]} {what}"
    found = re.fullmatch(r"(?:is|are|was|were|does|do|did|can|has|have|will|would|could|should) (.+)", asked)
    if found and answer in (YES, NO):
        return found[1] if answer == YES else f"not {found[1]}"
    for pattern, made in _PATTERNS:
        if found := pattern.fullmatch(asked):
            return made.format(*found.groups(), answer=answer)
    return f"{asked} {answer}"


PROMPTS: Mapping[Prompt, Callable[[str, str], str]] = {
    "answer": lambda question, answer: answer,
    "question": lambda question, answer: f"question: {question} answer: {answer}",
    "statement": statement,
}
"""Question, answer -> text."""

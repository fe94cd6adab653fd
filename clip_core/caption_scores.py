"""Scores of captions or instructions by id: BLEU-1 to BLEU-4, ROUGE-L, CIDEr of the COCO caption evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Generic, TypeVar

from clip_core.caption_tokens import tokenize_captions
from clip_core.cider import Frequencies, cider_d
from clip_core.language_metrics import LONGEST, Sentence, bleu, rouge_l

Id = TypeVar("Id", int, str)
SHOWN = 5  # ids named in an error


@dataclass(frozen=True)
class CaptionScores(Generic[Id]):
    """bleu_1 to bleu_4, rouge_l, cider: of the corpus, and of each id. Fractions, but CIDEr, which may reach 10."""

    corpus: dict[str, float]
    each: dict[Id, dict[str, float]]


def check_ids(found: Mapping[Id, object], expected: Mapping[Id, object]) -> None:
    """ValueError that names ids which are missing from `found` or should not be there."""
    for fault, ids in (
        ("missing", [i for i in expected if i not in found]),
        ("unknown", [i for i in found if i not in expected]),
    ):
        if ids:
            named = ", ".join(map(repr, ids[:SHOWN])) + (", ..." if len(ids) > SHOWN else "")
            raise ValueError(
                f"{len(ids)} of {len(expected)} ids are {fault}: {named}; expected the ids of the references"
            )


def score_tokens(
    candidates: Mapping[Id, Sentence],
    references: Mapping[Id, Sequence[Sentence]],
    frequencies: Frequencies | None = None,
) -> CaptionScores[Id]:
    """Scores of one token list an id against those of one reference or more. `frequencies` are for CIDEr: default
    those of the references given, as the COCO evaluation does."""
    check_ids(candidates, references)
    ids = list(references)
    mine, theirs = [candidates[i] for i in ids], [references[i] for i in ids]
    bleu_corpus, bleu_each = bleu(mine, theirs)
    rouge, cider = rouge_l(mine, theirs), cider_d(mine, theirs, frequencies)
    names = [f"bleu_{n}" for n in range(1, LONGEST + 1)]
    corpus = dict(zip(names, map(float, bleu_corpus), strict=True))
    each = {
        i: {
            **dict(zip(names, map(float, bleu_each[k]), strict=True)),
            "rouge_l": float(rouge[k]),
            "cider": float(cider[k]),
        }
        for k, i in enumerate(ids)
    }
    return CaptionScores({**corpus, "rouge_l": float(rouge.mean()), "cider": float(cider.mean())}, each)


def score_captions(
    candidates: Mapping[Id, str],
    references: Mapping[Id, Sequence[str]],
    frequencies: Frequencies | None = None,
    lines_as_published: bool = False,
) -> CaptionScores[Id]:
    """The same for texts, split by `tokenize_captions`, which explains `lines_as_published`."""
    check_ids(candidates, references)
    words = iter(tokenize_captions(list(chain.from_iterable(references.values())), lines_as_published))
    split = {i: [next(words) for _ in group] for i, group in references.items()}
    mine = tokenize_captions([candidates[i] for i in references], lines_as_published)
    return score_tokens(dict(zip(references, mine, strict=True)), split, frequencies)

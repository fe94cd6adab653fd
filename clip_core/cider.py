"""CIDEr-D: how much of what people agree on a sentence says (Vedantam et al. 2015).

An n-gram weighs as much as it is frequent in the sentence and rare among images: count · log(images / images whose
references hold it). A sentence and a reference are compared by the cosine of their weights, for 1-grams to 4-grams,
where a repeated n-gram counts as often as in the reference and other lengths cost: exp(-(length difference)² / 72).
What the COCO evaluation calls "CIDEr" is this as well. `cider_d` is the readable form; `CiderD` (cider_reward.py)
scores batches of token ids for self-critical training.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clip_core.language_metrics import LONGEST, References, Sentence, check_references, ngram_counts

SIGMA = 6.0
"""Width of the length penalty, in bigrams."""
SCALE = 10.0
"""CIDEr is printed times ten; then the field's tables show it in percent."""

Ngram = tuple[Hashable, ...]


@dataclass(frozen=True)
class Frequencies:
    """In how many images' references each n-gram occurs, of how many images."""

    images: Mapping[Ngram, int]
    total: int


def count_frequencies(references: References) -> Frequencies:
    """Document frequencies of references, one group an image; training captions for a reward."""
    counts: Counter[Ngram] = Counter()
    for group in references:
        counts.update({ngram for sentence in group for ngram in ngram_counts(sentence)})
    return Frequencies(counts, len(references))


@dataclass(frozen=True)
class _Vector:
    """A sentence: weight of each n-gram by its length, norms of these [4], number of bigrams."""

    weights: list[dict[Ngram, float]]
    norms: list[float]
    bigrams: int


def _vector(sentence: Sentence, frequencies: Frequencies) -> _Vector:
    weights: list[dict[Ngram, float]] = [{} for _ in range(LONGEST)]
    for ngram, count in ngram_counts(sentence).items():
        rarity = math.log(frequencies.total) - math.log(max(1, frequencies.images.get(ngram, 0)))
        weights[len(ngram) - 1][ngram] = count * rarity
    norms = [math.sqrt(sum(weight**2 for weight in part.values())) for part in weights]
    return _Vector(weights, norms, max(len(sentence) - 1, 0))


def _similarity(candidate: _Vector, reference: _Vector) -> float:
    """Mean over the n-gram lengths of the clipped cosine; a length without weight counts as 0."""
    cosines = 0.0
    for mine, theirs, norm, other in zip(
        candidate.weights, reference.weights, candidate.norms, reference.norms, strict=True
    ):
        if norm > 0 and other > 0:
            common = (min(weight, theirs[ngram]) * theirs[ngram] for ngram, weight in mine.items() if ngram in theirs)
            cosines += sum(common) / (norm * other)
    difference = candidate.bigrams - reference.bigrams
    return cosines / LONGEST * math.exp(-(difference**2) / (2 * SIGMA**2))


def cider_d(
    candidates: Sequence[Sentence], references: References, frequencies: Frequencies | None = None
) -> np.ndarray:
    """CIDEr-D of each candidate [N]; the score of a corpus is the mean.

    Without `frequencies` they are counted over the references given, one group an image: equal to pycocoevalcap's
    `Cider`, and 0 throughout for a single image. With those of the training captions, and the end token as last word
    of candidates and references, it is the reward of self-critical training (ruotianluo/cider).
    """
    check_references(candidates, references)
    frequencies = frequencies or count_frequencies(references)
    if frequencies.total < 1 or max(frequencies.images.values(), default=0) > frequencies.total:
        raise ValueError(f"found document frequencies above the {frequencies.total} images they were counted over")
    scores = np.zeros(len(candidates))
    for i, (candidate, group) in enumerate(zip(candidates, references, strict=True)):
        vector = _vector(candidate, frequencies)
        scores[i] = sum(_similarity(vector, _vector(sentence, frequencies)) for sentence in group) / len(group)
    return scores * SCALE

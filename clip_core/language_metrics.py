"""BLEU, ROUGE-L, word accuracy of generated sentences, given as token lists.

A sentence is a sequence of tokens (words or ids), a candidate has one or more references, and candidates and references
are parallel sequences of length N. All scores are fractions. CIDEr is in cider.py; caption_scores.py takes texts by id.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

LONGEST = 4
"""Words of the longest n-gram that BLEU and CIDEr count."""
ROUGE_BETA = 1.2
"""How much more recall weighs than precision in ROUGE-L (pycocoevalcap)."""
_SMALL, _TINY = 1e-9, 1e-15  # keep quotients finite in pycocoevalcap's BLEU: its scores are equalled with them only

Sentence = Sequence[Hashable]
References = Sequence[Sequence[Sentence]]


def ngram_counts(sentence: Sentence, longest: int = LONGEST) -> Counter[tuple[Hashable, ...]]:
    """How often each n-gram of 1 to `longest` tokens occurs."""
    return Counter(tuple(sentence[i : i + n]) for n in range(1, longest + 1) for i in range(len(sentence) - n + 1))


def check_references(candidates: Sequence[Sentence], references: References) -> None:
    """ValueError where there is no candidate, the sequences differ in length, or a candidate has no reference."""
    if not len(candidates):
        raise ValueError("found no candidates; expected at least one sentence to score")
    if len(candidates) != len(references):
        raise ValueError(
            f"found {len(candidates)} candidates and {len(references)} groups of references; expected one each"
        )
    for i, group in enumerate(references):
        if isinstance(group, str) or not len(group):
            raise ValueError(
                f"candidate {i} has no references; expected a sequence of one or more token lists, found {group!r}"
            )
        if isinstance(candidates[i], str) or any(isinstance(sentence, str) for sentence in group):
            raise ValueError(f"candidate {i} or a reference of it is a text; expected token lists (see caption_tokens)")


@dataclass(frozen=True)
class _Matches:
    """What BLEU counts of one candidate: matched and possible n-grams by length, and the two lengths."""

    matched: np.ndarray
    possible: np.ndarray
    length: int
    reference_length: int


def _matches(candidate: Sentence, group: Sequence[Sentence], longest: int, reference_length: int) -> _Matches:
    """A candidate's n-gram counts as often as in the reference that has it most."""
    most: Counter[tuple[Hashable, ...]] = Counter()
    for sentence in group:
        most |= ngram_counts(sentence, longest)
    matched = np.zeros(longest)
    for ngram, count in (ngram_counts(candidate, longest) & most).items():
        matched[len(ngram) - 1] += count
    possible = np.maximum(len(candidate) - np.arange(longest), 0).astype(float)
    return _Matches(matched, possible, len(candidate), reference_length)


def _bleu_of(counts: _Matches) -> np.ndarray:
    """BLEU-1 to BLEU-n [n] of counts, of one candidate or summed over many, as pycocoevalcap computes it."""
    precision = (counts.matched + _TINY) / (counts.possible + _SMALL)
    ratio = (counts.length + _TINY) / (counts.reference_length + _SMALL)
    brevity = math.exp(min(0.0, 1 - 1 / ratio))
    return np.cumprod(precision) ** (1 / np.arange(1, len(precision) + 1)) * brevity


def bleu(
    candidates: Sequence[Sentence], references: References, longest: int = LONGEST
) -> tuple[np.ndarray, np.ndarray]:
    """BLEU of the corpus [longest], from summed counts, and of each candidate [N, longest]; entry n is BLEU-(n+1).

    The length of a group of references is that of the one closest to the candidate, the shorter of two as close.
    Equal to pycocoevalcap's (Papineni et al. 2002), whose nearly zero scores for no match are kept. Not the BLEU of R2R
    speakers: see `speaker_bleu`.
    """
    check_references(candidates, references)
    counts = []
    for candidate, group in zip(candidates, references, strict=True):
        closest = min((abs(len(sentence) - len(candidate)), len(sentence)) for sentence in group)[1]
        counts.append(_matches(candidate, group, longest, closest))
    return _bleu_of(_total(counts)), np.stack([_bleu_of(one) for one in counts])


def _total(counts: Sequence[_Matches]) -> _Matches:
    return _Matches(
        matched=np.sum([one.matched for one in counts], axis=0),
        possible=np.sum([one.possible for one in counts], axis=0),
        length=sum(one.length for one in counts),
        reference_length=sum(one.reference_length for one in counts),
    )


@dataclass(frozen=True)
class SpeakerBleu:
    """BLEU-4 of a corpus, precision [4] of its n-grams (which R2R-EnvDrop prints as "Bleu 1" to "Bleu 4"), brevity."""

    bleu: float
    precision: np.ndarray
    brevity: float


def speaker_bleu(candidates: Sequence[Sentence], references: References) -> SpeakerBleu:
    """The BLEU that R2R speakers report (R2R-EnvDrop, after the NMT tutorial of TensorFlow).

    One candidate a path, words of the R2R vocabulary without <BOS> and <EOS>, an unfinished one empty; against all
    instructions of the path, split by `tokenizer.split`, punctuation kept, neither cut nor <UNK>. It differs from
    `bleu` in the length of a group of references (the shortest), and is 0 where some n-gram length has no match.
    """
    check_references(candidates, references)
    total = _total(
        [
            _matches(candidate, group, LONGEST, min(len(sentence) for sentence in group))
            for candidate, group in zip(candidates, references, strict=True)
        ]
    )
    precision = np.divide(total.matched, total.possible, out=np.zeros(LONGEST), where=total.possible > 0)
    if total.length == 0:
        brevity = 0.0
    else:
        brevity = math.exp(min(0.0, 1 - total.reference_length / total.length))
    score = brevity * math.exp(np.log(precision).mean()) if precision.min() > 0 else 0.0
    return SpeakerBleu(score, precision, brevity)


def common_subsequence(a: Sentence, b: Sentence) -> int:
    """Length of the longest common subsequence of two sentences."""
    row = [0] * (len(b) + 1)  # of the part of `a` so far with each beginning of `b`
    for token in a:
        diagonal = 0
        for j, other in enumerate(b, start=1):
            above = row[j]
            row[j] = diagonal + 1 if token == other else max(above, row[j - 1])
            diagonal = above
    return row[-1]


def rouge_l(candidates: Sequence[Sentence], references: References) -> np.ndarray:
    """ROUGE-L of each candidate [N]; the score of a corpus is the mean. Equal to pycocoevalcap's (Lin 2004).

    The best precision and the best recall over the references enter, even when they come from different ones.
    """
    check_references(candidates, references)
    scores = np.zeros(len(candidates))
    for i, (candidate, group) in enumerate(zip(candidates, references, strict=True)):
        common = [common_subsequence(candidate, sentence) for sentence in group]
        precision = max(common) / max(len(candidate), 1)
        recall = max(c / max(len(sentence), 1) for c, sentence in zip(common, group, strict=True))
        if precision > 0:
            scores[i] = (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)
    return scores


def word_accuracy(predictions: Sequence[Sentence], targets: Sequence[Sentence]) -> tuple[float, float]:
    """Share of words that are right, and of sentences that are wholly right, under teacher forcing (R2R-EnvDrop).

    `predictions[i][t]` is the likeliest word after the true words before t, `targets[i][t]` the true one: <EOS> is a
    word, <BOS> and padding are not. Words are counted over all sentences; the original averages over three batches.
    """
    if len(predictions) != len(targets) or not len(targets):
        raise ValueError(
            f"found {len(predictions)} predictions for {len(targets)} targets; expected one each, at least one"
        )
    right = words = sentences = 0
    for i, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
        if len(prediction) != len(target):
            raise ValueError(
                f"sentence {i}: found {len(prediction)} predicted words for {len(target)}; expected one each"
            )
        hits = sum(p == t for p, t in zip(prediction, target, strict=True))
        right, words, sentences = right + hits, words + len(target), sentences + (hits == len(target))
    return right / max(words, 1), sentences / len(targets)

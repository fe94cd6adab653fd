"""Speed of CIDEr-D as a reward: compiled, beside the plain Python version that specifies it, on the same captions.

Both run on one thread; the clock is the processor time of this process, so that other programs do not count.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from time import process_time
from typing import Any

import numpy as np

from clip_core.cider import cider_d, count_frequencies
from clip_core.cider_reward import CiderD, padded

IMAGES, REFERENCES = 5000, 5
WORDS = 9487
"""As many as in the captioning vocabulary of COCO; their frequencies fall as 1 / rank."""
LENGTH, SPREAD = 10.5, 2.2  # words of a caption
ROUNDS = 7
END = 0


def captions(rng: np.random.Generator, images: int, each: int) -> list[list[list[int]]]:
    """captions[image][caption]: random words, half of them out of a few that an image's captions share."""
    weights = 1 / np.arange(1, WORDS + 1)
    weights /= weights.sum()
    found = []
    for _ in range(images):
        shared = rng.choice(WORDS, size=8, p=weights) + 1
        group = []
        for _ in range(each):
            length = max(4, round(rng.normal(LENGTH, SPREAD)))
            own = rng.choice(WORDS, size=length, p=weights) + 1
            words = np.where(rng.random(length) < 0.5, shared[np.arange(length) % len(shared)], own)
            group.append([*words.tolist(), END])
        found.append(group)
    return found


def median_s(work: Callable[[], object], rounds: int) -> float:
    """Processor seconds of one call, the median over the rounds."""
    times = []
    for _ in range(rounds):
        begin = process_time()
        work()
        times.append(process_time() - begin)
    return statistics.median(times)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, and its processor seconds: the slow ones are called once."""
    begin = process_time()
    result = work()
    return result, process_time() - begin


def candidates_of(references: list[list[list[int]]], rng: np.random.Generator) -> list[list[int]]:
    """One caption an image: the first reference with some words exchanged for those of random captions."""
    others = captions(rng, len(references), 1)
    return [
        [mine if rng.random() < 0.6 else other for mine, other in zip(group[0][:-1], random[:-1], strict=False)] + [END]
        for group, (random,) in zip(references, others, strict=True)
    ]


def run() -> list[dict]:
    """Rows: 5,000 candidates of as many images; the same number as samples, five an image; document frequencies."""
    rng = np.random.default_rng(0)
    references = captions(rng, IMAGES, REFERENCES)
    candidates = candidates_of(references, rng)
    ids, lengths = padded(candidates)
    frequencies, plain_counting_s = timed(lambda: count_frequencies(references))
    scorer = CiderD(references)
    rows = []
    for name, images in (
        ("CIDEr-D, 5,000 candidates, 5 references", np.arange(IMAGES)),
        ("CIDEr-D, 5 samples of each of 1,000 images, 5 references", np.arange(IMAGES) // REFERENCES),
    ):
        of_candidates = [references[image] for image in images]
        plain, plain_s = timed(partial(cider_d, candidates, of_candidates, frequencies))
        score = partial(scorer.score, ids, lengths, images)
        difference = abs(score() - plain).max()  # compiled here
        if difference > 1e-6 or not 0.01 < plain.mean() < 9:
            raise ValueError(f"{name}: scores differ by {difference}, their mean is {plain.mean()}")
        rows.append((name, median_s(score, ROUNDS), plain_s))
    counting_s = median_s(lambda: CiderD(references), 3)
    rows.append(("document frequencies of 25,000 captions, packing them too", counting_s, plain_counting_s))
    return [
        {
            "name": name,
            "value": 1000 * value,
            "unit": "ms",
            "reference": "plain Python",
            "reference_value": 1000 * reference,
        }
        for name, value, reference in rows
    ]

"""Choosing among questions or pairs so that nothing but the picture tells the answer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def rounds(items: Sequence[T], answer: Callable[[T], str], rng: np.random.Generator, least: int) -> list[list[T]]:
    """Sets of candidates of one group, in each at most one for every answer and at least `least` answers."""
    buckets: dict[str, list[T]] = defaultdict(list)
    for index in rng.permutation(len(items)):
        buckets[answer(items[index])].append(items[index])
    found = []
    for k in range(max(map(len, buckets.values()), default=0)):
        one = [bucket[k] for _, bucket in sorted(buckets.items()) if len(bucket) > k]
        if len(one) < least:
            break
        found.append(one)
    return found


def choose(
    groups: Mapping[Hashable, Sequence[T]],
    answer: Callable[[T], str],
    image: Callable[[T], int],
    kind: Callable[[T], str],
    shares: Mapping[str, float],
    per_image: int,
    total: int,
    least: Callable[[str, int], int],
    rng: np.random.Generator,
) -> list[list[T]]:
    """About `total` of the candidates, in sets of different answers of one group, at most `per_image` about a picture.

    Each set has least(kind, answers that occur in the group) answers or more: where that is two of two, equally many of
    each are taken. `shares`: the fraction of the total that each kind may take.
    """
    sets: list[tuple[int, list[T]]] = []
    for _, items in sorted(groups.items(), key=lambda entry: str(entry[0])):
        needed = least(kind(items[0]), len({answer(item) for item in items}))
        sets += [(needed, one) for one in rounds(items, answer, rng, needed)]
    taken: list[list[T]] = []
    about: Counter[int] = Counter()
    of_kind: Counter[str] = Counter()
    for index in rng.permutation(len(sets)):
        needed, one = sets[index]
        free = [item for item in one if about[image(item)] < per_image]
        if len(free) < needed or len({image(item) for item in free}) < len(free):
            continue
        if of_kind[kind(free[0])] + len(free) > shares[kind(free[0])] * total:
            continue
        for item in free:
            about[image(item)] += 1
            of_kind[kind(item)] += 1
        taken.append(free)
    return taken

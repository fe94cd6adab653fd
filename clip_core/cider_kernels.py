"""The compiled loops of CIDEr-D over token ids.

The key of an n-gram holds its tokens, each plus one, in 16 bits, the first highest: keys of different lengths differ,
and no key is 0. Sentences are flat: tokens[starts[c]:starts[c + 1]] is caption c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

LARGEST_ID = 2**16 - 2
LONGEST = 4
_BITS = np.uint64(16)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: 2^64 over the golden ratio
_HALF = np.uint64(32)


def _compiled(function: Callable[..., Any]) -> Any:
    """numba's njit; machine code is kept on disk where a folder can be written to. `.py_func` is the original."""
    try:
        return njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no folder for the cache
        return njit(nogil=True, error_model="numpy")(function)


@_compiled
def _write_keys(tokens: np.ndarray, n: int, keys: np.ndarray) -> int:
    """Sorted keys of the n-grams of a sentence, repeated ones too; returns how many there are."""
    count = max(len(tokens) - n + 1, 0)
    for i in range(count):
        key = np.uint64(0)
        for j in range(n):
            key = (key << _BITS) | np.uint64(tokens[i + j] + 1)
        at = i  # insertion sort: sentences are short
        while at > 0 and keys[at - 1] > key:
            keys[at] = keys[at - 1]
            at -= 1
        keys[at] = key
    return count


@_compiled
def _slot(key: np.uint64, table: np.ndarray) -> np.int64:
    """Where a key stands in an open hash table of a power of two of slots, or where it belongs: that slot holds 0."""
    last = len(table) - 1
    slot = np.int64(((key * _SPREAD) >> _HALF) & np.uint64(last))  # int64: numba makes uint64 + 1 a float
    while table[slot] != 0 and table[slot] != key:
        slot = (slot + 1) & last
    return slot


@_compiled
def _grown(table: np.ndarray, counts: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The table of `count_images` with twice the slots."""
    slots = 2 * len(table)
    larger = np.zeros(slots, dtype=np.uint64), np.zeros(slots, dtype=np.int32), np.zeros(slots, dtype=np.int32)
    for old in range(len(table)):
        if table[old] != 0:
            new = _slot(table[old], larger[0])
            larger[0][new], larger[1][new], larger[2][new] = table[old], counts[old], seen[old]
    return larger


@_compiled
def count_images(
    tokens: np.ndarray, caption_starts: np.ndarray, image_starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """In how many images' captions each n-gram occurs: a hash table of keys, 0 where it is empty, and counts."""
    table, counts, seen = np.zeros(64, dtype=np.uint64), np.zeros(64, dtype=np.int32), np.zeros(64, dtype=np.int32)
    used = 0
    row = np.empty(max(np.max(caption_starts[1:] - caption_starts[:-1]), 1), dtype=np.uint64)
    for image in range(len(image_starts) - 1):
        for caption in range(image_starts[image], image_starts[image + 1]):
            sentence = tokens[caption_starts[caption] : caption_starts[caption + 1]]
            while 3 * (used + LONGEST * len(sentence)) > 2 * len(table):
                table, counts, seen = _grown(table, counts, seen)
            for n in range(1, LONGEST + 1):
                for i in range(_write_keys(sentence, n, row)):
                    slot = _slot(row[i], table)
                    used += table[slot] == 0
                    table[slot] = row[i]
                    if seen[slot] != image + 1:  # the image that held it last, from 1
                        counts[slot] += 1
                        seen[slot] = image + 1
    return table, counts


@_compiled
def _weigh(
    tokens: np.ndarray,
    table: np.ndarray,
    rarity: np.ndarray,
    keys: np.ndarray,
    weights: np.ndarray,
    ends: np.ndarray,
    norms: np.ndarray,
) -> None:
    """A sentence as a vector: for each n-gram length n its different keys, sorted, and their weights, in row n - 1 of
    keys and weights up to ends[n - 1]; and the norm."""
    for n in range(1, LONGEST + 1):
        row, weight = keys[n - 1], weights[n - 1]
        count = _write_keys(tokens, n, row)
        different = 0
        square = 0.0
        i = 0
        while i < count:
            begin = i
            while i < count and row[i] == row[begin]:
                i += 1
            row[different] = row[begin]
            weight[different] = (i - begin) * rarity[_slot(row[begin], table)]
            square += weight[different] ** 2
            different += 1
        ends[n - 1] = different
        norms[n - 1] = np.sqrt(square)


@_compiled
def _cosines(
    keys: np.ndarray,
    weights: np.ndarray,
    ends: np.ndarray,
    norms: np.ndarray,
    keys_ref: np.ndarray,
    weights_ref: np.ndarray,
    ends_ref: np.ndarray,
    norms_ref: np.ndarray,
) -> float:
    """Sum over the n-gram lengths of the clipped cosine of two vectors."""
    total = 0.0
    for n in range(LONGEST):
        i = j = 0
        common = 0.0
        while i < ends[n] and j < ends_ref[n]:
            mine, other = keys[n, i], keys_ref[n, j]
            if mine == other:
                common += min(weights[n, i], weights_ref[n, j]) * weights_ref[n, j]
            i += mine <= other  # without a branch: which of the two goes on is hard to foretell
            j += other <= mine
        if norms[n] > 0 and norms_ref[n] > 0:
            total += common / (norms[n] * norms_ref[n])
    return total


@_compiled
def scores(
    ids: np.ndarray,
    lengths: np.ndarray,
    images: np.ndarray,
    tokens: np.ndarray,
    caption_starts: np.ndarray,
    image_starts: np.ndarray,
    table: np.ndarray,
    rarity: np.ndarray,
    width: float,
) -> np.ndarray:
    """CIDEr-D [N] without its scale of candidates ids [N, L]; `width` divides the squared difference of lengths."""
    longest_ref = most = 1
    for image in images:
        most = max(most, image_starts[image + 1] - image_starts[image])
        for caption in range(image_starts[image], image_starts[image + 1]):
            longest_ref = max(longest_ref, caption_starts[caption + 1] - caption_starts[caption])
    longest = max(ids.shape[1], 1)
    keys, weights = np.empty((LONGEST, longest), dtype=np.uint64), np.empty((LONGEST, longest))
    ends, norms = np.empty(LONGEST, dtype=np.int64), np.empty(LONGEST)
    keys_ref = np.empty((most, LONGEST, longest_ref), dtype=np.uint64)
    weights_ref = np.empty((most, LONGEST, longest_ref))
    ends_ref, norms_ref = np.empty((most, LONGEST), dtype=np.int64), np.empty((most, LONGEST))
    found = np.zeros(len(ids))
    prepared = -1
    for c in range(len(ids)):
        first, group = image_starts[images[c]], image_starts[images[c] + 1] - image_starts[images[c]]
        starts = caption_starts[first : first + group + 1]
        if images[c] != prepared:
            for r in range(group):
                sentence = tokens[starts[r] : starts[r + 1]]
                _weigh(sentence, table, rarity, keys_ref[r], weights_ref[r], ends_ref[r], norms_ref[r])
            prepared = images[c]
        _weigh(ids[c, : lengths[c]], table, rarity, keys, weights, ends, norms)
        for r in range(group):
            # bigrams of both sentences differ as their lengths do, but none has less than 0
            difference = max(lengths[c] - 1, 0) - max(starts[r + 1] - starts[r] - 1, 0)
            penalty = np.exp(-(difference * difference) / width)
            found[c] += penalty * _cosines(
                keys, weights, ends, norms, keys_ref[r], weights_ref[r], ends_ref[r], norms_ref[r]
            )
        found[c] /= LONGEST * group
    return found

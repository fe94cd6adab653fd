"""The order in which a training run meets its items: a pure function of seed, rank, position."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor


def shuffled_batches(count: int, size: int, seed: int, start: int, rank: int, world: int) -> Iterator[Tensor]:
    """Numbers [size] int64 of `count` items, batch after batch from the start-th on: shuffled epochs one after the
    other (as in R2R-EnvDrop, a batch may cross from one epoch into the next); ranks take turns within what one process
    with their joint batch would see."""
    position = start
    while True:
        first = (position * world + rank) * size
        epochs = range(first // count, (first + size - 1) // count + 1)
        order = np.concatenate([np.random.default_rng((seed, epoch)).permutation(count) for epoch in epochs])
        yield torch.from_numpy(order[first - epochs[0] * count :][:size])
        position += 1

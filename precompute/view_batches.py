"""Batches of views for training: shuffled, shifted by a few pixels, the same for the same seed and position.

B views of a batch, N views in all, S pixels of a picture's side.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from precompute.house_views import HouseViews

BARE_EVERY = 3
"""Views of bare walls, floors, ceilings come once in so many epochs: there are many, and they tell little."""


def telling_views(views: HouseViews) -> np.ndarray:
    """bool [N]: which views show an object, a doorway or steps."""
    told = np.zeros(len(views), bool)
    for number in range(len(views)):
        sight = views.sight(number)
        told[number] = bool(sight.clear or sight.doorways or sight.steps)
    return told


class ViewOrder:
    """The order in which views are learnt: epochs one after the other, a batch may cross from one into the next."""

    def __init__(self, telling: np.ndarray, batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        """`telling` bool [N]; ranks take turns within what one process with their joint batch would see."""
        self._telling, self._bare = np.flatnonzero(telling), np.flatnonzero(~telling)
        self.batch, self.seed, self.rank, self.world = batch, seed, rank, world
        self.epoch_size = len(self._telling) + len(self._bare) // BARE_EVERY
        if not self.epoch_size:
            raise ValueError("no view to learn from; expected houses with viewpoints")

    def _epoch(self, number: int) -> np.ndarray:
        rng = np.random.default_rng((self.seed, 0, number))
        bare = rng.permutation(self._bare)[: self.epoch_size - len(self._telling)]
        return rng.permutation(np.concatenate([self._telling, bare]))

    def from_position(self, start: int) -> Iterator[tuple[np.ndarray, np.random.Generator]]:
        """Numbers int64 [B] of the views of each batch from position `start`, and a generator for all else drawn."""
        position = start
        while True:
            turn = position * self.world + self.rank
            first = turn * self.batch
            epochs = range(first // self.epoch_size, (first + self.batch - 1) // self.epoch_size + 1)
            order = np.concatenate([self._epoch(epoch) for epoch in epochs])
            offset = first - epochs[0] * self.epoch_size
            yield order[offset : offset + self.batch], np.random.default_rng((self.seed, 1, turn))
            position += 1


def pictures_of(
    views: HouseViews, numbers: np.ndarray, rng: np.random.Generator | None = None, shift_px: int = 0
) -> Tensor:
    """uint8 [B, 3, S, S] RGB of views; with `rng`, each moved by up to `shift_px` each way, its edges repeated."""
    pictures = views.pictures[np.sort(numbers)][np.argsort(np.argsort(numbers))]  # in the order of the file: faster
    if rng is not None and shift_px:
        side = pictures.shape[1]
        moves = rng.integers(-shift_px, shift_px + 1, (2, len(numbers), 1))
        rows, columns = np.clip(np.arange(side) + moves, 0, side - 1)
        pictures = pictures[np.arange(len(numbers))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)

"""What the follower makes of the layout around it: where the ways lead, how far, which of them it took to get here.

Legend: B batch, K candidates + 1 for stop, E size of a layout vector, H hidden.

R2R-EnvDrop scores a candidate by a product with its angles, one by one, and never sees how long a way is. Here a small
network looks at all candidates of a place at once. Ours; off by default (`--layout 0`), docs/results.md shows what it
is worth.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clip_core.deferred import DeferredLinear, PlainLinear, attend, linear_map

MEAN_EDGE_M = 2.27
"""Mean edge of the 90 navigation graphs of Matterport3D: the unit of length here."""
NUMBERS = 7
"""Of a candidate: four of its angles, its length, whether it is the stop, whether it leads back."""
TURN = 2
"""Sine and cosine of the last turn."""


class Layout(nn.Module):
    """The weights; what is done with them stands in `FoldedLayout`."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.candidate = nn.Linear(NUMBERS, size)
        self.among = nn.Linear(2 * size, size)
        self.query = nn.Linear(hidden, size)
        self.score = nn.Linear(hidden, size)


class Places(NamedTuple):
    """Vectors [B, K, E] of the candidates and the stop, which slots hold none [B, K] bool, and which lead back to where
    the last step came from [B, K] bool."""

    vectors: Tensor
    empty: Tensor
    back: Tensor

    def behind(self) -> Tensor:
        """[B, E] the vector of the way back; zeros where there is none."""
        return (self.vectors * self.back[..., None]).sum(1)

    def seen(self, query: Tensor) -> Tensor:
        """[B, E] the vectors weighted by their dot products with a query [B, E]."""
        return attend(query, self.vectors, self.empty)[0]

    def scores(self, query: Tensor) -> Tensor:
        """[B, K] dot products with a query [B, E]."""
        return torch.bmm(query[:, None], self.vectors.transpose(1, 2)).squeeze(1)


class FoldedLayout:
    """The layout network for one forward pass."""

    def __init__(self, layout: Layout, static: bool) -> None:
        def fold(part: nn.Linear) -> PlainLinear | DeferredLinear:
            return linear_map(part.weight, part.bias, static)

        self.candidate, self.among = fold(layout.candidate), fold(layout.among)
        self.query, self.score = fold(layout.query), fold(layout.score)

    def look(self, angles: Tensor, length_m: Tensor, mask: Tensor, back: Tensor) -> Places:
        """Candidates by their angles [B, K, 4], the lengths of their edges [B, K - 1] in metres, the mask [B, K] of
        candidates and stop (the last allowed slot), and which of them lead back [B, K - 1] bool."""
        stop = mask & ~F.pad(mask[:, 1:], (0, 1))
        used = mask & ~stop
        length, back = F.pad(length_m / MEAN_EDGE_M, (0, 1)) * used, F.pad(back, (0, 1)) & used
        numbers = torch.cat([angles, torch.stack([length, stop.to(length.dtype), back.to(length.dtype)], 2)], 2)
        own = F.relu(self.candidate(numbers.flatten(0, 1))).unflatten(0, mask.shape) * mask[..., None]
        most = own.amax(1, keepdim=True).expand_as(own)
        vectors = torch.tanh(self.among(torch.cat([own, most], 2).flatten(0, 1))).unflatten(0, mask.shape)
        return Places(vectors, ~mask, back)


def turn(before: Tensor, now: Tensor) -> Tensor:
    """[B, 2] sine and cosine of the turn between two headings, given as angle numbers [B, 4]; zeros where there was
    none before (zeros)."""
    sine = now[:, 0] * before[:, 1] - now[:, 1] * before[:, 0]
    cosine = now[:, 1] * before[:, 1] + now[:, 0] * before[:, 0]
    return torch.stack([sine, cosine], 1)

"""Visual features of several sources become tokens of one width.

Legend: B images, h x w cells of a grid, N cells of all sources, D feature of a source, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from clip_core.blocks import Dropout
from vl_tasks.vision import Size

GridPositions = Literal["none", "learned"]
"""none: as MCAN and Pythia, which have what the encoder tells of places; learned: embeddings of row and column, of the
feature's own width, are added before anything else, as in CLIP-ViL's pre-training."""


class Places(nn.Module):
    """Tells the cells of each grid where they are; with `norm`, each cell's features first pass a LayerNorm.

    The norm makes features of any scale alike: those of an untrained encoder may be a thousand times smaller than
    CLIP's, and a comparison without it would tell of that alone.
    """

    def __init__(self, sizes: Sequence[Size], positions: GridPositions, norm: bool = False) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.norms = nn.ModuleList(nn.LayerNorm(size.dim, eps=1e-12) for size in sizes if norm)
        learned = [size for size in sizes if positions == "learned"]
        self.rows = nn.ParameterList(nn.Parameter(torch.randn(s.height, 1, s.dim) * 0.02) for s in learned)
        self.columns = nn.ParameterList(nn.Parameter(torch.randn(s.width, s.dim) * 0.02) for s in learned)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features [B, h, w, D] of each source, with their places.

        Raises ValueError for features of another grid than the model was built for.
        """
        placed = []
        for number, (size, found) in enumerate(zip(self.sizes, features, strict=True)):
            if found.shape[1:] != (size.height, size.width, size.dim):
                raise ValueError(
                    f"source {number} gives a grid {tuple(found.shape[1:])}; the model was built for "
                    f"{(size.height, size.width, size.dim)}: use the features that it was trained with"
                )
            found = self.norms[number](found) if len(self.norms) else found
            placed.append(found + self.rows[number] + self.columns[number] if len(self.rows) else found)
        return placed


class VisualTokens(nn.Module):
    """A linear projection for each source; the tokens of all sources stand one after the other."""

    def __init__(
        self,
        sizes: Sequence[Size],
        hidden: int,
        positions: GridPositions = "none",
        dropout: float = 0.0,
        norm: bool = False,
    ) -> None:
        """positions, norm: see `Places`."""
        super().__init__()
        self.sizes = tuple(sizes)
        self.places = Places(sizes, positions, norm)
        self.projections = nn.ModuleList(nn.Linear(size.dim, hidden) for size in sizes)
        self.drop = Dropout(dropout)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Tokens [B, N, H] of features [B, h, w, D] of each source; ValueError for another grid."""
        placed = self.places(features)
        tokens = [layer(cells.flatten(1, 2)) for layer, cells in zip(self.projections, placed, strict=True)]
        return self.drop(torch.cat(tokens, 1))

    def as_grids(self, weights_BN: Tensor) -> list[Tensor]:
        """A number for each token as a map [B, h, w] for each source."""
        parts = weights_BN.split([size.cells for size in self.sizes], 1)
        return [part.unflatten(1, (size.height, size.width)) for part, size in zip(parts, self.sizes, strict=True)]

"""Encoders by name: any CLIP model, or the ImageNet one for comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from clip_core.encoder import ClipEncoder, EncoderRecord, Grid
from clip_core.images import ImageTransform
from clip_core.towers import GRID_POINTS, LAST, GridPoint
from precompute import imagenet

ImageLayer = Literal["projected", "unprojected", "grid"]
"""Joint space with texts; the pooled vector before it; a vector for each cell."""
Point = Literal["captioning", "mcan", "pythia", "pretraining"]
"""A recipe of CLIP-ViL by which a ViT's grid is taken; see `clip_core.towers.GRID_POINTS`."""


class ImageEncoder(Protocol):
    """What precompute asks of an encoder; `ClipEncoder` says what each means."""

    record: EncoderRecord
    transform: ImageTransform

    @property
    def device(self) -> torch.device: ...

    @property
    def grid_dim(self) -> int: ...

    def grid_shape(self, height_px: int, width_px: int) -> tuple[int, int]: ...

    def image_vectors(self, images: Tensor, *, projected: bool = True) -> Tensor: ...

    def grid(self, images: Tensor, point: GridPoint = LAST, *, summary: bool = False) -> Grid: ...


def load_encoder(
    model: str,
    pretrained: str | None = None,
    weights: Path | str | None = None,
    *,
    device: torch.device | str = "cpu",
    **options: Any,
) -> ImageEncoder:
    """Encoder of a name of open_clip, of `local-dir:FOLDER`, or of `efficientnet-lite0` (extra `imagenet`).

    pretrained, weights: as of `ClipEncoder.load`; of `efficientnet-lite0` the tag is `imagenet`, and may be left out.
    options: precision, channels_last, compile; more as of `ClipEncoder.load` for a CLIP model.
    Untrained weights are drawn from seed 0: every rank, and a run that continues, has the same.
    Raises ValueError for whatever does not exist or does not fit, and if the extra is missing.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        if model == imagenet.MODEL:
            return imagenet.ImageNetEncoder.load(pretrained, weights, device=device, **options)
        return ClipEncoder.load(model, pretrained, weights, device=device, **options)


def encoded(encoder: ImageEncoder, images: Tensor, layer: ImageLayer, point: Point) -> Tensor:
    """Features float32 of normalised images [B, 3, H, W]: vectors [B, D], or grids [B, h, w, D]."""
    if layer == "grid":
        return encoder.grid(images, GRID_POINTS[point]).cells
    return encoder.image_vectors(images, projected=layer == "projected")

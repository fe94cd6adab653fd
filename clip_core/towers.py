"""Image towers of open_clip at any input size: vectors, grids, and where in the tower a grid is taken.

B images, H x W pixels, h x w cells of a grid, N cells in a row, D feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

Kind = Literal["ViT", "RN", "other"]
Positions = Literal["bicubic", "bilinear", "zero"]
"""How a positional embedding is carried over to another grid: `bicubic` with antialiasing as open_clip, `bilinear` as
CLIP-ViL means to; `zero` is what the released ViT code of CLIP-ViL does by a fault (issues 13 and 20 of
clip-vil/CLIP-ViL)."""


@dataclass(frozen=True)
class GridPoint:
    """Where in a tower a grid is taken."""

    skip: int = 0
    """Blocks of a ViT that are left out at the end."""
    ln_post: bool = False
    """Whether a ViT's last LayerNorm, trained on the class token, is applied to every token."""
    stage: int = 4
    """Stage of an RN: 0 for the stem, 1 to 4."""


LAST = GridPoint()
GRID_POINTS: Mapping[str, GridPoint] = {
    "pythia": GridPoint(skip=1),
    "mcan": GridPoint(ln_post=True),
    "captioning": LAST,
    "pretraining": GridPoint(ln_post=True),
}
"""The points of CLIP-ViL's recipes (arXiv 2107.06383, released code); an RN is always taken at stage 4."""


def kind_of(visual: nn.Module) -> Kind:
    """Whether a tower is open_clip's own ViT, its own RN, or one of timm's."""
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

    return "ViT" if isinstance(visual, VisionTransformer) else "RN" if isinstance(visual, ModifiedResNet) else "other"


def grid_shape(visual: Any, height_px: int, width_px: int, stage: int = 4) -> tuple[int, int]:
    """(h, w) of the grid that an input of a size gives; either is 0 for an input smaller than a cell."""
    if kind_of(visual) == "ViT":
        return height_px // visual.patch_size[0], width_px // visual.patch_size[1]
    halvings = max(1, stage)  # average poolings, after a convolution of stride 2 whose padding rounds up
    return (height_px + 1) // 2 >> halvings, (width_px + 1) // 2 >> halvings


def interpolated(embedding: Tensor, grid: tuple[int, int], shape: tuple[int, int], how: Positions) -> Tensor:
    """Embedding [1 + N, D], its first row the class token's, for the grid `shape` instead of `grid`; differentiable.

    The class token's row stays (`zero` clears it too). For the same shape it is the embedding itself.
    """
    if tuple(grid) == tuple(shape):
        return embedding
    if how == "zero":
        return embedding.new_zeros(1 + shape[0] * shape[1], embedding.shape[1])
    maps = embedding[1:].T.reshape(1, -1, *grid)
    maps = functional.interpolate(maps, size=shape, mode=how, antialias=how == "bicubic", align_corners=False)
    return torch.cat([embedding[:1], maps.flatten(2)[0].T])


def vit_vectors(visual: Any, images: Tensor, projected: bool, how: Positions) -> Tensor:
    """Vectors [B, D] of a ViT: projected into the joint space, or pooled after the last LayerNorm."""
    if not projected:
        return visual._pool(visual.transformer(_vit_tokens(visual, images, how)))[0]
    found = functional_call(visual, {"positional_embedding": _vit_position(visual, images, how)}, (images,))
    return found[0] if isinstance(found, tuple) else found  # CoCa gives its tokens too


def vit_grid(visual: Any, images: Tensor, point: GridPoint, how: Positions) -> tuple[Tensor, Tensor]:
    """Cells [B, h, w, D] and class token [B, D] of a ViT at a point."""
    blocks, batch_first = visual.transformer.resblocks, visual.transformer.batch_first
    tokens = _vit_tokens(visual, images, how)
    tokens = tokens if batch_first else tokens.transpose(0, 1)
    for block in blocks[: len(blocks) - point.skip]:
        tokens = block(tokens)
    tokens = tokens if batch_first else tokens.transpose(0, 1)
    tokens = visual.ln_post(tokens) if point.ln_post else tokens
    return tokens[:, 1:].unflatten(1, grid_shape(visual, *images.shape[2:])), tokens[:, 0]


def _vit_tokens(visual: Any, images: Tensor, how: Positions) -> Tensor:
    """Input [B, 1 + N, D] of a ViT's first block."""
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    token = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
    tokens = torch.cat([token, patches], dim=1)
    tokens = tokens + _vit_position(visual, images, how).to(tokens.dtype)
    return visual.ln_pre(visual.patch_dropout(tokens))


def _vit_position(visual: Any, images: Tensor, how: Positions) -> Tensor:
    return interpolated(visual.positional_embedding, visual.grid_size, grid_shape(visual, *images.shape[2:]), how)


def rn_maps(visual: Any, images: Tensor, stage: int) -> Tensor:
    """Maps [B, D, h, w] of an RN after a stage."""
    for part in (visual.stem, visual.layer1, visual.layer2, visual.layer3, visual.layer4)[: stage + 1]:
        images = part(images)
    return images


def rn_pooled(visual: Any, maps: Tensor, projected: bool, how: Positions) -> Tensor:
    """Vector [B, D] that the attention pooling of an RN makes of its last maps, with or without its projection."""
    pool = visual.attnpool
    side = round((len(pool.positional_embedding) - 1) ** 0.5)
    shape = maps.shape[2], maps.shape[3]
    replaced = {"positional_embedding": interpolated(pool.positional_embedding, (side, side), shape, how)}
    if not projected:
        weight = pool.c_proj.weight
        replaced["c_proj.weight"] = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)
        replaced["c_proj.bias"] = weight.new_zeros(weight.shape[1])
    return functional_call(pool, replaced, (maps,))

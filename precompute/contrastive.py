"""What the embedded CLIP learns: which captions are true of which views.

The symmetric loss of CLIP (arXiv 2103.00020), on several captions of each view; to the captions of the batch come
others made false by one word (NegCLIP, arXiv 2210.01936). Legend: B views, C captions of a view, D feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from clip_core.encoder import ClipEncoder
from clip_core.trainer import Objective
from precompute.house_views import HouseViews
from precompute.view_batches import ViewOrder, pictures_of
from precompute.view_text import captions_of, falsified

SHARPEST = 100.0
"""Largest factor of the similarities, as in CLIP."""


class Batch(NamedTuple):
    """Pictures uint8 [B, 3, S, S], ids of true captions int64 [C, B, L], of false ones [B, L]."""

    pictures: Tensor
    captions: Tensor
    false: Tensor


@dataclass(frozen=True)
class ContrastiveConfig:
    """How captions are drawn."""

    captions: int = 1
    """Captions of each view in a batch, drawn afresh each time."""
    false_captions: bool = True
    """Beside them one caption of each view that is made false by one word, as a hard negative."""
    shift_px: int = 3
    """Pictures are moved by up to so many pixels; no mirroring and no change of colours, which the captions name."""


class ContrastiveObjective(Objective):
    """A CLIP encoder, the views and captions it learns from, what judges it. A rank contrasts its own batch alone."""

    best_metric = None

    def __init__(
        self,
        encoder: ClipEncoder,
        views: HouseViews,
        order: ViewOrder,
        config: ContrastiveConfig,
        judge: Callable[[ClipEncoder], dict[str, float]] | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self.views, self.order, self.config, self.judge = encoder, views, order, config, judge

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Loss summed over views, with the share of captions that find their view."""
        device = self.encoder.device
        images = self.encoder.image_vectors(self.encoder.transform.batch(batch.pictures.to(device)))
        images = functional.normalize(images, dim=-1)
        true_ids, false_ids = batch.captions.to(device), batch.false.to(device)
        texts = self._texts(torch.cat([true_ids.flatten(0, 1), false_ids]))
        scale = self.encoder.clip.logit_scale.exp().clamp(max=SHARPEST)
        n = len(images)
        false = texts[true_ids.shape[0] * n :]
        losses, found = [], []
        for ids, vectors in zip(true_ids, texts[: true_ids.shape[0] * n].split(n), strict=True):
            similar = scale * images @ vectors.T  # [B views, B captions]
            similar = similar.masked_fill(same_rows(ids) & ~torch.eye(n, dtype=torch.bool, device=device), -torch.inf)
            wrong = scale * images @ false.T
            if len(false):
                own = (false_ids == ids).all(1)  # a caption of which no word could be exchanged
                wrong = wrong.masked_fill(own[None] | _among(false_ids, ids), -torch.inf)
            target = torch.arange(n, device=device)
            losses.append(functional.cross_entropy(torch.cat([similar, wrong], dim=1), target, reduction="sum"))
            losses.append(functional.cross_entropy(similar.T, target, reduction="sum"))
            found.append((similar.argmax(0) == target).float().mean())
        loss = torch.stack(losses).mean()
        return {"loss": loss, "weight": n, "found": torch.stack(found).mean(), "scale": scale}

    def _texts(self, ids: Tensor) -> Tensor:
        """Normalised vectors of texts, computed no further than the longest of them: a third of the time."""
        clip = self.encoder.clip
        length = int((ids != 0).sum(1).max())  # host sync on CUDA
        short = {"positional_embedding": clip.positional_embedding[:length]}
        mask = {"attn_mask": clip.attn_mask[:length, :length]}
        return functional_call(clip, {**short, **mask}, (None, ids[:, :length]))[1]

    def batches(self, start: int) -> Iterator[Batch]:
        """Views with captions drawn afresh."""
        for numbers, rng in self.order.from_position(start):
            captions = captions_of(self.views, numbers.tolist(), rng, self.config.captions)
            false = [
                falsified(texts[0], self.views.sight(number), rng)
                for number, texts in zip(numbers.tolist(), captions, strict=True)
                if self.config.false_captions
            ]
            flat = [texts[c] for c in range(self.config.captions) for texts in captions]
            ids = self.encoder.tokenize([*flat, *false], truncate=True)
            true = ids[: len(flat)].unflatten(0, (self.config.captions, len(numbers)))
            yield Batch(pictures_of(self.views, numbers, rng, self.config.shift_px), true, ids[len(flat) :])

    def evaluate(self) -> dict[str, float]:
        """What the judge says."""
        return {} if self.judge is None else self.judge(self.encoder)


def same_rows(ids: Tensor) -> Tensor:
    """bool [B, B]: which of the texts [B, L] are equal."""
    return _among(ids, ids)


def _among(a: Tensor, b: Tensor) -> Tensor:
    """bool [len(b), len(a)]: which texts of b equal which of a; by a hash of their ids that no two texts share."""
    weights = torch.from_numpy(np.random.default_rng(0).integers(1, 2**40, a.shape[1])).to(a.device)
    return (b * weights).sum(1)[:, None] == (a * weights).sum(1)[None]

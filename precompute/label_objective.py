"""What the supervised encoder learns, for comparison: which objects and which room a view shows.

B views, L labels (category with colour), R kinds of rooms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from clip_core.encoder import ClipEncoder
from clip_core.trainer import Objective
from precompute.house_views import HouseViews
from precompute.view_batches import ViewOrder, pictures_of
from precompute.view_text import ROOM_KINDS, Label, label_matrix

ROOM_WEIGHT = 0.1
"""Of the loss of the room beside the sum over object labels."""


class LabelBatch(NamedTuple):
    """Pictures uint8 [B, 3, S, S], object labels float32 [B, L], kind of room int64 [B]."""

    pictures: Tensor
    labels: Tensor
    room: Tensor


class LabelObjective(Objective):
    """The image tower of a CLIP encoder with a linear head on its vectors; its text tower learns nothing."""

    def __init__(
        self,
        encoder: ClipEncoder,
        views: HouseViews,
        order: ViewOrder,
        labels: Sequence[Label],
        shift_px: int = 3,
    ) -> None:
        super().__init__()
        self.encoder, self.views, self.order, self.labels = encoder, views, order, labels
        self.shift_px = shift_px
        for name, parameter in encoder.clip.named_parameters():
            parameter.requires_grad_(name.startswith("visual."))
        self.objects = nn.Linear(encoder.projected_dim, len(labels))
        self.rooms = nn.Linear(encoder.projected_dim, len(ROOM_KINDS))

    def forward(self, batch: LabelBatch) -> dict[str, Any]:
        """Loss summed over views."""
        device = self.encoder.device
        vectors = self.encoder.image_vectors(self.encoder.transform.batch(batch.pictures.to(device)))
        room, guess = batch.room.to(device), self.rooms(vectors)
        objects = functional.binary_cross_entropy_with_logits(
            self.objects(vectors), batch.labels.to(device), reduction="sum"
        )
        loss = objects + ROOM_WEIGHT * functional.cross_entropy(guess, room, reduction="sum")
        return {"loss": loss, "weight": len(vectors), "room": (guess.argmax(1) == room).float().mean()}

    def batches(self, start: int) -> Iterator[LabelBatch]:
        """Views with their labels."""
        for numbers, rng in self.order.from_position(start):
            labels = torch.from_numpy(label_matrix(self.views, numbers.tolist(), self.labels)).float()
            rooms = torch.tensor([ROOM_KINDS.index(self.views.sight(number).kind) for number in numbers.tolist()])
            yield LabelBatch(pictures_of(self.views, numbers, rng, self.shift_px), labels, rooms)

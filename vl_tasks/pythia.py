"""Pythia: top-down attention over the image by the question (Jiang et al. 2018, arXiv 1807.09956; sizes of MMF).

Legend: B questions, L tokens, N cells of a source, D feature of a source, T = 2 H the question, V answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from clip_core.blocks import Dropout
from vl_tasks.vision import Size
from vl_tasks.visual_tokens import Places
from vl_tasks.vqa_parts import Answered, AttentionPooling, QuestionTokens, VqaModelConfig

GLIMPSES = 2
TEXT_HIDDEN = 300
"""Hidden size of the classifier's first half."""


def normalised_linear(inputs: int, outputs: int) -> nn.Module:
    """A linear layer whose weight is a direction times one length (weight normalisation over the whole matrix)."""
    return weight_norm(nn.Linear(inputs, outputs), dim=-1)


class Product(nn.Module):
    """ReLU of both sides' linear layers, multiplied."""

    def __init__(self, image: int, question: int, hidden: int) -> None:
        super().__init__()
        self.image, self.question = normalised_linear(image, hidden), normalised_linear(question, hidden)

    def forward(self, image: Tensor, question: Tensor) -> Tensor:
        return self.image(image).relu() * self.question(question).relu()


class TopDownAttention(nn.Module):
    """Cells [B, N, D] weighed by a question [B, T]."""

    def __init__(self, image: int, question: int, hidden: int) -> None:
        super().__init__()
        self.product, self.score = Product(image, question, hidden), normalised_linear(hidden, 1)

    def forward(self, cells_BND: Tensor, question_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Their weighted sum [B, D], the weights [B, N]."""
        scores_BN = self.score(self.product(cells_BND, question_BT[:, None])).squeeze(2)
        weights_BN = scores_BN.float().softmax(1).to(cells_BND.dtype)
        return torch.bmm(weights_BN[:, None], cells_BND).squeeze(1), weights_BN


class Pythia(nn.Module):
    """Pythia v0.3 on features as they are; each source has an attention of its own, what they attend to stands side by
    side (of any widths; MMF wants equal ones)."""

    def __init__(
        self, words: int, answers: int, sizes: Sequence[Size], config: VqaModelConfig, padding_id: int = 0
    ) -> None:
        super().__init__()
        question, fused = GLIMPSES * config.hidden, config.fused
        self.read = QuestionTokens(words, config.word, config.hidden, padding_id)
        self.drop = Dropout(config.dropout)
        self.pool_question = AttentionPooling(config.hidden, config.pooling, 0.0, glimpses=GLIMPSES)
        self.sizes, self.places = tuple(sizes), Places(sizes, config.grid_positions, config.feature_norm)
        self.attend = nn.ModuleList(TopDownAttention(size.dim, question, fused) for size in sizes)
        self.fuse = Product(sum(size.dim for size in sizes), question, fused)
        self.by_text = nn.Sequential(normalised_linear(fused, TEXT_HIDDEN), nn.ReLU(), nn.Linear(TEXT_HIDDEN, answers))
        self.by_image = nn.Sequential(normalised_linear(fused, fused), nn.ReLU(), nn.Linear(fused, answers))

    def forward(self, features: Sequence[Tensor], ids_BL: Tensor, lengths_B: Tensor) -> Answered:
        """Of features [B, h, w, D] of each source and question ids [B, L] with lengths [B] (CPU)."""
        states_BLH, padding_BL = self.read(ids_BL, lengths_B)
        asked_BGH, _ = self.pool_question(self.drop(states_BLH), padding_BL)
        asked_BT = asked_BGH.flatten(1)
        attended, maps = [], []
        for attend, cells, size in zip(self.attend, self.places(features), self.sizes, strict=True):
            vector_BD, weights_BN = attend(cells.flatten(1, 2), asked_BT)
            attended.append(vector_BD)
            maps.append(weights_BN.unflatten(1, (size.height, size.width)))
        joint = self.fuse(torch.cat(attended, 1), asked_BT)
        return Answered(self.by_text(joint) + self.by_image(joint), maps)

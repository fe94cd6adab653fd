"""What the models that answer questions have in common.

Legend: B questions, L tokens, N visual tokens, H hidden, G glimpses, V answers, h x w cells of a grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from clip_core.blocks import Dropout, Packing, packed_lstm, padding_mask
from vl_tasks.visual_tokens import GridPositions


@dataclass(frozen=True)
class VqaModelConfig:
    """The model; defaults are MCAN-small as published (openvqa)."""

    model: Literal["mcan", "movie_mcan", "pythia"] = "mcan"
    """mcan (arXiv 1906.10770, openvqa), movie_mcan (2004.11883, MMF: what CLIP-ViL calls MCAN), pythia (top-down
    attention, MMF)."""
    hidden: int = 512
    """MCAN: width of the tokens; Pythia: of the LSTM."""
    layers: int = 6
    """MCAN: layers of self-attention over the question, and as many guided ones over the image."""
    heads: int = 8
    """MCAN: heads of an attention."""
    word: int = 300
    """Size of a word embedding."""
    dropout: float = 0.1
    """MCAN: dropout everywhere. Pythia: of the question."""
    pooling: int = 512
    """Hidden size of the network that weighs tokens when they are pooled (Pythia: of the question)."""
    fused: int = 1024
    """MCAN: size of the vector that question and image are joined in. Pythia: hidden size of attention and fusion."""
    grid_positions: GridPositions = "none"
    """learned: tell the model of each cell's row and column."""
    feature_norm: bool = False
    """A LayerNorm over the features of each cell, so that features of any scale can be compared."""

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "word", "pooling", "fused"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")


class Answered(NamedTuple):
    """What a model makes of questions and images."""

    logits: Tensor
    """Of every answer, [B, V]."""
    attention: list[Tensor]
    """Weights of the cells of each source, [B, h, w], which sum to 1 over all sources (Pythia: over each)."""
    branches: tuple[Tensor, ...] = ()
    """Logits [B, V] of branches that learn beside (movie_mcan), in training."""


class QuestionTokens(nn.Module):
    """Words -> embeddings -> states [B, L, H] of an LSTM in one direction. Padding costs nothing and gives zeros."""

    def __init__(self, words: int, word: int, hidden: int, padding_id: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, word, padding_id)
        self.lstm = nn.LSTM(word, hidden, batch_first=True)

    def forward(self, ids_BL: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """States [B, L', H] cut to the longest question, and where there is padding [B, L']; lengths on the CPU."""
        pack = Packing(lengths_B, ids_BL.device)
        words_PI = self.embedding(ids_BL.flatten().index_select(0, pack.place(ids_BL.shape[1])))
        states_BLH = pack.unpack(packed_lstm(self.lstm, words_PI, pack)[0])
        return states_BLH, padding_mask(lengths_B.to(ids_BL.device, non_blocking=True), states_BLH.shape[1])


class AttentionPooling(nn.Module):
    """Tokens [B, N, H] -> G weighted sums of them, by weights that a network of two layers gives each token.

    MCAN's AttFlat (with `out`: one linear layer over the sums side by side), MMF's AttnPool1d (without).
    """

    def __init__(self, hidden: int, inner: int, dropout: float, glimpses: int = 1, out: int | None = None) -> None:
        super().__init__()
        self.weigh = nn.Sequential(nn.Linear(hidden, inner), nn.ReLU(), Dropout(dropout), nn.Linear(inner, glimpses))
        self.merge = None if out is None else nn.Linear(hidden * glimpses, out)

    def forward(self, tokens_BNH: Tensor, padding_BN: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vectors [B, G, H], or [B, out] with `out`, and the weights [B, G, N]."""
        scores_BGN = self.weigh(tokens_BNH).mT
        if padding_BN is not None:
            scores_BGN = scores_BGN.masked_fill(padding_BN[:, None], -torch.inf)
        weights_BGN = scores_BGN.float().softmax(-1).to(tokens_BNH.dtype)
        vectors_BGH = weights_BGN @ tokens_BNH
        return (vectors_BGH if self.merge is None else self.merge(vectors_BGH.flatten(1))), weights_BGN

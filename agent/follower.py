"""The instruction follower of R2R-EnvDrop (Tan, Yu, Bansal 2019, arXiv 1904.04195): LSTM with attention.

Legend: B batch, L token, V = 36 views, K candidates (+ 1 for stop), D visual feature, A = 4 numbers of an angle,
H hidden.

The originals repeat the four numbers of an angle A times (128 = 32 x 4). Here the weights keep that size, but their
repeated columns are summed before the product: the same function and gradients for a 32nd of the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clip_core.blocks import Dropout, LSTMEncoder, SoftDotAttention, padding_mask
from clip_core.recurrent import AttentionMemory, DeferredLinear, LSTMCell

ANGLE = 4


@dataclass(frozen=True)
class FollowerSizes:
    """Sizes and dropouts of the follower; the defaults are those published for R2R-EnvDrop."""

    words: int
    feature: int = 0
    """Visual feature size; 0 for the blind follower."""
    word: int = 256
    hidden: int = 512
    action: int = 64
    angle: int = 128
    dropout: float = 0.5
    feature_dropout: float = 0.3


class Recurrent(NamedTuple):
    """What the decoder carries from step to step: tilde state and cell [B, H], and the instruction it attends to."""

    tilde: Tensor
    cell: Tensor
    memory: AttentionMemory

    def rows(self, index: Tensor) -> Recurrent:
        """The same for some rows of the batch."""
        return Recurrent(self.tilde.index_select(0, index), self.cell.index_select(0, index), self.memory.rows(index))


class Sight(NamedTuple):
    """What the follower sees at a step. Visual tensors are None for the blind follower.

    views [B, V, D], view_angles [B, V, A], candidates [B, K, D] and candidate_angles [B, K, A] (rows beyond the last
    candidate zero, stop among them), heading [B, A]: the angle feature of the agent's own direction, mask [B, K] bool:
    candidates and stop.
    """

    views: Tensor | None
    view_angles: Tensor
    candidates: Tensor | None
    candidate_angles: Tensor
    heading: Tensor
    mask: Tensor


class Decoder(nn.Module):
    """The weights of a decision; what is done with them stands in `Folded.step`."""

    def __init__(self, sizes: FollowerSizes) -> None:
        super().__init__()
        size = sizes.feature + sizes.angle
        self.action = nn.Linear(sizes.angle, sizes.action)
        self.lstm = nn.LSTMCell(sizes.action + size, sizes.hidden)
        self.view_attention = SoftDotAttention(sizes.hidden, size, tilde=False)
        self.text_attention = SoftDotAttention(sizes.hidden, sizes.hidden)
        self.candidate_attention = SoftDotAttention(sizes.hidden, size, tilde=False)


class Follower(nn.Module):
    """Encoder and attention decoder; `critic` estimates the value of a decoder state for A2C."""

    def __init__(self, sizes: FollowerSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder = LSTMEncoder(sizes.words, sizes.word, sizes.hidden, sizes.dropout)
        self.decoder = Decoder(sizes)
        self.critic = nn.Sequential(
            nn.Linear(sizes.hidden, sizes.hidden), nn.ReLU(), Dropout(sizes.dropout), nn.Linear(sizes.hidden, 1)
        )
        self.drop = Dropout(sizes.dropout)
        self.drop_feature = Dropout(sizes.feature_dropout)

    def read(self, ids_BL: Tensor, lengths_B: Tensor) -> Recurrent:
        """Encode the instructions: the state before the first step."""
        context, hidden, cell = self.encoder(ids_BL, lengths_B)
        padding = padding_mask(lengths_B.to(context.device), context.shape[1])
        return Recurrent(hidden, cell, AttentionMemory(context, padding))

    def fold(self) -> Folded:
        """The decoder's weights with the repeated angle columns summed; once per forward pass, not per step."""
        return Folded(self)


class Folded:
    """The decoder for one forward pass; see `Follower.fold`. Its linear maps collect their weight gradients over the
    steps (`DeferredLinear`)."""

    def __init__(self, follower: Follower) -> None:
        sizes, parts = follower.sizes, follower.decoder
        self.follower, self.feature = follower, sizes.feature
        lstm, action, text = parts.lstm, parts.action, parts.text_attention
        assert text.linear_out is not None
        action_end = sizes.action + sizes.feature
        weight = torch.cat(
            [lstm.weight_ih[:, :action_end], sum_tiles(lstm.weight_ih[:, action_end:], 1), lstm.weight_hh], 1
        )
        self.gates = DeferredLinear(weight, lstm.bias_ih + lstm.bias_hh)
        self.action = DeferredLinear(sum_tiles(action.weight, 1), action.bias)
        self.view_query = self._query(parts.view_attention)
        self.candidate_query = self._query(parts.candidate_attention)
        self.text_query = DeferredLinear(text.linear_in.weight)
        self.tilde = DeferredLinear(text.linear_out.weight)

    def _query(self, attention: SoftDotAttention) -> DeferredLinear:
        weight = attention.linear_in.weight
        return DeferredLinear(torch.cat([weight[: self.feature], sum_tiles(weight[self.feature :], 0)], 0))

    def step(self, state: Recurrent, sight: Sight) -> tuple[Tensor, Tensor, Recurrent]:
        """One decision: logits [B, K] (-inf outside the mask; stop scores 0, as its feature is zero), the LSTM's
        hidden state [B, H] (what the critic judges), and the next recurrent state."""
        drop = self.follower.drop
        action = drop(torch.tanh(self.action(sight.heading)))
        seen = self._attend(self.view_query(drop(state.tilde)), sight.views, sight.view_angles)
        gates = self.gates(torch.cat([action, seen, state.tilde], 1))
        hidden, cell = LSTMCell.apply(gates, state.cell)
        query = drop(hidden)
        read, _ = state.memory.attend(self.text_query(query))
        tilde = torch.tanh(self.tilde(torch.cat([read, query], 1)))
        logits = self._score(self.candidate_query(drop(tilde)), sight)
        return logits.masked_fill(~sight.mask, -torch.inf), hidden, Recurrent(tilde, cell, state.memory)

    def _attend(self, query: Tensor, views: Tensor | None, angles: Tensor) -> Tensor:
        """[B, D + A] weighted views."""
        return attend_views(query, self.follower.drop_feature(views) if views is not None else None, angles)

    def _score(self, query: Tensor, sight: Sight) -> Tensor:
        """[B, K] dot products with the candidates."""
        logits = torch.bmm(sight.candidate_angles, query[:, self.feature :, None])
        if sight.candidates is not None:
            candidates = self.follower.drop_feature(sight.candidates)
            logits = logits + torch.bmm(candidates, query[:, : self.feature, None])
        return logits.squeeze(2)


def attend_views(query: Tensor, views: Tensor | None, angles: Tensor) -> Tensor:
    """Views [B, V, D] (None: blind) and their angles [B, V, A], weighted by their dot products with a query
    [B, D + A]: [B, D + A]."""
    feature = 0 if views is None else views.shape[2]
    logits = torch.bmm(angles, query[:, feature:, None])
    if views is not None:
        logits = logits + torch.bmm(views, query[:, :feature, None])
    weights = F.softmax(logits, 1).transpose(1, 2)
    seen = torch.bmm(weights, angles).squeeze(1)
    if views is None:
        return seen
    return torch.cat([torch.bmm(weights, views).squeeze(1), seen], 1)


def sum_tiles(weight: Tensor, dim: int) -> Tensor:
    """Sum the repetitions of the four angle numbers along a dimension: [..., 4 n, ...] -> [..., 4, ...]."""
    return weight.unflatten(dim, (-1, ANGLE)).sum(dim)

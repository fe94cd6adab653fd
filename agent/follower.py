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

from agent.layout import TURN, FoldedLayout, Layout, turn
from clip_core.blocks import Dropout, LSTMEncoder, SoftDotAttention, fold_tiles, padding_mask
from clip_core.deferred import (
    AttentionMemory,
    DeferredLinear,
    PlainLinear,
    PlainMemory,
    attention_memory,
    is_static,
    linear_map,
)
from clip_core.recurrent import LSTMCell, lstm_cell

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
    layout: int = 0
    """Size of the layout vectors (agent/layout.py); 0: none, as R2R-EnvDrop."""


class Recurrent(NamedTuple):
    """What the decoder carries from step to step: tilde state and cell [B, H], the instruction it attends to, the angle
    feature of its last heading [B, A] (zeros at the start), the viewpoint row where it was [B] int64 (then -1)."""

    tilde: Tensor
    cell: Tensor
    memory: AttentionMemory | PlainMemory
    heading: Tensor
    viewpoint: Tensor

    def rows(self, index: Tensor) -> Recurrent:
        """The same for some rows of the batch."""
        vectors = (self.tilde, self.cell, self.heading, self.viewpoint)
        tilde, cell, heading, viewpoint = (a.index_select(0, index) for a in vectors)
        return Recurrent(tilde, cell, self.memory.rows(index), heading, viewpoint)


class Sight(NamedTuple):
    """What the follower sees at a step. Visual tensors are None for the blind follower, else in the type of the store.

    views [B, V, D], view_angles [B, V, A], candidates [B, K, D] and candidate_angles [B, K, A] (rows beyond the last
    candidate zero, stop among them), heading [B, A]: the angle feature of the agent's own direction, mask [B, K] bool:
    candidates and stop; viewpoint [B]: the row where it stands; for followers with a layout length_m [B, K - 1] of
    the candidates' edges and viewpoints [B, K - 1], the rows where they lead (None: not known).
    """

    views: Tensor | None
    view_angles: Tensor
    candidates: Tensor | None
    candidate_angles: Tensor
    heading: Tensor
    mask: Tensor
    viewpoint: Tensor
    length_m: Tensor | None = None
    viewpoints: Tensor | None = None


class Decoder(nn.Module):
    """The weights of a decision; what is done with them stands in `Folded.step`."""

    def __init__(self, sizes: FollowerSizes) -> None:
        super().__init__()
        size = sizes.feature + sizes.angle
        self.action = nn.Linear(sizes.angle, sizes.action)
        around = TURN + 2 * sizes.layout if sizes.layout else 0
        self.lstm = nn.LSTMCell(sizes.action + around + size, sizes.hidden)
        self.view_attention = SoftDotAttention(sizes.hidden, size, tilde=False)
        self.text_attention = SoftDotAttention(sizes.hidden, sizes.hidden)
        self.candidate_attention = SoftDotAttention(sizes.hidden, size, tilde=False)
        self.layout = Layout(sizes.layout, sizes.hidden) if sizes.layout else None


class Follower(nn.Module):
    """Encoder and attention decoder; `critic` estimates the value of a decoder state for A2C.

    `static`: see `deferred.is_static`; None until torch.compile or a test wants a CPU to work as a device does.
    """

    static: bool | None = None
    way_back_penalty: float = 0.0
    """In eval mode: what is taken off the logit of the way back (`FollowerConfig`); needs a layout."""

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
        context, hidden, cell = self.encoder(ids_BL, lengths_B, self.static)
        padding = padding_mask(lengths_B.to(context.device), context.shape[1])
        memory = attention_memory(context, padding, is_static(context.device, self.static))
        nowhere = torch.full_like(lengths_B, -1).to(context.device)
        return Recurrent(hidden, cell, memory, hidden.new_zeros(len(hidden), ANGLE), nowhere)

    def fold(self) -> Folded:
        """The decoder's weights with the repeated angle columns summed; once per forward pass, not per step."""
        return Folded(self)


class Folded:
    """The decoder for one forward pass; see `Follower.fold`."""

    def __init__(self, follower: Follower) -> None:
        sizes, parts = follower.sizes, follower.decoder
        self.drop, self.drop_feature, self.feature = follower.drop, follower.drop_feature, sizes.feature
        lstm, action, text = parts.lstm, parts.action, parts.text_attention
        assert text.linear_out is not None
        self.static = is_static(lstm.weight_hh.device, follower.static)
        self.way_back_penalty = 0.0 if follower.training else follower.way_back_penalty
        weight = torch.cat([fold_tiles(lstm.weight_ih, lstm.input_size - sizes.angle, ANGLE), lstm.weight_hh], 1)
        self.gates = self._map(weight, lstm.bias_ih + lstm.bias_hh)
        self.action = self._map(fold_tiles(action.weight, 0, ANGLE), action.bias)
        self.view_query = self._query(parts.view_attention)
        self.candidate_query = self._query(parts.candidate_attention)
        self.text_query = self._map(text.linear_in.weight)
        self.tilde = self._map(text.linear_out.weight)
        self.layout = FoldedLayout(parts.layout, self.static) if parts.layout is not None else None

    def _map(self, weight: Tensor, bias: Tensor | None = None) -> PlainLinear | DeferredLinear:
        return linear_map(weight, bias, self.static)

    def _query(self, attention: SoftDotAttention) -> PlainLinear | DeferredLinear:
        return self._map(fold_tiles(attention.linear_in.weight, self.feature, ANGLE, 0))

    def step(self, state: Recurrent, sight: Sight) -> tuple[Tensor, Tensor, Recurrent]:
        """One decision: logits [B, K] (-inf outside the mask; stop scores 0, as its feature is zero), the LSTM's
        hidden state [B, H] (what the critic judges), and the next recurrent state."""
        drop = self.drop
        action = drop(torch.tanh(self.action(sight.heading)))
        seen = self._attend(self.view_query(drop(state.tilde)), sight.views, sight.view_angles)
        inputs, places = [action, seen, state.tilde], None
        if self.layout is not None:
            assert sight.length_m is not None
            assert sight.viewpoints is not None
            back = sight.viewpoints == state.viewpoint[:, None]
            places = self.layout.look(sight.candidate_angles, sight.length_m, sight.mask, back)
            around = places.seen(self.layout.query(drop(state.tilde)))
            inputs[1:1] = [turn(state.heading, sight.heading), places.behind(), around]
        gates = self.gates(torch.cat(inputs, 1))
        hidden, cell = lstm_cell(gates, state.cell) if self.static else LSTMCell.apply(gates, state.cell)
        query = drop(hidden)
        read, _ = state.memory.attend(self.text_query(query))
        tilde = torch.tanh(self.tilde(torch.cat([read, query], 1)))
        logits = self._score(self.candidate_query(drop(tilde)), sight)
        if self.layout is not None and places is not None:
            logits = logits + places.scores(self.layout.score(drop(tilde)))
            if self.way_back_penalty:
                logits = logits - self.way_back_penalty * places.back
        after = Recurrent(tilde, cell, state.memory, sight.heading, sight.viewpoint)
        return logits.masked_fill(~sight.mask, -torch.inf), hidden, after

    def _attend(self, query: Tensor, views: Tensor | None, angles: Tensor) -> Tensor:
        """[B, D + A] weighted views."""
        return attend_views(query, self.drop_feature(views).float() if views is not None else None, angles)

    def _score(self, query: Tensor, sight: Sight) -> Tensor:
        """[B, K] dot products with the candidates."""
        logits = dots(query[:, self.feature :], sight.candidate_angles)
        if sight.candidates is not None:
            logits = logits + dots(query[:, : self.feature], self.drop_feature(sight.candidates).float())
        return logits


def attend_views(query: Tensor, views: Tensor | None, angles: Tensor) -> Tensor:
    """Views [B, V, D] (None: blind) and their angles [B, V, A], weighted by their dot products with a query
    [B, D + A]: [B, D + A]."""
    feature = 0 if views is None else views.shape[2]
    logits = dots(query[:, feature:], angles)
    if views is not None:
        logits = logits + dots(query[:, :feature], views)
    weights = F.softmax(logits, 1)[:, None]
    seen = torch.bmm(weights, angles).squeeze(1)
    if views is None:
        return seen
    return torch.cat([torch.bmm(weights, views).squeeze(1), seen], 1)


def dots(query: Tensor, items: Tensor) -> Tensor:
    """[B, n] dot products of a query [B, D] with n items [B, n, D] each; the query stands left, as in
    `deferred.attend`."""
    return torch.bmm(query[:, None], items.transpose(1, 2)).squeeze(1)

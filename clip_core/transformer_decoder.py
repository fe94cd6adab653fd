"""A transformer that writes text while it attends to a context; keys and values are kept from token to token.

Legend: B contexts of M vectors, N texts (as many of each context, neighbours), L tokens at a time, T tokens before,
H hidden, A heads, K = H / A, P packed tokens (see `blocks.Packing`), V vocabulary.

Vaswani et al. 2017 (arXiv 1706.03762), LayerNorm at the entrance of each part. All texts of a context attend to the
same keys and values of it: these are computed once and not copied for the captions of an image or for its beams.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from clip_core.blocks import Dropout, Packing
from clip_core.lstm_decoder import Reading
from clip_core.transformer import MultiHeadAttention, TransformerLayer, causal

LONGEST = 512
"""Places that there are position codes for."""

Cache = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values of each layer."""


class Writing(NamedTuple):
    """The state between two tokens. past: keys and values [N, A, T, K] of the tokens so far, () before the first; seen:
    those [B, A, M, K] of the contexts; context [N] int64: which one each text is about."""

    past: Cache
    seen: Cache
    context: Tensor

    def rows(self, index: Tensor) -> Writing:
        """The state of some texts. Where each context keeps as many, as in a beam, their keys are not touched."""
        context = self.context.index_select(0, index)
        past = _rows(self.past, index)
        contexts = len(self.seen[0][0])
        if len(index) % contexts == 0 and torch.equal(context, _neighbours(contexts, len(index) // contexts, index)):
            return Writing(past, self.seen, context)  # on a device: a sync
        return Writing(past, _rows(self.seen, context), torch.arange(len(index), device=index.device))


def _rows(cache: Cache, index: Tensor) -> Cache:
    return tuple((keys.index_select(0, index), values.index_select(0, index)) for keys, values in cache)


def _neighbours(contexts: int, each: int, like: Tensor) -> Tensor:
    return torch.arange(contexts, device=like.device).repeat_interleave(each)


class TransformerTextDecoder(nn.Module):
    """Embedding with sinusoidal positions, layers of self- and cross-attention, a LayerNorm, the vocabulary."""

    def __init__(
        self, words: int, hidden: int, layers: int, heads: int, inner: int, dropout: float, padding_id: int = 0
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, hidden, padding_id)
        self.register_buffer("places", sinusoids(LONGEST, hidden), persistent=False)
        self.drop = Dropout(dropout)
        sizes = hidden, heads, inner, dropout
        self.layers = nn.ModuleList(TransformerLayer(*sizes, cross=True, pre_norm=True) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden, eps=1e-6)
        self.projection = nn.Linear(hidden, words)

    def forward(self, ids_NL: Tensor, lengths_N: Tensor, context_BMH: Tensor) -> Reading:
        """Teacher forcing. ids begin with the token of the beginning; lengths (CPU) count it."""
        ids_NL = ids_NL[:, : int(lengths_N.max())]
        hidden_NLH, _ = self.advance(ids_NL[:, :-1], self.start(context_BMH, len(ids_NL) // len(context_BMH)))
        pack = Packing(lengths_N - 1, ids_NL.device)
        place = pack.place(ids_NL.shape[1] - 1)
        logits_PV = self.projection(hidden_NLH.flatten(0, 1).index_select(0, place))
        return Reading(logits_PV, ids_NL[:, 1:].flatten().index_select(0, place), pack.text)

    def start(self, context_BMH: Tensor, each: int = 1) -> Writing:
        """The state before the first token of `each` texts about each context."""
        seen = tuple(_cross(layer).keys_values(context_BMH) for layer in self.layers)
        contexts = torch.arange(len(context_BMH), device=context_BMH.device)
        return Writing((), seen, contexts.repeat_interleave(each))

    def step(self, last_N: Tensor, state: Writing) -> tuple[Tensor, Writing]:
        """Logits [N, V] of the next token; the step function of `decoder.generate`."""
        hidden_N1H, state = self.advance(last_N[:, None], state)
        return self.projection(hidden_N1H[:, 0]), state

    def advance(self, ids_NL: Tensor, state: Writing, watched: list[Tensor] | None = None) -> tuple[Tensor, Writing]:
        """Hidden states [N, L, H] of the next tokens, and the state after them. `watched` is given what the tokens look
        at in their context in each layer, [N, L, M], the mean over its heads.

        Raises ValueError for a text of more than LONGEST tokens.
        """
        before = state.past[0][0].shape[2] if state.past else 0
        size = before + ids_NL.shape[1]
        if size > LONGEST:
            raise ValueError(f"a text of {size} tokens; expected {LONGEST} at most")
        places = self.get_buffer("places")[before:size]
        x_NLH = self.drop(self.embedding(ids_NL) * math.sqrt(self.embedding.embedding_dim) + places)
        visible = causal(size, ids_NL.device)[before:] if ids_NL.shape[1] > 1 else None
        past: list[tuple[Tensor, Tensor]] = []
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, TransformerLayer)
            entered = layer.enter(0, x_NLH)
            keys, values = layer.attention.keys_values(entered)
            if state.past:
                old_keys, old_values = state.past[number]
                keys, values = torch.cat([old_keys, keys], 2), torch.cat([old_values, values], 2)
            past.append((keys, values))
            x_NLH = layer.leave(0, x_NLH, layer.attention.attend(entered, keys, values, visible))
            x_NLH = layer.leave(1, x_NLH, self._look(layer, x_NLH, state.seen[number], watched))
            x_NLH = layer.leave(2, x_NLH, layer.feed_forward(layer.enter(2, x_NLH)))
        return self.norm(x_NLH), Writing(tuple(past), state.seen, state.context)

    def _look(
        self, layer: TransformerLayer, x_NLH: Tensor, seen: tuple[Tensor, Tensor], watched: list[Tensor] | None
    ) -> Tensor:
        """Cross-attention [N, L, H]: the tokens of all texts about a context look at it at once."""
        texts, contexts = len(x_NLH), len(seen[0])
        entered = layer.enter(1, x_NLH).reshape(contexts, -1, x_NLH.shape[2])
        if watched is not None:
            watched.append(_cross(layer).weights(entered, seen[0]).reshape(texts, x_NLH.shape[1], -1))
        return _cross(layer).attend(entered, *seen).view(x_NLH.shape)


def _cross(layer: nn.Module) -> MultiHeadAttention:
    assert isinstance(layer, TransformerLayer)
    assert layer.cross is not None
    return layer.cross


def sinusoids(places: int, hidden: int) -> Tensor:
    """Position codes [places, hidden] of the paper: sines in the even columns, cosines in the odd ones."""
    rates = torch.exp(torch.arange(0, hidden, 2) * (-math.log(10_000.0) / hidden))
    angles = torch.arange(places)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :hidden]

"""An LSTM that writes text while it attends to a context, as R2R-EnvDrop's speaker does.

Legend: B texts, C contexts of T vectors, L tokens, P packed tokens (see `blocks.Packing`), H hidden, V vocabulary.

Tan, Yu, Bansal 2019 (arXiv 1904.04195), `SpeakerDecoder` of their code: what is attended to does not flow back into the
LSTM, so with given words the attention and the vocabulary are computed for all tokens at once.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clip_core.blocks import Dropout, Packing, SoftDotAttention, packed_lstm, padding_mask
from clip_core.deferred import is_static
from clip_core.recurrent import LSTMCell, lstm_cell


class Context(NamedTuple):
    """What a text is about: vectors [B, T, H], and padding [B, T] bool, True where there is none."""

    vectors: Tensor
    padding: Tensor

    def rows(self, index: Tensor) -> Context:
        """Those of some of the batch."""
        return Context(self.vectors.index_select(0, index), self.padding.index_select(0, index))


class Written(NamedTuple):
    """The state between two tokens: hidden and cell [N, H], and the context."""

    hidden: Tensor
    cell: Tensor
    context: Context

    def rows(self, index: Tensor) -> Written:
        """The state of some texts."""
        return Written(self.hidden.index_select(0, index), self.cell.index_select(0, index), self.context.rows(index))


class Reading(NamedTuple):
    """What the model makes of given texts: logits [P, V] of every token after the first, the token that stands there
    [P], and the text that it belongs to [P]."""

    logits: Tensor
    target: Tensor
    text: Tensor

    def log_prob(self, texts: int) -> Tensor:
        """[texts] float32 log-probability of each text."""
        loss = F.cross_entropy(self.logits.float(), self.target, reduction="none")
        return loss.new_zeros(texts).index_add(0, self.text, -loss)


class LSTMTextDecoder(nn.Module):
    """Embedding, LSTM, attention over the context, vocabulary; dropout after each but the last."""

    def __init__(self, words: int, word_size: int, hidden_size: int, dropout: float, padding_id: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, word_size, padding_id)
        self.lstm = nn.LSTM(word_size, hidden_size, batch_first=True)
        self.drop = Dropout(dropout)
        self.attention = SoftDotAttention(hidden_size, hidden_size)
        self.projection = nn.Linear(hidden_size, words)

    def forward(self, ids_BL: Tensor, lengths_B: Tensor, context: Context) -> Reading:
        """Teacher forcing. ids [B, L] int64 begin with the token of the beginning; lengths [B] (CPU) count it."""
        pack = Packing(lengths_B - 1, ids_BL.device)
        place = pack.place(ids_BL.shape[1])
        ids = ids_BL.flatten()
        words_PI = self.drop(self.embedding(ids.index_select(0, place)))
        hidden_PH, _, _ = packed_lstm(self.lstm, words_PI, pack)
        hidden_PH = self.drop(hidden_PH)
        query_BLH = pack.unpack(self.attention.linear_in(hidden_PH))
        logits_BLT = torch.bmm(query_BLH, context.vectors.to(query_BLH.dtype).transpose(1, 2))
        weights_BLT = F.softmax(logits_BLT.masked_fill(context.padding[:, None], -torch.inf), 2)
        read_BLH = torch.bmm(weights_BLT.to(query_BLH.dtype), context.vectors.to(query_BLH.dtype))
        read_PH = read_BLH.flatten(0, 1).index_select(0, pack.place(len(pack.sizes)))
        logits_PV = self.projection(self.drop(self._tilde(read_PH, hidden_PH)))
        return Reading(logits_PV, ids.index_select(0, place + 1), pack.text)

    def judge(self, ids_BL: Tensor, lengths_B: Tensor, context: Context, text_C: Tensor) -> Tensor:
        """Log-probability [C] float32 of one of the texts in each of C contexts: of text `text_C` [C] (int64, CPU).

        The same numbers as `forward` gives for texts that are repeated for every context, but what does not depend on
        the context is computed once per text, and the contexts are projected before they are read. Eval mode only.
        """
        assert self.attention.linear_out is not None
        assert not self.training
        pack = Packing(lengths_B - 1, ids_BL.device)
        hidden_PH, _, _ = packed_lstm(self.lstm, self.embedding(ids_BL.flatten()[pack.place(ids_BL.shape[1])]), pack)
        read_weight, own_weight = self.attention.linear_out.weight.split(self.lstm.hidden_size, 1)
        query_BLH, own_BLH = (
            pack.unpack(self.attention.linear_in(hidden_PH)),
            pack.unpack(F.linear(hidden_PH, own_weight)),
        )
        text, vectors_CTH = text_C.to(ids_BL.device), context.vectors.to(query_BLH.dtype)
        logits_CLT = torch.bmm(query_BLH[text], vectors_CTH.transpose(1, 2))
        weights_CLT = F.softmax(logits_CLT.masked_fill(context.padding[:, None], -torch.inf), 2).to(query_BLH.dtype)
        tilde_CLH = torch.baddbmm(own_BLH[text], weights_CLT, F.linear(vectors_CTH, read_weight)).tanh_()
        used_CL = ~padding_mask((lengths_B - 1).to(text.device), tilde_CLH.shape[1])[text]
        logits = self.projection(tilde_CLH[used_CL])
        loss = F.cross_entropy(logits.float(), ids_BL[:, 1 : 1 + used_CL.shape[1]][text][used_CL], reduction="none")
        pair = torch.arange(len(text), device=text.device).repeat_interleave(used_CL.sum(1))
        return loss.new_zeros(len(text)).index_add(0, pair, -loss)

    def start(self, context: Context) -> Written:
        """The state before the first token."""
        zeros = context.vectors.new_zeros(len(context.vectors), self.lstm.hidden_size, dtype=torch.float32)
        return Written(zeros, zeros, context)

    def step(self, last_N: Tensor, state: Written) -> tuple[Tensor, Written]:
        """Logits [N, V] of the next token; the step function of `decoder.generate`."""
        weight = self.lstm.get_parameter
        words = self.drop(self.embedding(last_N))
        gates = F.linear(words, weight("weight_ih_l0"), weight("bias_ih_l0") + weight("bias_hh_l0"))
        gates = gates + F.linear(state.hidden, weight("weight_hh_l0"))
        hidden, cell = (lstm_cell if is_static(gates.device) else LSTMCell.apply)(gates, state.cell)
        query = self.drop(hidden)
        context = state.context
        read, _ = self.attention.attend(query, context.vectors.to(query.dtype), context.padding)
        return self.projection(self.drop(self._tilde(read, query))), Written(hidden, cell, context)

    def _tilde(self, read: Tensor, query: Tensor) -> Tensor:
        assert self.attention.linear_out is not None
        return torch.tanh(self.attention.linear_out(torch.cat([read, query.to(read.dtype)], 1)))

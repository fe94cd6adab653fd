"""Bricks that every model here is built of.

Legend: B batch, L token or item, D feature, H hidden, N rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clip_core.recurrent import Mirror, PackedLSTM


def padding_mask(lengths: Tensor, size: int) -> Tensor:
    """[B] lengths -> [B, size] bool, True where there is only padding."""
    return torch.arange(size, device=lengths.device) >= lengths[:, None]


class SoftDotAttention(nn.Module):
    """Attention by a dot product with a projected query (Luong et al. 2015, "general"), as in R2R-EnvDrop.

    `forward` returns the tilde state tanh(W [context, query]); `attend` only the weighted context.
    """

    def __init__(self, query_size: int, context_size: int, tilde: bool = True) -> None:
        super().__init__()
        self.linear_in = nn.Linear(query_size, context_size, bias=False)
        self.linear_out = nn.Linear(query_size + context_size, query_size, bias=False) if tilde else None

    def attend(self, query_BH: Tensor, context_BLD: Tensor, padding_BL: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weighted context [B, D] and weights [B, L]."""
        logits_BL = torch.bmm(context_BLD, self.linear_in(query_BH)[:, :, None]).squeeze(2)
        if padding_BL is not None:
            logits_BL = logits_BL.masked_fill(padding_BL, -torch.inf)
        weights_BL = F.softmax(logits_BL, 1)
        return torch.bmm(weights_BL[:, None], context_BLD).squeeze(1), weights_BL

    def forward(self, query_BH: Tensor, context_BLD: Tensor, padding_BL: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tilde state [B, H] and weights [B, L]."""
        assert self.linear_out is not None
        context_BD, weights_BL = self.attend(query_BH, context_BLD, padding_BL)
        return torch.tanh(self.linear_out(torch.cat([context_BD, query_BH], 1))), weights_BL


class Dropout(nn.Module):
    """Dropout whose CPU mask comes from 16 random bits per number: several times faster than torch's Bernoulli draws
    there (4 numbers per draw). The probability is met to 1 / 65,536. On other devices: torch's own."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"dropout probability {probability}; expected 0 or more, below 1")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share of the entries in training mode, scale the others up."""
        if not self.training or self.probability == 0:
            return x
        if x.device.type != "cpu":
            return F.dropout(x, self.probability)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        lanes = words.view(torch.int16)[: x.numel()].view(x.shape)
        threshold = round(self.probability * 2**16) - 2**15
        return x * (lanes >= threshold).to(x.dtype).mul_(1 / (1 - self.probability))


class LSTMEncoder(nn.Module):
    """Words -> context vectors (R2R-EnvDrop `EncoderLSTM`): embedding, dropout, a bidirectional LSTM, dropout.

    `forward` takes ids [B, L] int64 and lengths [B] (CPU) and returns the context [B, L', H] cut to the longest text,
    the first hidden state of a decoder, tanh(W h), [B, H], and its cell state [B, H]. Padding costs nothing: only the P
    tokens of all texts are computed.
    """

    def __init__(self, words: int, word_size: int, hidden_size: int, dropout: float, padding_id: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, word_size, padding_id)
        self.drop = Dropout(dropout)
        self.lstm = nn.LSTM(word_size, hidden_size // 2, batch_first=True, bidirectional=True)
        self.to_decoder = nn.Linear(hidden_size, hidden_size)

    def forward(self, ids_BL: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pack = Packing(lengths_B, ids_BL.device)
        words_PI = self.drop(self.embedding(ids_BL.flatten().index_select(0, pack.place(ids_BL.shape[1]))))
        output_PH, hidden_SPH, cell_SPH = packed_lstm(self.lstm, words_PI, pack)
        context = pack.unpack(self.drop(output_PH))
        # R2R-EnvDrop joins the last states with the backward direction first.
        h_BH, c_BH = (torch.cat([x[1, pack.last], x[0, pack.last]], 1) for x in (hidden_SPH, cell_SPH))
        return context, torch.tanh(self.to_decoder(h_BH)), c_BH


def packed_lstm(
    lstm: nn.LSTM, inputs_PI: Tensor, pack: Packing, fold: Callable[[Tensor], Tensor] = lambda weight: weight
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer of torch's LSTM, in one or both directions, over a packed batch, from zero states.

    `fold` is applied to the input weights [G, I'] and gives [G, I], where inputs repeat columns that are stored once.
    Returns the outputs [P, S H], and hidden and cell states [S, P, H] of each direction in its own order (the backward
    one's are those of `pack.mirror`).
    """
    ways = [(inputs_PI, "")] + ([(Mirror.apply(inputs_PI, pack.mirror), "_reverse")] if lstm.bidirectional else [])

    def weight(name: str, suffix: str) -> Tensor:
        return lstm.get_parameter(f"{name}_l0{suffix}")

    gates_SPG = torch.stack(
        [F.linear(x, fold(weight("weight_ih", s)), weight("bias_ih", s) + weight("bias_hh", s)) for x, s in ways]
    )
    weight_SHG = torch.stack([weight("weight_hh", s).T for _, s in ways])
    hidden_SPH, cell_SPH = PackedLSTM.apply(gates_SPG, weight_SHG, pack.sizes)
    if not lstm.bidirectional:
        return hidden_SPH[0], hidden_SPH, cell_SPH
    return torch.cat([hidden_SPH[0], Mirror.apply(hidden_SPH[1], pack.mirror)], 1), hidden_SPH, cell_SPH


class Packing:
    """Where the tokens of texts of several lengths stand when all are packed: step by step, longest text first.

    sizes: texts running at each step; text, step [P]: whose token it is, and the how-manieth; mirror [P]: for each
    token the one at the same place from the other end of its text (its own inverse); last [B]: the last token of each
    text.
    """

    def __init__(self, lengths_B: Tensor, device: torch.device) -> None:
        lengths = lengths_B.cpu()
        order = torch.argsort(lengths, descending=True, stable=True)
        step_TB, text_TB = torch.meshgrid(torch.arange(int(lengths.max())), torch.arange(len(lengths)), indexing="ij")
        running_TB = step_TB < lengths[order][text_TB]
        self.sizes: list[int] = running_TB.sum(1).tolist()
        starts = torch.cumsum(torch.tensor([0, *self.sizes]), 0)
        step, rank = step_TB[running_TB], text_TB[running_TB]
        self.text, self.step = order[rank].to(device), step.to(device)
        self.mirror = (starts[lengths[order][rank] - 1 - step] + rank).to(device)
        last = torch.empty_like(lengths)
        last[order] = starts[lengths[order] - 1] + torch.arange(len(lengths))
        self.last = last.to(device)

    def place(self, width: int) -> Tensor:
        """[P] place of each token in a flattened table [B, width]."""
        return self.text * width + self.step

    def unpack(self, rows_PD: Tensor) -> Tensor:
        """[B, longest, D] with zeros where there is padding."""
        batch, longest = len(self.last), len(self.sizes)
        table = rows_PD.new_zeros(batch * longest, rows_PD.shape[1])
        return table.index_copy(0, self.place(longest), rows_PD).unflatten(0, (batch, longest))

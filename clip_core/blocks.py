"""Bricks that every model here is built of.

Legend: B batch, L token or item, D feature, H hidden, N rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from clip_core.deferred import attend, is_static
from clip_core.recurrent import PackedLSTM


def padding_mask(lengths: Tensor, size: int) -> Tensor:
    """[B] lengths -> [B, size] bool, True where there is only padding."""
    return torch.arange(size, device=lengths.device) >= lengths[:, None]


def draw(chances_NK: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """[N] one number of each row, drawn with the given chances [N, K].

    The same numbers as `torch.multinomial` draws under one seed, without its checks, which wait for a device: a race of
    exponential clocks, the fastest for its chance wins.
    """
    clocks = torch.empty_like(chances_NK).exponential_(1, generator=generator)
    return (chances_NK / clocks).argmax(1)


def draw_at(chances_NK: Tensor, fractions_N: Tensor) -> Tensor:
    """[N] one number of each row, drawn with the given chances [N, K] by a random fraction [N] in [0, 1): the first at
    which the running sum of the chances passes that fraction of their total. It depends on its own row alone."""
    running_NK = chances_NK.double().cumsum(1)  # so that no fraction of float32 reaches the total
    passed_N1 = fractions_N.double()[:, None] * running_NK[:, -1:]
    found_N = torch.searchsorted(running_NK, passed_N1, right=True).squeeze(1)
    return found_N.clamp(max=chances_NK.shape[1] - 1)  # of chances that are not finite, which the trainer tells of


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
        return attend(self.linear_in(query_BH), context_BLD, padding_BL)

    def forward(self, query_BH: Tensor, context_BLD: Tensor, padding_BL: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tilde state [B, H] and weights [B, L]."""
        assert self.linear_out is not None
        context_BD, weights_BL = self.attend(query_BH, context_BLD, padding_BL)
        return torch.tanh(self.linear_out(torch.cat([context_BD, query_BH], 1))), weights_BL


class Dropout(nn.Module):
    """Dropout whose CPU mask comes from 16 random bits per number: several times faster than torch's Bernoulli draws
    there (4 numbers per draw). The probability is met to 1 / 65,536. On other devices and compiled: torch's own.

    Numbers in half precision are taken for stored ones, without a gradient; they come back in float32.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0 <= probability < 1:
            raise ValueError(f"dropout probability {probability}; expected 0 or more, below 1")
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Zero a share of the entries in training mode, scale the others up."""
        if not self.training or self.probability == 0:
            return x
        stored = x.dtype == torch.float16
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x.float() if stored else x, self.probability)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        lanes = words.view(torch.int16)[: x.numel()].view(x.shape)
        scale = 1 / (1 - self.probability)
        if stored:
            # 15 bits, less the threshold, down to the sign: all ones where the number stays, else all zeros.
            threshold = round((1 - self.probability) * 2**15) - 2**14
            kept = lanes.bitwise_right_shift_(1).sub_(threshold).bitwise_right_shift_(15)
            return x.view(torch.int16).bitwise_and(kept).view(torch.float16).float().mul_(scale)
        mask = torch.ge(lanes, round(self.probability * 2**16) - 2**15, out=torch.empty_like(x))
        return x * mask.mul_(scale)


class LSTMEncoder(nn.Module):
    """Words -> context vectors (R2R-EnvDrop `EncoderLSTM`): embedding, dropout, a bidirectional LSTM, dropout.

    `forward` takes ids [B, L] int64 and lengths [B] (CPU) and returns the context [B, L', H], cut to the longest text
    unless `static` (see `deferred.is_static`), the first hidden state of a decoder, tanh(W h), [B, H], and its cell
    state [B, H], float32. Padding costs nothing: only the P tokens of all texts are computed.
    """

    def __init__(self, words: int, word_size: int, hidden_size: int, dropout: float, padding_id: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, word_size, padding_id)
        self.drop = Dropout(dropout)
        self.lstm = nn.LSTM(word_size, hidden_size // 2, batch_first=True, bidirectional=True)
        self.to_decoder = nn.Linear(hidden_size, hidden_size)

    def forward(self, ids_BL: Tensor, lengths_B: Tensor, static: bool | None = None) -> tuple[Tensor, Tensor, Tensor]:
        pack, width = Packing(lengths_B, ids_BL.device), ids_BL.shape[1]
        static = is_static(ids_BL.device, static)
        words_PI = self.drop(self.embedding(ids_BL.flatten().index_select(0, pack.place(width))))
        output_PH, hidden_SBH, cell_SBH = packed_lstm(self.lstm, words_PI, pack, static=static)
        context = pack.unpack(self.drop(output_PH), width if static else None)
        # R2R-EnvDrop joins the last states with the backward direction first.
        h_BH, c_BH = (torch.cat([x[1], x[0]], 1) for x in (hidden_SBH, cell_SBH))
        return context, torch.tanh(self.to_decoder(h_BH)), c_BH.float()


def packed_lstm(
    lstm: nn.LSTM, inputs_PI: Tensor, pack: Packing, repeated: int = 0, static: bool | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """One layer of torch's LSTM, in one or both directions, over a packed batch, from zero states.

    The last `repeated` columns of the inputs stand for all further columns of the input weights, which repeat them.
    Returns the outputs [P, S H], and the last hidden and cell state [S, B, H] of each direction. `static`: by torch's
    own LSTM, which is cuDNN's on a GPU; None: on a device.
    """
    if is_static(inputs_PI.device, static):
        packed = PackedSequence(_widen(inputs_PI, lstm.input_size, repeated), torch.tensor(pack.sizes))
        outputs, (hidden, cell) = lstm(packed)
        return outputs.data, hidden.index_select(1, pack.rank), cell.index_select(1, pack.rank)
    ways = ("_l0", "_l0_reverse") if lstm.bidirectional else ("_l0",)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights: list[Tensor] = [lstm.get_parameter(name + way) for way in ways for name in names]
    if repeated:
        own = inputs_PI.shape[1] - repeated
        weights[:: len(names)] = [fold_tiles(weight, own, repeated) for weight in weights[:: len(names)]]
    return PackedLSTM.apply(inputs_PI, pack.sizes, pack.mirror, pack.last, pack.order, *weights)


def fold_tiles(weight: Tensor, own: int, repeated: int, dim: int = 1) -> Tensor:
    """[..., own + n repeated, ...] -> [..., own + repeated, ...]: what comes after the first `own` columns (dim 0:
    rows) of a matrix meets the same few numbers again and again, so it is summed."""
    first, tiles = weight.split([own, weight.shape[dim] - own], dim)
    return torch.cat([first, tiles.unflatten(dim, (-1, repeated)).sum(dim)], dim)


def _widen(inputs: Tensor, size: int, repeated: int) -> Tensor:
    """Inputs with their last columns repeated up to the size."""
    if not repeated:
        return inputs
    own = inputs.shape[1] - repeated
    return torch.cat([inputs[:, :own], inputs[:, own:].repeat(1, (size - own) // repeated)], 1)


class Packing:
    """Where the tokens of texts of several lengths stand when all are packed: step by step, longest text first.

    sizes: texts running at each step; text, step [P]: whose token it is, and the how-manieth; mirror [P]: for each
    token the one at the same place from the other end of its text (its own inverse); last [B]: the last token of each
    text; order [B]: the texts, longest first; rank [B]: the place of each text in that order.
    """

    def __init__(self, lengths_B: Tensor, device: torch.device) -> None:
        lengths = lengths_B.cpu()
        order = torch.argsort(lengths, descending=True, stable=True)
        step_TB, text_TB = torch.meshgrid(torch.arange(int(lengths.max())), torch.arange(len(lengths)), indexing="ij")
        running_TB = step_TB < lengths[order][text_TB]
        self.sizes: list[int] = running_TB.sum(1).tolist()
        starts = torch.cumsum(torch.tensor([0, *self.sizes]), 0)
        step, place = step_TB[running_TB], text_TB[running_TB]
        self.text, self.step = order[place].to(device), step.to(device)
        self.mirror = (starts[lengths[order][place] - 1 - step] + place).to(device)
        rank = torch.argsort(order)
        self.last, self.order, self.rank = (x.to(device) for x in (starts[lengths - 1] + rank, order, rank))

    def place(self, width: int) -> Tensor:
        """[P] place of each token in a flattened table [B, width]."""
        return self.text * width + self.step

    def unpack(self, rows_PD: Tensor, width: int | None = None) -> Tensor:
        """[B, width, D] with zeros where there is padding; width: of the longest text if None."""
        batch, width = len(self.last), width or len(self.sizes)
        table = rows_PD.new_zeros(batch * width, rows_PD.shape[1])
        return table.index_copy(0, self.place(width), rows_PD).unflatten(0, (batch, width))

"""Bricks that every model here is built of.

Legend: B batch, L token or item, D feature, H hidden, N rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


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


class LSTMEncoder(nn.Module):
    """Words -> context vectors (R2R-EnvDrop `EncoderLSTM`): embedding, dropout, a bidirectional LSTM, dropout.

    `forward` takes ids [B, L] int64 and lengths [B] and returns the context [B, L', H] cut to the longest text, the
    first hidden state of a decoder, tanh(W h), [B, H], and its cell state [B, H].
    """

    def __init__(self, words: int, word_size: int, hidden_size: int, dropout: float, padding_id: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, word_size, padding_id)
        self.drop = nn.Dropout(dropout)
        self.lstm = nn.LSTM(word_size, hidden_size // 2, batch_first=True, bidirectional=True)
        self.to_decoder = nn.Linear(hidden_size, hidden_size)

    def forward(self, ids_BL: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        lengths = lengths_B.cpu()  # host sync where lengths live on a device: packing needs them on the host
        embedded = self.drop(self.embedding(ids_BL[:, : int(lengths.max())]))
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
        output, (h_2BH, c_2BH) = self.lstm(packed)
        context, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
        h_BH, c_BH = torch.cat([h_2BH[1], h_2BH[0]], 1), torch.cat([c_2BH[1], c_2BH[0]], 1)
        return self.drop(context), torch.tanh(self.to_decoder(h_BH)), c_BH

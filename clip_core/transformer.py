"""Transformer layers that every model here is built of, encoder and decoder alike (arXiv 1706.03762).

Legend: B batch, L tokens, M tokens of the context, H hidden, A heads, K = H / A.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clip_core.blocks import Dropout


class MultiHeadAttention(nn.Module):
    """Attention of H-sized tokens to a context in A heads.

    `forward` does it all; a decoder that writes token by token keeps what `keys_values` gave and calls `attend`.
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        if heads < 1 or hidden % heads:
            raise ValueError(f"hidden size {hidden} with {heads} heads; expected a multiple of the heads")
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(hidden, hidden) for _ in range(4))
        self.drop = Dropout(dropout)

    def keys_values(self, context_BMH: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, A, M, K] of a context."""
        return self._split(self.key(context_BMH)), self._split(self.value(context_BMH))

    def attend(self, x_BLH: Tensor, keys_BAMK: Tensor, values_BAMK: Tensor, visible: Tensor | None = None) -> Tensor:
        """[B, L, H]; visible: bool, broadcast to [B, A, L, M], True where a token may look."""
        query_BALK = self._split(self.query(x_BLH))
        if self.training and self.drop.probability and x_BLH.device.type == "cpu":
            scores_BALM = query_BALK @ keys_BAMK.mT * query_BALK.shape[-1] ** -0.5
            if visible is not None:
                scores_BALM = scores_BALM.masked_fill(~visible, -torch.inf)
            found = self.drop(scores_BALM.softmax(-1)) @ values_BAMK  # torch's own draws its dropout slowly there
        else:
            dropout = self.drop.probability if self.training else 0.0
            found = F.scaled_dot_product_attention(query_BALK, keys_BAMK, values_BAMK, visible, dropout)
        return self.out(found.transpose(1, 2).flatten(2))

    def weights(self, x_BLH: Tensor, keys_BAMK: Tensor) -> Tensor:
        """How much each token looks at each of the context, the mean over the heads [B, L, M] float32; no mask."""
        query_BALK = self._split(self.query(x_BLH))
        scores_BALM = query_BALK.float() @ keys_BAMK.float().mT * query_BALK.shape[-1] ** -0.5
        return scores_BALM.softmax(-1).mean(1)

    def forward(self, x_BLH: Tensor, context_BMH: Tensor, visible: Tensor | None = None) -> Tensor:
        """[B, L, H]; `visible` as of `attend`."""
        return self.attend(x_BLH, *self.keys_values(context_BMH), visible)

    def _split(self, x_BLH: Tensor) -> Tensor:
        return x_BLH.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Two linear layers, ReLU and dropout between."""

    def __init__(self, hidden: int, inner: int, dropout: float) -> None:
        super().__init__(nn.Linear(hidden, inner), nn.ReLU(), Dropout(dropout), nn.Linear(inner, hidden))


class TransformerLayer(nn.Module):
    """Self-attention, with `cross` also attention to a context, feed-forward; a residual around each.

    pre_norm: LayerNorm at the entrance of each part (then the stack needs one at its end), else after its sum, as in
    the paper. The guided layer of MCAN is one with `cross`.
    """

    def __init__(
        self, hidden: int, heads: int, inner: int, dropout: float, *, cross: bool = False, pre_norm: bool = False
    ) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.attention = MultiHeadAttention(hidden, heads, dropout)
        self.cross = MultiHeadAttention(hidden, heads, dropout) if cross else None
        self.feed_forward = FeedForward(hidden, inner, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, eps=1e-6) for _ in range(3 if cross else 2))
        self.drop = Dropout(dropout)

    def forward(
        self,
        x_BLH: Tensor,
        visible: Tensor | None = None,
        context_BMH: Tensor | None = None,
        context_visible: Tensor | None = None,
    ) -> Tensor:
        """[B, L, H]; visible, context_visible: bool masks as of `MultiHeadAttention.attend` (`visible_tokens` and
        `causal` make them)."""
        entered = self.enter(0, x_BLH)
        x_BLH = self.leave(0, x_BLH, self.attention(entered, entered, visible))
        if self.cross is not None:
            assert context_BMH is not None
            x_BLH = self.leave(1, x_BLH, self.cross(self.enter(1, x_BLH), context_BMH, context_visible))
        last = len(self.norms) - 1
        return self.leave(last, x_BLH, self.feed_forward(self.enter(last, x_BLH)))

    def enter(self, part: int, x: Tensor) -> Tensor:
        """What a part (0 self-attention, then cross-attention, last feed-forward) is given."""
        return self.norms[part](x) if self.pre_norm else x

    def leave(self, part: int, x: Tensor, found: Tensor) -> Tensor:
        """The sum after a part."""
        total = x + self.drop(found)
        return total if self.pre_norm else self.norms[part](total)


def visible_tokens(padding_BL: Tensor) -> Tensor:
    """Mask [B, 1, 1, L] that hides padding (True in `padding`) from every token."""
    return ~padding_BL[:, None, None]


def causal(size: int, device: torch.device) -> Tensor:
    """Mask [L, L] by which a token sees itself and those before it."""
    return torch.ones(size, size, dtype=torch.bool, device=device).tril()

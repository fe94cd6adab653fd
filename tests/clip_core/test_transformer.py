"""Transformer layers beside torch's own, their two ways to compute attention, their masks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from clip_core.transformer import MultiHeadAttention, TransformerLayer, causal, visible_tokens


def copy_attention(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("cross", [False, True])
def test_layer_is_that_of_torch(pre_norm: bool, cross: bool) -> None:
    torch.manual_seed(0)
    ours = TransformerLayer(16, 4, 32, 0.0, cross=cross, pre_norm=pre_norm)
    kind = nn.TransformerDecoderLayer if cross else nn.TransformerEncoderLayer
    theirs = kind(16, 4, 32, 0.0, layer_norm_eps=1e-6, batch_first=True, norm_first=pre_norm)
    copy_attention(ours.attention, theirs.self_attn)
    if cross:
        assert ours.cross is not None
        copy_attention(ours.cross, theirs.multihead_attn)
    for name, layer in (("linear1", ours.feed_forward[0]), ("linear2", ours.feed_forward[3])):
        getattr(theirs, name).load_state_dict(layer.state_dict())
    x, context = torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    padding, hidden = torch.arange(5) >= torch.tensor([[5], [2], [4]]), torch.arange(7) >= torch.tensor([[1], [7], [3]])
    if cross:
        found = ours(x, causal(5, x.device), context, visible_tokens(hidden))
        expected = theirs(x, context, tgt_mask=~causal(5, x.device), memory_key_padding_mask=hidden)
    else:
        found, expected = ours(x, visible_tokens(padding)), theirs(x, src_key_padding_mask=padding)
    kept = ~padding if not cross else torch.ones(3, 5, dtype=torch.bool)
    torch.testing.assert_close(found[kept], expected[kept], atol=1e-5, rtol=1e-5)


def test_attention_with_dropout_averages_to_that_without() -> None:
    """In training on the CPU the scores are computed by hand, otherwise by torch's fused attention."""
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, 2, 0.3)
    x, visible = torch.randn(1, 4, 8), visible_tokens(torch.tensor([[False, False, False, True]]))
    exact = attention.eval()(x, x, visible)
    attention.train()
    mean = attention(x.expand(4000, 4, 8), x.expand(4000, 4, 8), visible).mean(0)
    torch.testing.assert_close(mean, exact[0], atol=0.03, rtol=0)


def test_token_by_token_is_all_at_once() -> None:
    torch.manual_seed(0)
    attention = MultiHeadAttention(8, 2, 0.0)
    x = torch.randn(2, 6, 8)
    whole = attention(x, x, causal(6, x.device))
    keys, values = attention.keys_values(x)
    steps = [attention.attend(x[:, i : i + 1], keys[:, :, : i + 1], values[:, :, : i + 1]) for i in range(6)]
    torch.testing.assert_close(torch.cat(steps, 1), whole)


def test_heads_must_fit() -> None:
    with pytest.raises(ValueError, match="hidden size 10 with 4 heads"):
        MultiHeadAttention(10, 4, 0.0)

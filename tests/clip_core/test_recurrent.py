"""The recurrent pieces equal torch's own operations, values and gradients."""

from __future__ import annotations

import platform
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clip_core.blocks import Dropout, LSTMEncoder, Packing, SoftDotAttention, padding_mask
from clip_core.memory import keep_large_blocks
from clip_core.recurrent import AttentionMemory, DeferredLinear, LSTMCell

LENGTHS = torch.tensor([12, 3, 7, 1, 9, 9, 5])


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _assert_same_gradients(fast: Tensor, slow: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    for a, b in zip(torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs), strict=True):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_encoder_equals_torchs_packed_lstm() -> None:
    encoder = LSTMEncoder(50, 24, 32, 0.0)
    ids = torch.randint(3, 50, (7, 12))
    context, hidden, cell = encoder(ids, LENGTHS)
    packed = nn.utils.rnn.pack_padded_sequence(encoder.embedding(ids), LENGTHS, batch_first=True, enforce_sorted=False)
    output, (h, c) = encoder.lstm(packed)
    output, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
    joined = torch.tanh(encoder.to_decoder(torch.cat([h[1], h[0]], 1)))
    torch.testing.assert_close(context, output)
    weight = torch.arange(32)
    fast = (context * weight).sum() + (hidden * 3).sum() + (cell**2).sum()
    slow = (output * weight).sum() + (joined * 3).sum() + (torch.cat([c[1], c[0]], 1) ** 2).sum()
    _assert_same_gradients(fast, slow, list(encoder.parameters()))


def test_encoder_cuts_to_the_longest_text_and_pads_with_zeros() -> None:
    encoder = LSTMEncoder(20, 8, 16, 0.0)
    ids = torch.randint(3, 20, (2, 80))
    context, _, _ = encoder(ids, torch.tensor([4, 6]))
    assert context.shape == (2, 6, 16)
    assert (context[0, 4:] == 0).all()
    assert (context[0, :4] != 0).any(1).all()


def test_packing_mirror_is_its_own_inverse_and_swaps_the_ends() -> None:
    pack = Packing(LENGTHS, torch.device("cpu"))
    assert pack.sizes[0] == len(LENGTHS)
    assert sum(pack.sizes) == int(LENGTHS.sum())
    assert torch.equal(pack.mirror[pack.mirror], torch.arange(int(LENGTHS.sum())))
    place = pack.place(12)
    first, last = place[pack.mirror[pack.last]], place[pack.last]
    assert torch.equal(first, torch.arange(7) * 12)
    assert torch.equal(last, torch.arange(7) * 12 + LENGTHS - 1)


def test_deferred_linear_sums_the_gradients_of_all_uses() -> None:
    weight, bias = torch.randn(6, 5, requires_grad=True), torch.randn(6, requires_grad=True)
    x = torch.randn(3, 5, requires_grad=True)

    def loss(linear: Callable[[Tensor], Tensor]) -> Tensor:
        return (linear(x) ** 2).sum() + linear(x[:2] * 2).sin().sum()

    _assert_same_gradients(
        loss(DeferredLinear(weight, bias)), loss(lambda y: F.linear(y, weight, bias)), [weight, bias, x]
    )


def test_deferred_linear_keeps_the_terms_of_two_backward_passes_apart() -> None:
    weight, x = torch.randn(4, 3, requires_grad=True), torch.randn(2, 3)
    linear = DeferredLinear(weight)
    first, second = (linear(x) ** 2).sum(), linear(x + 1).sum()
    (a,) = torch.autograd.grad(first, weight, retain_graph=True)
    (b,) = torch.autograd.grad(second, weight)
    (slow_a,) = torch.autograd.grad((F.linear(x, weight) ** 2).sum(), weight)
    (slow_b,) = torch.autograd.grad(F.linear(x + 1, weight).sum(), weight)
    torch.testing.assert_close(a, slow_a)
    torch.testing.assert_close(b, slow_b)


def test_deferred_linear_works_without_gradients() -> None:
    linear = nn.Linear(3, 2)
    with torch.no_grad():
        torch.testing.assert_close(
            DeferredLinear(linear.weight, linear.bias)(torch.ones(1, 3)), linear(torch.ones(1, 3))
        )


def test_attention_memory_equals_soft_dot_attention_for_parts_of_the_batch() -> None:
    attention = SoftDotAttention(5, 5, tilde=False)
    context = torch.randn(4, 6, 5, requires_grad=True)
    query = torch.randn(4, 5, requires_grad=True)
    padding, some = padding_mask(torch.tensor([6, 2, 3, 5]), 6), torch.tensor([2, 0])
    memory = AttentionMemory(context, padding)
    project = attention.linear_in
    fast = memory.attend(project(query))[0].sin().sum()
    fast = fast + (memory.rows(some).attend(project(query[some] * 2))[0] ** 2).sum()
    slow = attention.attend(query, context, padding)[0].sin().sum()
    slow = slow + (attention.attend(query[some] * 2, context[some], padding[some])[0] ** 2).sum()
    _assert_same_gradients(fast, slow, [context, query, project.weight])


def test_attention_memory_gives_padding_no_weight() -> None:
    memory = AttentionMemory(torch.randn(2, 4, 3), padding_mask(torch.tensor([4, 1]), 4))
    _, weights = memory.attend(torch.randn(2, 3))
    assert weights[1].tolist() == [1, 0, 0, 0]
    assert (weights[0] > 0).all()


def test_lstm_cell_equals_torchs() -> None:
    cell = nn.LSTMCell(3, 4)
    x, h, c = torch.randn(5, 3), torch.randn(5, 4), torch.randn(5, 4, requires_grad=True)
    gates = F.linear(x, cell.weight_ih, cell.bias_ih) + F.linear(h, cell.weight_hh, cell.bias_hh)
    fast_h, fast_c = LSTMCell.apply(gates, c)
    slow_h, slow_c = cell(x, (h, c))
    fast, slow = (fast_h**2).sum() + fast_c.sin().sum(), (slow_h**2).sum() + slow_c.sin().sum()
    _assert_same_gradients(fast, slow, [*cell.parameters(), c])


@pytest.mark.parametrize("probability", [0.3, 0.5])
def test_dropout_keeps_the_mean_and_drops_the_share(probability: float) -> None:
    drop = Dropout(probability)
    x = torch.ones(1000, 1001)
    y = drop(x)
    assert (y == 0).float().mean().item() == pytest.approx(probability, abs=0.002)
    assert y.mean().item() == pytest.approx(1, abs=0.005)
    assert y.unique().tolist() == pytest.approx([0, 1 / (1 - probability)])
    torch.manual_seed(1)
    first = drop(x)
    torch.manual_seed(1)
    assert torch.equal(first, drop(x))
    assert torch.equal(drop.eval()(x), x)


def test_dropout_passes_gradients_where_it_kept() -> None:
    x = torch.ones(100, requires_grad=True)
    y = Dropout(0.5)(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


def test_dropout_refuses_a_probability_outside_zero_to_one() -> None:
    with pytest.raises(ValueError, match="below 1"):
        Dropout(1.0)


def test_keeping_large_blocks_says_whether_it_took_effect() -> None:
    assert keep_large_blocks() is (platform.libc_ver()[0] == "glibc")

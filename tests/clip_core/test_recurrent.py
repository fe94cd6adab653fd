"""The recurrent pieces equal torch's own operations, values and gradients."""

from __future__ import annotations

import platform
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clip_core.blocks import Dropout, LSTMEncoder, Packing, SoftDotAttention, draw, draw_at, packed_lstm, padding_mask
from clip_core.deferred import AttentionMemory, DeferredLinear, PlainLinear, PlainMemory
from clip_core.memory import keep_large_blocks
from clip_core.recurrent import LSTMCell, lstm_cell

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


@pytest.mark.parametrize(("bidirectional", "repeated"), [(True, 0), (True, 4), (False, 4)])
def test_own_packed_lstm_equals_torchs_own(bidirectional: bool, repeated: int) -> None:
    """Outputs, last states and every gradient of the two paths of `packed_lstm`; tiles folded or inputs widened."""
    wide, pack = 8 + 3 * repeated, Packing(LENGTHS, torch.device("cpu"))
    lstm = nn.LSTM(wide, 6, batch_first=True, bidirectional=bidirectional)
    inputs = torch.randn(int(LENGTHS.sum()), 8 + repeated, requires_grad=True)

    def loss(static: bool) -> Tensor:
        outputs, hidden, cell = packed_lstm(lstm, inputs, pack, repeated, static)
        assert hidden.shape == cell.shape == (1 + bidirectional, 7, 6)
        weight = torch.linspace(-1, 1, outputs.numel()).view_as(outputs)
        return (outputs * weight).sum() + (hidden * torch.arange(7)[:, None]).sum() + (cell**2).sum()

    _assert_same_gradients(loss(False), loss(True), [*lstm.parameters(), inputs])


def test_a_packed_lstm_whose_last_states_nobody_uses() -> None:
    lstm, pack = nn.LSTM(5, 4, batch_first=True), Packing(LENGTHS, torch.device("cpu"))
    inputs = torch.randn(int(LENGTHS.sum()), 5, requires_grad=True)
    ours, theirs = (packed_lstm(lstm, inputs, pack, static=static)[0].sin().sum() for static in (False, True))
    _assert_same_gradients(ours, theirs, [*lstm.parameters(), inputs])


def test_static_encoder_keeps_the_width_of_its_table() -> None:
    encoder = LSTMEncoder(20, 8, 16, 0.0)
    ids, lengths = torch.randint(3, 20, (3, 11)), torch.tensor([4, 6, 1])
    cut, *rest = encoder(ids, lengths, static=False)
    whole, *others = encoder(ids, lengths, static=True)
    assert whole.shape == (3, 11, 16)
    torch.testing.assert_close(whole[:, :6], cut)
    assert not whole[:, 6:].any()
    for a, b in zip(rest, others, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cudnn_encoder_equals_the_cpus() -> None:
    encoder, ids = LSTMEncoder(50, 24, 32, 0.0), torch.randint(3, 50, (7, 12))
    here = encoder(ids, LENGTHS, static=True)
    there = encoder.cuda()(ids.cuda(), LENGTHS)
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-4, atol=1e-4)


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


def test_plain_pieces_equal_the_deferred_ones() -> None:
    context, query = torch.randn(4, 6, 5, requires_grad=True), torch.randn(4, 5, requires_grad=True)
    weight, bias = torch.randn(5, 5, requires_grad=True), torch.randn(5, requires_grad=True)
    padding, some = padding_mask(torch.tensor([6, 2, 3, 5]), 6), torch.tensor([3, 0])

    def loss(linear: Callable[[Tensor], Tensor], memory: AttentionMemory | PlainMemory) -> Tensor:
        first = memory.attend(linear(query))[0]
        return first.sin().sum() + (memory.rows(some).attend(linear(first[some]))[0] ** 2).sum()

    deferred = loss(DeferredLinear(weight, bias), AttentionMemory(context, padding))
    _assert_same_gradients(deferred, loss(PlainLinear(weight, bias), PlainMemory(context, padding)), [context, query])


def test_attention_memory_gives_padding_no_weight() -> None:
    memory = AttentionMemory(torch.randn(2, 4, 3), padding_mask(torch.tensor([4, 1]), 4))
    _, weights = memory.attend(torch.randn(2, 3))
    assert weights[1].tolist() == [1, 0, 0, 0]
    assert (weights[0] > 0).all()


@pytest.mark.parametrize("step", [LSTMCell.apply, lstm_cell])
def test_lstm_cell_equals_torchs(step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    cell = nn.LSTMCell(3, 4)
    x, h, c = torch.randn(5, 3), torch.randn(5, 4), torch.randn(5, 4, requires_grad=True)
    gates = F.linear(x, cell.weight_ih, cell.bias_ih) + F.linear(h, cell.weight_hh, cell.bias_hh)
    fast_h, fast_c = step(gates, c)
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


@pytest.mark.parametrize("probability", [0.3, 0.5])
def test_dropout_of_stored_numbers(probability: float) -> None:
    drop, x = Dropout(probability), torch.full((1000, 1001), 1.5, dtype=torch.float16)
    y = drop(x)
    assert y.dtype == torch.float32
    assert (y == 0).float().mean().item() == pytest.approx(probability, abs=0.002)
    assert y.unique().tolist() == pytest.approx([0, 1.5 / (1 - probability)])
    assert (x == 1.5).all()
    assert drop.eval()(x) is x


def test_draw_gives_the_numbers_of_torchs_multinomial() -> None:
    chances = torch.rand(300, 9)
    chances[:, 4] = 0
    torch.manual_seed(1)
    ours = draw(chances)
    torch.manual_seed(1)
    assert torch.equal(ours, torch.multinomial(chances, 1).squeeze(1))
    assert len(ours.unique()) == 8
    generator = torch.Generator().manual_seed(3)
    again = draw(chances, generator)
    assert torch.equal(again, draw(chances, torch.Generator().manual_seed(3)))


def test_draw_at_a_fraction() -> None:
    """Each number has the share of fractions that is its chance; what has none is never drawn, nor beyond the end."""
    chances = torch.tensor([[0.0, 0.25, 0.0, 0.5, 0.25, 0.0]])
    fractions = torch.arange(1000) / 1000
    found = draw_at(chances.expand(1000, -1) * 3, fractions)  # any total
    assert [(found == n).sum().item() for n in range(6)] == [0, 250, 0, 500, 250, 0]
    last = torch.full((200,), 1 - 2**-24)
    many = torch.rand(200, 9000, generator=torch.Generator().manual_seed(0))
    many[:, -1] = 0
    assert (draw_at(many, last) == 8998).all()


def test_dropout_refuses_a_probability_outside_zero_to_one() -> None:
    with pytest.raises(ValueError, match="below 1"):
        Dropout(1.0)


def test_keeping_large_blocks_says_whether_it_took_effect() -> None:
    assert keep_large_blocks() is (platform.libc_ver()[0] == "glibc")

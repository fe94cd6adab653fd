"""LSTM cells, single and over packed texts, with gradients written by hand for the many small steps of a CPU.

Legend: B texts, P packed tokens (time-major, longest text first; see `blocks.Packing`), S directions, I input,
H hidden, G = 4 H gates in torch's order: input, forget, cell, output.

tests/clip_core/test_recurrent.py holds each piece equal to torch's own operations, which take their place elsewhere
(`deferred.is_static`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

WEIGHTS = 4
"""Of each direction, in torch's order: weight_ih [G, I], weight_hh [G, H], bias_ih, bias_hh [G]."""


def lstm_cell(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden and cell state [..., H], float32, from the gates before their nonlinearities [..., G] and the cell state
    before. `LSTMCell` is the same for a CPU."""
    i, f, g, o = gates.float().chunk(4, -1)
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


class LSTMCell(Function):
    """`lstm_cell`, its backward pass without a graph of small steps."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        active = gates.float()
        active = active.clone() if active is gates else active
        new_cell, squashed, hidden = (torch.empty_like(cell) for _ in range(3))
        cell_forward(active, cell, new_cell, squashed, hidden)
        ctx.save_for_backward(active, cell, squashed)
        ctx.dtype = gates.dtype
        return hidden, new_cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, hidden_gradient: Tensor, cell_gradient: Tensor) -> tuple[Tensor, Tensor]:
        active, cell, squashed = ctx.saved_tensors
        gates_gradient, down = torch.empty_like(active), cell_gradient.clone()
        cell_backward(hidden_gradient, down, active, cell, squashed, gates_gradient)
        return gates_gradient.to(ctx.dtype), down


def cell_forward(gates: Tensor, cell: Tensor | None, new_cell: Tensor, squashed: Tensor, hidden: Tensor) -> None:
    """Gates [..., G] take their nonlinearities in place; fills new_cell, tanh(new_cell), hidden [..., H]. `cell`: the
    state before, None for zeros."""
    size = hidden.shape[-1]
    i, f, g, o = gates.split(size, -1)
    gates[..., : 2 * size].sigmoid_()
    g.tanh_()
    o.sigmoid_()
    torch.mul(i, g, out=new_cell)
    if cell is not None:
        new_cell.addcmul_(f, cell)
    torch.tanh(new_cell, out=squashed)
    torch.mul(o, squashed, out=hidden)


def cell_backward(
    hidden_gradient: Tensor, carry: Tensor, gates: Tensor, cell: Tensor | None, squashed: Tensor, out: Tensor
) -> None:
    """Fills `out`, the gradient of the gates before their nonlinearities [..., G]; `carry` [..., H] is the gradient of
    the cell state after the step and becomes that of the one before."""
    size = squashed.shape[-1]
    i, f, g, o = gates.split(size, -1)
    out_i, out_f, out_g, out_o = out.split(size, -1)
    torch.mul(hidden_gradient, o, out=out_g)  # out_g serves as scratch until its turn
    carry += torch.ops.aten.tanh_backward.grad_input(out_g, squashed, grad_input=out_g)
    torch.mul(carry, g, out=out_i)
    if cell is None:
        out_f.zero_()
    else:
        torch.mul(carry, cell, out=out_f)
    torch.mul(hidden_gradient, squashed, out=out_o)
    torch.mul(carry, i, out=out_g)
    both, both_gates = out[..., : 2 * size], gates[..., : 2 * size]
    torch.ops.aten.sigmoid_backward.grad_input(both, both_gates, grad_input=both)
    torch.ops.aten.tanh_backward.grad_input(out_g, g, grad_input=out_g)
    torch.ops.aten.sigmoid_backward.grad_input(out_o, o, grad_input=out_o)
    carry.mul_(f)


class PackedLSTM(Function):
    """One layer of torch's LSTM, in S directions, over packed tokens [P, I], from zero states.

    sizes: how many texts are still running at each step; mirror [P], last [B], order [B]: see `blocks.Packing`.
    weights: `WEIGHTS` of each direction. Returns the outputs [P, S H], and the last hidden and cell state of each
    direction [S, B, H], all float32. Input products run in autocast's type, the rest in float32.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, sizes: Sequence[int], mirror: Tensor, last: Tensor, order: Tensor, *weights: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        ways = [weights[i : i + WEIGHTS] for i in range(0, len(weights), WEIGHTS)]
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else inputs.dtype
        read = [inputs.to(kind)] + [inputs.to(kind).index_select(0, mirror) for _ in ways[1:]]
        gates = inputs.new_empty(len(ways), len(inputs), len(weights[0]), dtype=torch.float32)
        for x, (w, _, b, c), out in zip(read, ways, gates, strict=True):
            if kind == torch.float32:
                torch.addmm(b + c, x, w.T, out=out)
            else:
                out.copy_(F.linear(x, w.to(kind), (b + c).to(kind)))
        recurrent = torch.stack([w.T.float() for _, w, _, _ in ways])
        hidden, cell, squashed = (gates.new_empty(len(ways), len(inputs), recurrent.shape[1]) for _ in range(3))
        for now, earlier in steps(sizes):
            if earlier is not None:
                torch.baddbmm(gates[:, now], hidden[:, earlier], recurrent, out=gates[:, now])
            before = None if earlier is None else cell[:, earlier]
            cell_forward(gates[:, now], before, cell[:, now], squashed[:, now], hidden[:, now])
        ctx.save_for_backward(gates, hidden, cell, squashed, recurrent, mirror, last, order, *read, *weights)
        ctx.sizes, ctx.kind, ctx.dtype = sizes, kind, inputs.dtype
        ctx.set_materialize_grads(False)
        outputs = hidden[0] if len(ways) == 1 else torch.cat([hidden[0], hidden[1].index_select(0, mirror)], 1)
        return outputs, hidden.index_select(1, last), cell.index_select(1, last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outputs: Tensor | None, last_hidden: Tensor | None, last_cell: Tensor | None) -> Any:
        gates, hidden, cell, squashed, recurrent, mirror, last, order, *rest = ctx.saved_tensors
        count = len(gates)
        read, weights = rest[:count], rest[count:]
        down = torch.zeros_like(hidden) if outputs is None else _by_way(outputs, mirror, count)
        if last_hidden is not None:
            down.index_add_(1, last, last_hidden)
        # Texts end at different steps: in order of length, each one's place waits for its last step.
        carry = gates.new_zeros(count, len(last), hidden.shape[2]) if last_cell is None else last_cell[:, order]
        out, before = torch.empty_like(gates), torch.zeros_like(hidden)
        back = recurrent.transpose(1, 2)
        for now, earlier in reversed(steps(ctx.sizes)):
            running = carry[:, : now.stop - now.start]
            earlier_cell = None if earlier is None else cell[:, earlier]
            cell_backward(down[:, now], running, gates[:, now], earlier_cell, squashed[:, now], out[:, now])
            if earlier is not None:
                down[:, earlier] += torch.bmm(out[:, now], back)
                before[:, now] = hidden[:, earlier]
        grads: list[Tensor] = []
        for x, y, h in zip(read, out, before, strict=True):
            bias = y.sum(0)
            grads += [(y.to(ctx.kind).T @ x).float(), y.T @ h, bias, bias]
        parts = [(y.to(ctx.kind) @ w.to(ctx.kind)).to(ctx.dtype) for y, w in zip(out, weights[::WEIGHTS], strict=True)]
        inputs = parts[0] if count == 1 else parts[0].add_(parts[1].index_select(0, mirror))
        return inputs, None, None, None, None, *grads


def steps(sizes: Sequence[int]) -> list[tuple[slice, slice | None]]:
    """For each step the packed tokens of it, and of the step before those that the same texts have there."""
    found: list[tuple[slice, slice | None]] = []
    before, start = 0, 0
    for size in sizes:
        found.append((slice(start, start + size), slice(before, before + size) if start else None))
        before, start = start, start + size
    return found


def _by_way(outputs: Tensor, mirror: Tensor, count: int) -> Tensor:
    """[S, P, H] from what belongs to the outputs [P, S H]."""
    ways = outputs.float().chunk(count, 1)
    return torch.stack([ways[0], *(way.index_select(0, mirror) for way in ways[1:])])

"""LSTM pieces for loops of many small steps, their weight gradients computed once for all steps.

Legend: B batch, T step, P packed tokens (time-major, longest text first), S directions, I input, H hidden, G = 4 H
gates in torch's order: input, forget, cell, output.

Autograd gives a weight that a loop uses T times T full-size gradients and adds them up: for the follower's decoder that
moves more bytes than the products themselves. Here every use hands its input and output gradient to a root node, which
autograd runs after all uses, and one product over all steps gives the gradient. tests/clip_core/test_recurrent.py holds
each piece equal to torch's own operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class DeferredLinear:
    """`F.linear(x, weight, bias)` for a loop: make one per forward pass, call it in every step."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self.weight = weight.detach()
        self.bias = None if bias is None else bias.detach()
        self.uses: list[tuple[Tensor, Tensor]] = []
        self.ticket = _LinearRoot.apply(weight, bias, self)

    def __call__(self, x: Tensor) -> Tensor:
        return _LinearUse.apply(x, self.ticket, self)


class _LinearRoot(Function):
    """Its output is a scalar that every use takes as input, so its backward comes after theirs."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, linear: DeferredLinear) -> Tensor:
        ctx.linear, ctx.dtype = linear, weight.dtype
        return weight.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, Tensor | None, None]:
        inputs, gradients = (torch.cat(part) for part in zip(*ctx.linear.uses, strict=True))
        ctx.linear.uses.clear()
        bias = gradients.sum(0).to(ctx.dtype) if ctx.linear.bias is not None else None
        return (gradients.T @ inputs).to(ctx.dtype), bias, None


class _LinearUse(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ticket: Tensor, linear: DeferredLinear) -> Tensor:
        ctx.linear = linear
        ctx.save_for_backward(x)
        return F.linear(x, linear.weight, linear.bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (x,) = ctx.saved_tensors
        ctx.linear.uses.append((x.to(gradient.dtype), gradient))
        down = (gradient @ ctx.linear.weight.to(gradient.dtype)).to(x.dtype) if ctx.needs_input_grad[0] else None
        return down, ctx.linear.weight.new_zeros(()), None


class AttentionMemory:
    """Dot-product attention over one context [B, L, H] in every step of a loop.

    `padding` [B, L] bool marks what may not be attended to. `rows(index)` is the memory for some of the batch.
    """

    def __init__(self, context: Tensor, padding: Tensor) -> None:
        self.context, self.padding = context.detach(), padding
        self.row = torch.arange(len(context), device=context.device)
        self.shared: _SharedMemory = _SharedMemory(context)

    def rows(self, index: Tensor) -> AttentionMemory:
        """The same context for some rows of the batch."""
        other = object.__new__(AttentionMemory)
        other.context, other.padding = self.context.index_select(0, index), self.padding.index_select(0, index)
        other.row, other.shared = self.row.index_select(0, index), self.shared
        return other

    def attend(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """query [n, H] -> the weighted context [n, H] and the weights [n, L]."""
        return _MemoryUse.apply(query, self.shared.ticket, self)


class _SharedMemory:
    """What all parts of a memory share: the uses so far, and the ticket of the root node."""

    def __init__(self, context: Tensor) -> None:
        self.shape = context.shape
        self.uses: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
        self.ticket = _MemoryRoot.apply(context, self)


class _MemoryRoot(Function):
    @staticmethod
    def forward(ctx: Any, context: Tensor, shared: _SharedMemory) -> Tensor:
        ctx.shared, ctx.dtype = shared, context.dtype
        return context.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        uses, (batch, length, size) = ctx.shared.uses, ctx.shared.shape
        weights = uses[0][1].new_zeros(batch, 2 * len(uses), length)
        vectors = uses[0][1].new_zeros(batch, 2 * len(uses), size)
        for t, (row, weight, out_gradient, logit_gradient, query) in enumerate(uses):
            weights[row, 2 * t], vectors[row, 2 * t] = weight, out_gradient
            weights[row, 2 * t + 1], vectors[row, 2 * t + 1] = logit_gradient, query
        uses.clear()
        return torch.bmm(weights.transpose(1, 2), vectors).to(ctx.dtype), None


class _MemoryUse(Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, ticket: Tensor, memory: AttentionMemory) -> tuple[Tensor, Tensor]:
        context = memory.context
        logits = torch.bmm(context, query.to(context.dtype)[:, :, None]).squeeze(2)
        weights = F.softmax(logits.masked_fill(memory.padding, -torch.inf), 1, dtype=torch.float32)
        ctx.memory = memory
        ctx.save_for_backward(query, weights)
        ctx.mark_non_differentiable(weights)
        return torch.bmm(weights[:, None].to(context.dtype), context).squeeze(1), weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
        query, weights = ctx.saved_tensors
        context = ctx.memory.context
        gradient = gradient.to(context.dtype)
        weights = weights.to(context.dtype)
        weight_gradient = torch.bmm(context, gradient[:, :, None]).squeeze(2)
        logit_gradient = weights * (weight_gradient - (weights * weight_gradient).sum(1, keepdim=True))
        ctx.memory.shared.uses.append((ctx.memory.row, weights, gradient, logit_gradient, query.to(context.dtype)))
        down = torch.bmm(logit_gradient[:, None], context).squeeze(1)
        return down.to(query.dtype), context.new_zeros(()), None


class LSTMCell(Function):
    """Hidden and cell state [..., H] from the gates before their nonlinearities [..., G] and the cell state before."""

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
        gates_gradient = torch.empty_like(active)
        down = cell_backward(hidden_gradient, cell_gradient, active, cell, squashed, gates_gradient)
        return gates_gradient.to(ctx.dtype), down


def cell_forward(gates: Tensor, cell: Tensor | None, new_cell: Tensor, squashed: Tensor, hidden: Tensor) -> None:
    """Gates [..., G] take their nonlinearities in place; fills new_cell, tanh(new_cell), hidden [..., H]."""
    size = hidden.shape[-1]
    i, f, g, o = gates.split(size, -1)
    gates[..., : 2 * size].sigmoid_()
    g.tanh_()
    o.sigmoid_()
    torch.mul(i, g, out=new_cell)
    if cell is not None:
        new_cell[..., : cell.shape[-2], :].addcmul_(f[..., : cell.shape[-2], :], cell)
    torch.tanh(new_cell, out=squashed)
    torch.mul(o, squashed, out=hidden)


def cell_backward(
    hidden_gradient: Tensor,
    cell_gradient: Tensor | None,
    gates: Tensor,
    cell: Tensor | None,
    squashed: Tensor,
    out: Tensor,
) -> Tensor:
    """Fills the gradient of the gates before their nonlinearities [..., G]; returns that of the cell state before."""
    size = squashed.shape[-1]
    i, f, g, o = gates.split(size, -1)
    total = (1 - squashed * squashed).mul_(o).mul_(hidden_gradient)
    if cell_gradient is not None:
        total[..., : cell_gradient.shape[-2], :] += cell_gradient
    out_i, out_f, out_g, out_o = out.split(size, -1)
    torch.mul(total, g, out=out_i)
    out_f.zero_()
    if cell is not None:
        torch.mul(total[..., : cell.shape[-2], :], cell, out=out_f[..., : cell.shape[-2], :])
    torch.mul(hidden_gradient, squashed, out=out_o)
    torch.mul(total, i, out=out_g).mul_(1 - g * g)
    for part, gate in ((out_i, i), (out_f, f), (out_o, o)):
        part.mul_(gate).mul_(1 - gate)
    return total.mul_(f)


class Mirror(Function):
    """Rows [P, ...] in the order of a permutation that is its own inverse: backward gathers, where autograd would
    scatter."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, mirror: Tensor) -> Tensor:
        ctx.mirror = mirror
        return rows.index_select(0, mirror)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.index_select(0, ctx.mirror), None


class PackedLSTM(Function):
    """S independent LSTMs over the same packed batch, from zero states.

    gates [S, P, G]: input projections with all biases; weight [S, H, G]: the recurrent weight, transposed;
    sizes: how many texts are still running at each step. Returns hidden and cell states [S, P, H].
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, weight: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
        active = gates.float()
        active = active.clone() if active is gates else active
        shape = (*active.shape[:2], weight.shape[1])
        hidden, cell, squashed = (active.new_empty(shape) for _ in range(3))
        before, start = slice(0, 0), 0
        for size in sizes:
            now = slice(start, start + size)
            earlier = slice(before.start, before.start + size)
            if before.stop:
                torch.baddbmm(active[:, now], hidden[:, earlier], weight, out=active[:, now])
            cell_forward(
                active[:, now],
                cell[:, earlier] if before.stop else None,
                cell[:, now],
                squashed[:, now],
                hidden[:, now],
            )
            before, start = now, now.stop
        ctx.save_for_backward(active, weight, hidden, cell, squashed)
        ctx.sizes, ctx.dtype = sizes, gates.dtype
        return hidden, cell

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, hidden_gradient: Tensor, cell_gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        active, weight, hidden, cell, squashed = ctx.saved_tensors
        out, earlier_hidden = torch.empty_like(active), torch.zeros_like(hidden)
        weight_back = weight.transpose(1, 2)
        later_hidden: Tensor | None = None
        later_cell: Tensor | None = None
        stop = active.shape[1]
        for t in reversed(range(len(ctx.sizes))):
            size = ctx.sizes[t]
            now = slice(stop - size, stop)
            down_hidden, down_cell = hidden_gradient[:, now].clone(), cell_gradient[:, now].clone()
            if later_hidden is not None and later_cell is not None:
                down_hidden[:, : later_hidden.shape[1]] += later_hidden
                down_cell[:, : later_hidden.shape[1]] += later_cell
            start = now.start - ctx.sizes[t - 1] if t else 0
            earlier = slice(start, start + size)
            later_cell = cell_backward(
                down_hidden, down_cell, active[:, now], cell[:, earlier] if t else None, squashed[:, now], out[:, now]
            )
            if t:
                earlier_hidden[:, now] = hidden[:, earlier]
                later_hidden = torch.bmm(out[:, now], weight_back)
            stop = now.start
        weight_gradient = torch.bmm(earlier_hidden.transpose(1, 2), out)
        return out.to(ctx.dtype), weight_gradient.to(weight.dtype), None

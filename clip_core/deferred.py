"""Linear maps and attention that a loop uses in every step, their gradients computed once for all steps on a CPU.

Legend: B batch, n rows of it, L token, H hidden.

Autograd gives a weight that a loop uses T times T full-size gradients and adds them up: for the follower's decoder that
moves more bytes than the products themselves. `DeferredLinear` and `AttentionMemory` hand each use's input and output
gradient to a root node, which autograd runs after all uses, and one product over all steps gives the gradient.
`PlainLinear` and `PlainMemory` are the same in torch's own operations, for devices and for torch.compile.
tests/clip_core/test_recurrent.py holds both forms equal.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def is_static(device: torch.device, static: bool | None = None) -> bool:
    """Whether loops run in torch's own operations with shapes that stay the same from step to step and from batch to
    batch, as a device and torch.compile want them; a CPU is faster with pieces written by hand and with less padding.
    The one place where this is chosen; `static` overrules it."""
    return device.type != "cpu" if static is None else static


def linear_map(weight: Tensor, bias: Tensor | None = None, static: bool = False) -> PlainLinear | DeferredLinear:
    """`F.linear(x, weight, bias)` for a loop: make one per forward pass, call it in every step."""
    return PlainLinear(weight, bias) if static else DeferredLinear(weight, bias)


def attention_memory(context: Tensor, padding: Tensor, static: bool = False) -> PlainMemory | AttentionMemory:
    """Dot-product attention over one context [B, L, H] in every step of a loop. padding [B, L] bool marks what may not
    be attended to."""
    return PlainMemory(context, padding) if static else AttentionMemory(context, padding)


class PlainLinear(NamedTuple):
    """A linear map."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class PlainMemory(NamedTuple):
    """What is attended to, and which of it is padding."""

    context: Tensor
    padding: Tensor

    def rows(self, index: Tensor) -> PlainMemory:
        """The same context for some rows of the batch."""
        return PlainMemory(self.context.index_select(0, index), self.padding.index_select(0, index))

    def attend(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """query [n, H] -> the weighted context [n, H] and the weights [n, L]."""
        return attend(query, self.context, self.padding)


def attend(query: Tensor, context: Tensor, padding: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Dot-product attention of one query [n, H] each: the weighted context [n, H] and the weights [n, L], float32.

    The query stands on the left: as a column it takes twice as long on a CPU (docs/log.md).
    """
    logits = torch.bmm(query.to(context.dtype)[:, None], context.transpose(1, 2)).squeeze(1)
    if padding is not None:
        logits = logits.masked_fill(padding, -torch.inf)
    weights = F.softmax(logits, 1, dtype=torch.float32)
    return torch.bmm(weights[:, None].to(context.dtype), context).squeeze(1), weights


class DeferredLinear:
    """A linear map for a loop."""

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
    """`PlainMemory` for a loop."""

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
        read, weights = attend(query, memory.context, memory.padding)
        ctx.memory = memory
        ctx.save_for_backward(query, weights)
        ctx.mark_non_differentiable(weights)
        return read, weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
        query, weights = ctx.saved_tensors
        context = ctx.memory.context
        gradient = gradient.to(context.dtype)
        weights = weights.to(context.dtype)
        weight_gradient = torch.bmm(gradient[:, None], context.transpose(1, 2)).squeeze(1)
        logit_gradient = weights * (weight_gradient - (weights * weight_gradient).sum(1, keepdim=True))
        ctx.memory.shared.uses.append((ctx.memory.row, weights, gradient, logit_gradient, query.to(context.dtype)))
        down = torch.bmm(logit_gradient[:, None], context).squeeze(1)
        return down.to(query.dtype), context.new_zeros(()), None

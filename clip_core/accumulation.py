"""Exact gradients of one update, over loss terms of unlike weights, micro-batches, ranks.

The update minimises  sum_k  S_k / W_k,  S_k the sum of loss term k over all micro-batches of all ranks and W_k the sum
of its weights. W_k is known only after the last forward pass, so earlier micro-batches leave raw gradients per term.
"""

import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from clip_core.log import Meter
from clip_core.runtime import Runtime


class Forward(nn.Module):
    """What DDP wraps: the objective under autocast, its answer sorted so that only losses carry a graph.

    DDP looks for unused parameters in the graph of everything that forward returns. A report with a graph of its own
    would make it wait for gradients that never come, hence the detaching.
    """

    def __init__(self, objective: nn.Module, runtime: Runtime) -> None:
        super().__init__()
        self.objective = objective
        self._runtime = runtime

    def forward(self, batch: Any) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor | float]]:
        """Returns `(losses, weights, report)`; losses are named `loss`, or `loss/TERM` if the objective names terms."""
        with self._runtime.autocast():
            answer = dict(self.objective(batch))
        loss, weight = answer.pop("loss"), answer.pop("weight")
        losses = {f"loss/{name}": term for name, term in loss.items()} if isinstance(loss, dict) else {"loss": loss}
        weights = (
            {f"loss/{name}": term for name, term in weight.items()} if isinstance(weight, dict) else {"loss": weight}
        )
        if losses.keys() != weights.keys():
            raise ValueError(f"loss has the terms {sorted(losses)}, weight has {sorted(weights)}: expected the same")
        report = {name: value.detach() if isinstance(value, Tensor) else value for name, value in answer.items()}
        return losses, {name: self._scalar(value) for name, value in weights.items()}, report

    def _scalar(self, value: Tensor | float) -> Tensor:
        if isinstance(value, Tensor):
            return value.detach().double().reshape(())
        return torch.full((), value, dtype=torch.float64, device=self._runtime.device)  # a fill: no host sync


def wrap(objective: nn.Module, runtime: Runtime) -> nn.Module:
    """The objective ready for `accumulate_gradients`: under DDP when there are several ranks.

    A parameter may stay unused in some steps (a term that is off, a frozen part). Buffers are not broadcast: a table of
    features in a buffer would travel at every step.
    """
    forward = Forward(objective, runtime)
    if runtime.world == 1:
        return forward
    # DDP suggests the faster setting when it saw no unused parameter in one step; another step may have one.
    warnings.filterwarnings("ignore", message="find_unused_parameters=True was specified")
    return DistributedDataParallel(forward, find_unused_parameters=True, broadcast_buffers=False)


def accumulate_gradients(
    model: nn.Module, batches: Iterator[Any], accumulate: int, runtime: Runtime, report: Meter
) -> dict[str, Tensor]:
    """Leave in `.grad` the exact gradient of the next `accumulate` batches of every rank.

    Args:
        model: from `wrap`; its `.grad`s are None.
        report: receives the report of each micro-batch.

    Returns:
        `loss` and, where terms are named, `loss/TERM`: scalars on the device whose mean over ranks is the exact loss of
        the update; no host sync. A term whose total weight is zero counts nothing.

    Raises:
        ValueError: terms change within an update, or no loss depends on a parameter.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    raw: dict[
        str, list[Tensor | None]
    ] = {}  # gradients of the unweighted sum of each term, before the last micro-batch
    sums: dict[str, Tensor] = {}
    weights: dict[str, Tensor] = {}
    losses: dict[str, Tensor] = {}
    for micro in range(accumulate):
        last = micro + 1 == accumulate
        with nullcontext() if last else _no_sync(model):
            losses, micro_weights, facts = model(next(batches))
            report.add(facts)
            if sums and sums.keys() != losses.keys():
                raise ValueError(f"loss terms {sorted(losses)} after {sorted(sums)}: expected the same in every batch")
            for name, loss in losses.items():
                sums[name] = sums[name] + loss.detach() if name in sums else loss.detach()
                weights[name] = weights[name] + micro_weights[name] if name in weights else micro_weights[name]
            if not last:
                _backward_by_term(losses, parameters, raw)
    total_weights = runtime.sum(torch.stack(list(weights.values())))
    # DDP averages over ranks; times the number of ranks that is the sum.
    scales = torch.where(total_weights == 0, 0.0, runtime.world / total_weights).float().unbind()
    scale = dict(zip(weights, scales, strict=True))
    _combine(raw, scale, parameters)
    total = torch.stack([loss.float() * scale[name] for name, loss in losses.items()]).sum()
    if not total.requires_grad:
        raise ValueError("the loss depends on no trainable parameter: expected a graph (multiply by 0, do not detach)")
    total.backward()  # adds to what `_combine` left; here DDP sums over ranks
    exact = {name: value.float() * scale[name] for name, value in sums.items()}
    return {"loss": torch.stack(list(exact.values())).sum()} | exact


def _no_sync(model: nn.Module) -> AbstractContextManager[None]:
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def _backward_by_term(losses: dict[str, Tensor], parameters: list[nn.Parameter], raw: dict[str, list[Tensor | None]]):
    """Add the gradient of each term's sum to its buffers. `backward`, not `grad`: DDP counts used parameters by it."""
    alive = [name for name, loss in losses.items() if loss.requires_grad]
    for name in alive:
        for parameter, grad in zip(parameters, raw.get(name, [None] * len(parameters)), strict=True):
            parameter.grad = grad
        losses[name].backward(retain_graph=name != alive[-1])
        raw[name] = [parameter.grad for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None


def _combine(raw: dict[str, list[Tensor | None]], scale: dict[str, Tensor], parameters: list[nn.Parameter]) -> None:
    """`.grad` = sum over terms of scale times raw gradient; None where no term gave one."""
    for name, grads in raw.items():
        for parameter, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                grad.mul_(scale[name])
                parameter.grad = grad if parameter.grad is None else parameter.grad.add_(grad)

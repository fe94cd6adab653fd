"""What a step does with gradients: parameter groups, optimizers, schedules, clipping."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Schedule = Callable[[int], float]  # step (0-based index of the update) -> multiplier of the base learning rate


def parameter_groups(module: nn.Module, name: str, lr: float, *, weight_decay: float = 0.0, **extra: Any) -> list[dict]:
    """Groups of the trainable parameters of one module; vectors and scalars (biases, norms) are not decayed.

    Args:
        name: groups of one name are clipped together when they own a `clip`.
        lr: base learning rate, which a schedule multiplies.
        extra: kept in each group, e.g. `clip=40.0` (own largest gradient norm) or `clip=None` (never clipped).
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    if weight_decay == 0.0:
        return [{"params": parameters, "name": name, "lr": lr, **extra}]
    parts = (([p for p in parameters if p.ndim >= 2], weight_decay), ([p for p in parameters if p.ndim < 2], 0.0))
    return [{"params": part, "name": name, "lr": lr, "weight_decay": decay, **extra} for part, decay in parts if part]


def build_optimizer(
    kind: Literal["rmsprop", "adam", "adamw", "adamax", "sgd"], groups: Sequence[dict], **options: Any
) -> Optimizer:
    """Torch's optimizer over `groups`; fused on CUDA where torch offers it. On a CPU it is not: with it, a killed run
    of tests/precompute/test_train_clip.py did not always end with the same weights (docs/log.md).

    Raises:
        ValueError: unknown `kind`.
    """
    classes: dict[str, Callable[..., Optimizer]] = {
        "rmsprop": torch.optim.RMSprop,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "adamax": torch.optim.Adamax,
        "sgd": torch.optim.SGD,
    }
    if kind not in classes:
        raise ValueError(f"optimizer {kind!r} is unknown: expected one of {', '.join(classes)}")
    on_cuda = all(p.is_cuda for group in groups for p in group["params"])
    if on_cuda and kind not in ("rmsprop", "adamax"):
        options.setdefault("fused", True)
    return classes[kind](groups, **options)


def constant() -> Schedule:
    """The base learning rate all the way."""
    return lambda step: 1.0


def warmup_linear(steps: int, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Linear from 0 to 1 over `warmup` steps, then linear to `floor` at `steps` (BERT's schedule)."""
    _check_schedule(steps, warmup, floor)

    def multiplier(step: int) -> float:
        return _warm(step, warmup) * (1.0 - (1.0 - floor) * _progress(step, warmup, steps))

    return multiplier


def warmup_cosine(steps: int, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Linear from 0 to 1 over `warmup` steps, then half a cosine to `floor` at `steps` (arXiv 1608.03983)."""
    _check_schedule(steps, warmup, floor)

    def multiplier(step: int) -> float:
        cosine = 0.5 * (1.0 + math.cos(math.pi * _progress(step, warmup, steps)))
        return _warm(step, warmup) * (floor + (1.0 - floor) * cosine)

    return multiplier


def inverse_sqrt(warmup: int) -> Schedule:
    """Linear to 1 over `warmup` steps, then the square root of warmup / step ("Noam": arXiv 1706.03762, whose peak is
    1 / sqrt(width * warmup))."""
    least = max(1, warmup)
    return lambda step: min((step + 1) / least, math.sqrt(least / (step + 1)))


def step_decay(milestones: Iterable[int], factor: float = 0.1) -> Schedule:
    """Times `factor` from each milestone on."""
    ordered = sorted(milestones)
    return lambda step: factor ** sum(step >= milestone for milestone in ordered)


def _check_schedule(steps: int, warmup: int, floor: float) -> None:
    if not 0 <= warmup <= steps:
        raise ValueError(f"warm-up of {warmup} steps in a run of {steps}: expected 0 <= warmup <= steps")
    if not 0.0 <= floor <= 1.0:
        raise ValueError(f"schedule floor {floor}: expected a fraction of the base learning rate, 0 to 1")


def _warm(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / (warmup + 1))  # never 0: the first update moves


def _progress(step: int, warmup: int, steps: int) -> float:
    return min(1.0, max(0.0, (step - warmup) / max(1, steps - warmup)))


def set_learning_rates(optimizers: Mapping[str, Optimizer], schedules: Mapping[str, Schedule], step: int) -> None:
    """Each group's `lr` becomes its base times its optimizer's schedule at `step`; no state, so resume is exact."""
    for name, optimizer in optimizers.items():
        multiplier = schedules[name](step) if name in schedules else 1.0
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("base_lr", group["lr"]) * multiplier


def learning_rates(optimizers: Mapping[str, Optimizer]) -> dict[str, float]:
    """`lr/optimizer` now, or `lr/optimizer/group` where the groups of an optimizer differ."""
    rates: dict[str, float] = {}
    for name, optimizer in optimizers.items():
        groups = {
            str(group.get("name", index)): float(group["lr"]) for index, group in enumerate(optimizer.param_groups)
        }
        if len(set(groups.values())) == 1:
            rates[f"lr/{name}"] = next(iter(groups.values()))
        else:
            rates |= {f"lr/{name}/{group}": rate for group, rate in groups.items()}
    return rates


def clip_gradients(optimizers: Mapping[str, Optimizer], clip_norm: float | None) -> dict[str, Tensor]:
    """Scale gradients in place so that no norm passes its limit.

    A group with the key `clip` has its own limit, over all groups of its optimizer with its name (R2R-EnvDrop clips
    encoder and decoder each at 40); `clip` None or 0 means never clipped (its critic). The rest shares `clip_norm`.

    Returns:
        `grad_norm`, the norm of all gradients before clipping, and `grad_norm/NAME` per name that owns a limit;
        scalars on the device, no host sync.
    """
    clusters: dict[str, list[Tensor]] = {}
    limits: dict[str, float | None] = {}
    for optimizer_name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            cluster = f"{optimizer_name}/{group.get('name', '')}" if "clip" in group else ""
            limit = group.get("clip", clip_norm)
            if limits.setdefault(cluster, limit) != limit:
                raise ValueError(
                    f"parameter groups named {cluster!r} have clip {limits[cluster]} and {limit}: make equal"
                )
            clusters.setdefault(cluster, []).extend(p for p in group["params"] if p.grad is not None)
    norms: dict[str, Tensor] = {}
    for cluster, parameters in clusters.items():
        if not parameters:
            continue
        norms[cluster] = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if limits[cluster]:
            torch.nn.utils.clip_grads_with_norm_(parameters, float(limits[cluster] or 0.0), norms[cluster])
    if not norms:
        raise ValueError("no parameter of the optimizers received a gradient: the loss does not depend on them")
    total = torch.linalg.vector_norm(torch.stack(list(norms.values())))
    return {"grad_norm": total} | {f"grad_norm/{name}": norms[name] for name in norms if name and limits[name]}

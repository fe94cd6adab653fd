"""The rollout as a device walks it, on a CPU: nothing waits for values, one graph for all batches, the same losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import agent_toy
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from agent.config import FollowerConfig
from agent.data import Split
from agent.follower import Follower
from agent.objectives import Batch, FollowerObjective
from agent.rollout import EXIT_CHECK_STEPS, Choice, Stepper
from agent.sight import Eyes
from clip_core.optim import build_optimizer, clip_gradients

FEATURE, MAX_STEPS = 5, 10
LOOKS = (
    "_local_scalar_dense",
    "item",
    "is_nonzero",
    "equal",
    "nonzero",
    "masked_select",
    "unique",
    "_unique2",
    "_assert",
)
"""Operations of torch that wait for a device, or whose result has a size that depends on values."""


class Waits(TorchDispatchMode):
    """Counts what would make a host wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = func.overloadpacket.__name__
        masks = args[1] if name.startswith(("index", "_index_put")) and len(args) > 1 else ()
        by_mask = isinstance(masks, (list, tuple)) and any(m is not None and m.dtype == torch.bool for m in masks)
        if name in LOOKS or by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def made(
    split: Split, static: bool, feature: int = FEATURE, kind: str = "a2c", dropout: float = 0.0
) -> FollowerObjective:
    follower = agent_toy.tiny_follower(split, feature, dropout)
    eyes = agent_toy.random_eyes(split.world, feature) if feature else Eyes()
    config = FollowerConfig(batch=12, max_steps=MAX_STEPS, objective=kind)  # type: ignore[arg-type]
    objective = FollowerObjective(follower, eyes, split, {}, config, seed=5)
    if static:
        follower.static, objective.stepper = True, Stepper()
    return objective


@pytest.fixture
def same_draws(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Actions drawn alike whatever is left of the batch and wherever it lies. Returns how to begin anew."""
    generator = torch.Generator()

    def choose(self: Choice, logits: Tensor, teacher: Tensor, rows: Tensor) -> Tensor:
        clocks = torch.empty(len(self.forced), logits.shape[1]).exponential_(generator=generator).to(logits.device)
        own = (logits.detach().softmax(1) / clocks.index_select(0, rows)).argmax(1)
        return torch.where(self.forced.index_select(0, rows), teacher, own)

    monkeypatch.setattr(Choice, "__call__", choose)
    return lambda: generator.manual_seed(7) and None


def train(objective: FollowerObjective, updates: int, draw_again: Callable[[], None]) -> list[list[float]]:
    """The losses of each update, by term."""
    optimizer = build_optimizer("rmsprop", objective.parameter_groups())
    batches, losses = objective.batches(0), []
    for _ in range(updates):
        draw_again()
        result = objective(next(batches))
        terms = [result["loss"][name] / result["weight"][name] for name in result["loss"]]
        torch.stack(terms).sum().backward()
        clip_gradients({"rmsprop": optimizer}, None)
        optimizer.step()
        optimizer.zero_grad()
        losses.append([term.item() for term in terms])
    return losses


@pytest.mark.parametrize("feature", [0, FEATURE])
def test_losses_and_gradients_of_the_shrinking_batch(
    small_split: Split, feature: int, same_draws: Callable[[], None]
) -> None:
    found = []
    for static in (False, True):
        same_draws()
        objective = made(small_split, static, feature)
        result = objective(next(objective.batches(3)))
        terms = {name: result["loss"][name] / result["weight"][name] for name in result["loss"]}
        report = {name: value.float() for name, value in result.items() if name not in ("loss", "weight")}
        gradients = agent_toy.gradients(objective, torch.stack(list(terms.values())).sum())
        found.append(({name: term.detach() for name, term in terms.items()} | report, gradients))
    (losses, gradients), (others, other_gradients) = found
    agent_toy.assert_close(others, losses)
    agent_toy.assert_close(other_gradients, gradients, 2e-5)
    assert max(float(g.abs().max()) for g in gradients.values()) > 1e-2
    assert 1 < float(losses["steps_per_episode"]) < MAX_STEPS  # some ended before, so there was something to mask


def test_twenty_updates_stay_together(small_split: Split, same_draws: Callable[[], None]) -> None:
    shrinking, static = (train(made(small_split, static), 20, same_draws) for static in (False, True))
    torch.testing.assert_close(torch.tensor(static), torch.tensor(shrinking), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["a2c", "imitation"])
def test_an_update_waits_for_the_device_at_exit_checks_only(
    small_split: Split, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = made(small_split, True, kind=kind, dropout=0.2)
    read, steps = Follower.read, []

    def read_on_the_host(self: Follower, ids_BL: Tensor, lengths_B: Tensor) -> Any:
        with _disable_current_modes():  # lengths lie on the host: what it asks of them is no wait
            return read(self, ids_BL, lengths_B)

    monkeypatch.setattr(Follower, "read", read_on_the_host)
    monkeypatch.setattr(Stepper, "forward", lambda self, *args, f=Stepper.forward: steps.append(1) or f(self, *args))
    batch = next(objective.batches(0))
    assert isinstance(batch, Batch)
    with Waits() as waits:
        result = objective(batch)
        loss = result["loss"]
        (torch.stack(list(loss.values())).sum() if isinstance(loss, dict) else loss).backward()
    assert len(steps) > EXIT_CHECK_STEPS
    assert waits.found == ["_local_scalar_dense"] * (len(steps) // EXIT_CHECK_STEPS)


def test_the_shrinking_batch_would_be_noticed(small_split: Split) -> None:
    objective = made(small_split, False)
    with Waits() as waits:
        objective(next(objective.batches(0)))
    assert "nonzero" in waits.found


def test_one_graph_serves_every_batch(small_split: Split) -> None:
    """No graph break (fullgraph), no recompilation for texts of other lengths, and the losses of the eager step."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    eager, compiled = (made(small_split, True) for _ in range(2))
    longest = [int(small_split.lengths[part].max()) for part in _by_length(small_split)]
    assert longest[0] < longest[1]
    assert compiled.stepper is not None
    compiled.stepper.compile(backend="aot_eager")
    found, expected = _forced_losses(compiled), _forced_losses(eager)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-5, atol=1e-5)


def _by_length(split: Split) -> tuple[Tensor, ...]:
    """The 24 shortest instructions, the 24 longest."""
    return torch.argsort(split.lengths).split(24)


def _forced_losses(objective: FollowerObjective) -> list[float]:
    """Of two batches that walk the teacher's actions; with a backward pass each."""
    found = []
    for episodes in _by_length(objective.train_split):
        result = objective(Batch(episodes, torch.ones(len(episodes), dtype=torch.bool)))
        result["loss"]["imitation"].backward()
        found.append(float(result["loss"]["imitation"].detach()))
    return found


def test_a_cpu_compiles_nothing(small_split: Split) -> None:
    objective = made(small_split, False)
    assert objective.compiled_modules() == []
    assert objective.stepper is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_twenty_updates_on_a_gpu_give_the_losses_of_a_cpu(small_split: Split, same_draws: Callable[[], None]) -> None:
    here = train(made(small_split, False), 20, same_draws)
    there = train(made(agent_toy.to_device(small_split, "cuda"), False).cuda(), 20, same_draws)
    torch.testing.assert_close(torch.tensor(there), torch.tensor(here), rtol=1e-3, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_compiled_step_on_a_gpu_gives_the_losses_of_a_cpu(small_split: Split) -> None:
    here = _forced_losses(made(small_split, False))
    objective = made(agent_toy.to_device(small_split, "cuda"), False).cuda()
    (stepper,) = objective.compiled_modules()
    stepper.compile()
    there = _forced_losses(objective)
    torch.testing.assert_close(torch.tensor(there), torch.tensor(here), rtol=1e-3, atol=1e-3)

"""The follower's objective: the order of its batches, what ranks see, its losses on a small world."""

from __future__ import annotations

from itertools import chain, islice

import agent_toy
import pytest
import torch

from agent.config import FollowerConfig
from agent.data import Split
from agent.objectives import FollowerObjective
from agent.sight import Eyes
from envs.metrics import METRICS


def objective(split: Split, rank: int = 0, world: int = 1, seed: int = 5, **config: object) -> FollowerObjective:
    settings = FollowerConfig(**({"batch": 5, "max_steps": 6} | config))  # type: ignore[arg-type]
    return FollowerObjective(agent_toy.tiny_follower(split), Eyes(), split, {"val": split}, settings, seed, rank, world)


def episodes(made: FollowerObjective, start: int, count: int) -> list[list[int]]:
    return [batch.episodes.tolist() for batch in islice(made.batches(start), count)]


@pytest.mark.parametrize("kind", ["a2c", "imitation"])
def test_batches_are_shuffled_epochs(small_split: Split, kind: str):
    """48 episodes, 5 or 10 a batch: an epoch ends within a batch, and nothing is left out or comes twice."""
    size = 10 if kind == "a2c" else 5
    seen = list(chain(*episodes(objective(small_split, objective=kind), 0, 240 // size)))
    epochs = [seen[i : i + 48] for i in range(0, 240, 48)]
    assert all(sorted(epoch) == list(range(48)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert epochs[0] != list(range(48))
    assert seen != list(chain(*episodes(objective(small_split, objective=kind, seed=6), 0, 240 // size)))


def test_batches_are_found_without_replay(small_split: Split):
    made = objective(small_split)
    whole = episodes(made, 0, 30)
    for start in (1, 4, 5, 17):
        assert episodes(made, start, 5) == whole[start : start + 5]
    assert len(episodes(made, 10**9, 1)[0]) == 10


def test_batches_do_not_depend_on_the_global_generators(small_split: Split):
    torch.manual_seed(0)
    one = episodes(objective(small_split), 0, 3)
    torch.manual_seed(1)
    assert episodes(objective(small_split), 0, 3) == one


def test_two_ranks_see_what_one_process_with_the_double_batch_sees(small_split: Split):
    ranks = [episodes(objective(small_split, rank, 2), 3, 8) for rank in (0, 1)]
    together = [a + b for a, b in zip(*ranks, strict=True)]
    assert together == episodes(objective(small_split, batch=10), 3, 8)


@pytest.mark.parametrize(
    ("kind", "feedback", "taught"), [("a2c", "teacher", 5), ("imitation", "teacher", 5), ("imitation", "student", 0)]
)
def test_who_walks_the_teachers_way(small_split: Split, kind: str, feedback: str, taught: int):
    batch = next(objective(small_split, objective=kind, feedback=feedback).batches(0))
    assert len(batch.episodes) == len(batch.forced) == (10 if kind == "a2c" else 5)
    assert int(batch.forced.sum()) == taught


def test_losses_of_a2c_are_finite_and_reach_every_part(small_split: Split):
    made = objective(small_split)
    torch.manual_seed(0)
    report = made(next(made.batches(0)))
    assert report["loss"].keys() == report["weight"].keys() == {"imitation", "a2c"}
    assert int(report["weight"]["imitation"]) == 5
    assert 5 <= int(report["weight"]["a2c"]) <= 30
    assert 1 <= float(report["steps_per_episode"]) <= 6
    assert 0 <= float(report["reached"]) <= 1
    total = sum(report["loss"][name] / report["weight"][name] for name in report["loss"])
    gradients = agent_toy.gradients(made.follower, total)
    assert all(g.isfinite().all() for g in gradients.values())
    assert [name for name, g in gradients.items() if not g.any()] == []


def test_imitation_weight_scales_its_loss_alone(small_split: Split):
    losses = {}
    for weight in (0.2, 0.4):
        made = objective(small_split, imitation_weight=weight)
        torch.manual_seed(0)
        losses[weight] = {name: loss.item() for name, loss in made(next(made.batches(0)))["loss"].items()}
    assert losses[0.4]["imitation"] == pytest.approx(2 * losses[0.2]["imitation"], rel=1e-6)
    assert losses[0.4]["a2c"] == pytest.approx(losses[0.2]["a2c"], rel=1e-6)


def test_imitation_learns_without_a_critic(small_split: Split):
    made = objective(small_split, objective="imitation")
    assert {group["name"] for group in made.parameter_groups()} == {"encoder", "decoder"}
    gradients = agent_toy.gradients(made, made(next(made.batches(0)))["loss"])
    assert {name for name, g in gradients.items() if not g.any()} == {
        f"follower.critic.{part}" for part in ("0.weight", "0.bias", "3.weight", "3.bias")
    }
    groups = {group["name"]: group for group in objective(small_split).parameter_groups()}
    assert {name: group["clip"] for name, group in groups.items()} == {"encoder": 40.0, "decoder": 40.0, "critic": None}


def test_evaluation_names_every_metric_of_every_split(small_split: Split):
    made = objective(small_split)
    made.train()
    metrics = made.evaluate()
    assert set(metrics) == {f"val/{name}" for name in METRICS}
    assert made.best_metric in metrics
    assert made.follower.training
    assert made.evaluate() == metrics

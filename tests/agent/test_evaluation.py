"""Policies on real splits against the published figures; routes of a follower."""

from __future__ import annotations

from pathlib import Path

import agent_toy
import pytest
import torch

from agent.data import Split
from agent.evaluation import POLICIES, RANDOM_MOVES, follow, random_policy, score, shortest_policy, stop_policy
from agent.sight import Eyes
from envs.metrics import mean_scores
from envs.submission import validate
from envs.tables import World, load_world

SPLITS = [
    ("r2r", "train"),
    ("r2r", "val_seen"),
    ("r2r_dev", "train"),
    ("r2r_dev", "val_seen"),
    ("r2r_dev", "val_unseen"),
]


@pytest.mark.parametrize(("folder", "split"), SPLITS)
def test_shortest_policy_is_perfect(data_dir: Path, folder: str, split: str):
    world = load_world(data_dir / folder, split)
    means, per_item = score(shortest_policy(world, 0), world)
    assert means["success"] == 1.0
    assert means["oracle_success"] == 1.0
    assert means["nav_error"] == 0.0
    assert means["spl"] == pytest.approx(1.0, abs=1e-12)
    assert len(per_item) == len(world.episodes)


def test_random_policy_scores_as_published(world_val_seen: World):
    """Anderson et al. 2018, val_seen: success 16 %, error 9.45 m; five seeds spread by 0.6 % and 0.13 m."""
    found = mean_scores([score(random_policy(world_val_seen, seed), world_val_seen)[0] for seed in range(5)])
    assert found["success"] == pytest.approx(0.16, abs=0.015)
    assert found["nav_error"] == pytest.approx(9.45, abs=0.2)
    assert found["steps"] == pytest.approx(RANDOM_MOVES, abs=0.01)


def test_random_policy_is_seeded(world_val_seen: World):
    assert random_policy(world_val_seen, 3) == random_policy(world_val_seen, 3)
    assert random_policy(world_val_seen, 3) != random_policy(world_val_seen, 4)


@pytest.mark.parametrize("name", list(POLICIES))
def test_routes_of_policies_are_valid_predictions(world_val_seen: World, name: str):
    routes = POLICIES[name](world_val_seen, 1)
    items = [{"instr_id": i, "trajectory": [list(pose) for pose in route]} for i, route in routes.items()]
    assert validate(items, world_val_seen.episodes, world_val_seen.scenes) == []
    assert list(routes) == [e.instr_id for e in world_val_seen.episodes]


def test_stop_policy_stays(world_val_seen: World):
    means, _ = score(stop_policy(world_val_seen, 0), world_val_seen)
    lengths = [e.distance_m for e in world_val_seen.episodes]
    assert (means["steps"], means["length"]) == (0.0, 0.0)
    assert means["nav_error"] == means["oracle_error"] == pytest.approx(sum(lengths) / len(lengths), abs=0.01)


def test_routes_do_not_depend_on_the_batch(small_split: Split):
    follower = agent_toy.tiny_follower(small_split, dropout=0.5).train()
    told: list[int] = []
    routes = follow(follower, Eyes(), small_split, 8, batch=7, done=told.append)
    assert routes == follow(follower, Eyes(), small_split, 8, batch=48)
    assert follower.training
    assert sum(told) == 48
    assert max(told) == 7
    assert list(routes) == [e.instr_id for e in small_split.world.episodes]
    assert len({len(route) for route in routes.values()}) > 2
    items = [{"instr_id": i, "trajectory": [list(pose) for pose in route]} for i, route in routes.items()]
    assert validate(items, small_split.world.episodes, small_split.world.scenes) == []


def test_evaluation_draws_nothing_from_the_global_generators(small_split: Split):
    follower = agent_toy.tiny_follower(small_split, dropout=0.5)
    state = torch.get_rng_state()
    follow(follower, Eyes(), small_split, 5)
    assert torch.equal(state, torch.get_rng_state())


def test_repeats_and_the_denominator_of_spl_are_passed_on(world_val_seen: World):
    stuttering = {
        i: [pose for pose in route for _ in (0, 1)] for i, route in shortest_policy(world_val_seen, 0).items()
    }
    collapsed, _ = score(stuttering, world_val_seen)
    counted, _ = score(stuttering, world_val_seen, collapse_repeats=False)
    assert counted["steps"] == pytest.approx(2 * collapsed["steps"] + 1)
    by_reference, _ = score(stuttering, world_val_seen, spl_by="reference")
    assert by_reference["spl"] == pytest.approx(1.0, abs=1e-6)

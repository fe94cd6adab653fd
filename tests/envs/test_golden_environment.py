"""Every recorded episode of R2R-EnvDrop's environment on the original simulator, replayed through ours."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.candidates import STEP_RAD, angle_feature
from envs.dynamics import distance_to_goal
from envs.navigation import NavEnv, NavVectorEnv
from envs.tables import World
from envs.teacher import teacher_action

STOP = -1


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, Any]:
    with gzip.open(golden_dir / "environment" / "env_dev.json.gz", "rt") as file:
        return json.load(file)


@pytest.fixture(scope="module")
def index(world_val_seen: World) -> dict[str, int]:
    return {episode.instr_id: i for i, episode in enumerate(world_val_seen.episodes)}


def assert_seen(world: World, scan: str, observation: dict[str, Any], step: dict[str, Any]) -> None:
    """One observation (without batch dimension) against one recorded step."""
    candidates = step["candidates"]
    n = len(candidates)
    assert observation["viewpoint"] == world.row(scan, step["viewpoint"])
    assert observation["view"] == step["view_index"]
    assert observation["view"] % 12 * STEP_RAD == pytest.approx(step["heading"], abs=1e-5)
    assert (observation["view"] // 12 - 1) * STEP_RAD == pytest.approx(step["elevation"], abs=1e-5)
    assert observation["action_mask"].sum() == n + 1
    found = [world.candidates.viewpoints[row] for row in observation["candidate_viewpoint"][:n]]
    assert found == [(scan, c["viewpoint"]) for c in candidates]
    assert observation["candidate_view"][:n].tolist() == [c["point_id"] for c in candidates]
    for name in ("heading", "elevation"):
        expected = [c[name] for c in candidates]
        np.testing.assert_allclose(observation[f"candidate_{name}"][:n], expected, rtol=0, atol=1e-5)


def expert(world: World, observation: dict[str, Any]) -> str:
    """The viewpoint where the teacher goes next; the viewpoint itself for stop, as the recording has it."""
    episode, here = np.array([observation["episode"]]), np.array([observation["viewpoint"]])
    action = int(teacher_action(world.tables, episode, here)[0])
    stays = action == world.tables.count[here[0]]
    return world.candidates.viewpoints[here[0] if stays else observation["candidate_viewpoint"][action]][1]


def test_there_is_something_to_replay(golden: dict[str, Any]) -> None:
    assert len(golden["episodes"]) == 96
    assert sum(len(episode["actions"]) for episode in golden["episodes"]) > 500


def test_scalar_environment(golden: dict[str, Any], world_val_seen: World, index: dict[str, int]) -> None:
    env = NavEnv(world=world_val_seen)
    for episode in golden["episodes"]:
        observation, info = env.reset(options={"episode": index[episode["instr_id"]]})
        assert (info["instr_id"], info["scan"]) == (episode["instr_id"], episode["scan"])
        assert info["instruction"] == episode["instructions"]
        terminated = False
        taken = [*zip(episode["actions"], episode["rewards"], strict=True), (None, None)]
        for step, (action, reward) in zip(episode["steps"], taken, strict=True):
            assert info["viewpoint"] == step["viewpoint"]
            assert_seen(world_val_seen, episode["scan"], observation, step)
            assert expert(world_val_seen, observation) == step["teacher"]
            assert env._distance_m() == pytest.approx(step["distance"], abs=1e-9)
            if action is None:
                break
            assert not terminated
            slot = len(step["candidates"]) if action == STOP else action
            observation, found, terminated, truncated, info = env.step(slot)
            assert found == reward
            assert terminated == (action == STOP)
            assert not truncated


def test_vector_environment(golden: dict[str, Any], world_val_seen: World, index: dict[str, int]) -> None:
    """All episodes side by side; those that have ended wait, as in the rollouts of the original."""
    world, episodes = world_val_seen, golden["episodes"]
    env = NavVectorEnv(len(episodes), world=world, autoreset_mode="Disabled")
    observation, _ = env.reset(options={"episodes": np.array([index[e["instr_id"]] for e in episodes])})
    for t in range(max(len(e["steps"]) for e in episodes)):
        distance = env_distance(env)
        actions = np.full(len(episodes), STOP)
        for b, episode in enumerate(episodes):
            if t >= len(episode["steps"]):
                continue
            one = {name: column[b] for name, column in observation.items()}
            assert_seen(world, episode["scan"], one, episode["steps"][t])
            assert expert(world, one) == episode["steps"][t]["teacher"]
            assert distance[b] == pytest.approx(episode["steps"][t]["distance"], abs=1e-9)
            if t < len(episode["actions"]):
                actions[b] = episode["actions"][t]
        observation, reward, terminated, truncated, _ = env.step(actions)
        for b, episode in enumerate(episodes):
            if t < len(episode["actions"]):
                assert reward[b] == episode["rewards"][t]
                assert terminated[b] == (episode["actions"][t] == STOP)
                assert not truncated[b]
            elif STOP in episode["actions"]:
                assert (reward[b], terminated[b]) == (0, True)


def env_distance(env: NavVectorEnv) -> np.ndarray:
    assert env.state is not None
    return distance_to_goal(env.tables, env.state.episode, env.state.viewpoint)


def test_moves_lead_where_the_recording_went(golden: dict[str, Any]) -> None:
    """The recording itself is consistent: next viewpoint and view are those of the candidate taken."""
    for episode in golden["episodes"]:
        for (step, after), action in zip(pairwise(episode["steps"]), episode["actions"], strict=True):
            if action != STOP:
                taken = step["candidates"][action]
                assert (after["viewpoint"], after["view_index"]) == (taken["viewpoint"], taken["point_id"])


def test_angle_feature_example(golden: dict[str, Any]) -> None:
    example = golden["angle_feature_example"]
    angles = (np.array(example["candidate"][name]) for name in ("heading", "elevation"))
    np.testing.assert_allclose(angle_feature(*angles), example["feature"], rtol=0, atol=1e-5)

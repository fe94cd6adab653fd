"""The pure step functions: by hand in a small square, and numpy against torch on the real world."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from envs import dynamics
from envs.dynamics import NavState, begin, draw_episode, move, observe
from envs.navigation import NavVectorEnv
from envs.scenes import load_scene
from envs.tables import World, build_world, load_world, start_view

A, B, C, D = range(4)


@pytest.fixture
def square(make_square: Callable[..., Path]) -> World:
    """Route 0 and 1: a b c; route 2: d a. At b the candidates are c, a; at a they are b, d."""
    return load_world(make_square(), "train")


def started(world: World, *episodes: int) -> NavState:
    zeros = np.zeros(len(episodes), np.int64)
    return begin(world.tables, zeros, zeros, np.array(episodes))


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_begin_stands_at_the_start_with_the_heading_snapped(square: World) -> None:
    state = started(square, 0, 2)
    assert state.viewpoint.tolist() == [A, D]
    assert state.view.tolist() == [13, 12]  # 0.3 rad = 17 degrees -> 30; 6.2 rad = 355 degrees -> 0
    assert state.steps.tolist() == [0, 0]
    assert not state.ended.any()


@pytest.mark.parametrize(
    ("degrees", "view"), [(0, 12), (14.9, 12), (15.1, 13), (344.9, 23), (345.1, 12), (-31, 23), (720, 12)]
)
def test_start_view_is_the_heading_in_steps_of_30_degrees(degrees: float, view: int) -> None:
    assert start_view(np.radians(degrees)) == view


def test_reward_is_the_sign_of_progress_and_two_at_the_stop(square: World) -> None:
    state = started(square, 0, 0, 0)
    state, reward, terminated, truncated = move(square.tables, state, np.array([0, 1, 2]), 35)
    assert state.viewpoint.tolist() == [B, D, A]
    assert state.view[:2].tolist() == [12, 15]
    # From a (2 + sqrt 5 to c) both b and d are nearer; a stop 4.2 m from the goal costs 2.
    assert reward.tolist() == [1, 1, -2]
    assert reward.dtype == np.float32
    assert terminated.tolist() == [False, False, True]
    # b: back to a. d: on to c, the goal. The third one has ended: nothing counts.
    state, reward, terminated, truncated = move(square.tables, state, np.array([1, 0, 0]), 35)
    assert state.viewpoint.tolist() == [A, C, A]
    assert reward.tolist() == [-1, 1, 0]
    assert state.steps.tolist() == [2, 2, 1]
    _, reward, terminated, truncated = move(square.tables, state, np.array([0, 2, 0]), 35)
    assert reward.tolist() == [1, 2, 0]
    assert terminated.tolist() == [False, True, True]
    assert not truncated.any()


def test_stop_within_three_metres_is_a_success(square: World) -> None:
    state, *_ = move(square.tables, started(square, 0), np.array([0]), 35)  # b lies sqrt 5 = 2.24 m from c
    assert move(square.tables, state, np.array([2]), 35)[1].tolist() == [2]


@pytest.mark.parametrize("action", [2, 3, -1, 99])
def test_every_number_without_a_candidate_stops(square: World, action: int) -> None:
    state, reward, terminated, _ = move(square.tables, started(square, 0), np.array([action]), 35)
    assert (state.viewpoint[0], reward[0], terminated[0]) == (A, -2, True)


def test_truncation_is_no_termination(square: World) -> None:
    state = started(square, 0, 0)
    for t in range(3):
        action = np.array([0, 0 if t < 2 else 2])
        state, reward, terminated, truncated = move(square.tables, state, action, 3)
    assert terminated.tolist() == [False, True]
    assert truncated.tolist() == [True, False]
    assert state.ended.tolist() == [True, True]
    assert abs(reward[0]) == 1


def test_a_move_that_gains_nothing_gives_no_reward(make_square: Callable[..., Path], square_items: list) -> None:
    square_items[1]["pose"] = square_items[0]["pose"]  # b stands where a stands: the original would raise an error
    world = load_world(make_square(), "train")
    to_b = int(np.flatnonzero(world.candidates.neighbour[A] == B)[0])
    state, reward, *_ = move(world.tables, started(world, 0), np.array([to_b]), 35)
    assert (state.viewpoint[0], reward[0]) == (B, 0)


def test_no_goal_gives_no_reward(square: World) -> None:
    world = square.with_episodes([replace(e, has_goal=False, path=e.path[:1]) for e in square.episodes])
    state, reward, *_ = move(world.tables, started(world, 0, 0), np.array([0, 2]), 35)
    assert reward.tolist() == [0, 0]
    assert state.viewpoint.tolist() == [B, A]


def test_observation_by_hand(square: World) -> None:
    state, *_ = move(square.tables, started(square, 0), np.array([0]), 35)
    seen = {name: column[0].tolist() for name, column in observe(square.tables, state).items()}
    assert (seen["episode"], seen["viewpoint"], seen["view"]) == (0, B, 12)
    assert seen["candidate_viewpoint"] == [C, A]
    assert seen["candidate_view"] == [27, 18]
    assert seen["candidate_heading"] == pytest.approx([np.pi / 2, np.pi])
    assert seen["candidate_elevation"] == pytest.approx([np.arctan2(1, 2), 0])
    assert seen["action_mask"] == [1, 1, 1]


def test_elevation_base_of_duet_is_the_agents_own_view(make_square: Callable[..., Path]) -> None:
    world = load_world(make_square(), "train", elevation_base="view")
    state, *_ = move(world.tables, started(world, 0), np.array([0]), 35)
    state, *_ = move(world.tables, state, np.array([0]), 35)  # up to c: the agent now looks 30 degrees up
    assert state.view.tolist() == [27]
    seen = observe(world.tables, state)
    np.testing.assert_allclose(seen["candidate_elevation"][0], -np.arctan2(1, 2) - np.radians(30), atol=1e-6)


def test_padding_is_masked(scenes_all: dict[str, Any]) -> None:
    world = build_world({"8194nk5LbLH": scenes_all["8194nk5LbLH"]}, [])
    count, mask = world.tables.count, world.tables.action_mask
    assert (mask.sum(1) == count + 1).all()
    assert (mask[np.arange(len(count)), count] == 1).all()
    beyond = np.arange(mask.shape[1] - 1) >= count[:, None]
    assert (world.tables.neighbour[beyond] == np.nonzero(beyond)[0]).all()
    relative = world.tables.relative_heading_rad.reshape(len(count), 12, -1)
    assert not relative.transpose(0, 2, 1)[beyond].any()


# -- the sequence of episodes ------------------------------------------------------------------------------------------


def test_draws_are_the_same_for_numbers_and_arrays() -> None:
    seeds, draws = np.array([0, 1, 2**31 - 1]), np.array([0, 7, 123_456_789])
    expected = [draw_episode(int(s), int(d), 1021) for s, d in zip(seeds, draws, strict=True)]
    assert draw_episode(seeds, draws, 1021).tolist() == expected
    assert draw_episode(torch.tensor(seeds), torch.tensor(draws), 1021).tolist() == expected


def test_draws_are_uniform_over_seeds_and_over_time() -> None:
    for seeds, draws in ((np.arange(200_000), np.zeros(200_000, int)), (np.zeros(200_000, int), np.arange(200_000))):
        counts = np.bincount(draw_episode(seeds, draws, 100), minlength=100)
        chi_squared = ((counts - 2000) ** 2 / 2000).sum()
        assert 60 < chi_squared < 150  # 99 degrees of freedom: mean 99, deviation 14


# -- torch -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
@pytest.mark.parametrize("elevation_base", ["horizon", "view"])
def test_torch_is_numpy_step_by_step(data_dir: Path, mode: str, elevation_base: str) -> None:
    world = load_world(data_dir / "r2r", "val_seen", elevation_base=elevation_base)
    options: dict[str, Any] = {"world": world, "autoreset_mode": mode, "max_steps": 9}
    ours = NavVectorEnv(64, **options)
    theirs = NavVectorEnv(64, tables=world.tables.convert(torch.tensor), **options)
    rng = np.random.default_rng(0)
    compare((ours.reset(seed=5)[0],), (theirs.reset(seed=5)[0],))
    for _ in range(40):
        uniform = rng.random(64)
        actions, same = ours.sample_actions(uniform), theirs.sample_actions(torch.tensor(uniform))
        np.testing.assert_array_equal(actions, same)
        compare(ours.step(actions)[:-1], theirs.step(same)[:-1])
        if mode == "Disabled":
            assert ours.state is not None
            mask = ours.state.ended
            compare(
                (ours.reset(options={"reset_mask": mask})[0],),
                (theirs.reset(options={"reset_mask": torch.tensor(mask)})[0],),
            )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_is_numpy_step_by_step_and_never_waits(world_val_seen: World) -> None:
    def move_there(array: np.ndarray) -> torch.Tensor:
        return torch.tensor(array, device="cuda")

    ours = NavVectorEnv(64, world=world_val_seen, max_steps=9)
    theirs = NavVectorEnv(64, world=world_val_seen, tables=world_val_seen.tables.convert(move_there), max_steps=9)
    uniform = np.random.default_rng(0).random((40, 64))
    there = move_there(uniform)
    ours.reset(seed=5)
    theirs.reset(seed=5)
    expected = [ours.step(ours.sample_actions(numbers))[:-1] for numbers in uniform]
    torch.cuda.set_sync_debug_mode("error")
    try:
        found = [theirs.step(theirs.sample_actions(numbers))[:-1] for numbers in there]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for a, b in zip(expected, found, strict=True):
        observation = {name: column.cpu() for name, column in b[0].items()}
        compare(a, (observation, *(column.cpu() for column in b[1:])))


def compare(ours: tuple, theirs: tuple) -> None:
    for a, b in zip(ours, theirs, strict=True):
        for x, y in zip(a.values(), b.values(), strict=True) if isinstance(a, dict) else [(a, b)]:
            assert isinstance(y, torch.Tensor)
            assert str(y.dtype).removeprefix("torch.") == str(x.dtype)
            np.testing.assert_array_equal(x, y.numpy())


def test_state_is_a_value(world_val_seen: World) -> None:
    """A step changes neither the state before it nor the tables; stepping twice from one state gives the same."""
    state = started(world_val_seen, 3, 14, 15)
    copy = [column.copy() for column in state]
    first, *_ = move(world_val_seen.tables, state, np.zeros(3, np.int64), 35)
    second, *_ = move(world_val_seen.tables, state, np.zeros(3, np.int64), 35)
    for before, now, a, b in zip(copy, state, first, second, strict=True):
        np.testing.assert_array_equal(before, now)
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(dynamics.where(np.array([True, False, True]), first, state).viewpoint[1], copy[3][1])


def test_scene_of_the_square_is_the_one_of_the_world(square: World, make_square: Callable[..., Path]) -> None:
    scene = load_scene(make_square() / "connectivity", "square")
    assert square.row("square", "c") == scene.number("c") == C
    with pytest.raises(ValueError, match="viewpoint x of scan square is excluded"):
        square.row("square", "x")

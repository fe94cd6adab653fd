"""The Gymnasium environments: vector against scalar, the checker, seeding, spaces, what an observation may hold."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import envs  # noqa: F401 (registers the environments)
from envs.navigation import NavEnv, NavVectorEnv
from envs.tables import World, load_world

N = 24


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for name, column in ours.items():
        np.testing.assert_array_equal(column, theirs[name], err_msg=name)


def random_actions(rng: np.random.Generator, observation: dict[str, Any]) -> np.ndarray:
    """Mostly moves, some stops, some numbers that no candidate has."""
    count = observation["action_mask"].sum(1) - 1
    moves = (rng.random(N) * count).astype(np.int64)
    return np.where(rng.random(N) < 0.15, rng.integers(0, observation["action_mask"].shape[1], N), moves)


# -- vector against scalar ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["val_seen", "test"])
@pytest.mark.parametrize("options", [{}, {"elevation_base": "view"}, {"order": "graph"}])
def test_vector_is_scalar_step_by_step_with_next_step_autoreset(data_dir: Path, options: dict, split: str) -> None:
    world = load_world(data_dir / "r2r", split, **options)
    vector = NavVectorEnv(N, world=world, max_steps=8)
    scalar = SyncVectorEnv([lambda: NavEnv(world=world, max_steps=8)] * N, autoreset_mode=AutoresetMode.NEXT_STEP)
    rng, ends = np.random.default_rng(1), np.zeros(2, int)
    observation, _ = vector.reset(seed=77)
    assert_same(observation, scalar.reset(seed=77)[0])
    for _ in range(100):
        actions = random_actions(rng, observation)
        observation, *outcome, _ = vector.step(actions)
        theirs, *expected, _ = scalar.step(actions)
        assert_same(observation, theirs)
        for found, value in zip(outcome, expected, strict=True):
            np.testing.assert_array_equal(found, value)
        ends += outcome[1].sum(), outcome[2].sum()
    assert (ends > 50).all()  # both ways to end were met


@pytest.mark.parametrize("options", [{}, {"elevation_base": "view", "order": "graph"}])
def test_vector_is_scalar_step_by_step_with_resets_by_hand(data_dir: Path, options: dict) -> None:
    world = load_world(data_dir / "r2r", "val_seen", **options)
    vector = NavVectorEnv(N, world=world, max_steps=8, autoreset_mode="Disabled")
    scalar = SyncVectorEnv([lambda: NavEnv(world=world, max_steps=8)] * N, autoreset_mode=AutoresetMode.DISABLED)
    rng = np.random.default_rng(2)
    observation, _ = vector.reset(seed=3)
    assert_same(observation, scalar.reset(seed=3)[0])
    for _ in range(100):
        actions = random_actions(rng, observation)
        observation, reward, terminated, truncated, _ = vector.step(actions)
        theirs, *expected, _ = scalar.step(actions)
        assert_same(observation, theirs)
        for found, value in zip((reward, terminated, truncated), expected, strict=True):
            np.testing.assert_array_equal(found, value)
        ended = terminated | truncated
        if ended.any():
            observation, _ = vector.reset(options={"reset_mask": ended})
            assert_same(observation, scalar.reset(options={"reset_mask": ended})[0])


def test_without_autoreset_an_ended_environment_waits(world_val_seen: World) -> None:
    env = NavVectorEnv(2, world=world_val_seen, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    before, *_ = env.step(np.array([99, 0]))
    for _ in range(3):
        after, reward, terminated, *_ = env.step(np.array([0, 0]))
        assert (reward[0], terminated[0]) == (0, True)
        assert {k: v[0].tolist() for k, v in after.items()} == {k: v[0].tolist() for k, v in before.items()}
    assert abs(reward[1]) == 1


def test_autoreset_in_the_same_step_is_refused(world_val_seen: World) -> None:
    with pytest.raises(ValueError, match="SAME_STEP is not supported; choose NEXT_STEP or DISABLED"):
        NavVectorEnv(2, world=world_val_seen, autoreset_mode="SameStep")


# -- Gymnasium ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["val_seen", "test"])
def test_made_environment_passes_the_checker_without_warning(data_dir: Path, split: str) -> None:
    env = gymnasium.make("clipnav/R2R-v0", data=data_dir / "r2r", split=split, render_mode="rgb_array")
    check_env(env.unwrapped)
    env.reset(seed=0)
    picture = env.render()
    assert isinstance(picture, np.ndarray)
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert np.unique(picture).size > 10
    env.close()


def test_picture_shows_the_way_walked(world_val_seen: World) -> None:
    env = NavEnv(world=world_val_seen, render_mode="rgb_array")
    env.reset(options={"episode": 5})
    first = env.render()
    env.step(0)
    second = env.render()
    assert first is not None
    assert second is not None
    assert (first != second).any()
    assert NavEnv(world=world_val_seen).render() is None


def test_made_vector_environment(data_dir: Path) -> None:
    options = {"data": data_dir / "r2r", "split": "val_seen", "max_steps": 4}
    vector = gymnasium.make_vec("clipnav/R2R-v0", num_envs=3, render_mode="rgb_array", **options)
    assert isinstance(vector.unwrapped, NavVectorEnv)
    assert vector.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    scalar = gymnasium.make_vec("clipnav/R2R-v0", num_envs=3, vectorization_mode="sync", **options)
    assert vector.single_observation_space == scalar.single_observation_space
    assert vector.observation_space == scalar.observation_space
    assert vector.action_space == scalar.action_space
    assert_same(vector.reset(seed=4)[0], scalar.reset(seed=4)[0])
    vector.action_space.seed(0)
    for _ in range(20):
        actions = vector.action_space.sample()
        assert_same(vector.step(actions)[0], scalar.step(actions)[0])
    pictures = vector.render()
    assert isinstance(pictures, tuple)
    assert [picture.shape for picture in pictures] == [(512, 512, 3)] * 3
    disabled = gymnasium.make_vec("clipnav/R2R-v0", num_envs=3, autoreset_mode="Disabled", **options)
    assert disabled.metadata["autoreset_mode"] is AutoresetMode.DISABLED


def test_made_environments_share_a_world(world_val_seen: World) -> None:
    env = gymnasium.make("clipnav/R2R-v0", world=world_val_seen)
    vector = gymnasium.make_vec("clipnav/R2R-v0", num_envs=2, world=world_val_seen)
    assert isinstance(env.unwrapped, NavEnv)
    assert isinstance(vector, NavVectorEnv)
    assert env.unwrapped.world is vector.world is world_val_seen


def test_world_travels_to_other_processes(make_square: Callable[..., Path]) -> None:
    world = load_world(make_square(), "train")
    assert world.row("square", "c") == 2
    copy = pickle.loads(pickle.dumps(world))
    seen, same = (NavVectorEnv(4, world=w).reset(seed=0)[0] for w in (world, copy))
    assert_same(seen, same)


def test_same_seed_same_episodes(world_val_seen: World) -> None:
    def walk(env: NavVectorEnv, seed: int | list[int]) -> list[list[int]]:
        seen = [env.reset(seed=seed)[0]["episode"].tolist()]
        for _ in range(30):
            observation, *_ = env.step(np.full(3, 99))  # stop, reset, stop, ...
            seen.append(observation["episode"].tolist())
        return seen

    env = NavVectorEnv(3, world=world_val_seen)
    first = walk(env, 8)
    assert walk(env, 8) == first
    assert walk(NavVectorEnv(3, world=world_val_seen), [8, 9, 10]) == first
    assert walk(env, 9) != first
    assert len({tuple(row) for row in first}) > 10  # the sequence goes on
    shifted = [row[1:] for row in first]
    assert [row[:2] for row in walk(env, 9)] == shifted  # environment i has seed + i


def test_reset_without_a_seed_goes_on_with_the_sequence(world_val_seen: World) -> None:
    env = NavEnv(world=world_val_seen)
    first = [env.reset(seed=1)[0]["episode"]] + [env.reset()[0]["episode"] for _ in range(5)]
    again = [env.reset(seed=1)[0]["episode"]] + [env.reset()[0]["episode"] for _ in range(5)]
    assert first == again
    assert len(set(first)) == 6
    vector = NavVectorEnv(1, world=world_val_seen)
    rows = [vector.reset(seed=1)[0]["episode"][0]] + [vector.reset()[0]["episode"][0] for _ in range(5)]
    assert rows == first


def test_random_walks_cover_the_split_and_stay_in_the_space(world_val_seen: World) -> None:
    env = NavVectorEnv(512, world=world_val_seen)
    rng = np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    met: set[int] = set()
    for _ in range(40):
        assert observation in env.observation_space
        met.update(observation["episode"].tolist())
        actions = env.sample_actions(rng.random(512))
        assert np.take_along_axis(observation["action_mask"], actions[:, None], 1).all()
        assert actions in env.action_space
        observation, *_ = env.step(actions)
    assert len(met) > 0.9 * len(world_val_seen.episodes)
    assert {name: column.dtype for name, column in observation.items()} == {
        name: space.dtype for name, space in env.observation_space.items()
    }


# -- options of reset --------------------------------------------------------------------------------------------------


def test_chosen_episodes(world_val_seen: World) -> None:
    vector = NavVectorEnv(3, world=world_val_seen)
    observation, _ = vector.reset(options={"episodes": [5, 0, 1020]})
    assert observation["episode"].tolist() == [5, 0, 1020]
    scalar = NavEnv(world=world_val_seen)
    _, info = scalar.reset(options={"episode": 5})
    episode = world_val_seen.episodes[5]
    assert info == {
        "instr_id": episode.instr_id,
        "scan": episode.scan,
        "viewpoint": episode.start,
        "instruction": episode.instruction,
    }


@pytest.mark.parametrize(
    ("episodes", "message"),
    [
        ([0, 1], r"episodes have shape \(2,\); expected one for each of 3"),
        ([0, 1, 1021], r"lies outside 0 \.\. 1020: the split has 1021 episodes"),
        ([0, -1, 1], r"lies outside 0 \.\. 1020"),
    ],
)
def test_wrong_episodes_are_refused(world_val_seen: World, episodes: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NavVectorEnv(3, world=world_val_seen).reset(options={"episodes": episodes})


def test_other_faults_of_a_reset(world_val_seen: World) -> None:
    env = NavVectorEnv(3, world=world_val_seen)
    with pytest.raises(ValueError, match="before the first whole reset; call reset"):
        env.reset(options={"reset_mask": np.array([True, False, False])})
    with pytest.raises(ValueError, match="found 2 seeds; expected one number, or one for each of 3"):
        env.reset(seed=[1, 2])
    with pytest.raises(ValueError, match=r"episode 1021 lies outside 0 \.\. 1020: the split has 1021"):
        NavEnv(world=world_val_seen).reset(options={"episode": 1021})


@pytest.mark.parametrize("make", [NavEnv, NavVectorEnv])
def test_step_before_reset(world_val_seen: World, make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"step before the first reset; .*call reset\(\) first"):
        make(world=world_val_seen).step(np.zeros(1, np.int64))


def test_masked_reset_keeps_the_others(world_val_seen: World) -> None:
    env = NavVectorEnv(3, world=world_val_seen, autoreset_mode="Disabled")
    env.reset(options={"episodes": [1, 2, 3]})
    env.step(np.zeros(3, np.int64))
    assert env.state is not None
    before = env.state
    observation, _ = env.reset(options={"reset_mask": np.array([False, True, False]), "episodes": [9, 9, 9]})
    assert observation["episode"].tolist() == [1, 9, 3]
    assert env.state.viewpoint[[0, 2]].tolist() == before.viewpoint[[0, 2]].tolist()
    assert env.state.steps.tolist() == [1, 0, 1]


# -- what an agent may see ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [False, True])
def test_observations_tell_nothing_of_the_goal(world_val_seen: World, features: bool) -> None:
    """Two episodes that differ in goal and route alone look the same on the same walk, but for their number."""
    episode = next(e for e in world_val_seen.episodes if len(e.path) > 3)
    other = replace(episode, path=(episode.path[0], episode.path[1]), instr_id="other", distance_m=1.0)
    world = world_val_seen.with_episodes([episode, other])
    rows = len(world.candidates.viewpoints)
    table = np.random.default_rng(0).standard_normal((rows, 36, 4)).astype(np.float16) if features else None
    first, second = (NavEnv(world=world, features=table) for _ in range(2))
    seen, same = first.reset(options={"episode": 0})[0], second.reset(options={"episode": 1})[0]
    rewards: list[tuple[float, float]] = []
    for action in (0, 1, 0, 0, 1):
        assert (seen.pop("episode"), same.pop("episode")) == (0, 1)
        assert_same(seen, same)
        seen, *mine = first.step(action)
        same, *theirs = second.step(action)
        rewards.append((mine[0], theirs[0]))
    assert any(a != b for a, b in rewards)  # the goals did differ
    vector = NavVectorEnv(2, world=world)
    observation, _ = vector.reset(options={"episodes": [0, 1]})
    assert all((column[0] == column[1]).all() for name, column in observation.items() if name != "episode")


def test_instruction_is_the_only_text(world_val_seen: World) -> None:
    _, info = NavEnv(world=world_val_seen).reset(seed=0)
    assert set(info) == {"instr_id", "scan", "viewpoint", "instruction"}


# -- features ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "base"), [(128, "horizon"), (4, "view")])
def test_features_are_those_of_the_originals(data_dir: Path, size: int, base: str) -> None:
    world = load_world(data_dir / "r2r", "val_seen", elevation_base=base)
    rows = len(world.candidates.viewpoints)
    table = np.random.default_rng(0).standard_normal((rows, 36, 5)).astype(np.float16)
    env = gymnasium.make("clipnav/R2R-v0", world=world, features=table, angle_feature_size=size).unwrapped
    assert isinstance(env, NavEnv)
    env.reset(seed=0)
    observation, *_ = env.step(0)
    assert observation in env.observation_space
    row, view, n = observation["viewpoint"], observation["view"], observation["action_mask"].sum() - 1
    views, candidates = observation["features"], observation["candidate_features"]
    assert views.shape == (36, 5 + size)
    assert candidates.shape == (env.slots + 1, 5 + size)
    np.testing.assert_array_equal(views[:, :5], table[row].astype(np.float32))
    np.testing.assert_array_equal(candidates[:n, :5], views[observation["candidate_view"][:n], :5])
    assert not candidates[n:].any()
    heading, elevation = observation["candidate_heading"][:n], observation["candidate_elevation"][:n]
    expected = np.stack([np.sin(heading), np.cos(heading), np.sin(elevation), np.cos(elevation)], 1)
    np.testing.assert_allclose(candidates[:n, 5:], np.tile(expected, size // 4), atol=1e-6)
    # The views' own elevations stay from the horizon, in R2R-EnvDrop as in DUET's environment of R2R.
    np.testing.assert_allclose(views[view, [5, 7]], np.sin([0, (view // 12 - 1) * np.pi / 6]), atol=1e-6)
    check_env(env, skip_render_check=True)


def test_features_of_other_buildings_are_refused(world_val_seen: World) -> None:
    with pytest.raises(ValueError, match=r"features have shape \(3, 36, 8\); expected \(\d+, 36, D\): one row per vi"):
        NavEnv(world=world_val_seen, features=np.zeros((3, 36, 8)))


# -- no data -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [NavEnv, NavVectorEnv, lambda: gymnasium.make("clipnav/R2R-v0")])
def test_without_data(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r"no data: give data=DIR .*docs/data\.md"):
        make()


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no connectivity folder at .*name it with --connectivity DIR"):
        NavEnv(data=tmp_path / "r2r")
    (tmp_path / "connectivity").mkdir()
    with pytest.raises(ValueError, match=r"no folder .*r2r: expected one with R2R_train\.json"):
        NavEnv(data=tmp_path / "r2r")


def test_one_small_building_is_enough(make_square: Callable[..., Path]) -> None:
    env = NavEnv(data=make_square(), split="train")
    check_env(env, skip_render_check=True)
    observation, _ = env.reset(options={"episode": 0})
    assert observation["action_mask"].tolist() == [1, 1, 1]
    assert env.step(2)[1:4] == (-2, True, False)


@pytest.mark.parametrize("make", [NavEnv, NavVectorEnv])
def test_a_world_and_data_are_one_too_many(world_val_seen: World, data_dir: Path, make: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match="both world and data given; expected one"):
        make(world=world_val_seen, data=data_dir / "r2r")

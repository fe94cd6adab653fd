"""The shortest-path expert: it reaches every goal on a shortest way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from envs.dynamics import distance_to_goal
from envs.episodes import load_episodes
from envs.geodesics import shortest_path
from envs.navigation import NavVectorEnv
from envs.scenes import load_scenes
from envs.tables import World, build_world, load_world
from envs.teacher import teacher_action


@pytest.mark.parametrize("order", ["sweep", "graph"])
def test_teacher_walks_a_shortest_path_to_every_goal(data_dir: Path, order: str) -> None:
    world = load_world(data_dir / "r2r", "val_seen", order=order)
    n = len(world.episodes)
    env = NavVectorEnv(n, world=world, autoreset_mode="Disabled")
    observation, _ = env.reset(options={"episodes": np.arange(n)})
    start = observation["viewpoint"]
    length_m, total = np.zeros(n), np.zeros(n)
    for _ in range(env.max_steps):
        here = observation["viewpoint"]
        before = distance_to_goal(env.tables, observation["episode"], here)
        action = teacher_action(env.tables, observation["episode"], here)
        observation, reward, terminated, _, _ = env.step(action)
        length_m += before - distance_to_goal(env.tables, observation["episode"], observation["viewpoint"])
        total += reward
    assert terminated.all()
    assert env.state is not None
    assert (env.state.viewpoint == env.tables.goal).all()
    np.testing.assert_allclose(length_m, distance_to_goal(env.tables, np.arange(n), start), rtol=0, atol=1e-9)
    assert (total == env.state.steps - 1 + 2).all()  # +1 for each move, +2 for the stop


def test_teacher_takes_the_next_hop_from_everywhere(world_val_seen: World) -> None:
    """Also off the route: from each viewpoint of a building to one goal."""
    world, tables = world_val_seen, world_val_seen.tables
    episode = world.episodes[0]
    geo, scene = world.geodesics[episode.scan], world.scenes[episode.scan]
    goal, first = scene.number(episode.goal), world.candidates.offset[episode.scan]
    for here in np.flatnonzero(scene.included):
        action = int(teacher_action(tables, np.array([0]), np.array([first + here]))[0])
        if here == goal or not np.isfinite(geo.distance_m[here, goal]):
            assert action == tables.count[first + here]
        else:
            assert tables.neighbour[first + here, action] - first == shortest_path(geo, here, goal)[1]


def test_teacher_stops_where_no_way_leads(make_square: Callable[..., Path], square_items: list) -> None:
    for a, b in ((0, 1), (0, 3)):  # a is cut off
        square_items[a]["unobstructed"][b] = square_items[b]["unobstructed"][a] = False
    data = make_square()
    world = build_world(load_scenes(data / "connectivity"), load_episodes(data, "train"))
    assert teacher_action(world.tables, np.array([0, 0]), np.array([0, 1])).tolist() == [0, 0]
    assert world.tables.count[:2].tolist() == [0, 1]  # at a, 0 is the stop; at b it is c

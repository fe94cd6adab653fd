"""The experts: one reaches every goal on a shortest way, one walks every route as it is annotated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rxr_files
import torch

from envs import r4r
from envs.dynamics import distance_to_goal
from envs.episodes import load_episodes
from envs.geodesics import shortest_path
from envs.navigation import NavVectorEnv
from envs.scenes import Scene, load_scenes
from envs.tables import World, build_world, load_world
from envs.teacher import route_action, teach, teacher_action


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


@pytest.fixture(scope="module")
def world_r4r(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """R4R val_seen, made from R2R's."""
    out = tmp_path_factory.mktemp("r4r")
    flags = ["--data", str(data_dir / "r2r"), "--out", str(out), "--splits", "val_seen"]
    assert r4r.main([*flags, "--connectivity", str(data_dir / "connectivity")]) == 0
    return load_world(out, "val_seen", data_dir / "connectivity", env="r4r")


def walk_route(world: World) -> list[list[int]]:
    """The rows that the taught actions visit, the stop not counted; every episode must stop by itself."""
    n = len(world.episodes)
    env = NavVectorEnv(n, world=world, autoreset_mode="Disabled")
    observation, _ = env.reset(options={"episodes": np.arange(n)})
    assert env.state is not None
    walks, reached = [[row] for row in observation["viewpoint"].tolist()], np.zeros(n, np.int64)
    ended = np.zeros(n, bool)
    for _ in range(env.max_steps):
        action, reached = teach("route", env.tables, observation["episode"], observation["viewpoint"], reached)
        observation, _, terminated, _, _ = env.step(action)
        ended |= terminated
        for i in np.flatnonzero(~ended):
            walks[i].append(int(observation["viewpoint"][i]))
    assert ended.all()
    return walks


def rows_of(world: World, episode: int) -> list[int]:
    e = world.episodes[episode]
    return [world.row(e.scan, viewpoint) for viewpoint in e.path]


def test_route_teacher_walks_every_route_of_r4r(world_r4r: World) -> None:
    """Among them routes that come back to a viewpoint, and routes that pass their goal before the end."""
    expected = [rows_of(world_r4r, i) for i in range(len(world_r4r.episodes))]
    assert len(expected) == 1035
    assert walk_route(world_r4r) == expected
    assert sum(len(set(path)) < len(path) for path in expected) > 100
    assert sum(path[-1] in path[:-1] for path in expected) > 10
    shortest = teacher_action(world_r4r.tables, np.arange(1035), world_r4r.tables.start)
    taught, _ = route_action(world_r4r.tables, np.arange(1035), world_r4r.tables.start, np.zeros(1035, np.int64))
    assert (shortest != taught).mean() > 0.1  # at the first step already; R4R is not R2R


def test_route_teacher_walks_rxr(data_dir: Path, tmp_path: Path) -> None:
    """RxR's file may name a viewpoint twice in a row: that is one place."""
    routes = [
        {"scan": e.scan, "path_id": i, "heading": 1.0, "path": [e.path[0], *e.path, e.path[-2], e.path[-1]]}
        for i, e in enumerate(load_episodes(data_dir / "r2r", "val_seen")[:60:3])
    ]
    rxr_files.write_guide(tmp_path, "val_seen", rxr_files.guide_lines("val_seen", routes))
    world = load_world(tmp_path, "val_seen", data_dir / "connectivity", env="rxr")
    assert walk_route(world) == [rows_of(world, i)[1:] for i in range(80)]


def test_on_r2r_both_teachers_agree_along_the_route(world_val_seen: World) -> None:
    tables, n = world_val_seen.tables, len(world_val_seen.episodes)
    episode, reached = np.arange(n), np.zeros(n, np.int64)
    for place in range(tables.route.shape[1]):
        here = tables.route[:, place].astype(np.int64)
        taught, reached = route_action(tables, episode, here, reached)
        np.testing.assert_array_equal(taught, teacher_action(tables, episode, here))


def test_the_next_hop_to_a_neighbour_is_the_neighbour(scenes_all: dict[str, Scene], world_val_seen: World) -> None:
    """So the way to the next viewpoint of a route is the route's own step, in all 90 buildings."""
    world = build_world(scenes_all, world_val_seen.episodes[:1])
    table, tables = world.candidates, world.tables
    here, slot = np.nonzero(np.arange(table.neighbour.shape[1]) < table.count[:, None])
    place = tables.distance_row[here] + tables.local[table.neighbour[here, slot]]
    assert len(here) == 42936
    np.testing.assert_array_equal(tables.next_slot[place], slot)


def plain_action(world: World, path: Sequence[int], here: int, reached: int) -> tuple[int, int]:
    """Next row (the same: stop) and place on the route, in a few lines of plain Python."""
    if here in path[reached:]:
        reached = path.index(here, reached)
    target = path[min(reached + 1, len(path) - 1)]
    scan = world.candidates.viewpoints[here][0]
    first = world.candidates.offset[scan]
    way = shortest_path(world.geodesics[scan], here - first, target - first)
    return first + way[min(1, len(way) - 1)], reached


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_route_teacher_of_wanderers(world_r4r: World, library: str) -> None:
    """On and off the route, after loops and shortcuts: equal to the plain version."""
    generator = np.random.default_rng(3)
    episode = generator.integers(0, 1035, 60)
    to: Any = torch.tensor if library == "torch" else np.asarray
    tables, walked = world_r4r.tables.convert(to), world_r4r.tables.start[episode]
    paths = [rows_of(world_r4r, i) for i in episode]
    reached, expected, off, back = to(np.zeros(60, np.int64)), [0] * 60, 0, 0
    for _ in range(25):
        action, reached = route_action(tables, to(episode), to(walked), reached)
        found = np.asarray(action)
        for i, path in enumerate(paths):
            here = int(walked[i])
            goes, place = plain_action(world_r4r, path, here, expected[i])
            slots = world_r4r.candidates.neighbour[here].tolist()
            assert (goes == here) == (found[i] == world_r4r.candidates.count[here])
            assert goes == here or slots[found[i]] == goes
            off, back = off + (here not in path), back + (place > expected[i] + 1)
            expected[i] = place
        assert np.asarray(reached).tolist() == expected
        random = generator.integers(0, world_r4r.candidates.count[walked])
        stops = found == world_r4r.candidates.count[walked]
        step = np.where((generator.random(60) < 0.4) | stops, random, found)
        walked = world_r4r.candidates.neighbour[walked, step].astype(np.int64)
    assert off > 100
    assert back > 5


def test_loops_and_ways_back(make_square: Callable[..., Path], square_routes: list) -> None:
    """a, b, a, d on the square a b c d: rows 0, 1, 0, 3."""
    square_routes[0] |= {"path": ["a", "b", "a", "d"], "instructions": ["Loop."]}
    data = make_square()
    world = build_world(load_scenes(data / "connectivity"), load_episodes(data, "train")[:1])
    assert world.tables.route.tolist() == [[0, 1, 0, 3]]

    def taught(here: int, reached: int) -> tuple[int, int]:
        action, place = route_action(world.tables, np.array([0]), np.array([here]), np.array([reached]))
        stops = action[0] == world.tables.count[here]
        return here if stops else int(world.tables.neighbour[here, action[0]]), int(place[0])

    assert [taught(0, 0), taught(1, 0), taught(0, 1), taught(3, 2)] == [(1, 0), (0, 1), (3, 2), (3, 3)]
    assert taught(3, 0) == (3, 3)  # the loop was cut short: where the route ends it ends
    assert taught(2, 1) == (1, 1) or taught(2, 1) == (3, 1)  # astray at c: by one of two shortest ways back to a
    assert taught(2, 3) == (3, 3)  # beyond the end: back to the goal
    assert taught(0, 3) == (3, 3)


def test_route_table_of_shared_and_short_routes(world_val_seen: World) -> None:
    tables = world_val_seen.tables
    for i in (0, 1, 2, 77, 500):
        path = rows_of(world_val_seen, i)
        assert tables.route[i, : len(path)].tolist() == path
        assert set(tables.route[i, len(path) :].tolist()) <= {path[-1]}
    test = replace(world_val_seen.episodes[0], path=world_val_seen.episodes[0].path[:1], has_goal=False)
    alone = world_val_seen.with_episodes([test]).tables
    assert alone.route.tolist() == [[int(tables.start[0])]]
    action, place = route_action(alone, np.array([0]), alone.start, np.array([0]))
    assert (int(action[0]), int(place[0])) == (int(alone.count[alone.start[0]]), 0)

"""Sampled routes: their statistics against R2R's, what they must not be, a small building counted by hand."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from envs.candidates import directions
from envs.episodes import Episode, check_routes
from envs.geodesics import shortest_path
from envs.route_sampling import FIRST_PATH_ID, sample_routes
from envs.tables import World, load_world

COUNT = 600


def distinct(episodes: Sequence[Episode]) -> list[Episode]:
    return list({e.path_id: e for e in episodes}.values())


def length_m(world: World, episodes: Sequence[Episode]) -> list[float]:
    rows = [(e.scan, world.scenes[e.scan].row[e.path[0]], world.scenes[e.scan].row[e.path[-1]]) for e in episodes]
    return [float(world.geodesics[scan].distance_m[a, b]) for scan, a, b in rows]


@pytest.fixture(scope="module")
def sampled(world_val_seen: World) -> list[Episode]:
    return sample_routes(world_val_seen, world_val_seen.episodes, COUNT, seed=1)


def test_every_route_is_a_new_shortest_path(world_val_seen: World, sampled: list[Episode]):
    world = world_val_seen
    check_routes(Path("sampled"), sampled, world.scenes)
    for e in sampled:
        scene = world.scenes[e.scan]
        rows = shortest_path(world.geodesics[e.scan], scene.number(e.path[0]), scene.number(e.path[-1]))
        assert e.path == tuple(scene.viewpoints[row] for row in rows)
        assert e.has_goal
        assert e.instruction == ""
    assert [e.distance_m for e in sampled] == pytest.approx(length_m(world, sampled))
    assert [e.path_id for e in sampled] == [str(FIRST_PATH_ID + i) for i in range(COUNT)]
    ends = [(e.scan, e.path[0], e.path[-1]) for e in sampled]
    assert len(set(ends)) == COUNT
    assert not set(ends) & {(e.scan, e.path[0], e.path[-1]) for e in world.episodes}


def test_statistics_are_those_of_the_given_routes(world_val_seen: World, sampled: list[Episode]):
    given = distinct(world_val_seen.episodes)
    nodes, wanted = (Counter(len(e.path) for e in es) for es in (sampled, given))
    assert nodes.keys() == wanted.keys()
    assert all(abs(nodes[n] - COUNT * wanted[n] / len(given)) < 1 for n in wanted)
    lengths, originals = length_m(world_val_seen, sampled), length_m(world_val_seen, given)
    assert min(lengths) >= min(originals)
    assert max(lengths) <= max(originals)
    assert fmean(lengths) == pytest.approx(fmean(originals), abs=0.5)
    every = [
        d
        for e in {e.scan: e for e in given}.values()
        for d in world_val_seen.geodesics[e.scan].distance_m.ravel()
        if 5 <= d < math.inf
    ]
    assert fmean(every) > fmean(originals) + 2  # without the fit they would be longer
    shares = Counter(e.scan for e in sampled), Counter(e.scan for e in given)
    assert shares[0].keys() <= shares[1].keys()
    large = max(shares[1], key=lambda scan: shares[1][scan])
    assert shares[0][large] / COUNT == pytest.approx(shares[1][large] / len(given), abs=0.02)


def test_headings_are_turned_from_the_first_step_as_the_given_ones(world_val_seen: World, sampled: list[Episode]):
    def turns(episodes: Sequence[Episode]) -> set[float]:
        found = set()
        for e in episodes:
            scene = world_val_seen.scenes[e.scan]
            first = directions(scene, np.array([scene.row[e.path[0]]]), np.array([scene.row[e.path[1]]]))[0][0]
            found.add(round((e.heading_rad - first) % (2 * math.pi), 6) % round(2 * math.pi, 6))
        return found

    found, given = turns(sampled), turns(distinct(world_val_seen.episodes))
    assert found <= given
    assert len(found) > 100
    assert all(0 <= e.heading_rad < 2 * math.pi for e in sampled)


def test_the_seed_decides(world_val_seen: World, sampled: list[Episode]):
    episodes = world_val_seen.episodes
    assert sample_routes(world_val_seen, episodes, COUNT, seed=1) == sampled
    other = sample_routes(world_val_seen, episodes, COUNT, seed=2)
    shared = {(e.scan, e.path) for e in other} & {(e.scan, e.path) for e in sampled}
    assert len(shared) < COUNT / 2


def test_only_the_named_buildings(world_val_seen: World):
    first, second = sorted({e.scan for e in world_val_seen.episodes})[:2]
    given = [e for e in world_val_seen.episodes if e.scan == first]
    found = sample_routes(world_val_seen, given, 20, 0, scans=[second])
    assert {e.scan for e in found} == {second}
    assert {e.scan for e in sample_routes(world_val_seen, given, 20, 0)} == {first}


def test_a_small_building_counted_by_hand(make_square: Callable[..., Path]):
    """A square a b c d, c 1 m higher. Given a-b-c (2 + sqrt 5 m) and d-a (2 m). Others as long: the remaining seven
    edges in their directions, and of the ways over a corner c-a, b-d, d-b."""
    world = load_world(make_square(), "train")
    found = sample_routes(world, world.episodes, 100, 0)
    ends = {(e.path[0], e.path[-1]) for e in found}
    edges = {("a", "b"), ("b", "a"), ("b", "c"), ("c", "b"), ("c", "d"), ("d", "c"), ("a", "d")}
    assert ends == edges | {("c", "a"), ("b", "d"), ("d", "b")}
    assert len(found) == len(ends)
    two = sample_routes(world, world.episodes, 2, 5)
    assert sorted(len(e.path) for e in two) == [2, 3]


@pytest.mark.parametrize(
    ("count", "scans", "message"),
    [(0, None, "expected 1 or more"), (5, ["nowhere"], "no building nowhere among the 1 loaded")],
)
def test_what_cannot_be_sampled(make_square: Callable[..., Path], count: int, scans: list[str] | None, message: str):
    world = load_world(make_square(), "train")
    with pytest.raises(ValueError, match=message):
        sample_routes(world, world.episodes, count, 0, scans)


def test_routes_without_goals_or_without_likeness(make_square: Callable[..., Path]):
    world = load_world(make_square(), "train")
    starts = [dataclasses.replace(e, has_goal=False) for e in world.episodes]
    with pytest.raises(ValueError, match="have no goals"):
        sample_routes(world, starts, 5, 0)
    around = dataclasses.replace(world.episodes[0], path=("a", "b", "c", "d"))
    with pytest.raises(ValueError, match="no shortest path of the lengths of the 1 routes given"):
        sample_routes(world, [around], 5, 0)

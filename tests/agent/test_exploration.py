"""The walk of a search, by hand on a small graph, valid as a submission on real ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import agent_toy
import pytest

from agent.data import Split
from agent.ensemble import Ensemble
from agent.exploration import as_walked, explore
from agent.search import Method, RouteSearch, find_candidates
from agent.sight import Eyes
from envs.submission import validate
from envs.tables import load_world


@pytest.mark.parametrize(
    ("visited", "end", "walk"),
    [
        ("a", "a", "a"),
        ("a", "b", "ab"),
        ("ab", "d", "abad"),
        ("abd", "c", "abadc"),
        ("abdc", "a", "abadcda"),  # c to a: by b or by d, 2 m and a slope each; d was reached last
        ("aaba", "b", "abab"),
        ("abc", "d", "abcd"),  # an edge that leads where nobody was yet
        ("abcb", "d", "abcbad"),  # two edges on either side; c lies higher, so the way over it is longer
    ],
)
def test_walks_on_the_square(make_square: Callable[..., Path], visited: str, end: str, walk: str):
    world = load_world(make_square("val_seen"), "val_seen")

    def rows(names: str) -> list[int]:
        return [world.row("square", name) for name in names]

    found = explore(world, "square", rows(visited), rows(end)[0])
    length_m = world.scenes["square"].edge_length_m
    first = world.candidates.offset["square"]

    def walked_m(path: list[int]) -> float:
        return sum(length_m[a - first, b - first] for a, b in pairwise(path))

    assert walked_m(found) == pytest.approx(walked_m(rows(walk)))
    assert len(found) == len(walk)
    assert (found[0], found[-1]) == (rows("a")[0], rows(end)[0])
    assert all(world.scenes["square"].adjacency[a - first, b - first] for a, b in pairwise(found))


def test_no_way_leads_over_what_was_not_seen(make_square: Callable[..., Path], square_items: list[dict[str, Any]]):
    """From c back to a: over b, where the search has been, though over d it would be shorter; d seen, over d."""
    square_items[3]["pose"][3:12:4] = [1.2, 1.2, 2.0]
    world = load_world(make_square("val_seen"), "val_seen")
    a, b, c, d = (world.row("square", name) for name in "abcd")
    assert explore(world, "square", [a, b, c], a) == [a, b, c, b, a]
    assert explore(world, "square", [a, b, c, d, c], a) == [a, b, c, d, c, d, a]


@pytest.mark.parametrize("method", ["beam", "dijkstra", "best-first"])
def test_walks_in_real_buildings_can_be_submitted(small_split: Split, method: Method):
    """From the start, by edges alone, over every place that was visited, to the end of the chosen route."""
    world = small_split.world
    follower = agent_toy.tiny_follower(small_split)
    candidates = find_candidates(Ensemble([follower]), Eyes(), small_split, RouteSearch(method, 6), 8)
    chosen = candidates.best(-candidates.log_prob)
    walks = as_walked(candidates, chosen, world)
    items = [{"instr_id": i, "trajectory": [list(pose) for pose in walk]} for i, walk in walks.items()]
    assert validate(items, world.episodes, world.scenes) == []
    for e, episode in enumerate(world.episodes):
        walk = [world.row(episode.scan, pose[0]) for pose in walks[episode.instr_id]]
        assert walk[-1] == candidates.path(int(chosen[e]))[-1]
        places = iter(walk)
        in_turn = [row for i, row in enumerate(candidates.visited[e]) if i == 0 or row != candidates.visited[e][i - 1]]
        assert all(row in places for row in in_turn), "an ordered part of the walk"

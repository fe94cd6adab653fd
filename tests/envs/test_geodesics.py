"""Shortest distances and next hops, against networkx and by hand."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from tiny_scene import corridor

from envs.geodesics import Geodesics, geodesics, shortest_path
from envs.scenes import Scene, load_scene

SCANS = ["17DRP5sb8fy", "GdvgFV5R1Z5", "EU6Fwq7SyZv", "5q7pvUzZiYa"]


@pytest.mark.parametrize("scan", SCANS)
def test_distances_are_those_of_networkx(scenes_all: dict[str, Scene], scan: str) -> None:
    scene = scenes_all[scan]
    expected = np.full((len(scene.viewpoints),) * 2, np.inf)
    np.fill_diagonal(expected, 0)
    for start, lengths in nx.all_pairs_dijkstra_path_length(scene.graph()):
        for end, length in lengths.items():
            expected[scene.row[start], scene.row[end]] = length
    np.testing.assert_allclose(geodesics(scene).distance_m, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scan", SCANS)
def test_next_hops_are_those_of_networkx(scenes_all: dict[str, Scene], scan: str) -> None:
    scene = scenes_all[scan]
    geo = geodesics(scene)
    paths = dict(nx.all_pairs_dijkstra_path(scene.graph()))
    for a, b in itertools.product(range(len(scene.viewpoints)), repeat=2):
        path = paths.get(scene.viewpoints[a], {}).get(scene.viewpoints[b])
        if a == b:
            assert geo.next_hop[a, b] == a
        elif path is None:
            assert geo.next_hop[a, b] == -1
        else:
            assert scene.viewpoints[geo.next_hop[a, b]] == path[1]


def test_every_hop_leads_nearer_in_all_buildings(scenes_all: dict[str, Scene]) -> None:
    """No cycles: an edge to the next hop, and the rest of the way, make up the whole distance."""
    for scene in scenes_all.values():
        geo = geodesics(scene)
        start, goal = np.nonzero(np.isfinite(geo.distance_m) & ~np.eye(len(scene.viewpoints), dtype=bool))
        hop = geo.next_hop[start, goal]
        assert scene.adjacency[start, hop].all()
        rest = scene.edge_length_m[start, hop] + geo.distance_m[hop, goal]
        np.testing.assert_allclose(rest, geo.distance_m[start, goal], rtol=0, atol=1e-9)


def test_unconnected_parts_have_no_path() -> None:
    geo = geodesics(corridor(length=5, excluded=(2,)))
    assert geo.distance_m[0, 1] == 2
    assert np.isinf(geo.distance_m[0, 3])
    assert geo.next_hop[0, 3] == -1
    assert geo.next_hop[2, 2] == 2
    with pytest.raises(ValueError, match="no path from viewpoint number 0 to 3: they lie in unconnected parts"):
        shortest_path(geo, 0, 3)


def test_shortest_path_holds_both_ends() -> None:
    geo = geodesics(corridor(length=5))
    assert shortest_path(geo, 3, 1) == [3, 2, 1]
    assert shortest_path(geo, 2, 2) == [2]


def test_viewpoints_at_one_place_keep_their_edge(make_square: Callable[..., Path], square_items: list) -> None:
    square_items[1]["pose"] = square_items[0]["pose"]  # b stands where a stands: an edge of 0 m
    scene = load_scene(make_square() / "connectivity", "square")
    geo: Geodesics = geodesics(scene)
    assert scene.adjacency[0, 1]
    assert geo.distance_m[0, 1] == 0
    assert geo.next_hop[0, 1] == 1
    assert geo.distance_m[0, 2] == pytest.approx(3)  # by b: 0 m + sqrt(2^2 + 2^2 + 1^2)
    assert shortest_path(geo, 0, 2) == [0, 1, 2]
    assert geo.distance_m[3, 1] == pytest.approx(nx.dijkstra_path_length(scene.graph(), "d", "b"))

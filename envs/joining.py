"""Routes of R2R joined in pairs to the longer ones of R4R.

The rule is that of Jain et al. 2019 (arXiv 1905.12255; google-research/r4r): within a building, every ordered pair of
routes of which the second starts at most 3 m, along the graph, from where the first ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from envs.files import replacing
from envs.geodesics import Geodesics, geodesics, shortest_path
from envs.scenes import Scene

JOIN_M = 3.0
"""Longest way from the end of the first route to the start of the second."""

Route = dict[str, Any]
"""A route in the fields of the R2R file."""


def join_routes(routes: Sequence[Route], scenes: Mapping[str, Scene], join_m: float = JOIN_M) -> Iterator[Route]:
    """The routes of R4R, in the original's order: buildings as they first come in the file, then first route, then
    second.

    A joined route has the fields of R2R (`path_id` counts from 0) and the original's `shortest_path`,
    `shortest_path_distance`, `first_path_id`, `second_path_id`. Its instructions are every text of the first route
    followed by every text of the second, without a space, as in the original. `distance` is the sum of the three
    parts; a route whose file does not say its length counts as long as it is along the graph.

    routes: as `check_routes` of `envs.episodes` has approved them; scenes: the building of each.
    """
    by_scan: dict[str, list[Route]] = {}
    for route in routes:
        by_scan.setdefault(route["scan"], []).append(route)
    path_id = 0
    for scan, items in by_scan.items():
        scene = scenes[scan]
        geo = geodesics(scene)
        ends, starts = (np.array([scene.row[item["path"][i]] for item in items]) for i in (-1, 0))
        for first, second in np.argwhere(geo.distance_m[np.ix_(ends, starts)] <= join_m).tolist():
            yield {"path_id": path_id, "scan": scan, **_joined(items[first], items[second], scene, geo)}
            path_id += 1


def _joined(first: Route, second: Route, scene: Scene, geo: Geodesics) -> Route:
    """All fields but the number and the building."""
    between = _shortest(scene, geo, first["path"][-1], second["path"][0])
    start, goal = first["path"][0], second["path"][-1]
    return {
        "path": [*first["path"][:-1], *between, *second["path"][1:]],
        "distance": _length_m(first, scene, geo) + _apart_m(scene, geo, between) + _length_m(second, scene, geo),
        "heading": first["heading"],
        "instructions": [a + b for a in first["instructions"] for b in second["instructions"]],
        "shortest_path": _shortest(scene, geo, start, goal),
        "shortest_path_distance": _apart_m(scene, geo, (start, goal)),
        "first_path_id": first["path_id"],
        "second_path_id": second["path_id"],
    }


def _shortest(scene: Scene, geo: Geodesics, start: str, goal: str) -> list[str]:
    return [scene.viewpoints[row] for row in shortest_path(geo, scene.row[start], scene.row[goal])]


def _apart_m(scene: Scene, geo: Geodesics, path: Sequence[str]) -> float:
    """Metres from the first to the last viewpoint, along the graph."""
    return float(geo.distance_m[scene.row[path[0]], scene.row[path[-1]]])


def _length_m(route: Route, scene: Scene, geo: Geodesics) -> float:
    """What the file says, else metres along the route."""
    if route.get("distance") is not None:
        return float(route["distance"])
    return float(sum(_apart_m(scene, geo, edge) for edge in pairwise(route["path"])))


def write_routes(path: Path, routes: Sequence[Route]) -> None:
    """A JSON list with a route per line, keys sorted: the same routes give the same bytes."""
    with replacing(path) as file:
        for i, route in enumerate(routes):
            file.write(("[\n" if i == 0 else ",\n").encode() + json.dumps(route, sort_keys=True).encode())
        file.write(b"\n]\n")


def statistics_of(routes: Sequence[Route]) -> dict[str, float]:
    """What the original program prints: how many routes, how many instructions, mean lengths in metres and in
    viewpoints, of the routes and of the shortest paths from their starts to their goals."""
    return {
        "routes": len(routes),
        "instructions": sum(len(route["instructions"]) for route in routes),
        "length_m": fmean(route["distance"] for route in routes),
        "shortest_m": fmean(route["shortest_path_distance"] for route in routes),
        "viewpoints": fmean(len(route["path"]) for route in routes),
        "shortest_viewpoints": fmean(len(route["shortest_path"]) for route in routes),
    }

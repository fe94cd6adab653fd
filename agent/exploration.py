"""The walk that a search would have been: to every place where it asked for a decision, then to the route's end.

A search that compares routes before one is walked knows what only a walk could tell. R2R's challenge wants that walk in
the submission; Speaker-Follower (`--physical_traversal`) and R2R-EnvDrop (`dijk_path`) write it out, as is done here:
in the order of the search, by the shortest way over what has been seen. R2R-EnvDrop comes back to the start and walks
the chosen route; here the walk goes on to the end of that route.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import torch

from agent.candidates import Candidates
from agent.evaluation import Predictions, poses_along
from agent.routes import trace_routes
from envs.tables import World


def as_walked(candidates: Candidates, chosen: np.ndarray, world: World) -> Predictions:
    """The poses of the whole walk of every episode; chosen [E]: the candidate that it ends with."""
    walks = [
        explore(world, world.episodes[e].scan, candidates.visited[e], candidates.path(c)[-1])
        for e, c in enumerate(chosen.tolist())
    ]
    start_views = np.asarray(world.tables.start_view).tolist()
    routes = trace_routes(world, walks, start_views, torch.device("cpu"))
    return {
        e.instr_id: poses_along(world, walk, view[: len(walk)])
        for e, walk, view in zip(world.episodes, walks, routes.view.tolist(), strict=True)
    }


def explore(world: World, scan: str, visited: Sequence[int], end: int) -> list[int]:
    """Viewpoint rows of the walk from visited[0] to each of the others in turn and to `end`. Each must be a neighbour
    of one before it."""
    walk, known = [visited[0]], {visited[0]}
    for target in (*visited[1:], end):
        walk += _way(world, scan, walk[-1], target, known)
        known.add(target)
    return walk


def _way(world: World, scan: str, start: int, target: int, known: set[int]) -> list[int]:
    """The shortest way, without its first viewpoint, that leaves only known viewpoints (Dijkstra)."""
    table, first, length_m = world.candidates, world.candidates.offset[scan], world.scenes[scan].edge_length_m
    if start == target:
        return []
    came: dict[int, int] = {}
    waiting = [(0.0, start, start)]
    while waiting:
        walked_m, here, before = heapq.heappop(waiting)
        if here in came:
            continue
        came[here] = before
        if here == target:
            break
        for neighbour in table.neighbour[here, : table.count[here]].tolist() if here in known else ():
            if neighbour not in came:
                heapq.heappush(waiting, (walked_m + length_m[here - first, neighbour - first], neighbour, here))
    assert target in came, "every place of a search is a neighbour of one before it"
    way = [target]
    while came[way[-1]] != start:
        way.append(came[way[-1]])
    return way[::-1]

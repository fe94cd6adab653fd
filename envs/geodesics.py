"""Shortest distances and next hops between all viewpoints of a scan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from envs.scenes import Scene


@dataclass(frozen=True, eq=False)
class Geodesics:
    """All-pairs shortest paths on a scan's undirected graph, edges weighted by straight 3-D distance.

    distance_m [N, N] float64, inf where there is no path; next_hop [N, N] int32: the viewpoint to go to next on the
    way from row to column, the viewpoint itself on the diagonal, -1 where there is no path.
    """

    distance_m: np.ndarray
    next_hop: np.ndarray


def geodesics(scene: Scene) -> Geodesics:
    """Dijkstra from every viewpoint (the originals use networkx.all_pairs_dijkstra_path)."""
    edges = np.nonzero(scene.adjacency)  # not from the dense lengths: viewpoints at one place have edges of length 0
    graph = csr_array((scene.edge_length_m[edges], edges), shape=scene.adjacency.shape)
    distance_m, predecessor = dijkstra(graph, directed=False, return_predecessors=True)
    next_hop = np.ascontiguousarray(predecessor.T).astype(np.int32)
    next_hop[next_hop < 0] = -1
    np.fill_diagonal(next_hop, np.arange(len(next_hop), dtype=np.int32))
    distance_m.flags.writeable = next_hop.flags.writeable = False
    return Geodesics(distance_m, next_hop)


def shortest_path(geo: Geodesics, start: int, goal: int) -> list[int]:
    """Viewpoint numbers from start to goal, both included. ValueError if there is no path."""
    if not np.isfinite(geo.distance_m[start, goal]):
        raise ValueError(f"no path from viewpoint number {start} to {goal}: they lie in unconnected parts of the scan")
    path = [start]
    while path[-1] != goal:
        path.append(int(geo.next_hop[path[-1], goal]))
    return path

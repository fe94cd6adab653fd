"""Routes of R2R's kind: shortest paths of 4 to 7 viewpoints, 5 to 20 m, with instructions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import networkx as nx
import numpy as np

from envs.houses.guide import Guide
from envs.houses.instructions import write_instructions

LEAST_NODES, MOST_NODES = 4, 7
SHORTEST_M, LONGEST_M = 5.0, 20.0


@dataclass(frozen=True)
class GuidedRoute:
    """rows: viewpoints from start to goal; heading at the start in radians; length in metres; three texts."""

    rows: tuple[int, ...]
    heading_rad: float
    length_m: float
    instructions: tuple[str, ...]


def draw_routes(rng: np.random.Generator, guide: Guide, count: int) -> list[GuidedRoute]:
    """At most `count` routes with different ends, in random order: those that can be told in three ways.

    Up to a quarter lead over the stairs, where there are stairs."""
    paths = dict(nx.all_pairs_dijkstra_path(guide.network))
    ends = [n for n in guide.network if not guide.on_steps[n]]
    pairs = [(a, b) for a in ends for b in ends if LEAST_NODES <= len(paths[a].get(b, ())) <= MOST_NODES]
    order = rng.permutation(len(pairs)).tolist()
    height = guide.position_m[:, 2]
    climbs: list[list[int]] = []
    others: list[list[int]] = []
    for a, b in (pairs[i] for i in order):
        (climbs if height[a] != height[b] else others).append(paths[a][b])
    found = _told(rng, guide, climbs, count // 4)  # rare if left to chance
    found += _told(rng, guide, others, count - len(found))
    return [found[i] for i in rng.permutation(len(found))]


def _told(rng: np.random.Generator, guide: Guide, paths: list[list[int]], count: int) -> list[GuidedRoute]:
    """The first `count` of the paths that are of a length and can be told."""
    found: list[GuidedRoute] = []
    for rows in paths:
        if len(found) == count:
            break
        length = float(np.linalg.norm(np.diff(guide.position_m[rows], axis=0), axis=1).sum())
        if not SHORTEST_M <= length <= LONGEST_M:
            continue
        heading = round(float(rng.uniform(0.0, 2 * math.pi)), 3) % 6.283
        texts = write_instructions(rng, guide, rows, heading)
        if texts:
            found.append(GuidedRoute(tuple(rows), heading, length, tuple(texts)))
    return found

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
    found: list[GuidedRoute] = []
    order = rng.permutation(len(pairs))
    height = guide.position_m[:, 2]
    climbs = [i for i in order if height[pairs[i][0]] != height[pairs[i][1]]][: count // 4]  # rare if left to chance
    for i in dict.fromkeys([*climbs, *order]):
        rows = paths[pairs[i][0]][pairs[i][1]]
        steps = np.diff(guide.position_m[rows], axis=0)
        length = float(np.linalg.norm(steps, axis=1).sum())
        if not SHORTEST_M <= length <= LONGEST_M:
            continue
        heading = round(float(rng.uniform(0.0, 2 * math.pi)), 3) % 6.283
        texts = write_instructions(rng, guide, rows, heading)
        if texts:
            found.append(GuidedRoute(tuple(rows), heading, length, tuple(texts)))
        if len(found) == count:
            break
    return [found[i] for i in rng.permutation(len(found))]

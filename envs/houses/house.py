"""A whole procedural house, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.houses.furnish import Item, furnish
from envs.houses.graph import NavGraph, build_graph
from envs.houses.panorama import Stage, build_stage
from envs.houses.plan import Plan, draw_plan
from envs.houses.rooms import Surface, draw_surfaces, name_rooms

ATTEMPTS = 50


@dataclass(frozen=True, eq=False)
class House:
    """What a building is made of; `surfaces[i]` are wall and floor of room i."""

    scan: str
    plan: Plan
    surfaces: tuple[tuple[Surface, Surface], ...]
    items: tuple[Item, ...]
    graph: NavGraph
    stage: Stage


def draw_house(scan: str, seed: int, stream: int, number: int) -> House:
    """House `number` of a stream (0 training, 1 unseen) of a seed: equal arguments give an equal house."""
    for attempt in range(ATTEMPTS):
        rng = np.random.default_rng([seed, stream, number, attempt])
        try:
            plan = name_rooms(rng, draw_plan(rng))
            surfaces = tuple(draw_surfaces(rng, room) for room in plan.rooms)
            items = furnish(rng, plan)
            stage = build_stage(plan, surfaces, items)
            graph = build_graph(rng, scan, plan, items, stage)
        except ValueError:
            continue  # a plan without doors, a room out of reach: draw again
        return House(scan, plan, surfaces, items, graph, stage)
    raise RuntimeError(f"no connected house in {ATTEMPTS} attempts for seed {seed}, stream {stream}, number {number}")

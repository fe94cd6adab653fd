"""What one must know of a building to give directions in it, or to follow them.

Legend: N viewpoints, I objects.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np

from envs.houses.furniture import CATALOG
from envs.houses.house import House
from envs.houses.plan import Door

SEEN_PIXELS = 10
"""An object counts as seen if it covers this many of the 6 * 40 * 40 pixels around a viewpoint (about 4 degrees)."""


@dataclass(frozen=True)
class Thing:
    """An object as a landmark."""

    name: str
    category: str
    room: int
    hangs: bool
    x: float
    y: float


@dataclass(frozen=True, eq=False)
class Guide:
    """kind[r]: what room r is; doors; foot and landing: rooms of the stairs or -1; things [I]; position_m [N, 3];
    room [N]; reach_m [N, I]: from viewpoint to the footprint of an object; pixels [N, I]; network: rows, metres."""

    kind: tuple[str, ...]
    doors: tuple[Door, ...]
    foot: int
    landing: int
    things: tuple[Thing, ...]
    position_m: np.ndarray
    room: np.ndarray
    on_steps: np.ndarray
    reach_m: np.ndarray
    pixels: np.ndarray
    network: nx.Graph

    @cached_property
    def neighbours(self) -> dict[int, list[Door]]:
        """Doors of each room."""
        return {r: [d for d in self.doors if r in (d.a, d.b)] for r in range(len(self.kind))}

    def heading_rad(self, a: int, b: int) -> float:
        """From viewpoint a to b: 0 = +y, to the right positive."""
        d = self.position_m[b] - self.position_m[a]
        return math.atan2(d[0], d[1])

    def called(self, name: str, room: int) -> list[int]:
        """Objects of a room that a name may mean: "sofa" or "red sofa"."""
        return self._called.get((name, room), [])

    @cached_property
    def _called(self) -> dict[tuple[str, int], list[int]]:
        found: dict[tuple[str, int], list[int]] = {}
        for i, thing in enumerate(self.things):
            for name in dict.fromkeys((thing.name, thing.category)):
                found.setdefault((name, thing.room), []).append(i)
        return found

    def sees(self, viewpoint: int, thing: int) -> bool:
        return bool(self._seen[viewpoint, thing])

    @cached_property
    def _seen(self) -> np.ndarray:
        return self.pixels >= SEEN_PIXELS

    def is_only_one(self, name: str, thing: int, viewpoint: int) -> bool:
        """Whether the name means this object alone, in its room and among all that the viewpoint sees."""
        if self.called(name, self.things[thing].room) != [thing]:
            return False
        others = [i for i in self._named[name] if i != thing]
        return not self._seen[viewpoint, others].any()

    @cached_property
    def _named(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for (name, _), things in self._called.items():
            found.setdefault(name, []).extend(things)
        return found

    @cached_property
    def ways(self) -> dict[Hashable, list[int] | str]:
        """What `following` has found out: where a clause leads from a viewpoint, or why it leads nowhere."""
        return {}

    def walk(self, start: int, goals: Iterable[int], rooms: Iterable[int]) -> list[int]:
        """The shortest way inside the rooms to the nearest of the goals, both ends included; [] if there is none."""
        key = (start, frozenset(goals), frozenset(rooms))
        if key not in self._walks:
            self._walks[key] = self._walk(*key)
        return self._walks[key]

    @cached_property
    def _walks(self) -> dict[tuple[int, frozenset[int], frozenset[int]], list[int]]:
        return {}

    def _walk(self, start: int, goals: frozenset[int], allowed: frozenset[int]) -> list[int]:
        part = self.network.subgraph([n for n in self.network if self.room[n] in allowed])
        distance: dict[int, float] = nx.single_source_dijkstra_path_length(part, start)
        reached = [goal for goal in goals if goal in distance]
        if not reached:
            return []
        nearest = min(reached, key=lambda n: (distance[n], n))
        return list(nx.dijkstra_path(part, start, nearest))


def relative_rad(heading_rad: float, reference_rad: float) -> float:
    """The turn from a reference to a heading, -pi..pi, to the right positive."""
    return (heading_rad - reference_rad + math.pi) % (2 * math.pi) - math.pi


def guide_of(house: House) -> Guide:
    """The knowledge of a house's own scene graph."""
    plan, graph = house.plan, house.graph
    things = tuple(
        Thing(i.name, i.category, i.room, CATALOG[i.category].place == "hang", *i.rect.centre) for i in house.items
    )
    reach = np.array([[item.distance_m(p[0], p[1]) for item in house.items] for p in graph.position_m])
    stairs = plan.stairs
    on_steps = np.array([stairs is not None and stairs.flight.holds(p[0], p[1]) for p in graph.position_m])
    return Guide(
        tuple(room.kind for room in plan.rooms), plan.doors, stairs.foot if stairs else -1,
        stairs.landing if stairs else -1, things, graph.position_m, graph.room, on_steps, reach, graph.item_pixels,
        graph.network(),
    )  # fmt: skip

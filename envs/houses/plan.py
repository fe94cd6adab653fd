"""Floor plan of a building: rooms, doors, stairs as rectangles.

World: x to the right, y away, z up, metres. A building is a rectangle of W by D, cut into rooms that share their edges;
each room carries half of the thickness of its walls inside its rectangle.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import networkx as nx
import numpy as np

STOREY_M = 3.0
CEILING_M = 2.7
HALF_WALL_M = 0.06
DOOR_WIDTH_M = 0.95
DOOR_HEIGHT_M = 2.1
STRIP_M = 1.5
FLIGHT_M = 4.0
MIN_ROOM_M = 2.6
HALL_M = 1.6


@dataclass(frozen=True)
class Rect:
    """An axis-aligned rectangle, metres."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def depth(self) -> float:
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        """Square metres."""
        return self.width * self.depth

    @property
    def centre(self) -> tuple[float, float]:
        return (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2

    def grown(self, by_m: float) -> Rect:
        """The rectangle moved outwards on all sides (inwards where negative)."""
        return Rect(self.x0 - by_m, self.y0 - by_m, self.x1 + by_m, self.y1 + by_m)

    def holds(self, x: float, y: float) -> bool:
        return self.x0 <= x <= self.x1 and self.y0 <= y <= self.y1

    def overlaps(self, other: Rect) -> bool:
        return self.x0 < other.x1 and other.x0 < self.x1 and self.y0 < other.y1 and other.y0 < self.y1


@dataclass(frozen=True)
class Room:
    """A room: its number, what it is (a name from `rooms.py`), its storey (0 = ground), its rectangle."""

    index: int
    kind: str
    floor: int
    rect: Rect

    @property
    def z_m(self) -> float:
        return self.floor * STOREY_M


@dataclass(frozen=True)
class Door:
    """An opening between rooms a and b, centred at (x, y); `along_x` if its wall runs along x."""

    a: int
    b: int
    x: float
    y: float
    along_x: bool
    floor: int

    def other(self, room: int) -> int:
        return self.b if room == self.a else self.a


@dataclass(frozen=True)
class Stairs:
    """A straight flight from room `foot` up to room `landing`; `up` is the unit vector in which it rises.

    `strip` is the shaft over both storeys: foot, flight, landing.
    """

    foot: int
    landing: int
    strip: Rect
    flight: Rect
    up: tuple[int, int]


@dataclass(frozen=True)
class Plan:
    """A building before its furniture."""

    size: Rect
    floors: int
    rooms: tuple[Room, ...]
    doors: tuple[Door, ...]
    stairs: Stairs | None

    def doors_of(self, room: int) -> list[Door]:
        return [door for door in self.doors if room in (door.a, door.b)]


def draw_plan(rng: np.random.Generator) -> Plan:
    """A random building; rooms have the kinds "room", "hallway", "stairs", "landing", named later.

    Raises ValueError where the cuts leave rooms that no door can join; the caller draws again.
    """
    floors = 2 if rng.random() < 0.4 else 1
    width, depth = rng.uniform(10.0, 15.5), rng.uniform(8.4, 11.0)
    if floors == 2:
        width = rng.uniform(9.5, 13.0)
    flip = _symmetry(rng, width, depth)
    main = Rect(STRIP_M if floors == 2 else 0.0, 0.0, width, depth)
    rooms: list[Room] = []
    stairs = None
    if floors == 2:
        foot_m = rng.uniform(2.0, depth - FLIGHT_M - 2.0)
        strip = Rect(0.0, 0.0, STRIP_M, depth)
        flight = Rect(0.0, foot_m, STRIP_M, foot_m + FLIGHT_M)
        rooms.append(Room(0, "stairs", 0, flip(Rect(0.0, 0.0, STRIP_M, foot_m))))
        rooms.append(Room(1, "landing", 1, flip(Rect(0.0, foot_m + FLIGHT_M, STRIP_M, depth))))
        a, b = flip(Rect(0, 0, 1, 1)).centre, flip(Rect(0, 1, 1, 2)).centre
        stairs = Stairs(0, 1, flip(strip), flip(flight), (round(b[0] - a[0]), round(b[1] - a[1])))
    for floor in range(floors):
        for kind, rect in _cut_storey(rng, main):
            rooms.append(Room(len(rooms), kind, floor, flip(rect)))
    doors = [door for floor in range(floors) for door in _draw_doors(rng, [r for r in rooms if r.floor == floor])]
    return Plan(flip(Rect(0.0, 0.0, width, depth)), floors, tuple(rooms), tuple(doors), stairs)


def _symmetry(rng: np.random.Generator, width: float, depth: float):
    """One of the eight symmetries of a rectangle, so that halls and stairs run every way."""
    mirror_x, mirror_y, swap = rng.random(3) < 0.5

    def flip(r: Rect) -> Rect:
        x0, x1 = (width - r.x1, width - r.x0) if mirror_x else (r.x0, r.x1)
        y0, y1 = (depth - r.y1, depth - r.y0) if mirror_y else (r.y0, r.y1)
        return Rect(y0, x0, y1, x1) if swap else Rect(x0, y0, x1, y1)

    return flip


def _cut_storey(rng: np.random.Generator, area: Rect) -> list[tuple[str, Rect]]:
    """Rooms of a storey: two rows along a hallway, or recursive cuts."""
    if rng.random() < 0.6:
        y0 = area.y0 + rng.uniform(0.38, 0.62) * (area.depth - HALL_M)
        y1 = y0 + HALL_M
        cells = [("hallway", Rect(area.x0, y0, area.x1, y1))]
        for row in (Rect(area.x0, area.y0, area.x1, y0), Rect(area.x0, y1, area.x1, area.y1)):
            cuts = _cuts(rng, row.x0, row.x1)
            cells += [("room", Rect(a, row.y0, b, row.y1)) for a, b in pairwise(cuts)]
        return cells
    return [("room", rect) for rect in _split(rng, area)]


def _cuts(rng: np.random.Generator, start: float, end: float) -> list[float]:
    count = max(2, round((end - start) / rng.uniform(3.3, 4.4)))
    shares = rng.uniform(0.8, 1.25, count)
    edges = start + (end - start) * np.concatenate([[0.0], np.cumsum(shares) / shares.sum()])
    return [float(edge) for edge in edges]


def _split(rng: np.random.Generator, r: Rect) -> list[Rect]:
    """Cut across the longer side until rooms are small enough."""
    longest = max(r.width, r.depth)
    if longest < 2 * MIN_ROOM_M + 0.2 or (r.area < 24.0 and longest < 5.8):
        return [r]
    at = float(np.clip(rng.uniform(0.36, 0.64) * longest, MIN_ROOM_M, longest - MIN_ROOM_M))
    if r.width >= r.depth:
        halves = (Rect(r.x0, r.y0, r.x0 + at, r.y1), Rect(r.x0 + at, r.y0, r.x1, r.y1))
    else:
        halves = (Rect(r.x0, r.y0, r.x1, r.y0 + at), Rect(r.x0, r.y0 + at, r.x1, r.y1))
    return [rect for half in halves for rect in _split(rng, half)]


def _draw_doors(rng: np.random.Generator, rooms: list[Room]) -> list[Door]:
    """A random spanning tree of the shared walls that prefers hallways, with a few loops."""
    graph: nx.Graph = nx.Graph()
    graph.add_nodes_from(room.index for room in rooms)
    walls = {}
    for i, a in enumerate(rooms):
        for b in rooms[i + 1 :]:
            wall = _shared_wall(a.rect, b.rect)
            if wall is not None:
                walls[a.index, b.index] = wall
                near_hall = "hallway" in (a.kind, b.kind)
                graph.add_edge(a.index, b.index, weight=rng.random() - near_hall)
    if not nx.is_connected(graph):
        raise ValueError("rooms without a shared wall")
    chosen = {tuple(sorted(edge)) for edge in nx.minimum_spanning_edges(graph, data=False)}
    stairs = {room.index for room in rooms if room.kind in ("stairs", "landing")}
    chosen |= {pair for pair in walls if rng.random() < 0.22 and not stairs & set(pair)}
    doors = []
    for pair in sorted(chosen):
        along_x, fixed, low, high = walls[pair]
        at = rng.uniform(low, high) if rng.random() < 0.7 else (low + high) / 2
        x, y = (at, fixed) if along_x else (fixed, at)
        doors.append(Door(pair[0], pair[1], float(x), float(y), along_x, rooms[0].floor))
    return doors


def _shared_wall(a: Rect, b: Rect) -> tuple[bool, float, float, float] | None:
    """(runs along x, its fixed coordinate, lowest and highest centre of a door) or None."""
    margin = DOOR_WIDTH_M / 2 + HALF_WALL_M + 0.12
    for along_x, fixed, low, high in (
        (True, a.y1 if abs(a.y1 - b.y0) < 1e-6 else a.y0, max(a.x0, b.x0), min(a.x1, b.x1)),
        (False, a.x1 if abs(a.x1 - b.x0) < 1e-6 else a.x0, max(a.y0, b.y0), min(a.y1, b.y1)),
    ):
        near = (b.y0, b.y1) if along_x else (b.x0, b.x1)
        if min(abs(fixed - n) for n in near) < 1e-6 and high - low > 2 * margin:
            return along_x, fixed, low + margin, high - margin
    return None

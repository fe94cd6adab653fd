"""What rooms are for: their names, floors, furniture."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from envs.houses.materials import FLOORS, TILED_WALLS, WALLS
from envs.houses.plan import Plan, Room


@dataclass(frozen=True)
class RoomKind:
    """Furniture of a kind of room as (category, how many at most, probability of each); the kind of its floor."""

    floor: str
    furniture: tuple[tuple[str, int, float], ...]


KINDS: dict[str, RoomKind] = {
    "living room": RoomKind("wood", (
        ("rug", 1, 0.8), ("sofa", 1, 1.0), ("television", 1, 0.9), ("fireplace", 1, 0.4), ("coffee table", 1, 0.8),
        ("armchair", 2, 0.6), ("bookshelf", 1, 0.5), ("piano", 1, 0.35), ("plant", 1, 0.7), ("floor lamp", 1, 0.6),
        ("painting", 2, 0.8), ("window", 2, 0.9),
    )),
    "kitchen": RoomKind("tiles", (
        ("refrigerator", 1, 1.0), ("stove", 1, 1.0), ("sink", 1, 1.0), ("counter", 2, 0.8), ("table", 1, 0.6),
        ("chair", 2, 0.6), ("trash can", 1, 0.6), ("clock", 1, 0.5), ("window", 1, 0.9),
    )),
    "dining room": RoomKind("wood", (
        ("rug", 1, 0.5), ("table", 1, 1.0), ("chair", 4, 0.9), ("cabinet", 1, 0.9), ("plant", 1, 0.6),
        ("painting", 2, 0.8), ("mirror", 1, 0.4), ("window", 2, 0.8),
    )),
    "bedroom": RoomKind("carpet", (
        ("rug", 1, 0.6), ("bed", 1, 1.0), ("wardrobe", 1, 0.9), ("nightstand", 1, 0.8), ("dresser", 1, 0.6),
        ("armchair", 1, 0.3), ("floor lamp", 1, 0.5), ("plant", 1, 0.3), ("painting", 1, 0.8), ("mirror", 1, 0.5),
        ("window", 1, 0.9),
    )),
    "bathroom": RoomKind("tiles", (
        ("bathtub", 1, 0.9), ("toilet", 1, 1.0), ("sink", 1, 1.0), ("mirror", 1, 0.9), ("towel", 1, 0.8),
        ("rug", 1, 0.5), ("trash can", 1, 0.5), ("window", 1, 0.4),
    )),
    "office": RoomKind("wood", (
        ("rug", 1, 0.4), ("desk", 1, 1.0), ("chair", 1, 1.0), ("bookshelf", 2, 0.8), ("cabinet", 1, 0.5),
        ("plant", 1, 0.6), ("floor lamp", 1, 0.5), ("painting", 1, 0.8), ("clock", 1, 0.4), ("window", 1, 0.9),
    )),
    "library": RoomKind("wood", (
        ("rug", 1, 0.7), ("bookshelf", 3, 0.95), ("armchair", 2, 0.8), ("coffee table", 1, 0.6), ("piano", 1, 0.4),
        ("floor lamp", 1, 0.7), ("painting", 1, 0.6), ("window", 1, 0.8),
    )),
    "laundry room": RoomKind("tiles", (
        ("washing machine", 2, 0.9), ("sink", 1, 0.7), ("cabinet", 1, 0.8), ("basket", 1, 0.8), ("trash can", 1, 0.4),
        ("window", 1, 0.5), ("clock", 1, 0.3),
    )),
    "gym": RoomKind("carpet", (
        ("treadmill", 1, 1.0), ("bench", 1, 0.9), ("ball", 2, 0.8), ("mirror", 1, 0.9), ("plant", 1, 0.4),
        ("television", 1, 0.5), ("window", 1, 0.8),
    )),
    "playroom": RoomKind("carpet", (
        ("rug", 1, 0.9), ("toy chest", 1, 1.0), ("ball", 2, 0.8), ("bookshelf", 1, 0.7), ("table", 1, 0.5),
        ("chair", 2, 0.5), ("painting", 2, 0.7), ("window", 1, 0.9),
    )),
    "hallway": RoomKind("wood", (
        ("rug", 1, 0.5), ("console table", 1, 0.6), ("plant", 2, 0.6), ("bench", 1, 0.4), ("painting", 3, 0.85),
        ("mirror", 1, 0.5), ("clock", 1, 0.4), ("floor lamp", 1, 0.3),
    )),
    "stairs": RoomKind("wood", ()),
    "landing": RoomKind("wood", ()),
}  # fmt: skip

GROUND = ("living room", "kitchen", "dining room", "office", "laundry room", "library", "gym", "playroom")
UPPER = ("bedroom", "office", "bedroom", "playroom", "library", "gym", "bedroom")
SINGLE = (
    "living room",
    "kitchen",
    "bedroom",
    "dining room",
    "office",
    "bedroom",
    "playroom",
    "laundry room",
    "library",
)


def name_rooms(rng: np.random.Generator, plan: Plan) -> Plan:
    """The plan with a kind for each room: a small room with one door becomes the bathroom of its storey, the largest
    the living room, hallways stay hallways."""
    names: dict[int, str] = {}
    for floor in range(plan.floors):
        order = UPPER if floor else (SINGLE if plan.floors == 1 else GROUND)
        open_rooms = [room for room in plan.rooms if room.floor == floor and room.kind == "room"]
        leaves = sorted(open_rooms, key=lambda room: (len(plan.doors_of(room.index)) > 1, room.rect.area))
        if len(leaves) > 2:
            names[leaves[0].index] = "bathroom"
        rest = sorted((r for r in open_rooms if r.index not in names), key=lambda room: -room.rect.area)
        first, tail = order[:2], list(order[2:])
        rng.shuffle(tail)
        for room, kind in zip(rest, [*first, *tail], strict=False):
            names[room.index] = kind
        for room in rest:
            names.setdefault(room.index, "bedroom")
    rooms = tuple(replace(room, kind=names.get(room.index, room.kind)) for room in plan.rooms)
    return replace(plan, rooms=rooms)


@dataclass(frozen=True)
class Surface:
    """A texture's name with its albedo (R, G, B as fractions)."""

    texture: str
    albedo: tuple[float, float, float]


def draw_surfaces(rng: np.random.Generator, room: Room) -> tuple[Surface, Surface]:
    """The wall and the floor of a room."""
    walls = TILED_WALLS if room.kind == "bathroom" else WALLS
    floors = FLOORS[KINDS[room.kind].floor]
    wall, floor = walls[rng.integers(len(walls))], floors[rng.integers(len(floors))]
    return Surface(*wall), Surface(*floor)

"""What a view shows, read from a house's file: objects with their place in the picture, rooms, doorways.

Works on the JSON of a house alone (`houses/{scan}.json`), as its captions, questions, entailment pairs do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from envs.candidates import HEADINGS

CLEAR_PERMILLE, CLEAR_AT_EDGE_PERMILLE = 8, 20
"""What is large enough in a picture to be named: 8 permille of 320 x 240 pixels are 25 x 25; more at its edges."""
EDGE = 97
LARGE_PERMILLE, HUGE_PERMILLE = 60, 150
DOORWAY_PERMILLE = 25
STEPS_PERMILLE = 40
ROOM_PERMILLE = 600
"""A picture shows a room if so much of it belongs to the room."""
FILL = {
    "floor lamp": 30, "table": 22, "coffee table": 40, "console table": 26, "desk": 40, "treadmill": 34, "ball": 50,
    "plant": 42, "chair": 35, "nightstand": 60, "bench": 55, "toilet": 50, "trash can": 55, "basket": 60, "sofa": 70,
}  # fmt: skip
"""Percent of its bounding box that an object fills for the eye, where it is less than 85."""
NEAR_M, APART_M = 0.6, 1.6
"""Objects are next to each other up to the first distance, and surely not from the second on."""


@dataclass(frozen=True)
class Seen:
    """An object in a picture: what it is, permille of the pixels, middle and ends across the picture (-100 left to
    100 right), the fraction of it that is visible, the fraction of its pixels that have its colour, box (x0, y0, z0,
    x1, y1, z1) and distance in metres."""

    index: int
    category: str
    colour: str
    material: str
    room: int
    hangs: bool
    share: int
    x: int
    left: int
    right: int
    visible: float
    coloured: float
    box: tuple[float, float, float, float, float, float]
    distance_m: float

    @property
    def is_clear(self) -> bool:
        """Whether anyone would recognise it."""
        if self.share >= HUGE_PERMILLE:
            return True
        at_edge = self.left <= -EDGE or self.right >= EDGE
        return self.share >= (CLEAR_AT_EDGE_PERMILLE if at_edge else CLEAR_PERMILLE) and self.visible >= (
            0.3 if self.share >= LARGE_PERMILLE else 0.5
        )

    @property
    def is_rug(self) -> bool:
        return self.category == "rug"


@dataclass(frozen=True)
class Doorway:
    """A door in a picture with the room behind it, in the middle of its pixels."""

    kind: str
    x: int


@dataclass(frozen=True)
class Sight:
    """What a view shows. room: the one that takes most pixels; permille: how many; through: whether the camera stands
    in another room; steps: permille of stairs; elevation: -1 down, 0 level, 1 up; wall, ground: textures of the room;
    items: the largest first; doorways: to further rooms."""

    room: int
    kind: str
    permille: int
    through: bool
    steps: int
    elevation: int
    wall: str
    ground: str
    items: tuple[Seen, ...]
    doorways: tuple[Doorway, ...]

    @cached_property
    def clear(self) -> tuple[Seen, ...]:
        """The objects that anyone would recognise."""
        return tuple(item for item in self.items if item.is_clear)

    @cached_property
    def inside(self) -> tuple[Seen, ...]:
        """Those of them that stand in the room."""
        return tuple(item for item in self.clear if item.room == self.room)

    @property
    def shows_room(self) -> bool:
        """Whether the picture is one of the room, not of a wall between two."""
        return self.permille >= ROOM_PERMILLE

    def called(self, category: str) -> list[Seen]:
        """All objects of a category of which a pixel is visible."""
        return [item for item in self.items if item.category == category]


def sight_of(house: Mapping[str, Any], viewpoint: int, view: int) -> Sight:
    """What a view (0-35) of a viewpoint (its row) shows.

    Raises ValueError where the file is of an older format, without views.
    """
    place = house["viewpoints"][viewpoint]
    if "views" not in place:
        raise ValueError(
            f"houses/{house.get('scan', '')}.json has no views: it is of an older format; make the world again with "
            "python -m envs.houses"
        )
    pose = house["connectivity"][viewpoint]["pose"]
    eye = pose[3], pose[7], pose[11]
    seen = tuple(_seen(house["items"][entry[0]], eye, *entry) for entry in place["views"][view])
    shown = place["view_rooms"][view]
    number, permille = (shown[0][0], shown[0][1]) if shown else (place["room"], 0)
    room = house["rooms"][number]
    joined = {tuple(door["rooms"]) for door in house["doors"]}
    doorways = tuple(
        Doorway(house["rooms"][other]["kind"], x)
        for other, share, x in shown[1:]
        if share >= DOORWAY_PERMILLE and other != place["room"] and (min(number, other), max(number, other)) in joined
    )
    through = number != place["room"] and place["door"] < 0
    return Sight(
        number, room["kind"], permille, through, place["view_steps"][view], view // HEADINGS - 1, room["wall"],
        room["ground"], seen, doorways,
    )  # fmt: skip


def _seen(
    item: Mapping[str, Any],
    eye: tuple[float, float, float],
    index: int,
    share: int,
    x: int,
    left: int,
    right: int,
    part: int,
    coloured: int,
) -> Seen:
    (x0, y0, x1, y1), (z0, z1) = item["rect_m"], item["z_m"]
    category = item["category"]
    return Seen(
        index, category, item["colour"], item["material"], item["room"], item["hangs"], share, x, left, right,
        min(part / FILL.get(category, 85), 1.0), coloured / 100, (x0, y0, z0, x1, y1, z1),
        math.dist(eye, ((x0 + x1) / 2, (y0 + y1) / 2, (z0 + z1) / 2)),
    )  # fmt: skip


def gap_m(a: Seen, b: Seen) -> float:
    """Metres of floor between two objects, 0 where they overlap."""
    dx = max(a.box[0] - b.box[3], b.box[0] - a.box[3], 0.0)
    dy = max(a.box[1] - b.box[4], b.box[1] - a.box[4], 0.0)
    return math.hypot(dx, dy)


def is_left_of(a: Seen, b: Seen) -> bool:
    """Whether a is to the left of b in the picture, without doubt."""
    return a.x <= b.x - 25 and a.right <= b.left + 8


def is_next_to(a: Seen, b: Seen) -> bool:
    """Whether two objects of a room are side by side: both stand, or both hang; a rug is next to nothing."""
    return a.room == b.room and a.hangs == b.hangs and not a.is_rug | b.is_rug and gap_m(a, b) <= NEAR_M


def is_apart(a: Seen, b: Seen) -> bool:
    """Whether nobody would say that two objects are next to each other."""
    return a.room != b.room or gap_m(a, b) >= APART_M


def is_above(a: Seen, b: Seen) -> bool:
    """Whether a hangs on the wall over b, which stands at it."""
    if not a.hangs or b.hangs or b.is_rug or a.room != b.room or gap_m(a, b) > 0.45 or a.box[2] < b.box[5] - 0.05:
        return False
    axis = 0 if a.box[3] - a.box[0] > a.box[4] - a.box[1] else 1  # the wall runs along this one
    return b.box[axis] - 0.05 <= (a.box[axis] + a.box[axis + 3]) / 2 <= b.box[axis + 3] + 0.05


def is_in_front_of(a: Seen, b: Seen) -> bool:
    """Whether a stands between the camera and b."""
    if a.room != b.room or a.hangs or b.hangs or a.is_rug or b.is_rug or b.distance_m - a.distance_m < 0.6:
        return False
    overlap = min(a.right, b.right) - max(a.left, b.left)
    return overlap >= 0.6 * min(a.right - a.left, b.right - b.left)

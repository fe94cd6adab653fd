"""Furniture finds its place: against walls, in corners, free of doors, leaving a way through every room."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from envs.houses.furniture import CATALOG, Span, Template
from envs.houses.plan import DOOR_WIDTH_M, HALF_WALL_M, Door, Plan, Rect, Room
from envs.houses.rooms import KINDS

BODY_M = 0.22
"""Half the width that a walker needs."""
CELL_M = 0.1
TRIES = 14
FACINGS = ((0, -1), (-1, 0), (0, 1), (1, 0))
"""Front of a piece whose back is at the wall of high y, high x, low y, low x."""


@dataclass(frozen=True)
class Item:
    """An object: what it is, where it stands. rect: footprint; z0_m, z1_m: heights over the ground storey's floor;
    facing: unit vector out of its front; size: "small", "large" for its category, or ""."""

    index: int
    category: str
    colour: str
    material: str
    size: str
    room: int
    rect: Rect
    z0_m: float
    z1_m: float
    facing: tuple[int, int]

    @property
    def name(self) -> str:
        """As instructions call it: colour with category."""
        return f"{self.colour} {self.category}"

    @property
    def is_obstacle(self) -> bool:
        return CATALOG[self.category].place not in ("hang", "flat")

    def distance_m(self, x: float, y: float) -> float:
        """From a point of the floor to the nearest point of the footprint."""
        r = self.rect
        return float(np.hypot(max(r.x0 - x, 0.0, x - r.x1), max(r.y0 - y, 0.0, y - r.y1)))


def furnish(rng: np.random.Generator, plan: Plan) -> tuple[Item, ...]:
    """Objects of all rooms, numbered in order."""
    items: list[Item] = []
    for room in plan.rooms:
        placed = _furnish_room(rng, plan, room)
        items += [replace(item, index=len(items) + i) for i, item in enumerate(placed)]
    return tuple(items)


def _furnish_room(rng: np.random.Generator, plan: Plan, room: Room) -> list[Item]:
    placed: list[Item] = []
    doors = plan.doors_of(room.index)
    chair_colour = ""
    for category, most, probability in KINDS[room.kind].furniture:
        template = CATALOG[category]
        for _ in range(most):
            if rng.random() >= probability:
                continue
            colour = str(rng.choice(template.colours))
            if category == "chair":  # the chairs of a room are a set
                colour = chair_colour = chair_colour or colour
            for _ in range(TRIES):
                item = _draw_item(rng, plan, room, category, colour, placed)
                if item is not None and _fits(item, room, doors, placed):
                    placed.append(item)
                    break
    return placed


def _draw_item(
    rng: np.random.Generator, plan: Plan, room: Room, category: str, colour: str, placed: list[Item]
) -> Item | None:
    template = CATALOG[category]
    inside = room.rect.grown(-HALF_WALL_M)
    share = rng.random(3)
    width, depth, height = (_at(span, s) for span, s in zip(_spans(template), share, strict=True))
    side = int(rng.integers(4))
    if category == "window":
        side = _outer_side(rng, plan, room)
        if side < 0:
            return None
    facing = FACINGS[side]
    gap = 0.003 if template.place == "hang" else 0.03
    if template.place == "seat":
        spot = _beside_table(rng, placed, width, depth)
        if spot is None:
            return None
        rect, facing = spot
    elif template.place in ("middle", "flat"):
        rect = _middle(rng, inside, width, depth, side)
    else:
        along = inside.width if facing[0] == 0 else inside.depth
        if along < width + 0.1:
            return None
        offset = rng.uniform(0.04, along - width - 0.04)
        if template.place == "corner":
            offset = 0.08 if rng.random() < 0.5 else along - width - 0.08
        rect = _against(inside, facing, offset, width, depth, gap)
    size = ("small", "", "large")[int(np.digitize(share.mean(), (0.36, 0.64)))]
    z0 = room.z_m + template.base_m
    material = str(rng.choice(template.materials))
    return Item(-1, category, colour, material, size, room.index, rect, z0, z0 + height, facing)


def _spans(template: Template) -> tuple[Span, Span, Span]:
    return template.width_m, template.depth_m, template.height_m


def _at(span: Span, share: float) -> float:
    return span[0] + (span[1] - span[0]) * float(share)


def _outer_side(rng: np.random.Generator, plan: Plan, room: Room) -> int:
    """A side of the room that is on the outside of the building, -1 if there is none."""
    r, s = room.rect, plan.size
    outer = [abs(r.y1 - s.y1), abs(r.x1 - s.x1), abs(r.y0 - s.y0), abs(r.x0 - s.x0)]
    sides = [side for side, gap in enumerate(outer) if gap < 1e-6]
    return int(rng.choice(sides)) if sides else -1


def _middle(rng: np.random.Generator, inside: Rect, width: float, depth: float, side: int) -> Rect:
    if side % 2:
        width, depth = depth, width
    spare_x, spare_y = max(inside.width - width, 0.0), max(inside.depth - depth, 0.0)
    x = inside.x0 + spare_x * rng.uniform(0.3, 0.7)
    y = inside.y0 + spare_y * rng.uniform(0.3, 0.7)
    return Rect(x, y, x + min(width, inside.width), y + min(depth, inside.depth))


def _against(r: Rect, facing: tuple[int, int], offset: float, width: float, depth: float, gap: float) -> Rect:
    if facing == (0, -1):
        return Rect(r.x0 + offset, r.y1 - depth - gap, r.x0 + offset + width, r.y1 - gap)
    if facing == (0, 1):
        return Rect(r.x0 + offset, r.y0 + gap, r.x0 + offset + width, r.y0 + depth + gap)
    if facing == (-1, 0):
        return Rect(r.x1 - depth - gap, r.y0 + offset, r.x1 - gap, r.y0 + offset + width)
    return Rect(r.x0 + gap, r.y0 + offset, r.x0 + depth + gap, r.y0 + offset + width)


def _beside_table(
    rng: np.random.Generator, placed: list[Item], width: float, depth: float
) -> tuple[Rect, tuple[int, int]] | None:
    """A chair pushed to a side of the table, or to the front of the desk, facing it."""
    tables = [item for item in placed if item.category in ("table", "desk")]
    if not tables:
        return None
    table = tables[0]
    facing = FACINGS[int(rng.integers(4))]
    if table.category == "desk":
        facing = (-table.facing[0], -table.facing[1])
    r, share = table.rect, rng.uniform(0.25, 0.75)
    if facing[0] == 0:
        x = r.x0 + share * r.width - width / 2
        y = r.y0 - depth - 0.03 if facing[1] > 0 else r.y1 + 0.03
        return Rect(x, y, x + width, y + depth), facing
    y = r.y0 + share * r.depth - width / 2
    x = r.x0 - depth - 0.03 if facing[0] > 0 else r.x1 + 0.03
    return Rect(x, y, x + depth, y + width), facing


def _fits(item: Item, room: Room, doors: list[Door], placed: list[Item]) -> bool:
    inside = room.rect.grown(-HALF_WALL_M)
    r = item.rect
    if r.x0 < inside.x0 or r.y0 < inside.y0 or r.x1 > inside.x1 or r.y1 > inside.y1:
        return False
    place = CATALOG[item.category].place
    hang = place == "hang"
    for other in placed:
        same_layer = CATALOG[other.category].place == place if place == "flat" else True
        apart = item.z0_m > other.z1_m or other.z0_m > item.z1_m
        flat = "flat" in (place, CATALOG[other.category].place)
        margin = 0.15 if hang or CATALOG[other.category].place == "hang" else 0.04
        if flat and not same_layer:
            continue
        if not apart and (not flat or same_layer) and r.grown(margin / 2).overlaps(other.rect.grown(margin / 2)):
            return False
    if place == "flat":
        return True
    for door in doors:
        reach = 0.12 if hang else 0.8
        half = DOOR_WIDTH_M / 2 + 0.1
        zone = (half, reach) if door.along_x else (reach, half)
        if r.overlaps(Rect(door.x - zone[0], door.y - zone[1], door.x + zone[0], door.y + zone[1])):
            return False
    return hang or _leaves_a_way(item, inside, doors, placed)


def _leaves_a_way(item: Item, inside: Rect, doors: list[Door], placed: list[Item]) -> bool:
    """Whether a walker still gets from every door to every other, with a third of the floor in reach."""
    columns, rows = int(inside.width / CELL_M) + 1, int(inside.depth / CELL_M) + 1
    free = np.zeros((rows, columns), bool)
    margin = int(np.ceil(BODY_M / CELL_M))
    free[margin : rows - margin, margin : columns - margin] = True
    for thing in [*placed, item]:
        if thing.is_obstacle:
            r = thing.rect.grown(BODY_M)
            x0, y0 = max(int((r.x0 - inside.x0) / CELL_M), 0), max(int((r.y0 - inside.y0) / CELL_M), 0)
            x1, y1 = int((r.x1 - inside.x0) / CELL_M) + 1, int((r.y1 - inside.y0) / CELL_M) + 1
            free[y0 : max(y1, 0), x0 : max(x1, 0)] = False
    labels, _ = ndimage.label(free)
    found = set()
    for door in doors:
        column = np.clip(int((door.x - inside.x0) / CELL_M), margin, columns - margin - 1)
        row = np.clip(int((door.y - inside.y0) / CELL_M), margin, rows - margin - 1)
        found.add(int(labels[row, column]))
    if len(found) != 1 or 0 in found:
        return False
    return bool((labels == found.pop()).sum() >= 0.33 * free.size)

"""A building as coloured solids: what the ray caster meets.

Legend: P solids. Walls, floors, ceilings, steps are boxes of item -1; parts of furniture carry their item's number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from envs.houses.furnish import Item
from envs.houses.furniture import CATALOG
from envs.houses.materials import COLOURS, MATERIAL_TEXTURE, TEXTURE
from envs.houses.plan import CEILING_M, DOOR_HEIGHT_M, DOOR_WIDTH_M, HALF_WALL_M, STOREY_M, Door, Plan, Rect
from envs.houses.rooms import Surface

STEPS = 16
SHAPES = {"b": 0, "c": 1, "e": 2}
Colour = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Solids:
    """shape [P] int64 (0 box, 1 upright cylinder, 2 ellipsoid), low and high [P, 3] float64 corners in metres, albedo
    [P, 3] float64, texture [P] int64, item [P] int64, seed [P] int64 (varies textures)."""

    shape: np.ndarray
    low: np.ndarray
    high: np.ndarray
    albedo: np.ndarray
    texture: np.ndarray
    item: np.ndarray
    seed: np.ndarray


@dataclass
class _Builder:
    rows: list[tuple] = field(default_factory=list)

    def add(self, shape: str, low: Sequence[float], high: Sequence[float], surface: Surface, item: int = -1) -> None:
        least, most = np.minimum(low, high), np.maximum(low, high)
        if (most - least).min() > 1e-6:
            self.rows.append((SHAPES[shape], least, most, surface.albedo, TEXTURE[surface.texture], item))

    def box(self, r: Rect, z0: float, z1: float, surface: Surface) -> None:
        self.add("b", (r.x0, r.y0, z0), (r.x1, r.y1, z1), surface)

    def done(self) -> Solids:
        shape, low, high, albedo, texture, item = (np.array(column) for column in zip(*self.rows, strict=True))
        seed = np.where(item >= 0, item * 7 + 3, 0)
        return Solids(shape, low, high, albedo.astype(np.float64), texture, item, seed)


def build_solids(plan: Plan, surfaces: Sequence[tuple[Surface, Surface]], items: Sequence[Item]) -> Solids:
    """Solids of a building; surfaces[i] are wall and floor of room i."""
    builder = _Builder()
    white = Surface("plain", (0.93, 0.93, 0.91))
    trim = Surface("wood", (0.80, 0.77, 0.70))
    for room in plan.rooms:
        wall, floor = surfaces[room.index]
        if room.kind not in ("stairs", "landing"):
            _walls(builder, room.rect, room.z_m, room.z_m + CEILING_M, wall, plan.doors_of(room.index))
            builder.box(room.rect, room.z_m + CEILING_M, room.z_m + STOREY_M - 0.05, white)
        builder.box(room.rect, room.z_m - 0.05, room.z_m, floor)
    for door in plan.doors:
        _door_frame(builder, door, trim)
    if plan.stairs is not None:
        _stairs(builder, plan, surfaces, white, trim)
    for item in items:
        _furniture(builder, item)
    return builder.done()


def _walls(builder: _Builder, rect: Rect, z0: float, z1: float, wall: Surface, doors: Sequence[Door]) -> None:
    """The half walls inside a rectangle, pierced by doors."""
    t = HALF_WALL_M
    for along_x, fixed, inner in (
        (True, rect.y0, rect.y0 + t), (True, rect.y1, rect.y1 - t), (False, rect.x0, rect.x0 + t),
        (False, rect.x1, rect.x1 - t),
    ):  # fmt: skip
        here = [d for d in doors if d.along_x == along_x and abs((d.y if along_x else d.x) - fixed) < 1e-6]
        start, end = (rect.x0, rect.x1) if along_x else (rect.y0, rect.y1)
        spans = sorted(((d.x if along_x else d.y) - DOOR_WIDTH_M / 2, d.floor * STOREY_M) for d in here)
        for low, sill in spans:
            _wall_piece(builder, along_x, (fixed, inner), (start, low), (z0, z1), wall)
            _wall_piece(builder, along_x, (fixed, inner), (low, low + DOOR_WIDTH_M), (sill + DOOR_HEIGHT_M, z1), wall)
            _wall_piece(builder, along_x, (fixed, inner), (low, low + DOOR_WIDTH_M), (z0, sill), wall)
            start = low + DOOR_WIDTH_M
        _wall_piece(builder, along_x, (fixed, inner), (start, end), (z0, z1), wall)


def _wall_piece(
    builder: _Builder,
    along_x: bool,
    across: tuple[float, float],
    along: tuple[float, float],
    z: tuple[float, float],
    wall: Surface,
) -> None:
    if along[1] - along[0] < 1e-6 or z[1] - z[0] < 1e-6:
        return
    a, b = sorted(across)
    rect = Rect(along[0], a, along[1], b) if along_x else Rect(a, along[0], b, along[1])
    builder.box(rect, z[0], z[1], wall)


def _door_frame(builder: _Builder, door: Door, trim: Surface) -> None:
    half, t, z0 = DOOR_WIDTH_M / 2, HALF_WALL_M + 0.02, door.floor * STOREY_M
    z1 = z0 + DOOR_HEIGHT_M
    for low, high, bottom, top in (
        (-half - 0.06, -half + 0.03, z0, z1 + 0.06), (half - 0.03, half + 0.06, z0, z1 + 0.06),
        (-half, half, z1 - 0.03, z1 + 0.06),
    ):  # fmt: skip
        if door.along_x:
            rect = Rect(door.x + low, door.y - t, door.x + high, door.y + t)
        else:
            rect = Rect(door.x - t, door.y + low, door.x + t, door.y + high)
        builder.box(rect, bottom, top, trim)


def _stairs(
    builder: _Builder, plan: Plan, surfaces: Sequence[tuple[Surface, Surface]], white: Surface, trim: Surface
) -> None:
    stairs = plan.stairs
    assert stairs is not None
    wall, floor = surfaces[stairs.foot]
    top = STOREY_M + CEILING_M
    doors = [*plan.doors_of(stairs.foot), *plan.doors_of(stairs.landing)]
    _walls(builder, stairs.strip, 0.0, top, wall, doors)
    builder.box(stairs.strip, top, top + 0.25, white)
    step = Surface("wood", floor.albedo)
    for i in range(STEPS):
        rect = _along_flight(stairs.flight, stairs.up, i / STEPS, (i + 1) / STEPS)
        builder.box(rect, -0.05, (i + 1) * STOREY_M / STEPS, step)
        builder.box(_along_flight(stairs.flight, stairs.up, i / STEPS, (i + 0.12) / STEPS), -0.05,
                    (i + 1) * STOREY_M / STEPS + 0.004, trim)  # fmt: skip
    landing = plan.rooms[stairs.landing].rect
    builder.box(landing, -0.05, STOREY_M - 0.05, wall)


def _along_flight(r: Rect, up: tuple[int, int], start: float, end: float) -> Rect:
    """The part of a flight between two fractions of the way up."""
    if up[0] < 0 or up[1] < 0:
        start, end = 1.0 - end, 1.0 - start
    if up[0]:
        return Rect(r.x0 + start * r.width, r.y0, r.x0 + end * r.width, r.y1)
    return Rect(r.x0, r.y0 + start * r.depth, r.x1, r.y0 + end * r.depth)


def _furniture(builder: _Builder, item: Item) -> None:
    """The parts of a template, turned so that its front faces where the item faces."""
    fx, fy = item.facing
    r, main = item.rect, COLOURS[item.colour]
    texture = MATERIAL_TEXTURE[item.material]
    for solid, x0, y0, z0, x1, y1, z1, role in CATALOG[item.category].parts:
        corners = []
        for x, y in ((x0, y0), (x1, y1)):
            if (fx, fy) == (0, -1):
                u, v = x, y
            elif (fx, fy) == (0, 1):
                u, v = 1 - x, 1 - y
            elif (fx, fy) == (-1, 0):
                u, v = y, 1 - x
            else:
                u, v = 1 - y, x
            corners.append((r.x0 + u * r.width, r.y0 + v * r.depth))
        height = item.z1_m - item.z0_m
        low, high = (*corners[0], item.z0_m + z0 * height), (*corners[1], item.z0_m + z1 * height)
        builder.add(solid, low, high, _surface(role, main, texture), item.index)


def _surface(role: str, main: Colour, texture: str) -> Surface:
    def scaled(factor: float, plus: float = 0.0) -> Colour:
        r, g, b = (min(factor * channel + plus, 0.97) for channel in main)
        return r, g, b

    fixed: dict[str, Surface] = {
        "main": Surface(texture, main),
        "dark": Surface(texture, scaled(0.62)),
        "pale": Surface(texture, scaled(0.85, 0.10)),
        "steel": Surface("metal", (0.66, 0.67, 0.69)),
        "black": Surface("plain", (0.07, 0.07, 0.08)),
        "white": Surface("fabric", (0.92, 0.91, 0.88)),
        "brown": Surface("wood", (0.36, 0.22, 0.12)),
        "water": Surface("plain", (0.62, 0.78, 0.84)),
        "pot": Surface("plain", (0.62, 0.34, 0.22)),
        "leaf": Surface("foliage", (0.15, 0.42, 0.14)),
        "glow": Surface("glow", (1.0, 0.82, 0.52)),
        "lampshade": Surface("fabric", scaled(0.9, 0.08)),
        "screen": Surface("screen", (0.10, 0.14, 0.22)),
        "picture": Surface("picture", main),
        "window": Surface("window", (0.62, 0.78, 0.95)),
        "mirror": Surface("mirror", (0.78, 0.84, 0.88)),
        "books": Surface("books", (0.5, 0.4, 0.3)),
    }
    return fixed[role]


def in_own_colour(solids: Solids, items: Sequence[Item]) -> np.ndarray:
    """[P] bool: whether a solid has the colour by which its object is called, or a shade of it."""
    found = np.zeros(len(solids.item), bool)
    for item in items:
        main, texture = COLOURS[item.colour], MATERIAL_TEXTURE[item.material]
        shades = np.array([_surface(role, main, texture).albedo for role in ("main", "dark", "pale", "lampshade")])
        rows = np.flatnonzero(solids.item == item.index)
        found[rows] = (np.abs(solids.albedo[rows, None] - shades) < 1e-9).all(axis=-1).any(axis=-1)
    return found


def ceiling_lamps(plan: Plan) -> np.ndarray:
    """[R, 3] float64: the lamp of each room, metres; in the shaft of the stairs it hangs over the flight."""
    lamps = np.array([(*room.rect.centre, room.z_m + CEILING_M - 0.25) for room in plan.rooms])
    if plan.stairs is not None:
        lamps[[plan.stairs.foot, plan.stairs.landing]] = (*plan.stairs.flight.centre, STOREY_M + CEILING_M - 0.3)
    return lamps

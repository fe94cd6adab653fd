"""The floors of a house drawn from its scene graph: rooms, doors, stairs, furniture.

A house is the dict of `houses/{scan}.json`. Lengths named `_px` are pixels of the figure, `_m` metres of the world.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.floorplan import INK, points
from envs.houses.materials import COLOURS
from envs.houses.plan import DOOR_WIDTH_M, STOREY_M
from envs.houses.rooms import KINDS
from envs.houses.solids import STEPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WALL, PAPER = "#3a3a3a", "#ffffff"
FONT = "DejaVu Sans"
LETTER_WIDTH = 0.62
"""Of the height of the text, on average."""


def extent_m(house: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Low and high corner [2] of all rooms."""
    rects = np.array([room["rect_m"] for room in house["rooms"]])
    return rects[:, :2].min(axis=0), rects[:, 2:].max(axis=0)


def floors_of(house: Mapping[str, Any]) -> int:
    return 1 + max(room["floor"] for room in house["rooms"])


def room_colour(kind: str) -> tuple[float, float, float]:
    """A pale colour for each kind of room."""
    kinds = list(KINDS)
    return colorsys.hsv_to_rgb(kinds.index(kind) / len(kinds), 0.20, 0.98) if kind in kinds else (0.95, 0.95, 0.95)


def draw_floor(axes: Axes, house: Mapping[str, Any], floor: int, px_per_m: float, text_px: float) -> None:
    """Rooms, stairs, furniture, walls, doors of one floor; names come last, from `draw_names`."""
    from matplotlib.patches import Rectangle

    rooms = [room for room in house["rooms"] if room["floor"] == floor]
    for room in rooms:
        x0, y0, x1, y1 = room["rect_m"]
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor=room_colour(room["kind"]), zorder=1))
    if house["stairs"] is not None:
        _draw_flight(axes, house, floor, text_px)
    for item in sorted(house["items"], key=lambda item: item["z_m"][1]):
        if house["rooms"][item["room"]]["floor"] == floor:
            _draw_item(axes, item, px_per_m)
    for room in rooms:
        x0, y0, x1, y1 = room["rect_m"]
        frame = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=WALL, zorder=3)
        frame.set(linewidth=points(0.12 * px_per_m), joinstyle="miter")
        axes.add_patch(frame)
    for door in (door for door in house["doors"] if door["floor"] == floor):
        _draw_door(axes, house, door, px_per_m)


def _draw_item(axes: Axes, item: Mapping[str, Any], px_per_m: float) -> None:
    """The footprint in the object's colour; what hangs is drawn thicker than it is."""
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = item["rect_m"]
    if item["hangs"]:
        thicker = np.maximum(0.14 - np.array([x1 - x0, y1 - y0]), 0.0) / 2
        x0, y0, x1, y1 = x0 - thicker[0], y0 - thicker[1], x1 + thicker[0], y1 + thicker[1]
    is_flat = item["z_m"][1] - item["z_m"][0] < 0.05 and not item["hangs"]
    patch = Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor=COLOURS[item["colour"]], zorder=3.2 if item["hangs"] else 2)
    patch.set(edgecolor=INK, linewidth=0.7, alpha=0.45 if is_flat else 1.0)
    axes.add_patch(patch)


def _draw_door(axes: Axes, house: Mapping[str, Any], door: Mapping[str, Any], px_per_m: float) -> None:
    """A gap in the wall."""
    x, y, half = door["x_m"], door["y_m"], DOOR_WIDTH_M / 2
    _, y0, _, y1 = house["rooms"][door["rooms"][0]]["rect_m"]
    along_x = min(abs(y - y0), abs(y - y1)) < 1e-3
    (xs, ys) = ([x - half, x + half], [y, y]) if along_x else ([x, x], [y - half, y + half])
    axes.plot(xs, ys, color=PAPER, linewidth=points(0.17 * px_per_m), solid_capstyle="butt", zorder=3.5)


def _draw_flight(axes: Axes, house: Mapping[str, Any], floor: int, text_px: float) -> None:
    """The steps, with an arrow that points up, on both floors that they join."""
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = house["stairs"]["flight_m"]
    foot, landing = (np.array(house["rooms"][house["stairs"][end]]["rect_m"]) for end in ("foot", "landing"))
    axes.add_patch(
        Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor="#e4ded2", edgecolor=WALL, linewidth=1.2, zorder=1.5)
    )
    ahead = (landing[:2] + landing[2:] - foot[:2] - foot[2:]) / 2
    for k in range(1, STEPS):
        share = k / STEPS
        xs, ys = ([x0 + share * (x1 - x0)] * 2, [y0, y1]) if abs(ahead[0]) > abs(ahead[1]) else (
            [x0, x1], [y0 + share * (y1 - y0)] * 2)  # fmt: skip
        axes.plot(xs, ys, color="#8a8478", linewidth=0.8, zorder=1.6)
    ahead = ahead / np.hypot(*ahead)
    middle = np.array([x0 + x1, y0 + y1]) / 2
    reach = 0.36 * abs(np.array([x1 - x0, y1 - y0]) @ ahead)
    arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", tuple(middle + reach * ahead), tuple(middle - reach * ahead), arrowprops=arrow, zorder=2.5)
    tail = middle - 1.2 * reach * ahead
    size, box = points(0.8 * text_px), {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
    axes.text(
        float(tail[0]), float(tail[1]), "up" if floor == 0 else "down", ha="center", va="center", fontsize=size,
        color=INK, fontfamily=FONT, zorder=2.6, bbox=box,
    )  # fmt: skip


def draw_names(
    axes: Axes, house: Mapping[str, Any], floor: int, px_per_m: float, text_px: float, taken_m: np.ndarray
) -> None:
    """Names of rooms, of furniture where a name fits on it; `taken_m` [N, 2] are points that stay uncovered."""
    boxes: list[tuple[float, float, float, float]] = [(x - 0.2, y - 0.2, x + 0.2, y + 0.2) for x, y in taken_m.tolist()]
    for room in (room for room in house["rooms"] if room["floor"] == floor):
        here = [item["rect_m"] for item in house["items"] if house["rooms"][item["room"]] is room]
        boxes.append(_draw_room_name(axes, room, here, boxes, px_per_m, text_px))
    small_px = 0.72 * text_px
    for item in house["items"]:
        if house["rooms"][item["room"]]["floor"] != floor or item["hangs"]:
            continue
        x0, y0, x1, y1 = item["rect_m"]
        long_m, high_m = _text_m(item["category"], small_px, px_per_m)
        upright = long_m > x1 - x0
        if upright:
            long_m, high_m = high_m, long_m
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        box = (x - long_m / 2, y - high_m / 2, x + long_m / 2, y + high_m / 2)
        if long_m > x1 - x0 or high_m > y1 - y0 or any(_overlap(box, other) > 0.0 for other in boxes):
            continue
        boxes.append(box)
        light = np.dot(COLOURS[item["colour"]], (0.3, 0.59, 0.11)) > 0.45
        axes.text(x, y, item["category"], ha="center", va="center", rotation=90 if upright else 0, fontfamily=FONT,
                  fontsize=points(small_px), color="black" if light else "white", zorder=4)  # fmt: skip


def _draw_room_name(
    axes: Axes, room: Mapping[str, Any], items: Sequence[Sequence[float]],
    boxes: Sequence[tuple[float, float, float, float]], px_per_m: float, text_px: float,
) -> tuple[float, float, float, float]:  # fmt: skip
    """Writes the name where it covers least; returns its box."""
    x0, y0, x1, y1 = room["rect_m"]
    name = room["kind"]
    if _text_m(name, text_px, px_per_m)[0] > x1 - x0 - 0.3:
        name = name.replace(" ", "\n")
    wide, high = _text_m(name, text_px, px_per_m)
    best = (np.inf, (x0, y0, x1, y1))
    for x in np.linspace(x0 + wide / 2 + 0.15, x1 - wide / 2 - 0.15, 9) if wide + 0.3 < x1 - x0 else [(x0 + x1) / 2]:
        for y in np.linspace(y0 + high / 2 + 0.15, y1 - high / 2 - 0.15, 9):
            box = (float(x - wide / 2), float(y - high / 2), float(x + wide / 2), float(y + high / 2))
            cost = sum(_overlap(box, item) for item in items) + 5.0 * sum(_overlap(box, other) for other in boxes)
            best = min(best, (cost + 0.01 * float(np.hypot(x - (x0 + x1) / 2, y - (y0 + y1) / 2)), box))
    box = best[1]
    axes.text((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, name, ha="center", va="center", fontsize=points(text_px),
              color=INK, fontfamily=FONT, fontweight="bold", linespacing=1.0, zorder=4.5,
              bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.0})  # fmt: skip
    return box


def _text_m(text: str, text_px: float, px_per_m: float) -> tuple[float, float]:
    """Width and height of a text in metres of the plan."""
    lines = text.split("\n")
    return LETTER_WIDTH * text_px * max(map(len, lines)) / px_per_m, 1.15 * text_px * len(lines) / px_per_m


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Square metres that two boxes share."""
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


def floor_of(house: Mapping[str, Any], row: int) -> int:
    """The floor on which a viewpoint is drawn; half-way up the stairs counts as below."""
    pose = house["connectivity"][row]
    return int((pose["pose"][11] - pose["height"] + 0.01) // STOREY_M)

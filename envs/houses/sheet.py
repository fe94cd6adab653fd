"""A route through a house on one sheet: plan, panorama, instructions, the view ahead at each step."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from envs.floorplan import INK, PREDICTION, cells_in, draw_scale, panel, points
from envs.houses.blueprint import FONT, draw_floor, draw_names, extent_m, floor_of, floors_of
from envs.houses.guide import relative_rad
from envs.rendering import Camera, load_texture, render, view_rotation
from envs.topdown import new_figure, pixels_of, write_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PX, PLAN_PX, TEXT_PX, GAP_PX = 1920, 1320, 17.0, 20
PLAN_LEAST_PX, PLAN_MOST_PX = 640, 1000
"""Height of the plans, whose shape decides between the two."""
COLUMNS = 4
SHARES = (0.2, 0.4, 0.6, 0.8)
"""Of a step of the route: names stay off these points."""
BAR_ROOM_M = 1.2
"""Below the plan, for the bar of its scale."""
STRIP_VFOV_RAD = math.radians(64)
STRIP_SLICES = 240
"""The panorama is a cylinder of so many narrow views."""
VIEW_VFOV_RAD = math.radians(60)


def draw_sheet(world: Path, house: Mapping[str, Any], route: Mapping[str, Any], title: str) -> np.ndarray:
    """[H, 1920, 3] uint8, RGB.

    Args:
        world: folder with the skyboxes, as `python -m envs.houses` writes it.
        house: what `houses/{scan}.json` holds.
        route: an item of R2R: path, heading, instructions; a path of one viewpoint has no steps.
        title: the line over everything.

    Raises:
        ValueError: a viewpoint that the house does not have; `SkyboxError` for a skybox that is missing or damaged.
    """
    rows = _rows(house, route["path"])
    headings = _headings(house, rows, route["heading"])
    view_px = (WIDTH_PX - GAP_PX * (COLUMNS + 1)) // COLUMNS
    strip_px = round(WIDTH_PX / math.pi * math.tan(STRIP_VFOV_RAD / 2))
    strip_px = round(WIDTH_PX / math.pi * math.tan(STRIP_VFOV_RAD / 2))
    label_px, title_px, plan_px = round(2.2 * TEXT_PX), round(3 * TEXT_PX), _plan_height_px(house)
    tile_px = view_px * 3 // 4 + label_px
    lines = -(-len(rows) // COLUMNS)
    height_px = title_px + plan_px + strip_px + 2 * label_px + lines * tile_px + GAP_PX
    figure = new_figure(WIDTH_PX, height_px)
    write_line(figure, GAP_PX, height_px - 0.7 * TEXT_PX, title, 1.4 * TEXT_PX)
    y_px = height_px - title_px - plan_px
    _draw_plan(figure, (0.0, float(y_px), float(PLAN_PX), float(plan_px)), house, rows, headings[0])
    _draw_words(figure, y_px + plan_px, house, rows, headings, route["instructions"])
    text = "All around the start; the middle is where the follower faces, the number is where the route leads"
    write_line(figure, GAP_PX, y_px - 0.5 * TEXT_PX, text, TEXT_PX)
    y_px -= label_px + strip_px
    _draw_strip(figure, (0, y_px, WIDTH_PX, strip_px), world, house, rows, headings)
    write_line(figure, GAP_PX, y_px - 0.5 * TEXT_PX, "In walking direction, from each viewpoint of the route", TEXT_PX)
    y_px -= label_px
    for k in range(len(rows)):
        left, bottom = GAP_PX + (k % COLUMNS) * (view_px + GAP_PX), y_px - (k // COLUMNS + 1) * tile_px + label_px
        _draw_view(figure, (left, bottom, view_px, view_px * 3 // 4), world, house, rows, headings, k)
    return pixels_of(figure)


def _plan_height_px(house: Mapping[str, Any]) -> int:
    """What floors beside each other need at the scale that their width allows."""
    low, high = extent_m(house)
    wide, deep = high - low + (0.0, BAR_ROOM_M)
    needed = (PLAN_PX / floors_of(house) - 2 * TEXT_PX) * deep / wide + 5 * TEXT_PX
    return round(min(max(needed, PLAN_LEAST_PX), PLAN_MOST_PX))


def _draw_view(
    figure: Figure, box_px: tuple[int, int, int, int], world: Path, house: Mapping[str, Any], rows: Sequence[int],
    headings: Sequence[float], k: int,
) -> None:  # fmt: skip
    """What one sees ahead at viewpoint k of the route, with its number and what happens there."""
    left, bottom, width, height = box_px
    view = _views(world, house, rows[k], [headings[k + 1]], Camera(width, height, VIEW_VFOV_RAD))[0]
    _draw_image(figure, box_px, view)
    _draw_number(figure, left + 1.3 * TEXT_PX, bottom + height - 1.3 * TEXT_PX, k + 1)
    write_line(figure, left, bottom - 0.3 * TEXT_PX, _step_text(house, rows, headings, k), TEXT_PX)


def _rows(house: Mapping[str, Any], path: Sequence[str]) -> list[int]:
    row = {item["image_id"]: i for i, item in enumerate(house["connectivity"])}
    unknown = [viewpoint for viewpoint in path if viewpoint not in row]
    if unknown or not path:
        raise ValueError(f"house {house['scan']} has no viewpoint {', '.join(unknown) or '(empty path)'}")
    return [row[viewpoint] for viewpoint in path]


def _position_m(house: Mapping[str, Any], row: int) -> np.ndarray:
    """[3] of the eye."""
    return np.array(house["connectivity"][row]["pose"])[[3, 7, 11]]


def _headings(house: Mapping[str, Any], rows: Sequence[int], start_rad: float) -> list[float]:
    """[N + 1] radians: at the start, then towards the next viewpoint at each; at the last as it was reached."""
    headings = [start_rad]
    for a, b in pairwise(rows):
        step = _position_m(house, b) - _position_m(house, a)
        headings.append(math.atan2(step[0], step[1]))
    return [*headings, headings[-1]]


def _step_text(house: Mapping[str, Any], rows: Sequence[int], headings: Sequence[float], k: int) -> str:
    """What happens at viewpoint k: its room, the turn, the step."""
    kind = house["rooms"][house["viewpoints"][rows[k]]["room"]]["kind"]
    if k == len(rows) - 1:
        return f"{kind}: " + ("the goal" if k else "the start")
    degrees = math.degrees(relative_rad(headings[k + 1], headings[k]))
    turn = "ahead" if abs(degrees) < 15 else f"{abs(degrees):.0f}\N{DEGREE SIGN} {'right' if degrees > 0 else 'left'}"
    metres = float(np.linalg.norm(_position_m(house, rows[k + 1]) - _position_m(house, rows[k])))
    return f"{kind}: {turn}, {metres:.1f} m"


def _draw_plan(
    figure: Figure, box_px: tuple[float, float, float, float], house: Mapping[str, Any], rows: list[int], start: float
) -> None:
    low, high = extent_m(house)
    low = low - (0.0, BAR_ROOM_M)
    floors = floors_of(house)
    label_px = 1.6 * TEXT_PX if floors > 1 else 0.0
    cells, px_per_m = cells_in(box_px, floors, high - low + 0.6, label_px, gap_px=TEXT_PX)
    text_px = TEXT_PX if floors == 1 else 0.85 * TEXT_PX
    for floor, cell_px in enumerate(cells):
        axes = panel(figure, cell_px, (low + high) / 2, px_per_m)
        draw_floor(axes, house, floor, px_per_m, text_px)
        _draw_graph(axes, house, floor)
        shown = [row for row in range(len(house["connectivity"])) if floor_of(house, row) == floor]
        walked = [(a, b) for a, b in pairwise(rows) if a in shown and b in shown]
        taken = [_position_m(house, row)[:2] for row in shown]
        taken += [
            (1 - s) * _position_m(house, a)[:2] + s * _position_m(house, b)[:2] for a, b in walked for s in SHARES
        ]
        draw_names(axes, house, floor, px_per_m, text_px, np.array(taken).reshape(-1, 2))
        _draw_route(axes, house, rows, floor, start)
        if floor == 0:
            draw_scale(axes, px_per_m, text_px)
        if floors > 1:
            axes.set_title("ground floor" if floor == 0 else "upper floor", fontsize=points(TEXT_PX), color=INK, pad=3,
                           loc="left", fontfamily=FONT)  # fmt: skip


def _draw_graph(axes: Axes, house: Mapping[str, Any], floor: int) -> None:
    """All viewpoints and edges that touch a floor."""
    here = [floor_of(house, row) == floor for row in range(len(house["connectivity"]))]
    for i, item in enumerate(house["connectivity"]):
        x, y, _ = _position_m(house, i)
        for j, joined in enumerate(item["unobstructed"][:i]):
            if joined and (here[i] or here[j]):
                end = _position_m(house, j)
                axes.plot([x, end[0]], [y, end[1]], color="#1f77b4", linewidth=0.8, alpha=0.55, zorder=3.7)
        if here[i]:
            axes.plot(x, y, marker="o", color="#1f77b4", markersize=4, markeredgecolor="white", zorder=3.8)


def _draw_route(axes: Axes, house: Mapping[str, Any], rows: Sequence[int], floor: int, start_rad: float) -> None:
    """Numbered viewpoints, the first with an arrow where the follower faces."""
    here = [floor_of(house, row) == floor for row in rows]
    spots = [_position_m(house, row)[:2] for row in rows]
    for k in range(len(rows) - 1):
        if here[k] or here[k + 1]:
            xs, ys = zip(spots[k], spots[k + 1], strict=True)
            style = "-" if here[k] and here[k + 1] else (0, (1.5, 1))
            axes.plot(xs, ys, color=PREDICTION, linewidth=3.0, linestyle=style, zorder=5)
    if here[0]:
        ahead = spots[0] + 0.75 * np.array([math.sin(start_rad), math.cos(start_rad)])
        arrow = {"arrowstyle": "-|>", "color": INK, "linewidth": 2.0, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", tuple(ahead), tuple(spots[0]), zorder=5.5, arrowprops=arrow)
    for k, (x, y) in enumerate(spots):
        if here[k]:
            axes.plot(x, y, marker="o", color=PREDICTION, markersize=points(1.5 * TEXT_PX), markeredgecolor="white",
                      zorder=6)  # fmt: skip
            axes.text(x, y, str(k + 1), ha="center", va="center_baseline", color="white", fontweight="bold",
                      fontsize=points(0.95 * TEXT_PX), fontfamily=FONT, zorder=7)  # fmt: skip


def _draw_words(
    figure: Figure, top_px: float, house: Mapping[str, Any], rows: Sequence[int], headings: Sequence[float],
    instructions: Sequence[str],
) -> None:  # fmt: skip
    """The column beside the plan: instructions, steps, what the signs mean."""
    left, y = PLAN_PX + 10, top_px - 0.5 * TEXT_PX
    letters = int((WIDTH_PX - left - GAP_PX) / (0.56 * TEXT_PX))
    steps = [f"{k + 1}  {_step_text(house, rows, headings, k)}" for k in range(len(rows))]
    signs = (
        "dots, thin lines: viewpoints, where one can walk",
        "arrow at 1: where the follower faces at the start",
        "white gaps: doors; strips on walls: windows, paintings",
        "pale rectangles: rugs; the rest: furniture in its colour",
    )
    blocks = [("Instructions", list(instructions)), ("Route", steps), ("Signs", list(signs))]
    for name, texts in blocks:
        write_line(figure, left, y, name, 1.15 * TEXT_PX)
        y -= 1.8 * TEXT_PX
        for text in texts:
            for line in textwrap.wrap(text, letters):
                write_line(figure, left, y, line, TEXT_PX)
                y -= 1.35 * TEXT_PX
            y -= (0.55 if name == "Instructions" else 0.0) * TEXT_PX
        y -= 0.8 * TEXT_PX


def _views(
    world: Path, house: Mapping[str, Any], row: int, headings: Sequence[float], camera: Camera
) -> Sequence[np.ndarray]:
    """[N, H, W, 3] uint8, RGB."""
    item = house["connectivity"][row]
    pose = np.array(item["pose"]).reshape(4, 4)
    texture = load_texture(world, house["scan"], item["image_id"], "rgb", None)
    return list(render(texture, np.stack([view_rotation(heading, 0.0, pose) for heading in headings]), camera))


def _draw_strip(
    figure: Figure, box_px: tuple[int, int, int, int], world: Path, house: Mapping[str, Any], rows: Sequence[int],
    headings: Sequence[float],
) -> None:  # fmt: skip
    """The panorama of the first viewpoint as a cylinder, with a sign where the route leads."""
    left, bottom, width, height = box_px
    turns = (np.arange(STRIP_SLICES) + 0.5) / STRIP_SLICES * 2 * math.pi - math.pi
    camera = Camera(width // STRIP_SLICES, height, STRIP_VFOV_RAD)
    slices = _views(world, house, rows[0], (headings[0] + turns).tolist(), camera)
    _draw_image(figure, box_px, np.concatenate(list(slices), axis=1))
    if len(rows) > 1:
        x = left + width * (0.5 + relative_rad(headings[1], headings[0]) / (2 * math.pi))
        _draw_number(figure, min(max(x, 1.3 * TEXT_PX), width - 1.3 * TEXT_PX), bottom + 1.3 * TEXT_PX, 2)


def _draw_image(figure: Figure, box_px: tuple[int, int, int, int], rgb: np.ndarray) -> None:
    figure.figimage(rgb, box_px[0], box_px[1], origin="upper", zorder=1)


def _draw_number(figure: Figure, x_px: float, y_px: float, number: int) -> None:
    """A step's number on a disc, as on the plan."""
    width_px, height_px = figure.get_size_inches() * figure.dpi
    figure.text(x_px / width_px, y_px / height_px, str(number), ha="center", va="center", color="white", zorder=5,
                fontsize=points(1.05 * TEXT_PX), fontweight="bold", fontfamily=FONT,
                bbox={"boxstyle": "circle,pad=0.3", "facecolor": PREDICTION, "edgecolor": "white"})  # fmt: skip

"""The floors of a building drawn as panels of one scale, with a route on them.

Lengths named `_px` are pixels of the figure, `_m` metres of the world; x and y of a panel are those of the world.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from envs.floors import find_floors
from envs.metrics import SUCCESS_RADIUS_M
from envs.scenes import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Place = int | str
"""A viewpoint: its row in the scene or its id."""

FLOOR_COLOURS = ("#6bb392", "#a78bcb", "#d0aa5a", "#7badd4", "#cf8c8c", "#999999")
REFERENCE, PREDICTION, START, AGENT, INK, FAINT = "#2b6cc4", "#e0501b", "#178a3c", "#111111", "#333333", "#dddddd"


MARKS: dict[str, dict] = {
    "start": {"marker": "o", "color": "white", "markeredgecolor": START, "markeredgewidth": 2.0, "markersize": 1.1},
    "goal": {"marker": "*", "color": REFERENCE, "markeredgecolor": "white", "markeredgewidth": 0.8, "markersize": 2.1},
    "stop": {
        "marker": "X",
        "color": PREDICTION,
        "markeredgecolor": "white",
        "markeredgewidth": 0.6,
        "markersize": 0.85,
    },
}
"""Matplotlib's style of each mark; `markersize` is in heights of the text."""


@dataclass(frozen=True)
class Route:
    """What one map shows; every part but the scene may be absent.

    reference, path: viewpoints in order, the goal of the reference last. position, heading_rad: where the agent is and
    faces (radians, 0 = +y, turning right positive). title stands over the map, instruction is wrapped below it.
    """

    scene: Scene
    reference: Sequence[Place] | None = None
    path: Sequence[Place] | None = None
    position: Place | None = None
    heading_rad: float | None = None
    title: str | None = None
    instruction: str | None = None


def draw_route(
    figure: Figure,
    box_px: tuple[float, float, float, float],
    route: Route,
    *,
    text_px: float,
    margin_m: float | None,
    all_floors: bool,
) -> None:
    """Draws the floors that a route touches (or all) as panels inside a box of the figure.

    Args:
        figure: the matplotlib figure.
        box_px: left, bottom, width, height of the box.
        route: the scene and what happens in it.
        text_px: height of the text.
        margin_m: what is shown around the route, None for the whole building.
        all_floors: show floors without a part of the route too.
    """
    scene = route.scene
    reference, path = rows_of(scene, route.reference), rows_of(scene, route.path)
    position = rows_of(scene, None if route.position is None else [route.position])
    touched = reference + path + position
    included = np.flatnonzero(scene.included)
    if not len(included):
        raise ValueError(f"scan {scene.scan} has no included viewpoint; expected at least one to draw")
    level_m = find_floors(scene.position_m[included, 2])
    floor = np.abs(scene.position_m[:, 2:] - level_m).argmin(axis=1)
    shown = sorted(set(floor[included if all_floors or not touched else touched].tolist()))
    within = touched if touched and margin_m is not None else included
    pad_m = 1.5 if margin_m is None else margin_m
    low_m = np.min(scene.position_m[within, :2], axis=0) - pad_m
    high_m = np.max(scene.position_m[within, :2], axis=0) + pad_m
    if reference:
        low_m = np.minimum(low_m, scene.position_m[reference[-1], :2] - SUCCESS_RADIUS_M - 0.5)
        high_m = np.maximum(high_m, scene.position_m[reference[-1], :2] + SUCCESS_RADIUS_M + 0.5)
    label_px = 1.6 * text_px if len(level_m) > 1 else 0.0
    cells, px_per_m = cells_in(box_px, len(shown), high_m - low_m, label_px, gap_px=0.6 * text_px)
    for k, (level, cell_px) in enumerate(zip(shown, cells, strict=True)):
        axes = panel(figure, cell_px, (low_m + high_m) / 2, px_per_m)
        _draw_graph(axes, scene, floor, level)
        _draw_walk(axes, scene, reference, floor == level, REFERENCE, 0.42 * text_px, 0.45)
        _draw_walk(axes, scene, path, floor == level, PREDICTION, 0.17 * text_px, 1.0)
        _draw_chevrons(axes, scene, path, floor == level, 0.45 * text_px / px_per_m)
        _draw_marks(
            axes, scene, (reference or path)[:1], reference[-1:], [] if position else path[-1:], floor == level, text_px
        )
        _draw_stairs(axes, scene, (reference, path), floor, level, text_px)
        if position and floor[position[0]] == level:
            _draw_agent(axes, scene.position_m[position[0], :2], route.heading_rad, 1.1 * text_px / px_per_m)
        if k == 0:
            draw_scale(axes, px_per_m, text_px)
        if len(level_m) > 1:
            name = f"floor {level + 1} of {len(level_m)}, z {level_m[level]:.1f} m"
            axes.set_title(name, fontsize=points(text_px), color=INK, pad=2, loc="left", fontfamily="DejaVu Sans")


def rows_of(scene: Scene, places: Sequence[Place] | None) -> list[int]:
    """Rows of viewpoints given by id or row. ValueError for one that the scene does not have."""
    rows = []
    for place in places if places is not None else ():
        row = scene.row.get(place, -1) if isinstance(place, str) else int(place)
        if not 0 <= row < len(scene.viewpoints):
            raise ValueError(
                f"scan {scene.scan} has no viewpoint {place!r}; expected an id or a row below {len(scene.viewpoints)}"
            )
        rows.append(row)
    return rows


def points(px: float) -> float:
    """Matplotlib's points of a length in pixels, at 100 pixels per inch."""
    return px * 0.72


def cells_in(
    box_px: tuple[float, float, float, float], n: int, size_m: np.ndarray, label_px: float, gap_px: float
) -> tuple[list[tuple[float, float, float, float]], float]:
    """Boxes (left, bottom, width, height in px) of n panels, in the grid that gives the largest scale; that scale."""
    left, bottom, width, height = box_px
    best: tuple[float, int] = (0.0, 1)
    for columns in range(1, n + 1):
        lines = -(-n // columns)
        panel_px = np.array([(width - gap_px) / columns - gap_px, (height - gap_px) / lines - gap_px - label_px])
        best = max(best, (float((panel_px / size_m).min()), columns))
    px_per_m, columns = best
    lines = -(-n // columns)
    step_x, step_y = (width - gap_px) / columns, (height - gap_px) / lines
    cells = [
        (
            left + gap_px + (i % columns) * step_x,
            bottom + gap_px + (lines - 1 - i // columns) * step_y,
            step_x - gap_px,
            step_y - gap_px - label_px,
        )
        for i in range(n)
    ]
    return cells, px_per_m


def panel(figure: Figure, cell_px: tuple[float, float, float, float], centre_m: np.ndarray, px_per_m: float) -> Axes:
    """Axes that fill a cell at the given scale, in metres of the world."""
    width_px, height_px = figure.get_size_inches() * figure.dpi
    left, bottom, width, height = cell_px
    axes = figure.add_axes((left / width_px, bottom / height_px, width / width_px, height / height_px))
    axes.set_xlim(centre_m[0] - width / px_per_m / 2, centre_m[0] + width / px_per_m / 2)
    axes.set_ylim(centre_m[1] - height / px_per_m / 2, centre_m[1] + height / px_per_m / 2)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor("#fcfcfa")
    for spine in axes.spines.values():
        spine.set(color=FAINT, linewidth=0.8)
    return axes


def _draw_graph(axes: Axes, scene: Scene, floor: np.ndarray, level: int) -> None:
    """Edges and viewpoints of one floor; stairs to others dashed, the rest of the building as a shadow."""
    from matplotlib.collections import LineCollection

    edges = np.argwhere(np.triu(scene.adjacency))
    xy_m = scene.position_m[:, :2]
    ends_here = (floor[edges] == level).sum(axis=1)
    for ends, colour, style in ((0, "#efefec", "-"), (1, "#a8a8a8", ":"), (2, "#c4c4c4", "-")):
        axes.add_collection(
            LineCollection(
                list(xy_m[edges[ends_here == ends]]), colors=colour, linewidths=0.8, linestyles=style, zorder=1
            ),
            autolim=False,
        )
    here = scene.included & (floor == level)
    colour = FLOOR_COLOURS[level % len(FLOOR_COLOURS)]
    axes.scatter(xy_m[here, 0], xy_m[here, 1], s=11, color=colour, linewidths=0, zorder=2)


def _segments(scene: Scene, walk: Sequence[int], here: np.ndarray) -> Iterator[tuple[np.ndarray, bool]]:
    """[2, 2] ends in metres of every move of a walk that touches this floor, with whether it stays on it."""
    for a, b in pairwise(walk):
        if a != b and (here[a] or here[b]):
            yield scene.position_m[[a, b], :2], bool(here[a] and here[b])


def _draw_walk(
    axes: Axes, scene: Scene, walk: Sequence[int], here: np.ndarray, colour: str, width_px: float, alpha: float
) -> None:
    """A walk as a line, dashed where it changes floor."""
    for ends_m, stays in _segments(scene, walk, here):
        style = "-" if stays else (0, (1.5, 1))
        axes.plot(
            *ends_m.T, color=colour, linewidth=points(width_px), alpha=alpha, linestyle=style, zorder=3 + alpha,
            solid_capstyle="round",
        )  # fmt: skip


def _draw_chevrons(axes: Axes, scene: Scene, walk: Sequence[int], here: np.ndarray, size_m: float) -> None:
    """A small triangle in the middle of every move, pointing ahead."""
    from matplotlib.collections import PolyCollection

    triangles = []
    for (start_m, end_m), _ in _segments(scene, walk, here):
        ahead_m = size_m * (end_m - start_m) / max(float(np.hypot(*(end_m - start_m))), 1e-9)
        side_m = 0.7 * np.array([-ahead_m[1], ahead_m[0]])
        middle_m = (start_m + end_m) / 2
        triangles.append([middle_m + ahead_m, middle_m - 0.6 * ahead_m + side_m, middle_m - 0.6 * ahead_m - side_m])
    axes.add_collection(PolyCollection(triangles, facecolors=PREDICTION, linewidths=0, zorder=5), autolim=False)


def _draw_marks(
    axes: Axes, scene: Scene, start: list[int], goal: list[int], stop: list[int], here: np.ndarray, text_px: float
) -> None:
    """Start, goal with the circle of success, stop: those of them (one row or none each) that lie on this floor."""
    from matplotlib.patches import Circle

    for rows, style in ((start, MARKS["start"]), (goal, MARKS["goal"]), (stop, MARKS["stop"])):
        for row in rows:
            if here[row]:
                x_m, y_m = scene.position_m[row, :2]
                size = points(text_px) * style["markersize"]
                axes.plot(x_m, y_m, linestyle="none", zorder=6, **{**style, "markersize": size})
    if goal and here[goal[0]]:
        centre_m = tuple(scene.position_m[goal[0], :2])
        ring = {"edgecolor": REFERENCE, "linewidth": 0.8, "linestyle": "--"}
        axes.add_patch(Circle(centre_m, SUCCESS_RADIUS_M, facecolor=REFERENCE, alpha=0.08, zorder=0.5))
        axes.add_patch(Circle(centre_m, SUCCESS_RADIUS_M, fill=False, zorder=2.5, **ring))


def _draw_stairs(
    axes: Axes, scene: Scene, walks: Sequence[Sequence[int]], floor: np.ndarray, level: int, text_px: float
) -> None:
    """The name of the other floor where a walk leaves this one."""
    ends = [(a, b) for walk in walks for there in pairwise(walk) for a, b in (there, there[::-1])]
    beyond = {int(floor[b]): b for a, b in ends if floor[a] == level != floor[b]}
    for other, row in sorted(beyond.items()):
        x_m, y_m = scene.position_m[row, :2]
        sign = "\N{UPWARDS ARROW}" if other > level else "\N{DOWNWARDS ARROW}"
        _label(axes, x_m, y_m, f"{sign} floor {other + 1}", text_px)


def _draw_agent(axes: Axes, centre_m: np.ndarray, heading_rad: float | None, size_m: float) -> None:
    """The agent as an arrowhead that points along its heading, or as a disc if it has none."""
    from matplotlib.patches import Circle, Polygon

    if heading_rad is None:
        axes.add_patch(Circle(tuple(centre_m), 0.5 * size_m, facecolor=AGENT, edgecolor="white", zorder=7))
        return
    ahead = np.array([np.sin(heading_rad), np.cos(heading_rad)]) * size_m
    side = np.array([ahead[1], -ahead[0]])
    corners = [
        centre_m + ahead,
        centre_m - 0.6 * ahead + 0.6 * side,
        centre_m - 0.25 * ahead,
        centre_m - 0.6 * ahead - 0.6 * side,
    ]
    axes.add_patch(Polygon(corners, closed=True, facecolor=AGENT, edgecolor="white", linewidth=0.8, zorder=7))


def draw_scale(axes: Axes, px_per_m: float, text_px: float) -> None:
    """A bar of a round number of metres in the lower left corner."""
    width_m = axes.get_xlim()[1] - axes.get_xlim()[0]
    bar_m = max((m for m in (0.5, 1, 2, 5, 10, 20, 50) if m <= 0.25 * width_m), default=0.5)
    x_m, y_m = axes.get_xlim()[0] + 0.8 * text_px / px_per_m, axes.get_ylim()[0] + 0.8 * text_px / px_per_m
    tick_m = 0.25 * text_px / px_per_m
    xs, ys = [x_m, x_m, x_m + bar_m, x_m + bar_m], [y_m + tick_m, y_m, y_m, y_m + tick_m]
    axes.plot(xs, ys, color="white", linewidth=4, zorder=8)
    axes.plot(xs, ys, color=INK, linewidth=1.2, zorder=9)
    _label(axes, x_m + bar_m / 2, y_m + 1.5 * tick_m, f"{bar_m:g} m", text_px)


def _label(axes: Axes, x_m: float, y_m: float, text: str, text_px: float) -> None:
    """A small text on white, its bottom at y_m."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
    size = points(0.9 * text_px)
    label = axes.text(x_m, y_m, text, ha="center", va="bottom", zorder=9, bbox=box, fontsize=size, color=INK)
    label.set(fontfamily="DejaVu Sans", clip_on=True)

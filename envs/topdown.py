"""Top-down pictures of routes on the navigation graph of a building, one panel per floor.

Nothing but the graph is needed: no mesh, no image of the building. Matplotlib is imported when something is drawn, and
drawn on by its object interface alone, so that neither a backend nor a global figure of the caller changes.
"""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from envs.files import replacing
from envs.floorplan import AGENT, INK, MARKS, PREDICTION, REFERENCE, Place, Route, draw_route, points
from envs.metrics import SUCCESS_RADIUS_M
from envs.scenes import Scene

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELS = {"goal": f"goal, {SUCCESS_RADIUS_M:g} m"}
"""What the legend calls a mark that has another name there."""

__all__ = ["Route", "draw_routes", "draw_topdown", "write_png"]


def draw_topdown(
    scene: Scene,
    *,
    reference: Sequence[Place] | None = None,
    path: Sequence[Place] | None = None,
    position: Place | None = None,
    heading_rad: float | None = None,
    size_px: int = 512,
    title: str | None = None,
    margin_m: float | None = None,
    floors: Literal["route", "all"] = "route",
) -> np.ndarray:
    """A square map of a building with what happens in it.

    Args:
        scene: the building.
        reference: rows or ids of the route described by the instruction; its last viewpoint gets the goal's star and
            the circle of the success radius.
        path: rows or ids of the viewpoints that the agent visited.
        position: row or id of the viewpoint at which the agent is; then the end of the path gets no mark of a stop.
        heading_rad: where it faces; 0 = +y (up on the map), turning right positive.
        size_px: width and height of the picture.
        title: a line over the map.
        margin_m: cut the map to the routes and this much around them; None shows the whole building.
        floors: "route" shows the floors that reference, path or position touch, "all" every floor.

    Returns:
        [size_px, size_px, 3] uint8, RGB. Equal arguments give equal pixels.

    Raises:
        ValueError: a viewpoint that the scene does not have, a size that leaves no place for the map.
    """
    if size_px < 128:
        raise ValueError(f"size_px is {size_px}; expected at least 128")
    route = Route(scene, reference, path, position, heading_rad, title)
    text_px = _text_px(size_px)
    top_px = 2.2 * text_px if title else 0.4 * text_px
    legend_px = 2.2 * text_px
    figure = new_figure(size_px, size_px)
    box_px = (0.0, legend_px, float(size_px), size_px - top_px - legend_px)
    draw_route(figure, box_px, route, text_px=text_px, margin_m=margin_m, all_floors=floors == "all")
    if title:
        write_line(figure, size_px / 2, size_px - 0.5 * text_px, title, 1.15 * text_px, centred=True)
    _draw_legend(figure, [route], text_px)
    return pixels_of(figure)


def draw_routes(
    routes: Sequence[Route], columns: int = 2, tile_px: int = 560, margin_m: float | None = 4.0
) -> np.ndarray:
    """One sheet with a map for each route, its instruction wrapped under it.

    Args:
        routes: what to draw, row by row.
        columns: maps beside each other.
        tile_px: width of one map; its height is 3/4 of that, plus the text.
        margin_m: cut each map to its route and this much around it; None shows whole buildings.

    Returns:
        [H, columns * tile_px, 3] uint8, RGB.

    Raises:
        ValueError: no route, no column, a tile too small, a viewpoint that a scene does not have.
    """
    if not routes or columns < 1 or tile_px < 128:
        raise ValueError(
            f"{len(routes)} routes in {columns} columns of {tile_px} px; expected at least 1 route, 1 column, 128 px"
        )
    columns = min(columns, len(routes))
    text_px = _text_px(tile_px)
    line_px, map_px = 1.4 * text_px, 0.75 * tile_px
    texts = [textwrap.wrap(route.instruction or "", int(tile_px / (0.58 * text_px))) for route in routes]
    rows = [range(i, min(i + columns, len(routes))) for i in range(0, len(routes), columns)]
    heights_px = [map_px + 4.5 * text_px + line_px * max(len(texts[i]) for i in row) for row in rows]
    width_px, height_px = columns * tile_px, round(sum(heights_px) + 2.2 * text_px)
    figure = new_figure(width_px, height_px)
    y_px = float(height_px)
    for row, row_px in zip(rows, heights_px, strict=True):
        for column, i in enumerate(row):
            x_px, map_y_px = column * tile_px, y_px - 2.2 * text_px - map_px
            write_line(figure, x_px + text_px, y_px - 0.7 * text_px, routes[i].title or "", 1.15 * text_px)
            box_px = (float(x_px), map_y_px, float(tile_px), map_px)
            draw_route(figure, box_px, routes[i], text_px=text_px, margin_m=margin_m, all_floors=False)
            for k, line in enumerate(texts[i]):
                write_line(figure, x_px + text_px, map_y_px - 0.4 * text_px - k * line_px, line, text_px)
        y_px -= row_px
    _draw_legend(figure, routes, text_px)
    return pixels_of(figure)


def write_png(path: str | Path, rgb: np.ndarray) -> None:
    """Writes an [H, W, 3] uint8 picture as PNG."""
    from matplotlib.image import imsave

    with replacing(path) as file:
        imsave(file, rgb, format="png")


def _text_px(width_px: int) -> float:
    return max(9.0, width_px / 46)


def new_figure(width_px: int, height_px: int) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_px / 100, height_px / 100), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def pixels_of(figure: Figure) -> np.ndarray:
    """[H, W, 3] uint8 of a figure; a letter that the font lacks becomes a box without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]


def write_line(figure: Figure, x_px: float, y_px: float, text: str, size_px: float, centred: bool = False) -> None:
    """A line of text whose top is at y_px; a dollar sign is a dollar sign, not mathematics."""
    width_px, height_px = figure.get_size_inches() * figure.dpi
    figure.text(
        x_px / width_px, y_px / height_px, text, fontsize=points(size_px), color=INK, fontfamily="DejaVu Sans",
        ha="center" if centred else "left", va="top", parse_math=False,
    )  # fmt: skip


def _draw_legend(figure: Figure, routes: Sequence[Route], text_px: float) -> None:
    """One line at the bottom of the figure that explains what any of the routes shows."""
    from matplotlib.lines import Line2D

    has_reference, has_path = any(route.reference for route in routes), any(route.path for route in routes)
    stops = any(route.path and route.position is None for route in routes)
    shown = {
        "reference": has_reference,
        "path": has_path,
        "start": has_reference or has_path,
        "goal": has_reference,
        "stop": stops,
        "agent": any(route.position is not None for route in routes),
    }
    names = [name for name, is_shown in shown.items() if is_shown]
    needed_px = text_px * sum(4.5 + 0.6 * len(LABELS.get(name, name)) for name in names)
    size = points(text_px) * min(1.0, figure.get_size_inches()[0] * figure.dpi / max(needed_px, 1.0))
    styles: dict[str, dict] = {
        "reference": {"color": REFERENCE, "alpha": 0.45, "linewidth": 0.42 * size},
        "path": {"color": PREDICTION, "linewidth": 0.17 * size},
        "agent": {"linestyle": "none", "marker": "^", "color": AGENT, "markersize": size},
    }
    for name, style in MARKS.items():
        styles[name] = {**style, "linestyle": "none", "markersize": size * style["markersize"]}
    handles = [Line2D([], [], label=LABELS.get(name, name), **styles[name]) for name in names]
    if handles:
        figure.legend(
            handles=handles, loc="lower center", ncols=len(handles), frameon=False, borderaxespad=0.2,
            prop={"family": "DejaVu Sans", "size": size}, handletextpad=0.5, columnspacing=1.5,
        )  # fmt: skip

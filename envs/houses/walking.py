"""Where a walker can go on the floors of a furnished building."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from envs.houses.furnish import BODY_M, Item
from envs.houses.plan import DOOR_WIDTH_M, HALF_WALL_M, Plan, Rect

CELL_M = 0.05
STEP_M = 0.04
"""A straight walk is checked at points this far apart."""


def free_floor(plan: Plan, items: Sequence[Item], floor: int) -> np.ndarray:
    """[H, W] bool: where the middle of a walker may be, cells of 5 cm from the building's corner."""
    size = plan.size
    free = np.zeros((int(size.depth / CELL_M) + 1, int(size.width / CELL_M) + 1), bool)

    def mark(r: Rect, value: bool) -> None:
        x0, y0 = max(int((r.x0 - size.x0) / CELL_M), 0), max(int((r.y0 - size.y0) / CELL_M), 0)
        x1, y1 = int((r.x1 - size.x0) / CELL_M) + 1, int((r.y1 - size.y0) / CELL_M) + 1
        free[y0 : max(y1, 0), x0 : max(x1, 0)] = value

    for room in plan.rooms:
        if room.floor == floor:
            mark(room.rect.grown(-HALF_WALL_M - BODY_M), True)
    for door in plan.doors:
        if door.floor == floor:
            half, reach = DOOR_WIDTH_M / 2 - BODY_M, HALF_WALL_M + BODY_M + CELL_M
            dx, dy = (half, reach) if door.along_x else (reach, half)
            mark(Rect(door.x - dx, door.y - dy, door.x + dx, door.y + dy), True)
    for item in items:
        if item.is_obstacle and plan.rooms[item.room].floor == floor:
            mark(item.rect.grown(BODY_M), False)
    return free


def cells_of(plan: Plan, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns [N] of points [N, 2] of the floor."""
    columns = ((xy[:, 0] - plan.size.x0) / CELL_M).astype(int)
    rows = ((xy[:, 1] - plan.size.y0) / CELL_M).astype(int)
    return rows, columns


def within(plan: Plan, free: np.ndarray, rooms: Sequence[int]) -> np.ndarray:
    """[H, W] bool: the free cells of some rooms."""
    inside = np.zeros_like(free)
    for room in rooms:
        r = plan.rooms[room].rect
        (y0, y1), (x0, x1) = cells_of(plan, np.array([[r.x0, r.y0], [r.x1, r.y1]]))
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
    return free & inside


def is_straight_walk(plan: Plan, free: np.ndarray, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether a walker gets from a to b (x, y, metres) in a straight line."""
    steps = np.linspace(0.0, 1.0, int(np.hypot(*(a - b)) / STEP_M) + 2)[:, None]
    rows, columns = cells_of(plan, a * (1 - steps) + b * steps)
    return bool(free[rows, columns].all())


def way(plan: Plan, free: np.ndarray, starts: np.ndarray, end: np.ndarray) -> np.ndarray:
    """[N, 2] the shortest way over free cells from the nearest of the starts [S, 2] to an end [2], metres, both
    included; N is 0 where there is none."""
    corner, opposite = np.argwhere(free).min(axis=0), np.argwhere(free).max(axis=0) + 1
    first, last = (np.stack(cells_of(plan, xy), axis=1) - corner for xy in (starts, end[None]))
    cells = _grid_way(free[corner[0] : opposite[0], corner[1] : opposite[1]], first, last[0])
    if not len(cells):
        return np.zeros((0, 2))
    middles = ((cells + corner)[:, ::-1] + 0.5) * CELL_M + (plan.size.x0, plan.size.y0)
    nearest = starts[np.argmin(np.hypot(*(starts - middles[0]).T))]
    return np.vstack([nearest, middles[1:-1], end]) if len(cells) > 1 else np.vstack([nearest, end])


def _grid_way(free: np.ndarray, starts: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """[N, 2] rows and columns of a shortest way from one of the cells [S, 2] to a goal [2]; N is 0 if there is none."""
    reached = np.full(free.shape, -1)
    front = np.zeros_like(free)
    inside = ((starts >= 0) & (starts < free.shape)).all(axis=1)
    front[tuple(starts[inside].T)] = True
    step = 0
    while front.any():
        reached[front] = step
        if front[tuple(goal)]:
            break
        front = ndimage.binary_dilation(front) & free & (reached < 0)
        step += 1
    else:
        return np.zeros((0, 2), int)
    cells = [(int(goal[0]), int(goal[1]))]
    for count in range(step - 1, -1, -1):
        row, column = cells[-1]
        beside = ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1))
        cells.append(next(c for c in beside if _inside(free, c) and reached[c] == count))
    return np.array(cells[::-1])


def _inside(free: np.ndarray, cell: tuple[int, int]) -> bool:
    return 0 <= cell[0] < free.shape[0] and 0 <= cell[1] < free.shape[1]


def corners_of(plan: Plan, free: np.ndarray, line: np.ndarray, longest_m: float) -> np.ndarray:
    """[M, 2] few points of a way [N, 2] that straight walks of at most `longest_m` join, without its start."""
    corners, at = [], 0
    while at < len(line) - 1:
        near = [
            k for k in range(at + 1, len(line))
            if np.hypot(*(line[k] - line[at])) <= longest_m and is_straight_walk(plan, free, line[at], line[k])
        ]  # fmt: skip
        at = max(near, default=at + 1)
        corners.append(line[at])
    return np.array(corners)

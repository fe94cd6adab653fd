"""Rays against the solids of a building, found through a grid of cells (numba).

A ray walks the grid cell by cell (Amanatides and Woo 1987) and tests the solids that each cell lists.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.houses.compiled import compiled
from envs.houses.solids import Solids

CELL_M, CELL_HEIGHT_M = 0.35, 0.4
FAR_M = 1e9


@dataclass(frozen=True, eq=False)
class Grid:
    """Which solids each cell meets: those of cell c are `listed[start[c] : start[c + 1]]`; c counts x fastest.

    origin [3] float64 metres, count [3] int64 cells, corners [P, 6] float64: low and high of each solid.
    """

    origin: np.ndarray
    count: np.ndarray
    start: np.ndarray
    listed: np.ndarray
    corners: np.ndarray
    shape: np.ndarray


def build_grid(solids: Solids) -> Grid:
    """Cells over the whole building."""
    cell_m = np.array([CELL_M, CELL_M, CELL_HEIGHT_M])
    origin = solids.low.min(axis=0) - 0.01
    count = np.ceil((solids.high.max(axis=0) + 0.01 - origin) / cell_m).astype(np.int64)
    first = np.clip(((solids.low - origin) / cell_m).astype(np.int64), 0, count - 1)
    last = np.clip(((solids.high - origin) / cell_m).astype(np.int64), 0, count - 1)
    cells: list[np.ndarray] = []
    owners: list[np.ndarray] = []
    for i, (a, b) in enumerate(zip(first, last, strict=True)):
        z, y, x = np.meshgrid(*(np.arange(a[k], b[k] + 1) for k in (2, 1, 0)), indexing="ij")
        cells.append(((z * count[1] + y) * count[0] + x).ravel())
        owners.append(np.full(cells[-1].size, i))
    cell, owner = np.concatenate(cells), np.concatenate(owners)
    order = np.argsort(cell, kind="stable")
    start = np.searchsorted(cell[order], np.arange(int(count.prod()) + 1))
    corners = np.hstack([solids.low, solids.high])
    return Grid(origin, count, start, owner[order], corners, solids.shape)


@compiled
def six(corners, i):
    """The corners of solid i as a tuple: several times faster to hand on than a row of the array."""
    return corners[i, 0], corners[i, 1], corners[i, 2], corners[i, 3], corners[i, 4], corners[i, 5]


@compiled
def hit_box(c, ox, oy, oz, ix, iy, iz):
    """Distance along the ray to the box with corners c [6] and the axis of the face met, or (-1, -1).

    ix, iy, iz: one over the direction. A ray that starts inside does not meet the box.
    """
    ax, bx = (c[0] - ox) * ix, (c[3] - ox) * ix
    ay, by = (c[1] - oy) * iy, (c[4] - oy) * iy
    az, bz = (c[2] - oz) * iz, (c[5] - oz) * iz
    nx, ny, nz = min(ax, bx), min(ay, by), min(az, bz)
    near = max(nx, ny, nz)
    if near > min(max(ax, bx), max(ay, by), max(az, bz)) or near <= 1e-9:
        return -1.0, -1
    if near == nx:
        return near, 0
    return near, 1 if near == ny else 2


@compiled
def hit_round(c, is_cylinder, ox, oy, oz, dx, dy, dz):
    """Distance to an upright cylinder or an ellipsoid inscribed in the corners c, and 2 for a cap, 3 for the side."""
    rx, ry, rz = 0.5 * (c[3] - c[0]), 0.5 * (c[4] - c[1]), 0.5 * (c[5] - c[2])
    px, py, pz = (ox - c[0]) / rx - 1.0, (oy - c[1]) / ry - 1.0, (oz - c[2]) / rz - 1.0
    qx, qy, qz = dx / rx, dy / ry, dz / rz
    a, b, k = qx * qx + qy * qy, px * qx + py * qy, px * px + py * py - 1.0
    if not is_cylinder:
        a, b, k = a + qz * qz, b + pz * qz, k + pz * pz
    best, face = -1.0, -1
    root = b * b - a * k
    if a > 1e-12 and root > 0.0:
        t = (-b - np.sqrt(root)) / a
        if t > 1e-9 and (not is_cylinder or abs(pz + t * qz) <= 1.0):
            best, face = t, 3
    if is_cylinder and abs(qz) > 1e-9:
        t = (-np.sign(qz) - pz) / qz
        x, y = px + t * qx, py + t * qy
        if t > 1e-9 and x * x + y * y <= 1.0 and (best < 0.0 or t < best):
            best, face = t, 2
    return best, face


@compiled
def hit(c, shape, ox, oy, oz, dx, dy, dz):
    """Distance in metres to the solid with corners c and the face met, as `nearest_hit`; (-1, -1) if there is none."""
    if shape == 0:
        return hit_box(c, ox, oy, oz, 1.0 / _no_zero(dx), 1.0 / _no_zero(dy), 1.0 / _no_zero(dz))
    return hit_round(c, shape == 1, ox, oy, oz, _no_zero(dx), _no_zero(dy), _no_zero(dz))


@compiled
def _no_zero(x):
    return x if abs(x) > 1e-12 else 1e-12


@compiled
def nearest_hit(origin, count, start, listed, corners, shape, ox, oy, oz, dx, dy, dz, reach):
    """(distance in metres, solid, face) of the first solid within `reach`, solid -1 if none; the direction has length
    1. face: 0, 1, 2 the axis of a flat side, 3 a round side."""
    dx, dy, dz = _no_zero(dx), _no_zero(dy), _no_zero(dz)
    ix, iy, iz = 1.0 / dx, 1.0 / dy, 1.0 / dz
    gx, gy, gz = (ox - origin[0]) / CELL_M, (oy - origin[1]) / CELL_M, (oz - origin[2]) / CELL_HEIGHT_M
    cx, cy, cz = int(np.floor(gx)), int(np.floor(gy)), int(np.floor(gz))
    sx, sy, sz = (1 if dx > 0 else -1), (1 if dy > 0 else -1), (1 if dz > 0 else -1)
    step_x, step_y, step_z = CELL_M * abs(ix), CELL_M * abs(iy), CELL_HEIGHT_M * abs(iz)
    next_x = ((cx + 1 - gx) if sx > 0 else (gx - cx)) * step_x
    next_y = ((cy + 1 - gy) if sy > 0 else (gy - cy)) * step_y
    next_z = ((cz + 1 - gz) if sz > 0 else (gz - cz)) * step_z
    best, solid, face = reach, -1, -1
    while 0 <= cx < count[0] and 0 <= cy < count[1] and 0 <= cz < count[2]:
        cell = (cz * count[1] + cy) * count[0] + cx
        for k in range(start[cell], start[cell + 1]):
            i = listed[k]
            if shape[i] == 0:
                t, f = hit_box(six(corners, i), ox, oy, oz, ix, iy, iz)
            else:
                t, f = hit_round(six(corners, i), shape[i] == 1, ox, oy, oz, dx, dy, dz)
            if 0.0 < t < best:
                best, solid, face = t, i, f
        leave = min(next_x, next_y, next_z)
        if best <= leave:
            break
        if next_x <= next_y and next_x <= next_z:
            cx += sx
            next_x += step_x
        elif next_y <= next_z:
            cy += sy
            next_y += step_y
        else:
            cz += sz
            next_z += step_z
    return best, solid, face


@compiled
def trace(origin, count, start, listed, corners, shape, eye, rays):
    """(distance [M] float64, solid [M] int64, face [M] int64) of rays [M, 3] of length 1 from one point."""
    m = rays.shape[0]
    distance, solid, face = np.empty(m), np.empty(m, np.int64), np.empty(m, np.int64)
    for i in range(m):
        distance[i], solid[i], face[i] = nearest_hit(
            origin, count, start, listed, corners, shape,
            eye[0], eye[1], eye[2], rays[i, 0], rays[i, 1], rays[i, 2], FAR_M,
        )  # fmt: skip
    return distance, solid, face


def grid_arrays(grid: Grid) -> tuple[np.ndarray, ...]:
    """The arguments that `trace` and `sees` begin with."""
    return grid.origin, grid.count, grid.start, grid.listed, grid.corners, grid.shape


def sees(grid: Grid, points: np.ndarray) -> np.ndarray:
    """[N, N] bool: whether the straight line between two of the points [N, 3] meets nothing."""
    return _sees(*grid_arrays(grid), np.ascontiguousarray(points, np.float64))


@compiled
def _sees(origin, count, start, listed, corners, shape, points):
    n = points.shape[0]
    clear = np.zeros((n, n), np.bool_)
    for i in range(n):
        for j in range(i + 1, n):
            d = points[j] - points[i]
            length = np.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2])
            if length < 1e-9:
                continue
            d /= length
            _, solid, _ = nearest_hit(
                origin, count, start, listed, corners, shape,
                points[i, 0], points[i, 1], points[i, 2], d[0], d[1], d[2], length,
            )  # fmt: skip
            clear[i, j] = clear[j, i] = solid < 0
    return clear

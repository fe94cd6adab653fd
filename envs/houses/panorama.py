"""Panoramas of a building: skybox faces, perspective views, which object a ray meets.

Faces lie as in Matterport3D's `_skybox_small.jpg`: six squares beside each other, in the world (x right, y away, z up)
0 up, 1 towards -y, 2 towards -x, 3 towards +y, 4 towards +x, 5 down; the camera's `pose` looks along +y (face 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from envs.houses.compiled import compiled
from envs.houses.furnish import Item
from envs.houses.plan import CEILING_M, HALF_WALL_M, STOREY_M, Plan, Rect
from envs.houses.raster import first_solids
from envs.houses.raycast import FAR_M, Grid, build_grid, grid_arrays, hit, nearest_hit, six, trace
from envs.houses.rooms import Surface
from envs.houses.shading import colour_at
from envs.houses.solids import Solids, build_solids, ceiling_lamps

MAP_M = 0.05
TONE = np.round(255.0 * np.linspace(0.0, 1.0, 1024) ** 0.8).astype(np.uint8)
"""Brightness, in 1023 steps, to grey level."""
POSE_ROTATION = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Camera to world of every viewpoint: x right, y down, z forward, facing +y."""


@dataclass(frozen=True, eq=False)
class Stage:
    """A building ready to be looked at: solids, their grid, lamps [R, 3], maps [F, H, W] of shade and room."""

    solids: Solids
    grid: Grid
    lamps: np.ndarray
    occlusion: np.ndarray
    room: np.ndarray
    corner_m: tuple[float, float]


def build_stage(plan: Plan, surfaces: Sequence[tuple[Surface, Surface]], items: Sequence[Item]) -> Stage:
    """All that `render` reads of a building."""
    solids = build_solids(plan, surfaces, items)
    room_map, solid = _floor_maps(plan, items)
    shade = ndimage.gaussian_filter(solid, (0.0, 3.5, 3.5), mode="nearest")
    corner_m = plan.size.x0, plan.size.y0
    return Stage(solids, build_grid(solids), ceiling_lamps(plan), shade, room_map, corner_m)


def _floor_maps(plan: Plan, items: Sequence[Item]) -> tuple[np.ndarray, np.ndarray]:
    """[F, H, W]: the room of each cell, -1 outside; 1.0 where walls and furniture stand, else 0.0."""
    size = plan.size
    shape = (plan.floors, math.ceil(size.depth / MAP_M), math.ceil(size.width / MAP_M))
    room_map, solid = np.full(shape, -1, np.int64), np.ones(shape)

    def paint(target: np.ndarray, floor: int, r: Rect, value: float) -> None:
        rows = slice(max(int((r.y0 - size.y0) / MAP_M), 0), max(int((r.y1 - size.y0) / MAP_M), 0))
        columns = slice(max(int((r.x0 - size.x0) / MAP_M), 0), max(int((r.x1 - size.x0) / MAP_M), 0))
        target[floor, rows, columns] = value

    for room in plan.rooms:
        paint(solid, room.floor, room.rect.grown(-HALF_WALL_M), 0.0)
        paint(room_map, room.floor, room.rect, room.index)
    for door in plan.doors:
        dx, dy = (0.45, 0.1) if door.along_x else (0.1, 0.45)
        paint(solid, door.floor, Rect(door.x - dx, door.y - dy, door.x + dx, door.y + dy), 0.0)
    if plan.stairs is not None:
        for floor in range(plan.floors):
            paint(solid, floor, plan.stairs.strip.grown(-HALF_WALL_M), 0.0)
            paint(room_map, floor, plan.stairs.strip, plan.stairs.foot)
    for item in items:
        if item.is_obstacle:
            paint(solid, plan.rooms[item.room].floor, item.rect, 1.0)
    return room_map, solid


@lru_cache(maxsize=2)
def face_rays(size_px: int) -> np.ndarray:
    """[6, size, size, 3] float64: unit rays of the pixels of the six faces, row 0 on top."""
    s = 2 * (np.arange(size_px) + 0.5) / size_px - 1
    t, s = np.meshgrid(s, s, indexing="ij")
    one = np.ones_like(s)
    faces = [(-s, -t, one), (-s, -one, -t), (-one, s, -t), (s, one, -t), (one, -s, -t), (-s, t, -one)]
    rays = np.stack([np.stack(face, axis=-1) for face in faces])
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    rays.flags.writeable = False
    return rays


def view_rays(width_px: int, height_px: int, vfov_rad: float, heading_rad: float, elevation_rad: float) -> np.ndarray:
    """[H, W, 3] unit rays of a perspective view, row 0 on top; heading 0 looks along +y, to the right positive."""
    reach = math.tan(vfov_rad / 2)
    x = reach * width_px / height_px * (2 * (np.arange(width_px) + 0.5) / width_px - 1)
    y = reach * (1 - 2 * (np.arange(height_px) + 0.5) / height_px)
    x, y = np.meshgrid(x, y)
    ahead = math.cos(elevation_rad) - y * math.sin(elevation_rad)
    up = math.sin(elevation_rad) + y * math.cos(elevation_rad)
    rays = np.stack([
        x * math.cos(heading_rad) + ahead * math.sin(heading_rad),
        ahead * math.cos(heading_rad) - x * math.sin(heading_rad),
        up,
    ], axis=-1)  # fmt: skip
    return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def render(stage: Stage, eye_m: Sequence[float], rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What rays [..., 3] of length 1 from a point see: RGB [..., 3] uint8 and distance [...] float64 metres."""
    eye, flat = np.asarray(eye_m, np.float64), np.ascontiguousarray(rays.reshape(-1, 3))
    _, solid, _ = trace(*grid_arrays(stage.grid), eye, flat)
    rgb, distance = _look(stage, eye, flat, solid)
    return rgb.reshape(rays.shape), distance.reshape(rays.shape[:-1])


def skybox(stage: Stage, eye_m: Sequence[float], size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """The six faces beside each other: RGB [size, 6 * size, 3] uint8, distance [size, 6 * size] in metres."""
    eye = np.asarray(eye_m, np.float64)
    solid = first_solids(stage.grid.corners, stage.grid.shape, eye, size_px)
    rgb, distance = _look(stage, eye, face_rays(size_px).reshape(-1, 3), solid.reshape(-1))
    faces = rgb.reshape(6, size_px, size_px, 3).transpose(1, 0, 2, 3)
    strip = np.ascontiguousarray(faces.reshape(size_px, 6 * size_px, 3))
    return strip, distance.reshape(6, size_px, size_px).transpose(1, 0, 2).reshape(size_px, 6 * size_px)


def _look(stage: Stage, eye: np.ndarray, rays: np.ndarray, solid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """RGB [M, 3] uint8 and distance [M] of rays [M, 3] that meet the solids [M] first."""
    s = stage.solids
    return _shade(
        *grid_arrays(stage.grid), eye, rays, solid, s.albedo, s.texture, s.seed, (STOREY_M, CEILING_M), stage.lamps,
        stage.occlusion, stage.room, MAP_M, *stage.corner_m, TONE,
    )  # fmt: skip


def seen_items(stage: Stage, eye_m: Sequence[float], rays: np.ndarray) -> np.ndarray:
    """[...] int64: the object that each ray meets first, -1 for walls, floors, ceilings."""
    flat = np.ascontiguousarray(rays.reshape(-1, 3))
    _, solid, _ = trace(*grid_arrays(stage.grid), np.asarray(eye_m, np.float64), flat)
    return np.where(solid >= 0, stage.solids.item[solid], -1).reshape(rays.shape[:-1])


@compiled
def _shade(
    origin, count, start, listed, corners, shape, eye, rays, solids, albedo, texture, seed, storey, lamps, occlusion,
    room, cell_m, x0, y0, tone,
):  # fmt: skip
    m = rays.shape[0]
    rgb, far = np.zeros((m, 3), np.uint8), np.empty(m)
    for i in range(m):
        d, solid = (rays[i, 0], rays[i, 1], rays[i, 2]), solids[i]
        t, face = -1.0, -1
        if solid >= 0:
            t, face = hit(six(corners, solid), shape[solid], eye[0], eye[1], eye[2], d[0], d[1], d[2])
        if t <= 0.0:  # a ray along an edge, which rounding made a miss
            t, solid, face = nearest_hit(
                origin, count, start, listed, corners, shape, eye[0], eye[1], eye[2], d[0], d[1], d[2], FAR_M
            )
        far[i] = t
        if solid < 0:
            continue
        x, y, z = eye[0] + t * d[0], eye[1] + t * d[1], eye[2] + t * d[2]
        r, g, b = colour_at(
            x, y, z, t, face, d, six(corners, solid), shape[solid],
            (albedo[solid, 0], albedo[solid, 1], albedo[solid, 2]), texture[solid], seed[solid], storey, lamps,
            occlusion, room, cell_m, x0, y0,
        )  # fmt: skip
        for k, value in enumerate((r, g, b)):
            rgb[i, k] = tone[int(1023.0 * min(max(value, 0.0), 1.0) + 0.5)]
    return rgb, far

"""What each of the 36 views of a viewpoint shows: objects, rooms, steps.

Views are those of MatterSim: number = 12 * (0 down, 1 level, 2 up) + heading / 30 degrees; 60 degrees high, 4 : 3.
Rays find what lies around a viewpoint once, on six faces; the views look it up.

Legend: V 36 views, P pixels of a view, T pixels of the six faces, I objects, R rooms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from envs.candidates import HEADINGS, STEP_RAD, VIEWS
from envs.houses.compiled import compiled
from envs.houses.furnish import Item
from envs.houses.house import House
from envs.houses.panorama import MAP_M, POSE_ROTATION, Stage, face_rays
from envs.houses.plan import STOREY_M, Plan
from envs.houses.raster import first_solids
from envs.houses.raycast import hit, six
from envs.houses.solids import STEPS, in_own_colour
from envs.rendering import Camera, axis_cosine, cube_coordinates, rays, view_rotation

FACE_PX = 64
LOOKED_AT = Camera(64, 48)
"""A view, at the resolution at which it is looked up."""
BACK_M = 0.02
"""What a ray meets belongs to the room from which it comes: so far in front of the surface."""

Shown = list[list[int]]


@dataclass(frozen=True, eq=False)
class ViewContents:
    """What the 36 views of a viewpoint show, as lists for JSON.

    items[v]: [object, permille of the pixels, mean x, left end, right end (percent of half the width, -100..100),
    percent of the object's bounding box that it fills, percent of its pixels that have its colour]; rooms[v]: [room,
    permille, mean x]; steps[v]: permille that show steps.
    """

    items: list[Shown]
    rooms: list[Shown]
    steps: list[int]


def view_angles(view: int) -> tuple[float, float]:
    """Heading (0 = +y, to the right positive) and elevation of a view, radians."""
    return view % HEADINGS * STEP_RAD, (view // HEADINGS - 1) * STEP_RAD


@lru_cache(maxsize=1)
def _look_up() -> tuple[np.ndarray, np.ndarray]:
    """[V, P] int64: the pixel of the faces that each pixel of a view shows; [P] float64: its steradians."""
    found = []
    for view in range(VIEWS):
        face, s, t = cube_coordinates(rays(LOOKED_AT) @ view_rotation(*view_angles(view), POSE_ROTATION))
        column, row = (np.minimum((FACE_PX * share).astype(np.int64), FACE_PX - 1) for share in (s, t))
        found.append(((face * FACE_PX + row) * FACE_PX + column).ravel())
    pixel = (2 * LOOKED_AT.tangents[1] / LOOKED_AT.height) ** 2
    return np.stack(found), (axis_cosine(LOOKED_AT) ** 3 * pixel).ravel()


def house_views(house: House) -> list[ViewContents]:
    """What the views of all viewpoints of a house show, in the order of its graph."""
    coloured = in_own_colour(house.stage.solids, house.items)
    return [_view_contents(house, row, coloured) for row in range(len(house.graph.viewpoint))]


def _view_contents(house: House, row: int, coloured: np.ndarray) -> ViewContents:
    """Of the viewpoint in a row of the graph; coloured [P]: which solids have the colour of their object."""
    plan, stage, eye = house.plan, house.stage, house.graph.position_m[row].astype(np.float64)
    directions = np.ascontiguousarray(face_rays(FACE_PX).reshape(-1, 3))
    solid = first_solids(stage.grid.corners, stage.grid.shape, eye, FACE_PX).reshape(-1)
    distance = _distances(stage.grid.corners, stage.grid.shape, eye, directions, solid)
    item = np.where(solid >= 0, stage.solids.item[solid], -1)
    met = eye + distance[:, None] * directions
    room = _room_of(stage, eye + np.maximum(distance - BACK_M, 0.0)[:, None] * directions)
    steps = _on_steps(plan, met) & (item < 0)
    look_up, angle = _look_up()
    count, mean, ends, seen, own = _tally(look_up, angle, LOOKED_AT.width, item, len(house.items), coloured[solid])
    rooms, room_mean, *_ = _tally(look_up, angle, LOOKED_AT.width, room, len(plan.rooms), steps)
    part = np.clip(np.round(100 * seen / _box_angles(house.items, eye)), 1, 100).astype(np.int64)
    permille = np.maximum(np.round(1000 * count / angle.size), 1).astype(np.int64)
    columns = [permille, np.round(100 * mean), np.round(100 * ends[..., 0]), np.round(100 * ends[..., 1]), part]
    columns.append(np.round(100 * own / np.maximum(count, 1)))
    room_columns = [np.round(1000 * rooms / angle.size), np.round(100 * room_mean)]
    stepped = np.round(1000 * steps[look_up].mean(axis=1)).astype(int).tolist() if steps.any() else [0] * VIEWS
    return ViewContents(_lists(count > 0, columns), _lists(rooms > 0.003 * angle.size, room_columns), stepped)


def _lists(present: np.ndarray, columns: Sequence[np.ndarray]) -> list[Shown]:
    """For each view the present ones, each with its number first, the largest first."""
    table = np.stack([np.broadcast_to(np.arange(present.shape[1]), present.shape), *columns], axis=-1).astype(int)
    return [
        sorted(rows[here].tolist(), key=lambda entry: -entry[1]) for rows, here in zip(table, present, strict=True)
    ]  # fmt: skip


def _room_of(stage: Stage, points: np.ndarray) -> np.ndarray:
    """[T] int64: the rooms that points [T, 3] lie in, -1 outside."""
    floors, height, width = stage.room.shape
    floor = np.clip((points[:, 2] / STOREY_M).astype(np.int64), 0, floors - 1)
    row = np.clip(((points[:, 1] - stage.corner_m[1]) / MAP_M).astype(np.int64), 0, height - 1)
    column = np.clip(((points[:, 0] - stage.corner_m[0]) / MAP_M).astype(np.int64), 0, width - 1)
    return stage.room[floor, row, column]


def _on_steps(plan: Plan, points: np.ndarray) -> np.ndarray:
    """[T] bool: whether points [T, 3] of surfaces belong to the steps of the stairs."""
    if plan.stairs is None:
        return np.zeros(len(points), bool)
    flight, up = plan.stairs.flight, plan.stairs.up
    x, y, z = points.T
    margin = 0.01
    inside = (x > flight.x0 - margin) & (x < flight.x1 + margin) & (y > flight.y0 - margin) & (y < flight.y1 + margin)
    share = (x - flight.x0) / flight.width if up[0] else (y - flight.y0) / flight.depth
    share = 1.0 - share if sum(up) < 0 else share
    top_m = np.ceil(np.clip(share + margin, 0.0, 1.0) * STEPS) * STOREY_M / STEPS
    return inside & (z < top_m + margin)


def _box_angles(items: Sequence[Item], eye: np.ndarray) -> np.ndarray:
    """[I] steradians, about: what the bounding box of each object would fill if nothing stood before it."""
    low = np.array([(i.rect.x0, i.rect.y0, i.z0_m) for i in items]).reshape(-1, 3)
    high = np.array([(i.rect.x1, i.rect.y1, i.z1_m) for i in items]).reshape(-1, 3)
    size, centre = high - low, (low + high) / 2
    angle = np.zeros(len(low))
    for axis in range(3):
        for side, sign in ((low, -1.0), (high, 1.0)):
            middle = centre.copy()
            middle[:, axis] = side[:, axis]
            toward = middle - eye
            area = np.prod(np.delete(size, axis, axis=1), axis=1)
            distance = np.maximum(np.linalg.norm(toward, axis=1), 0.3)
            angle += area * np.maximum(-sign * toward[:, axis], 0.0) / distance**3
    return np.maximum(angle, 1e-6)


@compiled
def _distances(corners, shape, eye, rays, solid):
    """[T] metres along rays [T, 3] to the solids [T] that they meet, 0 where there is none."""
    found = np.zeros(len(solid))
    for i in range(len(solid)):
        k = solid[i]
        if k >= 0:
            t, _ = hit(six(corners, k), shape[k], eye[0], eye[1], eye[2], rays[i, 0], rays[i, 1], rays[i, 2])
            found[i] = max(t, 0.0)
    return found


@compiled
def _tally(look_up, angle, width, number, kinds, mark):
    """Of looked-up pixels [V, P], numbers below `kinds`: count [V, kinds], mean x, ends [V, kinds, 2], steradians,
    count of the marked ones."""
    views, pixels = look_up.shape
    count, mean = np.zeros((views, kinds)), np.zeros((views, kinds))
    ends, seen, marked = np.zeros((views, kinds, 2)), np.zeros((views, kinds)), np.zeros((views, kinds))
    for v in range(views):
        ends[v, :, 0], ends[v, :, 1] = 1.0, -1.0
        for p in range(pixels):
            pixel = look_up[v, p]
            k = number[pixel]
            if k < 0:
                continue
            x = (2.0 * (p % width) + 1.0) / width - 1.0
            count[v, k] += 1.0
            marked[v, k] += mark[pixel]
            mean[v, k] += x
            seen[v, k] += angle[p]
            ends[v, k, 0] = min(ends[v, k, 0], x)
            ends[v, k, 1] = max(ends[v, k, 1], x)
        for k in range(kinds):
            mean[v, k] /= max(count[v, k], 1.0)
    return count, mean, ends, seen, marked

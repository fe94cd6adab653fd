"""The static candidate table: every directed edge with the view that sees it, its heading and its elevation.

Legend: R viewpoints of all scans (rows), K candidates per viewpoint, V = 36 views, A angle feature size.
View index = heading step + 12 * row, row 0 looking down (-30 degrees), 1 at the horizon, 2 up.

Closed form of the 36-view sweep of the originals (R2R-EnvDrop `make_candidate`): the view that keeps a candidate is
the nearest one, so the table needs no simulator. Checked against the sweep on all 42,936 directed edges
(tests/envs/test_candidates.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from envs.scenes import Scene

VIEWS = 36
HEADINGS = 12
STEP_RAD = math.radians(30)
HALF_VISIBLE_RAD = math.radians(40)
"""MatterSim sees a location up to half of vfov * width / height beside the camera: 40 degrees at 640x480, 60."""

CANDIDATE_ORDERS = ("sweep", "graph")
ELEVATION_BASES = ("horizon", "view")


@dataclass(frozen=True, eq=False)
class CandidateTable:
    """Rows number the viewpoints of all scans, scan after scan, each in the order of its connectivity file.

    neighbour, view [R, K] int32 (unused slots hold the row itself and 0); heading_rad (absolute, in [-15, 345)
    degrees: the heading of the view plus the offset from it, as the originals leave it), elevation_rad (from the
    horizon), distance_m [R, K] float32; count [R] int32.
    """

    scans: tuple[str, ...]
    offset: Mapping[str, int]
    viewpoints: tuple[tuple[str, str], ...]
    neighbour: np.ndarray
    view: np.ndarray
    heading_rad: np.ndarray
    elevation_rad: np.ndarray
    distance_m: np.ndarray
    count: np.ndarray

    def action_slots(self) -> np.ndarray:
        """[R, K] bool: the slots that hold a candidate."""
        return np.arange(self.neighbour.shape[1]) < self.count[:, None]


def candidate_table(scenes: Mapping[str, Scene], order: str = "sweep") -> CandidateTable:
    """Build the table. `order`: "sweep" lists candidates as the 36-view sweep of the originals first meets them,
    "graph" as the connectivity file numbers them."""
    if order not in CANDIDATE_ORDERS:
        raise ValueError(f"unknown candidate order {order!r}; known: {', '.join(CANDIDATE_ORDERS)}")
    sizes = [len(scene.viewpoints) for scene in scenes.values()]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
    slots = max((int(scene.adjacency.sum(1).max(initial=0)) for scene in scenes.values()), default=0)
    total, width = int(starts[-1]), max(slots, 1)
    neighbour = np.repeat(np.arange(total, dtype=np.int32)[:, None], width, axis=1)
    view = np.zeros((total, width), np.int32)
    heading, elevation, distance = (np.zeros((total, width), np.float32) for _ in range(3))
    count = np.zeros(total, np.int32)
    for start, scene in zip(starts, scenes.values(), strict=False):
        i, j = np.nonzero(scene.adjacency)
        heading_rad, elevation_rad, length_m = directions(scene, i, j)
        rank = (i, j) if order == "graph" else _sweep_rank(i, heading_rad, elevation_rad)
        by = np.lexsort(rank[::-1])
        i, j, heading_rad, elevation_rad, length_m = (a[by] for a in (i, j, heading_rad, elevation_rad, length_m))
        degree = scene.adjacency.sum(1)
        slot = np.arange(len(i)) - np.repeat(np.cumsum(degree) - degree, degree)
        best = nearest_view(heading_rad, elevation_rad)
        rows = start + i
        neighbour[rows, slot] = start + j
        view[rows, slot] = best
        heading[rows, slot] = _beside_view(heading_rad, best)
        elevation[rows, slot] = elevation_rad
        distance[rows, slot] = length_m
        count[start : start + len(degree)] = degree
    for array in (neighbour, view, heading, elevation, distance, count):
        array.flags.writeable = False
    return CandidateTable(
        scans=tuple(scenes),
        offset={scan: int(start) for scan, start in zip(scenes, starts, strict=False)},
        viewpoints=tuple((scene.scan, viewpoint) for scene in scenes.values() for viewpoint in scene.viewpoints),
        neighbour=neighbour,
        view=view,
        heading_rad=heading,
        elevation_rad=elevation,
        distance_m=distance,
        count=count,
    )


def directions(scene: Scene, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Heading in [0, 2 pi), elevation (radians) and 3-D distance (metres) from viewpoints i to viewpoints j."""
    dx, dy, dz = (scene.position_m[j] - scene.position_m[i]).T
    flat = np.hypot(dx, dy)
    return np.arctan2(dx, dy) % (2 * math.pi), np.arctan2(dz, flat), np.sqrt(dx**2 + dy**2 + dz**2)


def nearest_view(heading_rad: np.ndarray, elevation_rad: np.ndarray) -> np.ndarray:
    """View index (0-35) of the view centre nearest to a direction."""
    row = np.clip(np.rint(elevation_rad / STEP_RAD) + 1, 0, 2)
    return (HEADINGS * row + np.rint(heading_rad / STEP_RAD) % HEADINGS).astype(np.int32)


def _beside_view(heading_rad: np.ndarray, view: np.ndarray) -> np.ndarray:
    """A heading as its view's heading plus the signed offset from it: in [-15, 345) degrees."""
    centre = view % HEADINGS * STEP_RAD
    return centre + (heading_rad - centre + math.pi) % (2 * math.pi) - math.pi


def _sweep_rank(i: np.ndarray, heading_rad: np.ndarray, elevation_rad: np.ndarray) -> tuple[np.ndarray, ...]:
    """Sort keys of the sweep: viewpoint, first view that sees the location, angle to that view's centre.

    The first 12 views look down (-30 degrees) and see every heading, since visibility ignores elevation.
    """
    centre = np.arange(HEADINGS) * STEP_RAD
    beside = (heading_rad[:, None] - centre + math.pi) % (2 * math.pi) - math.pi
    first = (np.abs(beside) < HALF_VISIBLE_RAD).argmax(1)
    offset = np.hypot(beside[np.arange(len(first)), first], elevation_rad + STEP_RAD)
    return i, first, offset


def angle_feature(heading_rad: np.ndarray, elevation_rad: np.ndarray, size: int = 128) -> np.ndarray:
    """[...] angles -> [..., size] float32: (sin h, cos h, sin e, cos e) tiled; 128 in R2R-EnvDrop, 4 in DUET."""
    if size < 4 or size % 4:
        raise ValueError(f"angle feature size {size}; expected a multiple of 4 (128: R2R-EnvDrop, 4: DUET)")
    parts = np.stack([np.sin(heading_rad), np.cos(heading_rad), np.sin(elevation_rad), np.cos(elevation_rad)], -1)
    return np.tile(parts, size // 4).astype(np.float32)


def view_angle_features(size: int = 128, elevation_base: str = "horizon") -> np.ndarray:
    """[36 (base view), 36 (view), size]: the angle feature of each view as seen from an agent in a base view.

    `elevation_base`: "horizon" (R2R-EnvDrop, HAMT, and VLN-DUET's environment of R2R) or "view", which subtracts the
    agent's own elevation (`minus_elevation` in VLN-DUET's code, off by default there).
    """
    view = np.arange(VIEWS)
    heading = (view[None] % HEADINGS - view[:, None] % HEADINGS) * STEP_RAD
    elevation = (view[None] // HEADINGS - 1 - elevation_base_steps(view[:, None], elevation_base)) * STEP_RAD
    return angle_feature(heading, np.broadcast_to(elevation, heading.shape), size)


def elevation_base_steps(view: np.ndarray, elevation_base: str) -> np.ndarray:
    """How many steps of 30 degrees are subtracted from elevations seen from `view`."""
    if elevation_base not in ELEVATION_BASES:
        raise ValueError(f"unknown elevation base {elevation_base!r}; known: {', '.join(ELEVATION_BASES)}")
    return (view // HEADINGS - 1) * (elevation_base == "view")

"""Which viewpoints a camera can move to from where it stands, in the original's float32 arithmetic.

The formulas are those of MatterSim's `populateNavigable`: positions, distances and the horizontal angle are float32,
the elevation is a double. Legend: K neighbours of a viewpoint, H headings, V = 36 views.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from envs.scenes import Scene, load_scene
from envs.simulator_state import ViewPoint

HEADINGS = 12
HEADING_STEP_RAD = math.pi * 2.0 / HEADINGS
ELEVATION_STEP_RAD = math.pi / 6.0
VIEWS = 3 * HEADINGS
VIEW_HEADING_RAD = tuple((view % HEADINGS) * HEADING_STEP_RAD for view in range(VIEWS))
VIEW_ELEVATION_RAD = tuple((view // HEADINGS - 1) * ELEVATION_STEP_RAD for view in range(VIEWS))


class Place:
    """One viewpoint of a scan for one camera.

    `half_fov_cos` is the cosine of half the horizontal field of view, None where navigation is free. With
    `discretized` the 36 views are computed once, each when first asked for.
    """

    __slots__ = (
        "_angles",
        "_far_m",
        "_first",
        "_half_fov_cos",
        "_neighbours",
        "_rise_rad",
        "_second",
        "_views",
        "location",
    )

    def __init__(self, scene: Scene, ix: int, half_fov_cos: float | None, discretized: bool) -> None:
        position_m = scene.position_m.astype(np.float32)
        x, y, z = position_m[ix].tolist()
        self.location = ViewPoint(scene.viewpoints[ix], ix, x, y, z, 0.0, 0.0, 0.0)
        rows = np.flatnonzero(scene.adjacency[ix])
        dx, dy, dz = (position_m[rows] - position_m[ix]).T
        flat_m = np.sqrt(dx * dx + dy * dy)
        self._far_m = np.sqrt(dx * dx + dy * dy + dz * dz).tolist()
        self._rise_rad = [math.atan2(rise, run) for rise, run in zip(dz.tolist(), flat_m.tolist(), strict=True)]
        self._neighbours: list[tuple[str, int, float, float, float]] = [
            (scene.viewpoints[i], int(i), *position_m[i].tolist()) for i in rows
        ]
        with np.errstate(divide="ignore", invalid="ignore"):  # straight up or down: 0/0, in no field of view
            unit_x, unit_y = dx * (np.float32(1.0) / flat_m), dy * (np.float32(1.0) / flat_m)
        self._first = np.stack([dx, dx, unit_x])[:, None]
        self._second = np.stack([-dy, dy, unit_y])[:, None]
        self._half_fov_cos = half_fov_cos
        self._views: list[tuple[ViewPoint, ...] | None] | None = [None] * VIEWS if discretized else None
        self._angles: list[list[list[float]]] | None = None

    def navigable(self, view: int, heading_rad: float, elevation_rad: float) -> tuple[ViewPoint, ...]:
        """The place itself, then what can be moved to, nearest to the centre of the view first.

        `view` (0-35) is read with discretized views only.
        """
        if self._views is None:
            angles, cosines = self.bearings([heading_rad])
            return self._sorted(angles[0], cosines[0], elevation_rad)
        found = self._views[view]
        if found is None:
            if self._angles is None:
                self._angles = self.bearings(VIEW_HEADING_RAD[:HEADINGS])
            angles, cosines = self._angles
            step = view % HEADINGS
            found = self._views[view] = self._sorted(angles[step], cosines[step], elevation_rad)
        return found

    def bearings(self, heading_rad: Sequence[float]) -> list[list[list[float]]]:
        """[2][H][K]: the signed horizontal angle of every neighbour to the camera in radians, and its cosine.

        The angle is the float64 arctangent rounded to float32; glibc's atan2f, which the original calls, differs in
        the last bit once in seven. The order of navigable locations is the same in all 380,412 views of Matterport3D.
        """
        right = [math.pi / 2.0 - heading for heading in heading_rad]
        x, y = [math.cos(a) for a in right], [math.sin(a) for a in right]
        first = np.array([y, x, x], np.float32)[:, :, None]
        second = np.array([x, y, y], np.float32)[:, :, None]
        across, ahead, cosine = self._first * first + self._second * second
        angle = np.arctan2(across, ahead, dtype=np.float64).astype(np.float32)
        return [angle.tolist(), cosine.tolist()]

    def _sorted(self, angles: list[float], cosines: list[float], elevation_rad: float) -> tuple[ViewPoint, ...]:
        """Only the horizontal angle decides what is in sight, against a linear width * vfov / height (the original)."""
        half_fov_cos = self._half_fov_cos
        found = [self.location]
        for neighbour, angle, cosine, rise_rad, far_m in zip(
            self._neighbours, angles, cosines, self._rise_rad, self._far_m, strict=True
        ):
            if half_fov_cos is None or cosine >= half_fov_cos:
                found.append(ViewPoint(*neighbour, angle, rise_rad - elevation_rad, far_m))
        found.sort(key=_angle_from_centre)
        return tuple(found)


def _angle_from_centre(seen: ViewPoint) -> float:
    heading, elevation = seen.rel_heading, seen.rel_elevation
    return math.sqrt(heading * heading + elevation * elevation)


class Places:
    """The viewpoints of a scan for one camera, made when first stood at."""

    def __init__(self, scene: Scene, half_fov_cos: float | None, discretized: bool) -> None:
        self.scene = scene
        self._camera = (half_fov_cos, discretized)
        self._made: list[Place | None] = [None] * len(scene.viewpoints)

    def __getitem__(self, ix: int) -> Place:
        place = self._made[ix]
        if place is None:
            place = self._made[ix] = Place(self.scene, ix, *self._camera)
        return place


@cache
def _scene(connectivity: Path, scan: str) -> Scene:
    return load_scene(connectivity, scan)


@cache
def places(connectivity: Path, scan: str, half_fov_cos: float | None, discretized: bool) -> Places:
    """The places of a scan, shared by all simulators of the process (an EnvDrop batch has 64 of them).

    Every view of all 90 scans takes 0.35 GB in free navigation, 0.16 GB in restricted; what is not visited, nothing.
    Raises ValueError as `envs.scenes.load_scene` does.
    """
    return Places(_scene(connectivity, scan), half_fov_cos, discretized)

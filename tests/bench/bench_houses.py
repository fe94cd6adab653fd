"""Speed of drawing panoramas of procedural houses: solids painted, beside the ray for each pixel that specifies it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from envs.houses import raster
from envs.houses.house import draw_house
from envs.houses.panorama import face_rays, render, skybox
from envs.houses.raycast import grid_arrays, trace

FACE_PX = 256
EYES = 8
"""Viewpoints whose times are taken."""


def median_s(work: Callable[[np.ndarray], object], eyes: np.ndarray) -> float:
    """Seconds of one call, the median over viewpoints; the first one compiles and does not count."""
    work(eyes[0])
    times = []
    for eye in eyes[1:]:
        begin = perf_counter()
        work(eye)
        times.append(perf_counter() - begin)
    return statistics.median(times)


def run() -> list[dict[str, Any]]:
    """The rows of this benchmark."""
    house = draw_house("s1t000", 1, 0, 0)
    stage, eyes = house.stage, house.graph.position_m[: EYES + 1]
    rays = np.ascontiguousarray(face_rays(FACE_PX).reshape(-1, 3))
    grid = grid_arrays(stage.grid)
    painted = median_s(lambda eye: raster.first_solids(stage.grid.corners, stage.grid.shape, eye, FACE_PX), eyes)
    traced = median_s(lambda eye: trace(*grid, eye, rays), eyes)
    drawn = median_s(lambda eye: skybox(stage, eye.tolist(), FACE_PX), eyes)
    plain = median_s(lambda eye: render(stage, eye.tolist(), face_rays(FACE_PX)), eyes)
    size = f"6 x {FACE_PX} x {FACE_PX} px, one thread"
    return [
        {
            "name": f"{name}, {size}",
            "value": 1000 * value,
            "unit": "ms",
            "reference": "a ray for each pixel, walked through a grid",
            "reference_value": 1000 * reference,
        }
        for name, value, reference in (
            ("solids of a panorama", painted, traced),
            ("panorama of a house, shaded", drawn, plain),
        )
    ]

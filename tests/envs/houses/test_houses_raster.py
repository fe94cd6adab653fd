"""Solids painted front to back are those that rays meet first."""

import numpy as np
import pytest

from envs.houses import raster
from envs.houses.house import House
from envs.houses.panorama import face_rays, render, skybox
from envs.houses.raycast import grid_arrays, trace

SIZE_PX = 72  # no multiple of a tile


def test_painted_solids_are_those_that_rays_meet(houses: list[House]) -> None:
    for house in houses:
        stage = house.stage
        for eye in house.graph.position_m[::7]:
            painted = raster.first_solids(stage.grid.corners, stage.grid.shape, eye, SIZE_PX)
            rays = np.ascontiguousarray(face_rays(SIZE_PX).reshape(-1, 3))
            met = trace(*grid_arrays(stage.grid), eye, rays)[1].reshape(painted.shape)
            differ = painted != met  # where two surfaces coincide, and on edges that a ray grazes
            assert differ.mean() < 2e-3


@pytest.mark.parametrize("size_px", [33, 64])
def test_skybox_is_what_rays_see(houses: list[House], size_px: int) -> None:
    stage, eye = houses[1].stage, houses[1].graph.position_m[4]
    painted, distance = skybox(stage, eye.tolist(), size_px)
    traced, far = render(stage, eye.tolist(), face_rays(size_px))
    traced = traced.transpose(1, 0, 2, 3).reshape(painted.shape)
    far = far.transpose(1, 0, 2).reshape(distance.shape)
    assert (np.abs(painted.astype(int) - traced).max(axis=-1) > 2).mean() < 1e-3
    assert (np.abs(distance - far) > 1e-3).mean() < 1e-3


def test_compiled_painting_is_its_python_text(houses: list[House]) -> None:
    stage, eye = houses[0].stage, houses[0].graph.position_m[2]
    near = np.argsort(np.abs(stage.grid.corners[:, :3] - eye).sum(axis=1))[:40]
    corners, shape = stage.grid.corners[near], stage.grid.shape[near]
    box = np.array([*(corners[0, :3] - eye), *(corners[0, 3:] - eye)], np.float32)
    slope = ((np.arange(16) + 0.5) / 8 - 1).astype(np.float32)
    for low, high in ((1, 4), (2, 5)):
        compiled = raster._tile_range(box[0], box[3], box[low], box[high], slope)
        assert compiled == raster._tile_range.py_func(box[0], box[3], box[low], box[high], slope)
    for kernel in (raster._paint_box, raster._paint_box.py_func):
        depth, found = np.full((16, 16), 1e30, np.float32), np.full((16, 16), -1, np.int32)
        kernel(np.array([1, -0.5, -0.5, 2, 0.5, 0.5], np.float32), 7, 0, 0, 1 / slope, depth, found)
        inside = np.abs(slope) < 0.5
        assert np.array_equal(found == 7, inside[:, None] & inside)
        assert np.all(depth[found == 7] == 1.0)
    assert (raster.first_solids(corners, shape, eye, 16) >= 0).any()

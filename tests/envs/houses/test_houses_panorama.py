"""Ray casting: the grid against all solids, skyboxes against views cast directly."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from envs.houses.house import House
from envs.houses.panorama import POSE_ROTATION, face_rays, render, seen_items, skybox, view_rays
from envs.houses.raycast import FAR_M, grid_arrays, hit_box, hit_round, trace
from envs.houses.shading import noise
from envs.rendering import Camera, Texture, render_plainly, view_rotation
from envs.rendering import render as render_views
from envs.skybox import read_depth, read_faces

FACE_PX = 192


def unit_rays(count: int, seed: int) -> np.ndarray:
    rays = np.random.default_rng(seed).normal(size=(count, 3))
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def test_the_grid_finds_what_a_look_at_all_solids_finds(houses: list[House]) -> None:
    for house in houses:
        eye, rays = house.graph.position_m[0], unit_rays(150, 5)
        distance, solid, face = trace(*grid_arrays(house.stage.grid), eye, rays)
        s = house.stage.solids
        corners = np.hstack([s.low, s.high])
        for k, ray in enumerate(rays):
            best, which = FAR_M, -1
            for i, c in enumerate(corners):
                if s.shape[i] == 0:
                    t, _ = hit_box.py_func(c, *eye, *(1.0 / ray))
                else:
                    t, _ = hit_round.py_func(c, s.shape[i] == 1, *eye, *ray)
                if 0.0 < t < best:
                    best, which = t, i
            assert distance[k] == pytest.approx(best, abs=1e-9)
            assert solid[k] == which or corners[solid[k]] == pytest.approx(corners[which], abs=5.0)
            assert which >= 0  # houses are closed
            assert 0 <= face[k] <= 3


def test_round_solids_are_met_on_their_surface() -> None:
    ball = np.array([-1.0, 2.0, -1.0, 1.0, 4.0, 1.0])
    assert hit_round(ball, False, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0) == (pytest.approx(2.0), 3)
    assert hit_round(ball, False, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0)[0] == -1.0
    assert hit_round(ball, True, 0.0, 3.0, 9.0, 0.0, 0.0, -1.0) == (pytest.approx(8.0), 2)
    assert hit_round(ball, True, 0.9, 2.1, 9.0, 0.0, 0.0, -1.0)[0] == -1.0


@pytest.mark.parametrize(
    ("heading", "elevation"), [(0, 0), (90, 0), (180, 0), (270, 0), (45, 30), (200, -30), (300, 80), (0, -80)]
)
def test_views_of_the_skybox_are_views_of_the_house(houses: list[House], heading: float, elevation: float) -> None:
    house, camera = houses[0], Camera(96, 72, math.radians(60))
    eye = house.graph.position_m[3]
    strip, far_m = skybox(house.stage, eye, FACE_PX)
    faces = strip.reshape(FACE_PX, 6, FACE_PX, 3).swapaxes(0, 1)
    h, e = math.radians(heading), math.radians(elevation)
    direct, direct_m = render(house.stage, eye, view_rays(96, 72, camera.vfov_rad, h, e))
    rotation = view_rotation(h, e, POSE_ROTATION)
    view = render_views(Texture.of_faces(np.ascontiguousarray(faces), "rgb"), rotation[None], camera)[0]
    difference = np.abs(view.astype(int) - direct.astype(int))
    assert np.median(difference) <= 3
    assert difference.mean() < 7
    distance = render_plainly(far_m.reshape(FACE_PX, 6, FACE_PX).swapaxes(0, 1), rotation, camera)
    assert np.median(np.abs(distance - direct_m)) < 0.005
    assert (np.abs(distance - direct_m) < 0.1).mean() > 0.9


def test_heading_zero_looks_along_y_with_up_on_top() -> None:
    rays = view_rays(3, 3, math.radians(60), 0.0, 0.0)
    assert rays[1, 1] == pytest.approx([0, 1, 0])
    assert rays[0, 1][2] > 0.3
    assert rays[1, 2][0] > 0.3
    assert view_rays(3, 3, 1.0, math.pi / 2, 0.0)[1, 1] == pytest.approx([1, 0, 0])
    assert view_rays(3, 3, 1.0, 0.0, 0.5)[1, 1] == pytest.approx([0, math.cos(0.5), math.sin(0.5)])
    middle = face_rays(33)[:, 16, 16]
    expected = [[0, 0, 1], [0, -1, 0], [-1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, -1]]
    assert middle == pytest.approx(np.array(expected), abs=1e-12)


def test_objects_seen_are_where_they_stand(houses: list[House]) -> None:
    house = houses[0]
    eye = house.graph.position_m[int(house.graph.item_pixels.sum(axis=1).argmax())]
    seen = seen_items(house.stage, eye, unit_rays(4000, 1))
    assert 0.01 < (seen >= 0).mean() < 0.7
    for number in np.unique(seen[seen >= 0]):
        item = house.items[number]
        x, y = item.rect.centre
        toward = np.array([x, y, (item.z0_m + item.z1_m) / 2]) - eye
        angles = unit_rays(4000, 1)[seen == number] @ (toward / np.linalg.norm(toward))
        assert angles.max() > math.cos(math.radians(50))


def test_pictures_have_contrast_and_neither_black_nor_burnt_out_walls(houses: list[House]) -> None:
    for house in houses:
        for room in house.plan.rooms:
            row = int(np.flatnonzero(house.graph.room == room.index)[0])
            strip, distance_m = skybox(house.stage, house.graph.position_m[row], 48)
            assert 70 < strip.mean() < 225
            assert strip.std() > 15
            assert 0.02 < distance_m.min() < distance_m.max() < 25


def test_noise_is_spread_and_the_same_compiled_or_not() -> None:
    values = np.array([noise(i, j, 4) for i in range(-20, 20) for j in range(-20, 20)])
    assert 0.0 <= values.min() < 0.02
    assert 0.98 < values.max() < 1.0
    assert values.mean() == pytest.approx(0.5, abs=0.03)
    assert noise(-7, 12, 3) == noise.py_func(-7, 12, 3)


def test_files_hold_the_panorama(world: Path) -> None:
    scan = "s3t000"
    viewpoint = next((world / "v1" / "scans" / scan).rglob("*_skybox_small.jpg")).name.split("_")[0]
    assert read_faces(world, scan, viewpoint).shape == (6, 32, 32, 3)
    depth = read_depth(world, scan, viewpoint)
    assert depth.shape == (6, 32, 32)
    assert depth[5, 15:17, 15:17] * 0.00025 == pytest.approx(np.full((2, 2), 1.5), abs=0.8)  # the floor, or a rug

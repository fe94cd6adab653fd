"""Rendering against the original's pixels, its plain specification, and what geometry says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skybox_files import box_distances, random_faces

from envs import rendering_kernels as kernels
from envs.rendering import (
    Camera,
    Texture,
    axis_cosine,
    cube_coordinates,
    load_texture,
    rays,
    render,
    render_plainly,
    view_rotation,
)
from envs.scenes import load_scene

LOOKS = [(0.0, 0.0), (0.7, 0.3), (2.9, -1.2), (4.0, 1.5), (5.5, -0.5), (math.pi / 4, 0.0)]
CAMERAS = [Camera(37, 23, 1.0), Camera(8, 40, 2.6), Camera(65, 9, 0.4), Camera(1, 1, 1.0), Camera(3, 2, 3.1)]


def tilted_pose(seed: int = 1) -> np.ndarray:
    """A rotation as a viewpoint has it: any turn, a slight tilt."""
    turn, tilt = np.random.default_rng(seed).uniform(0, 6), 0.03
    around_z = np.array([[math.cos(turn), -math.sin(turn), 0], [math.sin(turn), math.cos(turn), 0], [0, 0, 1]])
    return around_z @ np.array([[1, 0, 0], [0, math.cos(tilt), -math.sin(tilt)], [0, math.sin(tilt), math.cos(tilt)]])


def rotations_of(pose: np.ndarray) -> np.ndarray:
    return np.stack([view_rotation(heading, elevation, pose) for heading, elevation in LOOKS])


def inside_a_face(rotation: np.ndarray, camera: Camera, margin: float = 1e-6) -> np.ndarray:
    """[H, W]: pixels whose face is beyond doubt (on an edge, rounding decides)."""
    largest = np.sort(np.abs(rays(camera) @ rotation), axis=-1)
    return largest[..., 2] - largest[..., 1] > margin * largest[..., 2]


# -- the original's pixels ----------------------------------------------------------------------------------------


def test_golden_views(golden_dir: Path) -> None:
    """Mean difference 0.12 levels, 99th percentile 1; above 1 there are only single pixels on edges of the cube."""
    folder = golden_dir / "rendering"
    listed: dict[str, Any] = json.loads((folder / "views.json").read_text())
    camera = Camera(listed["width"], listed["height"], math.radians(listed["vfov_degrees"]))
    places = {(view["scan"], view["viewpoint"]) for view in listed["views"]}
    compared = 0
    for scan, viewpoint in places:
        scene = load_scene(golden_dir.parent / "connectivity", scan)
        pose = scene.pose[scene.number(viewpoint)]
        views = [view for view in listed["views"] if (view["scan"], view["viewpoint"]) == (scan, viewpoint)]
        rotations = np.stack([view_rotation(view["heading"], view["elevation"], pose) for view in views])
        images = render(load_texture(folder / "scans", scan, viewpoint), rotations, camera)
        for view, rotation, image in zip(views, rotations, images, strict=True):
            golden = np.asarray(Image.open(folder / "views" / view["file"])).astype(int)
            difference = np.abs(image[:, :, ::-1] - golden)
            assert difference.mean() < 0.14, view["file"]
            assert np.percentile(difference, 99) <= 1, view["file"]
            assert difference[inside_a_face(rotation, camera, 1e-4)].max() <= 1, view["file"]
            compared += 1
    assert compared == 48


# -- the specification --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("camera", CAMERAS, ids=str)
@pytest.mark.parametrize("side", [2, 5, 64])
def test_compiled_is_plain_colour(camera: Camera, side: int) -> None:
    faces = np.random.default_rng(side).integers(0, 256, (6, side, side, 3), np.uint8)
    rotations = rotations_of(tilted_pose())
    images = render(Texture.of_faces(faces, "rgb"), rotations, camera)
    assert images.shape == (len(rotations), camera.height, camera.width, 3)
    for rotation, image in zip(rotations, images, strict=True):
        sure = inside_a_face(rotation, camera)
        assert np.abs(image - render_plainly(faces, rotation, camera))[sure].max(initial=0) < 0.6
        assert sure.mean() > 0.8


@pytest.mark.parametrize("camera", CAMERAS, ids=str)
def test_compiled_is_plain_depth(camera: Camera) -> None:
    faces = np.random.default_rng(3).integers(0, 65536, (6, 16, 16), np.uint16)
    rotations = rotations_of(tilted_pose())
    for rotation, image in zip(rotations, render(Texture.of_faces(faces), rotations, camera), strict=True):
        plain = render_plainly(faces, rotation, camera) * axis_cosine(camera)
        # 1e-4 texels of float32 coordinates, times the steps between neighbours, which are as large as can be
        assert np.abs(image - plain)[inside_a_face(rotation, camera)].max(initial=0) < 3
        assert image.dtype == np.uint16


def test_compiled_is_py_func() -> None:
    faces = random_faces(8)
    distances = np.random.default_rng(0).integers(0, 60000, (6, 8, 8), np.uint16)
    packed = np.zeros((6, 9, 8 + kernels.PAD), np.uint32)
    kernels.pack.py_func(faces, 2, 0, packed)
    colour, depth = Texture.of_faces(faces).texels, Texture.of_faces(distances).texels
    assert np.array_equal(packed, colour)
    rotation = view_rotation(0.5, -0.4, tilted_pose())
    camera = Camera(13, 7, 2.0)
    for texels, rows, shape, kind in (
        (colour, kernels.colour_rows, (7, 39), np.uint8),
        (depth, kernels.depth_rows, (7, 13), np.uint16),
    ):
        fast, slow = np.zeros(shape, kind), np.zeros(shape, kind)
        rows(texels, rotation, *camera.tangents, 0, 7, fast)
        rows.py_func(texels, rotation, *camera.tangents, 0, 7, slow)
        assert fast.any()
        assert np.array_equal(fast, slow)


def test_compiled_stretches_are_py_func() -> None:
    """The inner loops too: fastmath changes the last bit of a float at most."""
    texels = Texture.of_faces(random_faces(8)).texels
    a, b = np.array([-0.9, 0.3, -1.0]), np.array([0.15, 0.01, 0.02])
    coefficients = np.empty(6, np.float32)
    ends, faces = np.empty(8, np.int64), np.empty(8, np.int64)
    found = [(kernels.stretches(a, b, 14, ends, faces), ends.tolist(), faces.tolist())]
    found.append((kernels.stretches.py_func(a, b, 14, ends, faces), ends.tolist(), faces.tolist()))
    assert found[0] == found[1]
    kernels.coefficients.py_func(a, b, int(faces[0]), 8, coefficients)
    fixed = (0, int(ends[0]), np.int32(faces[0] * 9 * 24), np.int32(24), *coefficients, np.float32(7))
    fast, slow = np.zeros(14, np.uint32), np.zeros(14, np.uint32)
    kernels.colour_stretch(texels.reshape(-1), fast, *fixed)
    kernels.colour_stretch.py_func(texels.reshape(-1), slow, *fixed)
    assert fast[: ends[0]].all()
    assert np.abs(fast.view(np.uint8).astype(int) - slow.view(np.uint8)).max() <= 1
    rows = np.zeros((2, 42), np.uint8)
    kernels.unpack(fast, rows[0], 14)
    kernels.unpack.py_func(fast, rows[1], 14)
    assert np.array_equal(rows[0], fast.view(np.uint8).reshape(14, 4)[:, :3].reshape(-1))
    assert np.array_equal(rows[0], rows[1])


def test_stretches_own_their_columns() -> None:
    rng = np.random.default_rng(5)
    ends, faces = np.empty(8, np.int64), np.empty(8, np.int64)
    seen = set()
    for _ in range(300):
        a, b = rng.normal(size=3), rng.normal(size=3) * rng.choice([0.01, 0.1, 1.0])
        n = kernels.stretches(a, b, 40, ends, faces)
        seen.add(n)
        assert ends[n - 1] == 40
        assert np.all(np.diff(ends[:n]) > 0)
        expected = cube_coordinates(a + np.arange(40)[:, None] * b)[0]
        assert np.array_equal(np.repeat(faces[:n], np.diff(ends[:n], prepend=0)), expected)
    assert {1, 2, 3, 4} <= seen


# -- geometry -----------------------------------------------------------------------------------------------------


def test_faces_stand_where_the_field_has_them() -> None:
    """Face 3 ahead, 4 to the right, 1 behind, 2 to the left, 0 above, 5 below, for a camera that stands upright."""
    upright = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])
    faces = np.zeros((6, 4, 4, 3), np.uint8)
    faces[..., 0] = np.arange(6)[:, None, None]
    looks = [(0, 0), (math.pi / 2, 0), (math.pi, 0), (-math.pi / 2, 0), (0, math.pi / 2), (0, -math.pi / 2)]
    rotations = np.stack([view_rotation(heading, elevation, upright) for heading, elevation in looks])
    images = render(Texture.of_faces(faces, "rgb"), rotations, Camera(9, 9, 1.0))
    assert [sorted(set(image[..., 0].ravel())) for image in images] == [[3], [4], [1], [2], [0], [5]]


def test_walls_of_a_room_are_flat() -> None:
    """In a cube of 4 m, the wall straight ahead is 2 m away along the axis wherever one looks at it."""
    texture = Texture.of_faces(box_distances(256, 2.0))
    rotation = np.eye(3)  # the camera's axes are the cube's
    (image,) = render(texture, rotation[None], Camera(60, 60, math.radians(80)))
    assert np.abs(image.astype(int) - 8000).max() <= 2
    (image,) = render(texture, view_rotation(0.0, math.radians(45), np.eye(3))[None], Camera(3, 401, math.radians(60)))
    assert image[200, 1] == pytest.approx(8000 * math.sqrt(2), abs=40)


def test_channel_order() -> None:
    faces = np.zeros((6, 4, 4, 3), np.uint8)
    faces[...] = (10, 20, 30)
    rotation = np.eye(3)[None]
    assert render(Texture.of_faces(faces), rotation, Camera(2, 2))[0, 0, 0].tolist() == [30, 20, 10]
    assert render(Texture.of_faces(faces, "rgb"), rotation, Camera(2, 2))[0, 0, 0].tolist() == [10, 20, 30]


# -- ways of calling ----------------------------------------------------------------------------------------------


def test_threads_textures_and_out_change_nothing() -> None:
    """One view is shared by threads by rows, many by views."""
    textures = [Texture.of_faces(random_faces(32, seed)) for seed in range(6)]
    rotations, camera = rotations_of(tilted_pose()), Camera(400, 300, 1.2)
    one = render(textures, rotations, camera, threads=1)
    out = [np.empty((300, 400, 3), np.uint8) for _ in rotations]
    assert render(textures, rotations, camera, out=out, threads=5) is out
    assert np.array_equal(one, out)
    for i in (0, 3):
        assert np.array_equal(render(textures[i], rotations[i : i + 1], camera, threads=7)[0], one[i])
    assert len({image.tobytes() for image in one}) == 6
    assert len(render(textures[0], np.empty((0, 3, 3)), camera)) == 0


@pytest.mark.parametrize(
    "values", [(0, 480, 1.0), (640, -1, 1.0), (640, 480, 60.0), (640, 480, 0.0), (640, 480, 3.1415)]
)
def test_no_camera(values: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="camera: found"):
        Camera(*values)


def test_wrong_arrays_are_named() -> None:
    texture, eye = Texture.of_faces(random_faces(4)), np.eye(3)[None]
    camera = Camera(4, 3)
    with pytest.raises(ValueError, match=r"rotations: found \(3, 3\)"):
        render(texture, np.eye(3), camera)
    with pytest.raises(ValueError, match="orthonormal"):
        render(texture, eye * 2, camera)
    with pytest.raises(ValueError, match="orthonormal"):
        render(texture, eye * np.nan, camera)
    with pytest.raises(ValueError, match="textures: found 2"):
        render([texture, texture], eye, camera)
    for out in ([np.empty((4, 3, 3), np.uint8)], [np.empty((3, 4, 3))], []):
        with pytest.raises(ValueError, match="out: expected 1 contiguous"):
            render(texture, eye, camera, out=out)
    for faces in (np.zeros((6, 4, 5, 3), np.uint8), np.zeros((5, 4, 4, 3), np.uint8), np.zeros((6, 4, 4)), np.zeros(3)):
        with pytest.raises(ValueError, match="faces: found"):
            Texture.of_faces(faces)

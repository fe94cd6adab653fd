"""The 36 views: the device twin against the renderer, both against the plain specification, geometry of the crop."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from panorama_world import faces_of, pose_of
from PIL import Image

from clip_core.images import ImageTransform
from envs.rendering import Camera, rays, render_plainly
from precompute.views import (
    FIELD,
    direct_camera,
    finer,
    oversampling,
    transformed_views,
    view_rotations,
    views_on_device,
    views_on_host,
)

CAMERAS = [Camera(32, 32, math.radians(60)), Camera(24, 40, 1.4), Camera(61, 16, 0.5), Camera(12, 8, 2.0)]


def plain(faces: np.ndarray, rotation: np.ndarray, camera: Camera) -> np.ndarray:
    """[H, W, 3] float64: average of the samples of each pixel."""
    times = oversampling(faces.shape[1], camera)
    samples = render_plainly(faces.astype(np.float64), rotation, finer(camera, times))
    return samples.reshape(camera.height, times, camera.width, times, 3).mean((1, 3))


def whole_pixels(rotations: np.ndarray, camera: Camera, times: int) -> np.ndarray:
    """[V, H, W]: no sample of the pixel lies on an edge of the cube, where rounding decides on the face."""
    sizes = np.sort(np.abs(rays(finer(camera, times)) @ rotations[:, None]), axis=-1)
    inside = sizes[..., 2] - sizes[..., 1] > 1e-4 * sizes[..., 2]
    return inside.reshape(len(rotations), camera.height, times, camera.width, times).all((2, 4))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("camera", CAMERAS, ids=str)
@pytest.mark.parametrize("side", [2, 37, 80])
def test_device_twin_is_within_one_level_of_the_renderer(side: int, camera: Camera, order: str) -> None:
    for seed in (0, 3):
        faces = np.random.default_rng(seed).integers(0, 256, (6, side, side, 3), np.uint8)  # noise: the hardest
        rotations = view_rotations(pose_of(seed))
        host = views_on_host(faces, rotations, camera, order)
        twin = views_on_device(torch.from_numpy(faces), torch.from_numpy(rotations).float(), camera, order)
        assert twin.shape == (36, 3, camera.height, camera.width)
        assert twin.dtype == torch.uint8
        difference = np.abs(host.astype(int) - twin.permute(0, 2, 3, 1).numpy())
        sure = whole_pixels(rotations, camera, oversampling(side, camera))
        assert sure.mean() > 0.5
        assert difference[sure].max() <= 1


def test_host_views_are_the_plain_specification() -> None:
    faces, rotations = faces_of(64, 5), view_rotations(pose_of(2))
    camera = Camera(20, 20, math.radians(60))
    host = views_on_host(faces, rotations, camera, "RGB")
    for view in (0, 13, 35):
        assert np.abs(host[view] - plain(faces, rotations[view], camera)).max() < 1.01


def test_direct_view_is_the_centre_crop_of_the_exact_one() -> None:
    """On a smooth panorama the two differ by the filters alone; shifted by a pixel they differ more."""
    transform = ImageTransform(96, 96, mean=(0, 0, 0), std=(1, 1, 1))
    faces, rotations = faces_of(256, 1), view_rotations(pose_of(1))
    exact = transformed_views(faces, rotations, transform, "RGB").numpy() * 255
    direct = views_on_host(faces, rotations, direct_camera(transform), "RGB").transpose(0, 3, 1, 2).astype(float)
    apart = np.abs(exact - direct).mean()
    assert apart < 1.0
    assert np.abs(exact[..., 1:] - direct[..., :-1]).mean() > 2 * apart
    assert np.abs(exact[..., 1:, :] - direct[..., :-1, :]).mean() > 2 * apart
    assert np.abs(exact[:, ::-1] - direct).mean() > 10 * apart


def test_exact_view_goes_through_the_transform_of_the_model() -> None:
    transform = ImageTransform(32, 32)
    faces, rotations = faces_of(64, 1), view_rotations(pose_of(1))
    exact = transformed_views(faces, rotations, transform, "BGR")
    plainly = np.rint(render_plainly(faces[..., ::-1].astype(float), rotations[20], FIELD)).astype(np.uint8)
    assert (exact[20] - transform(Image.fromarray(plainly))).abs().max() < 0.02  # one grey level: 0.0154


@pytest.mark.parametrize(
    ("size", "tangents"),
    [
        ((224, 224), (1.0, 1.0)),
        ((240, 320), (4 / 3, 1.0)),  # the whole view
        ((100, 400), (4 / 3, 1 / 3)),  # the whole width
        ((400, 100), (1 / 4, 1.0)),
    ],
)
def test_direct_camera_sees_what_the_centre_crop_shows(size: tuple[int, int], tangents: tuple[float, float]) -> None:
    camera = direct_camera(ImageTransform(*size))
    assert (camera.height, camera.width) == size
    assert np.allclose(np.array(camera.tangents) / math.tan(math.radians(30)), tangents)


def test_direct_camera_refuses_models_that_squash_or_pad() -> None:
    for mode in ("squash", "longest"):
        with pytest.raises(ValueError, match="--pixels exact"):
            direct_camera(ImageTransform(64, 64, resize_mode=mode))


def test_oversampling_keeps_samples_within_a_texel() -> None:
    square = Camera(224, 224, math.radians(60))
    assert [oversampling(side, square) for side in (128, 256, 512, 1024, 2048)] == [2, 2, 2, 3, 6]
    assert oversampling(512, Camera(64, 64, math.radians(60))) == 5


def test_fine_grain_is_averaged_not_sampled() -> None:
    """A chessboard of single texels, far below the resolution of the view, is grey, not a pattern."""
    y, x = np.mgrid[:512, :512]
    board = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[None, ..., None], 6, 0).repeat(3, -1)
    views = views_on_host(board, view_rotations(pose_of(0)), Camera(32, 32, math.radians(60)), "RGB")
    assert np.abs(views.astype(float) - 127.5).mean() < 12

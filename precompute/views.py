"""The 36 views of a panorama at the size of an encoder's input, on the host or on a device.

Views are those of R2R: view v looks at heading 30 degrees x (v mod 12), elevation 30 degrees x (v div 12 - 1), with 60
degrees from top to bottom of 640 x 480 pixels. V views, H x W pixels of a view, F pixels of a face's side.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from clip_core.images import ChannelOrder, ImageTransform
from envs import rendering_kernels as kernels
from envs.rendering import Camera, Texture, render, view_rotation
from envs.simulator_sight import VIEW_ELEVATION_RAD, VIEW_HEADING_RAD
from envs.skybox import FACES

FIELD = Camera(640, 480, math.radians(60))
"""The camera of every published feature file."""


def view_rotations(pose: np.ndarray) -> np.ndarray:
    """[36, 3, 3] float64: the views of a viewpoint of this pose [4, 4]."""
    looks = zip(VIEW_HEADING_RAD, VIEW_ELEVATION_RAD, strict=True)
    return np.stack([view_rotation(heading, elevation, pose) for heading, elevation in looks])


def direct_camera(transform: ImageTransform) -> Camera:
    """The camera of the encoder's input size that sees what the centre crop of a 640 x 480 view shows.

    For a square input that is the middle 480 x 480: 60 degrees both ways. Raises ValueError for a transform that pads
    or squashes, whose pixels no camera of square pixels gives.
    """
    if transform.resize_mode != "shortest":
        raise ValueError(
            f"this model takes {transform.describe()}: views cannot be rendered straight at its input; "
            "render them at 640 x 480 and transform them: --pixels exact"
        )
    height, width = transform.height_px, transform.width_px
    seen = min(FIELD.height / height, FIELD.width / width) * height / FIELD.height  # fraction of the 480 rows
    return Camera(width, height, 2.0 * math.atan(seen * math.tan(FIELD.vfov_rad / 2.0)))


def oversampling(face_px: int, camera: Camera) -> int:
    """Samples a pixel, each way, which are averaged: at least two, and at most a texel apart in the middle of a face.

    Samples farther apart miss texels, which shows as grain (aliasing); with a single one edges are jagged, which alone
    moves the vectors of a trained encoder two to three times as far from those of `--pixels exact` (docs/results.md).
    """
    across, _ = camera.tangents
    return max(2, math.ceil(face_px * across / camera.width - 0.01))


def finer(camera: Camera, times: int) -> Camera:
    """The same field of view, so many times the pixels each way."""
    return Camera(camera.width * times, camera.height * times, camera.vfov_rad)


def views_on_host(faces: np.ndarray, rotations: np.ndarray, camera: Camera, order: ChannelOrder) -> np.ndarray:
    """[V, H, W, 3] uint8 from faces [6, F, F, 3] RGB: `envs.rendering.render` on this thread alone, averaged."""
    times = oversampling(faces.shape[1], camera)
    texture = Texture.of_faces(faces, "bgr" if order == "BGR" else "rgb")
    images = np.asarray(render(texture, rotations, finer(camera, times), threads=1))
    return np.stack([np.asarray(Image.fromarray(image).reduce(times)) for image in images])


def transformed_views(
    faces: np.ndarray, rotations: np.ndarray, transform: ImageTransform, order: ChannelOrder
) -> Tensor:
    """[V, 3, h, w] float32: rendered at 640 x 480, then transformed as PIL images, as published features were made."""
    texture = Texture.of_faces(faces, "bgr" if order == "BGR" else "rgb")
    images = np.asarray(render(texture, rotations, FIELD, threads=1))
    return torch.stack([transform(Image.fromarray(image)) for image in images])


def views_on_device(faces: Tensor, rotations: Tensor, camera: Camera, order: ChannelOrder) -> Tensor:
    """[V, 3, H, W] uint8 on the device of the faces [6, F, F, 3] uint8 RGB, for rotations [V, 3, 3] float32.

    The twin of `views_on_host`, within one grey level but on edges of the cube, where rounding decides on the face.
    Nothing waits for the device.
    """
    side = faces.shape[1]
    times = oversampling(side, camera)
    face, s, t = _cube_coordinates(_directions(rotations, finer(camera, times)))
    # The faces lie one below the other; clamped to its own texel centres, no sample blends two of them.
    across = (s * side).clamp(0.5, side - 0.5)
    down = (t * side).clamp(0.5, side - 0.5) + face * side
    grid = torch.stack([across / side, down / (FACES * side)], dim=-1).mul_(2.0).sub_(1.0)
    strip = faces.permute(3, 0, 1, 2).reshape(1, 3, FACES * side, side).float()
    n_views, height, width = s.shape
    sampled = functional.grid_sample(
        strip.flip(1) if order == "BGR" else strip,
        grid.reshape(1, n_views * height, width, 2),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    samples = sampled.reshape(3, n_views, height, width).add_(0.5).floor_()
    images = functional.avg_pool2d(samples, times).add_(0.5).floor_()
    return images.clamp_(0, 255).byte().transpose(0, 1)


def _directions(rotations: Tensor, camera: Camera) -> Tensor:
    """[3, V, H, W] float32: direction in the cube of every pixel, transposed rotation times ray (x, y, -1).

    Summed by hand: a product of matrices may run in TF32 on a GPU, which cannot tell texels apart.
    """
    (right, up), device = camera.tangents, rotations.device
    x = right * ((2 * torch.arange(camera.width, device=device) + 1) / camera.width - 1)
    y = up * ((2 * torch.arange(camera.height, device=device) + 1) / camera.height - 1)[:, None]
    m = rotations[..., None, None]  # [V, 3, 3, 1, 1]
    return torch.stack([m[:, 0, k] * x + m[:, 1, k] * y - m[:, 2, k] for k in range(3)])


def _cube_coordinates(directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Face 0-5 of the file and s, t in [0, 1] in it, of directions [3, ...]; as `envs.rendering.cube_coordinates`."""
    size, axis = directions.abs().max(0)
    positive = directions.gather(0, axis[None])[0] > 0

    def table(values: tuple[float, ...] | tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype).to(directions.device, non_blocking=True)

    first, second = table(kernels.FIRST_FACE, torch.int64), table(kernels.SECOND_FACE, torch.int64)
    face = torch.where(positive, first[axis], second[axis])

    def along(axes: tuple[int, ...], signs: tuple[float, ...]) -> Tensor:
        component = directions.gather(0, table(axes, torch.int64)[face][None])[0]
        return (component * table(signs, torch.float32)[face] / size).add_(1.0).div_(2.0)

    return face, along(kernels.S, kernels.S_SIGN), along(kernels.T, kernels.T_SIGN)

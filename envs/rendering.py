"""Perspective views of a panorama, without OpenGL.

As Matterport3DSimulator's `MatterSim.cpp` with its shaders draws them: linear filtering inside one face of the cube,
edges clamped, no blending across faces. `render` (compiled, on all cores) is what one uses; `render_plainly` is the
same in a few lines of numpy, and its specification.

Legend: N views, H x W pixels, F pixels of a face's side, C channels. Rows of an image run as the original reads them
back, row 0 on top of what a viewer shows.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numba
import numpy as np

from envs import rendering_kernels as kernels
from envs.rendering_kernels import PAD
from envs.skybox import FACES, SMALL_PX, read_depth, read_faces

Channels = Literal["bgr", "rgb"]
WIDEST = 1000.0
"""Largest tangent of half a field of view (179.9 degrees): beyond it float32 cannot tell directions apart."""

PIXELS_PER_THREAD = 100_000
"""Fewer are rendered (0.5 ms) sooner than a second thread starts."""


@dataclass(frozen=True)
class Camera:
    """Pixels and vertical field of view in radians. Raises ValueError for what is no camera."""

    width: int = 640
    height: int = 480
    vfov_rad: float = math.radians(60)

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"camera: found {self.width} x {self.height} pixels, expected at least 1 x 1")
        if not (0.0 < self.vfov_rad < math.pi and max(self.tangents) <= WIDEST):
            raise ValueError(
                f"camera: found a vertical field of view of {self.vfov_rad} rad at {self.width} x {self.height}, "
                "expected radians that make less than 179.8 degrees in height and width, as math.radians(60)"
            )

    @property
    def tangents(self) -> tuple[float, float]:
        """Of half the field of view, horizontally and vertically."""
        up = math.tan(self.vfov_rad / 2.0)
        return up * self.width / self.height, up


@dataclass(frozen=True)
class Texture:
    """What `render` samples: texels [6, F + 1, F + PAD], uint32 for colour (three bytes each), uint16 for depth.

    Colour takes 6.5 MB, depth 3.3 MB where F = 512.
    """

    texels: np.ndarray

    @classmethod
    def of_faces(cls, faces: np.ndarray, channels: Channels = "bgr") -> Texture:
        """From colour [6, F, F, 3] uint8, RGB (as `read_faces` gives it), or distances [6, F, F] uint16 in 0.25 mm.

        `channels` is the order in the rendered images; the original's is BGR.
        """
        side = faces.shape[1] if faces.ndim > 1 else 0
        colour = faces.dtype == np.uint8 and faces.shape == (FACES, side, side, 3)
        if side < 2 or not (colour or (faces.dtype == np.uint16 and faces.shape == (FACES, side, side))):
            raise ValueError(
                f"faces: found {faces.dtype} {faces.shape}, expected uint8 [6, F, F, 3] or uint16 [6, F, F]"
            )
        texels = np.zeros((FACES, side + 1, side + PAD), np.uint32 if colour else np.uint16)
        if colour:
            first, last = (2, 0) if channels == "bgr" else (0, 2)
            _keep_compiled()
            kernels.pack(np.ascontiguousarray(faces), first, last, texels)
        else:
            texels[:, :side, :side] = faces
        return cls(texels)


def load_texture(
    dataset: str | Path, scan: str, viewpoint: str, channels: Channels = "bgr", face_px: int | None = SMALL_PX
) -> Texture:
    """The colours around a viewpoint; files, `face_px` and errors as in `envs.skybox.read_faces`."""
    return Texture.of_faces(read_faces(dataset, scan, viewpoint, face_px), channels)


def load_depth_texture(dataset: str | Path, scan: str, viewpoint: str) -> Texture:
    """The distances around a viewpoint; file and errors as in `envs.skybox.read_depth`."""
    return Texture.of_faces(read_depth(dataset, scan, viewpoint))


def view_rotation(heading_rad: float, elevation_rad: float, pose: np.ndarray) -> np.ndarray:
    """[3, 3]: M = Rx(-pi/2 + elevation) · Rz(pi + heading) · R, with R of the viewpoint's `pose` [4, 4] or [3, 3].

    A ray of the camera (which looks along -z) has the direction Mᵀ · ray in the cube. Source: `MatterSim.cpp`.
    """
    tilt, turn = elevation_rad - math.pi / 2.0, heading_rad + math.pi
    cos, sin = math.cos(tilt), math.sin(tilt)
    around_x = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    cos, sin = math.cos(turn), math.sin(turn)
    around_z = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return around_x @ around_z @ np.asarray(pose, np.float64)[:3, :3]


def render(
    textures: Texture | Sequence[Texture],
    rotations: np.ndarray,
    camera: Camera,
    *,
    out: Sequence[np.ndarray] | np.ndarray | None = None,
    threads: int | None = None,
) -> Sequence[np.ndarray] | np.ndarray:
    """[N, H, W, 3] uint8 from colour textures, [N, H, W] uint16 in 0.25 mm along the camera's axis from depth.

    `textures`: one for all views or one for each; `rotations` [N, 3, 3] as `view_rotation` makes them. `out`: images to
    write to instead of a new array. `threads`: default one per core (NUMBA_NUM_THREADS). Raises ValueError for shapes
    that do not fit.
    """
    rotations = np.ascontiguousarray(rotations, np.float64)
    views = len(rotations)
    if rotations.shape != (views, 3, 3) or not _orthonormal(rotations):
        raise ValueError(f"rotations: found {rotations.shape}, expected [N, 3, 3] orthonormal (see view_rotation)")
    listed = [textures] * views if isinstance(textures, Texture) else list(textures)
    if len(listed) != views:
        raise ValueError(f"textures: found {len(listed)}, expected one, or one for each of {views} rotations")
    if not views:
        return np.empty((0, camera.height, camera.width, 3), np.uint8)
    colour = listed[0].texels.dtype == np.uint32
    shape = (camera.height, camera.width, 3) if colour else (camera.height, camera.width)
    kind = np.uint8 if colour else np.uint16
    images = np.empty((views, *shape), kind) if out is None else out
    if len(images) != views or any(i.shape != shape or i.dtype != kind or not i.flags.c_contiguous for i in images):
        raise ValueError(f"out: expected {views} contiguous images {shape} of {np.dtype(kind)}")
    right, up = camera.tangents
    rows = kernels.colour_rows if colour else kernels.depth_rows
    flat = [image.reshape(camera.height, -1) for image in images]
    workers = cores() if threads is None else threads
    workers = max(1, min(workers, views * camera.height * camera.width // PIXELS_PER_THREAD))
    chunk = camera.height if views >= 4 * workers else max(8, -(-camera.height * views // (4 * workers)))
    pieces = [
        (listed[i].texels, rotations[i], right, up, begin, min(begin + chunk, camera.height), flat[i])
        for i in range(views)
        for begin in range(0, camera.height, chunk)
    ]
    _keep_compiled()
    _share(rows, pieces[::-1], workers)
    return images


def cores() -> int:
    """How many threads numba may use: NUMBA_NUM_THREADS, or what the process may run on."""
    return int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def _orthonormal(rotations: np.ndarray) -> bool:
    return bool(np.all(np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)) < 0.01))


def _share(work: Callable[..., None], pieces: list[tuple], workers: int) -> None:
    """Do `work(*piece)` for all pieces, last first, on several threads (numba lets go of the interpreter's lock).

    Threads of Python's own: they need no threading layer, survive a fork, and may be started from any thread.
    """

    errors: list[BaseException] = []

    def run() -> None:
        try:
            while not errors:
                work(*pieces.pop())
        except IndexError:
            return
        except BaseException as error:  # raised below, in the caller's thread
            errors.append(error)

    helpers = [threading.Thread(target=run) for _ in range(min(workers, len(pieces)) - 1)]
    for helper in helpers:
        helper.start()
    run()
    for helper in helpers:
        helper.join()
    if errors:
        raise errors[0]


@cache
def _keep_compiled() -> None:
    """Let numba keep the machine code beside the sources (in `__pycache__`), where it may: compiling takes 4 s."""
    for kernel in (kernels.pack, kernels.colour_rows, kernels.depth_rows):
        with suppress(RuntimeError):  # no folder can be written to
            kernel.enable_caching()


def rays(camera: Camera) -> np.ndarray:
    """[H, W, 3] float64: through the centre of every pixel, third component -1."""
    right, up = camera.tangents
    x = right * ((2 * np.arange(camera.width) + 1) / camera.width - 1.0)
    y = up * ((2 * np.arange(camera.height) + 1) / camera.height - 1.0)
    return np.stack([*np.meshgrid(x, y), np.full((camera.height, camera.width), -1.0)], axis=-1)


def cube_coordinates(directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Face 0-5 of the file, and s, t in [0, 1] in it, of directions [..., 3]: OpenGL 2.1, table 3.19."""
    axis = np.abs(directions).argmax(-1)
    value = np.take_along_axis(directions, axis[..., None], -1)[..., 0]
    face = np.where(value > 0, np.array(kernels.FIRST_FACE)[axis], np.array(kernels.SECOND_FACE)[axis])

    def along(axes: tuple[int, ...], signs: tuple[float, ...]) -> np.ndarray:
        component = np.take_along_axis(directions, np.array(axes)[face][..., None], -1)[..., 0]
        return (component * np.array(signs)[face] / np.abs(value) + 1.0) / 2.0

    return face, along(kernels.S, kernels.S_SIGN), along(kernels.T, kernels.T_SIGN)


def render_plainly(faces: np.ndarray, rotation: np.ndarray, camera: Camera) -> np.ndarray:
    """[H, W, ...] float64 from faces [6, F, F, ...]: one view, unrounded, in the channel order of the faces.

    From distances this gives distances; times `axis_cosine(camera)` they run along the camera's axis.
    """
    face, s, t = cube_coordinates(rays(camera) @ rotation)
    side = faces.shape[1]
    u, v = np.clip(s * side - 0.5, 0, side - 1), np.clip(t * side - 0.5, 0, side - 1)
    x, y = np.minimum(u.astype(int), side - 2), np.minimum(v.astype(int), side - 2)
    fx, fy = (part.reshape(*part.shape, *[1] * (faces.ndim - 3)) for part in (u - x, v - y))
    over = faces[face, y, x] * (1 - fx) + faces[face, y, x + 1] * fx
    under = faces[face, y + 1, x] * (1 - fx) + faces[face, y + 1, x + 1] * fx
    return over * (1 - fy) + under * fy


def axis_cosine(camera: Camera) -> np.ndarray:
    """[H, W] float64: cosine between a pixel's ray and the camera's axis, as in the original's fragment shader."""
    return 1.0 / np.linalg.norm(rays(camera), axis=-1)

"""The six faces of a panorama, read from Matterport3D's image files.

Files of a viewpoint, in `{dataset}/{scan}/matterport_skybox_images/`, as Matterport3DSimulator's scripts name them:
`{viewpoint}_skybox_small.jpg` (`scripts/downsize_skybox.py`: six faces side by side, 512 px each), or the six
`{viewpoint}_skybox{0..5}_small.jpg`, or Matterport's own `{viewpoint}_skybox{0..5}_sami.jpg` (1024 px); for depth
`{viewpoint}_skybox_depth_small.png` (`scripts/depth_to_skybox.py`: 16 bits, distance from the camera in 0.25 mm).

Legend: face 0-5 as in the file, F pixels of a face's side, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

FACES = 6
SMALL_PX = 512
"""Side of a face in the `small` files; full-size faces are brought to it by area averaging, as the original's are."""
FOLDER = "matterport_skybox_images"


class SkyboxError(ValueError):
    """A skybox that is not there or not as it should be; says where it was looked for and what was found."""


def folders(dataset: str | Path, scan: str) -> tuple[Path, Path]:
    """Where the skyboxes of a scan may lie: in the scans' folder itself, or below the `data` folder of v0.1."""
    return Path(dataset) / scan / FOLDER, Path(dataset) / "v1" / "scans" / scan / FOLDER


def has_skyboxes(dataset: str | Path) -> bool:
    """Whether any scan of the dataset has a folder of skyboxes."""
    return any(next(Path(dataset).glob(f"{below}*/{FOLDER}"), None) for below in ("", "v1/scans/"))


def is_there(dataset: str | Path, scan: str, viewpoint: str) -> bool:
    """Whether any file of a viewpoint's skybox exists; `read_faces` says whether it is whole."""
    return any(path.is_file() for paths in _candidates(dataset, scan, viewpoint) for path in paths)


def read_faces(dataset: str | Path, scan: str, viewpoint: str, face_px: int | None = SMALL_PX) -> np.ndarray:
    """[6, F, F, 3] uint8, RGB: the strip of six faces, or else six files with one face each.

    Full-size faces larger than `face_px` are brought to it by area averaging (OpenCV's INTER_AREA, the same rounding
    where F is a multiple); None keeps their size. Strips and `small` faces stay as they are.
    Raises SkyboxError for files that are missing, damaged, greyscale or CMYK, or not six square faces.
    """
    strip, *sets = _candidates(dataset, scan, viewpoint)
    if found := _first(strip):
        return _split(_opened(found, _colour), found)
    for paths in sets:
        if any(path.is_file() for path in paths):
            return _six(paths, None if paths[0].name.endswith("_small.jpg") else face_px)
    looked = [*strip, *(paths[0] for paths in sets)]
    raise SkyboxError(
        f"no skybox of viewpoint {viewpoint} of scan {scan}; looked for\n  "
        + "\n  ".join(map(str, looked))
        + f"\nexpected {{dataset}}/{{scan}}/{FOLDER}/ with Matterport3D's skybox images (docs/data.md); the dataset "
        "folder of a simulator is set with setDatasetPath"
    )


def read_depth(dataset: str | Path, scan: str, viewpoint: str) -> np.ndarray:
    """[6, F, F] uint16: distance from the camera in 0.25 mm, 0 where unknown.

    Raises SkyboxError for a file that is missing, damaged, not of 16 bits, or not six square faces.
    """
    names = tuple(folder / f"{viewpoint}_skybox_depth_small.png" for folder in folders(dataset, scan))
    if found := _first(names):
        return _split(_opened(found, _sixteen_bits), found)
    raise SkyboxError(
        f"no depth of viewpoint {viewpoint} of scan {scan}; looked for\n  "
        + "\n  ".join(map(str, names))
        + "\nthese files come from Matterport3DSimulator's scripts/depth_to_skybox.py; without them call "
        "setDepthEnabled(False)"
    )


def _candidates(dataset: str | Path, scan: str, viewpoint: str) -> list[tuple[Path, ...]]:
    """The strip in each folder, then per folder and size a set of six files."""
    below = folders(dataset, scan)
    sets = [
        tuple(folder / f"{viewpoint}_skybox{face}_{size}.jpg" for face in range(FACES))
        for folder in below
        for size in ("small", "sami")
    ]
    return [tuple(folder / f"{viewpoint}_skybox_small.jpg" for folder in below), *sets]


def _first(paths: tuple[Path, ...]) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _opened(path: Path, decode: Callable[[Image.Image, Path], np.ndarray]) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return decode(image, path)
    except UnidentifiedImageError:
        raise SkyboxError(f"{path} is no image that can be read ({path.stat().st_size} bytes); copy it again") from None
    except SkyboxError:
        raise
    except (OSError, SyntaxError) as error:  # Pillow's words for a file that ends early or is broken inside
        raise SkyboxError(f"{path} is damaged: {error}; copy it again") from None


def _colour(image: Image.Image, path: Path) -> np.ndarray:
    if image.mode != "RGB":
        kind = {"L": "greyscale", "1": "black and white", "CMYK": "CMYK", "P": "a palette"}.get(image.mode, image.mode)
        raise SkyboxError(
            f"{path}: found {kind} (Pillow's mode {image.mode}), expected colour (RGB); convert it to RGB"
        )
    return np.asarray(image)


def _sixteen_bits(image: Image.Image, path: Path) -> np.ndarray:
    if not image.mode.startswith("I;16"):
        raise SkyboxError(f"{path}: found Pillow's mode {image.mode}, expected 16 bits of grey (I;16) in 0.25 mm")
    return np.asarray(image).astype(np.uint16)


def _split(strip: np.ndarray, path: Path) -> np.ndarray:
    """[F, 6F, ...] -> [6, F, F, ...]."""
    height, width = strip.shape[:2]
    if width != FACES * height or height < 2:
        raise SkyboxError(
            f"{path}: found {width} x {height} pixels, expected six square faces side by side: "
            f"{FACES * height} x {height}"
        )
    return np.ascontiguousarray(strip.reshape(height, FACES, height, *strip.shape[2:]).swapaxes(0, 1))


def _six(paths: tuple[Path, ...], face_px: int | None) -> np.ndarray:
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise SkyboxError(f"{paths[0].parent} has only some of six faces; missing: {', '.join(missing)}; copy them too")

    def decode(image: Image.Image, path: Path) -> np.ndarray:
        if image.width != image.height or image.width < 2:
            raise SkyboxError(f"{path}: found {image.width} x {image.height} pixels, expected a square face")
        face = _colour(image, path)
        return face if face_px is None or len(face) <= face_px else _shrunk(face, face_px)

    faces = [_opened(path, decode) for path in paths]
    sides = {len(face) for face in faces}
    if len(sides) > 1:
        raise SkyboxError(
            f"{paths[0].parent}: the faces of {paths[0].name} to {paths[-1].name} differ in size: {sides}"
        )
    return np.stack(faces)


def _shrunk(face: np.ndarray, side_px: int) -> np.ndarray:
    """Area averages, halves up: exact where the side is a multiple, else Pillow's box filter."""
    times, rest = divmod(len(face), side_px)
    image = Image.fromarray(face)
    if rest == 0:
        return np.asarray(image.reduce(times))
    return np.asarray(image.resize((side_px, side_px), Image.Resampling.BOX))

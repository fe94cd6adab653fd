"""Readers of the feature files that the field shares: TSV of base64 (R2R-EnvDrop, CLIP-ViL), HDF5 (HAMT, DUET).

Both give one `Panorama` a row, in the order of the file, whose features are decoded only when asked for.
V = 36 views, D feature.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np

VIEWS = 36
TSV_COLUMNS = ("scanId", "viewpointId", "image_w", "image_h", "vfov", "features")  # some files add a seventh: logits
_RELEASE_BYTES = 64 << 20  # of the mapped file, behind the current row, that may stay resident
_MAGIC = {b"\x89HDF\r\n\x1a\n": "hdf5", b"PK\x03\x04": "zip", b"\x1f\x8b": "gzip", b"7z\xbc\xaf": "7z"}


@dataclass(frozen=True)
class Camera:
    """What the views were rendered with; None where the file does not say."""

    image_width_px: int | None = None
    image_height_px: int | None = None
    vfov_deg: float | None = None


@dataclass(frozen=True)
class Panorama:
    """One row of a feature file."""

    place: str
    """Where it stands, for messages: `FILE row 7`."""
    done: float
    """Fraction of the file that is behind it, 0 to 1."""
    key: str
    """`"{scan}_{viewpoint}"`."""
    camera: Camera
    """What its views were rendered with."""
    load: Callable[[], np.ndarray]
    """Decodes the features, float32 [V, D], before the next row is asked for; ValueError if they are damaged."""


def read_panoramas(path: Path, dim: int | None = None) -> Iterator[Panorama]:
    """Rows of a TSV or HDF5 file, told apart by their first bytes.

    dim: keep the first `dim` numbers of each view, where class logits follow the features (HAMT, DUET); None: all.
    Raises ValueError that names file and row for what is missing, compressed, cut, or not of the format.
    """
    if not path.is_file():
        raise ValueError(f"no file at {path}; expected the TSV or HDF5 file to convert")
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        raise ValueError(f"{path} is empty; expected a TSV or HDF5 file of features: download it again")
    kind = next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "tsv")
    if kind in ("zip", "gzip", "7z"):
        raise ValueError(f"{path} is a {kind} archive; expected the TSV or HDF5 file inside: unpack it first")
    return _read_hdf5(path, dim) if kind == "hdf5" else _read_tsv(path, dim)


def _kept_dim(found: int, dim: int | None, place: str) -> int:
    """Numbers of a view to keep."""
    if dim is not None and found < dim:
        raise ValueError(f"{place} has {found} numbers a view; expected at least the {dim} of --dim")
    return found if dim is None else dim


def _read_tsv(path: Path, dim: int | None) -> Iterator[Panorama]:
    """Rows of a TSV, which is mapped, not read: each is found and decoded where it lies, in constant memory."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = released = number = 0
        while start < len(data):
            number += 1
            end = data.find(b"\n", start)
            end = len(data) if end < 0 else end
            yield from _tsv_row(data, (start, end), f"{path} row {number}", dim)
            start = end + 1
            if start - released > _RELEASE_BYTES and hasattr(mmap, "MADV_DONTNEED"):
                released = start // mmap.PAGESIZE * mmap.PAGESIZE
                data.madvise(mmap.MADV_DONTNEED, 0, released)


def _tsv_row(data: mmap.mmap, span: tuple[int, int], place: str, dim: int | None) -> Iterator[Panorama]:
    """The panorama of one line; none for a blank line or a line of column names."""
    start, end = span
    while end > start and data[end - 1] in b"\r ":
        end -= 1
    if start == end:
        return
    cuts = [start - 1]
    while (tab := data.find(b"\t", cuts[-1] + 1, end)) >= 0 and len(cuts) <= len(TSV_COLUMNS) + 1:
        cuts.append(tab)
    cuts.append(end)
    if len(cuts) - 1 not in (len(TSV_COLUMNS), len(TSV_COLUMNS) + 1):
        raise ValueError(
            f"{place} has {len(cuts) - 1} columns; expected {len(TSV_COLUMNS)}, {' '.join(TSV_COLUMNS)}, or one more, "
            "logits: the file is cut or of another kind, compare its size with the original and download it again"
        )
    texts = [data[cuts[i] + 1 : cuts[i + 1]].decode(errors="replace") for i in range(5)]
    if tuple(texts) == TSV_COLUMNS[:5]:
        return
    scan, viewpoint, width, height, vfov = texts
    try:
        camera = Camera(int(float(width)), int(float(height)), float(vfov))
    except ValueError:
        raise ValueError(
            f"{place}: image_w, image_h, vfov are {width!r}, {height!r}, {vfov!r}; expected numbers like 640, 480, 60"
        ) from None

    def load() -> np.ndarray:
        return _decode_features(data, (cuts[5] + 1, cuts[6]), place, dim)

    yield Panorama(place, end / len(data), f"{scan}_{viewpoint}", camera, load)


def _decode_features(data: mmap.mmap, span: tuple[int, int], place: str, dim: int | None) -> np.ndarray:
    """Features float32 [V, D] of the base64 text at a span of a file."""
    n_chars = span[1] - span[0]
    view_bytes = n_chars // 4 * 3 / VIEWS
    if n_chars == 0 or n_chars % 4 or view_bytes % 4:
        raise ValueError(
            f"{place} has {n_chars} characters of features; expected base64 of {VIEWS} views of float32, a multiple "
            f"of {VIEWS * 16 // 3}: the row is cut or has another number of views, download the file again"
        )
    features = np.empty((VIEWS, int(view_bytes) // 4), "<f4")
    # No name is kept for the array over the file: it could not be closed while a traceback holds one.
    bad = decode_base64(np.frombuffer(data, np.uint8, n_chars, span[0]), features.reshape(-1).view(np.uint8))
    if bad:
        raise ValueError(f"{place} has characters that are not base64 among its features; download the file again")
    return features[:, : _kept_dim(features.shape[1], dim, place)]


def _digit_table(shift: int) -> np.ndarray:
    """Value of each character as a base64 digit, shifted to its place; bit 24 marks those that are none."""
    table = np.full(256, 1 << 24, np.uint32)
    digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    table[np.frombuffer(digits, np.uint8)] = np.arange(64, dtype=np.uint32) << shift
    return table


_DIGIT_0, _DIGIT_1, _DIGIT_2, _DIGIT_3 = (_digit_table(shift) for shift in (18, 12, 6, 0))


@numba.njit
def decode_base64(text: np.ndarray, out: np.ndarray) -> bool:
    """Decodes base64 without padding, uint8 [4 n] -> uint8 [3 n]; whether a character is no digit of it.

    `base64.b64decode` specifies it; this is ten times as fast.
    """
    seen = np.uint32(0)
    for i in range(text.size // 4):
        word = _DIGIT_0[text[4 * i]] | _DIGIT_1[text[4 * i + 1]] | _DIGIT_2[text[4 * i + 2]] | _DIGIT_3[text[4 * i + 3]]
        seen |= word
        out[3 * i] = (word >> 16) & 0xFF
        out[3 * i + 1] = (word >> 8) & 0xFF
        out[3 * i + 2] = word & 0xFF
    return seen >> 24 != 0


def _read_hdf5(path: Path, dim: int | None) -> Iterator[Panorama]:
    """Datasets of an HDF5 file, one a viewpoint, [V, D] of any float type."""
    try:
        import h5py
    except ImportError:
        raise ValueError(f"{path} is HDF5, which needs h5py: pip install 'clipnav[hdf5]'") from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path} is a damaged HDF5 file ({error}); download it again") from None
    with file:
        for number, key in enumerate(file, start=1):
            yield _hdf5_row(file[key], key, f"{path} row {number}, {key}", number / len(file), dim)


def _hdf5_row(dataset: Any, key: str, place: str, done: float, dim: int | None) -> Panorama:
    """The panorama of one dataset, of which only the numbers to keep will be read."""
    shape = getattr(dataset, "shape", None)
    if shape is None or len(shape) != 2 or shape[0] != VIEWS or dataset.dtype.kind != "f":
        found = "a group" if shape is None else f"{dataset.dtype} {shape}"
        raise ValueError(f"{place} is {found}; expected floats [{VIEWS}, D], one dataset a panorama")
    kept = _kept_dim(shape[1], dim, place)
    width, height, vfov = (dataset.attrs.get(name) for name in TSV_COLUMNS[2:5])
    camera = Camera(
        None if width is None else int(width),
        None if height is None else int(height),
        None if vfov is None else float(vfov),
    )

    def load() -> np.ndarray:
        try:
            return np.asarray(dataset[:, :kept], np.float32)
        except OSError as error:
            raise ValueError(f"{place} is damaged ({error}); download the file again") from None

    return Panorama(place, done, key, camera, load)

"""Exports a feature store as a feature file of the field, TSV or HDF5, so that others' code can read it."""

from __future__ import annotations

import base64
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import tyro
from rich.console import Console
from rich.progress import Progress

from clip_core.features import FeatureStore
from envs.files import replacing
from precompute.legacy import VIEWS, Camera

_BLOCK = 64  # panoramas read at once
_CAMERA = ("image_w", "image_h", "vfov")


@dataclass(frozen=True)
class Export:
    """Export a feature store as a file of the field, TSV or HDF5, for other code to read.

    TSV is what R2R-EnvDrop and CLIP-ViL read, HDF5 what HAMT and DUET read. The numbers are written as float32.
    `python -m precompute convert` makes a store of the file again.
    """

    store: Path
    """Feature store of panoramas."""
    out: Annotated[Path, tyro.conf.arg(name="to")]
    """File to write: .tsv, or .hdf5 (.h5), by its suffix."""
    image_width: int | None = None
    """Width of the views in pixels, where the store does not know it."""
    image_height: int | None = None
    """Height of the views in pixels, where the store does not know it."""
    vfov: float | None = None
    """Vertical field of view in degrees, where the store does not know it; 60 in all published files."""


def export(config: Export, console: Console | None = None) -> Path:
    """Writes the file that the config asks for, a block of panoramas at a time; it appears whole or not at all.

    Raises ValueError for a store that is not of panoramas or whose keys are not "{scan}_{viewpoint}", for an unknown
    suffix, a file that exists, a TSV of unknown camera, and a disk that is full.
    """
    console = Console() if console is None else console
    began = time.perf_counter()
    write = _writer(config.out)
    store = FeatureStore.open(config.store)
    _check(store, config)
    camera = _camera(store, config)
    if write is _write_tsv and None in (camera.image_width_px, camera.image_height_px, camera.vfov_deg):
        raise ValueError(
            f"{config.store} does not say what its views were rendered with, and a TSV must: add --image-width 640 "
            "--image-height 480 --vfov 60 if they are as in all published files, or export .hdf5"
        )
    try:
        with Progress(console=console) as progress, replacing(config.out) as file:
            write(file, progress.track(_items(store), len(store), description=config.out.name), camera)
    except OSError as error:
        raise ValueError(
            f"{config.out} cannot be written ({error}); make room on the disk or name another place"
        ) from error
    seconds, size = time.perf_counter() - began, config.out.stat().st_size
    speed = f"{size / 1e9:.2f} GB, in {seconds:.1f} s ({size / seconds / 1e6:.0f} MB/s)"
    console.print(f"{config.out}: {len(store)} panoramas, {speed}", markup=False, highlight=False, soft_wrap=True)
    return config.out


Items = Iterable[tuple[str, np.ndarray]]  # key, features float32 [V, D]
Write = Callable[[BinaryIO, Items, Camera], None]


def _writer(path: Path) -> Write:
    """Writer for a suffix; says at once what is missing."""
    if path.exists():
        raise ValueError(f"{path} exists; expected a new file: remove it or choose another name")
    if path.suffix == ".tsv":
        return _write_tsv
    if path.suffix not in (".hdf5", ".h5"):
        raise ValueError(f"{path} has the suffix {path.suffix!r}; expected .tsv, .hdf5 or .h5")
    try:
        import h5py  # noqa: F401
    except ImportError:
        raise ValueError(f"{path} is to be HDF5, which needs h5py: pip install 'clipnav[hdf5]'") from None
    return _write_hdf5


def _check(store: FeatureStore, config: Export) -> None:
    if len(store.header.shape) != 2 or store.header.shape[0] != VIEWS:
        raise ValueError(
            f"{config.store} holds items of shape {store.header.shape}; expected panoramas, ({VIEWS}, D): the formats "
            "of the field have no other"
        )
    for key in store.keys:
        scan, separator, viewpoint = key.rpartition("_")
        if not (scan and separator and viewpoint) or "\t" in key or "/" in key:
            raise ValueError(
                f'{config.store} has the key {key!r}; expected "{{scan}}_{{viewpoint}}" for every panorama'
            )


def _camera(store: FeatureStore, config: Export) -> Camera:
    """Camera of the store, or of the flags where the store does not know it; both known and different is a fault."""
    header, values = store.header, []
    for flag, known, given in (
        ("--image-width", header.image_width_px, config.image_width),
        ("--image-height", header.image_height_px, config.image_height),
        ("--vfov", header.vfov_deg, config.vfov),
    ):
        if known is not None and given is not None and known != given:
            raise ValueError(f"{flag} is {given:g}, but {config.store} was made with {known:g}: leave the flag out")
        values.append(given if known is None else known)
    width, height, vfov = values
    return Camera(None if width is None else int(width), None if height is None else int(height), vfov)


def _items(store: FeatureStore) -> Iterator[tuple[str, np.ndarray]]:
    """Keys and features in the order of the store."""
    for start in range(0, len(store), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(store)))
        block = store.gather(rows, np.empty((len(rows), *store.header.shape), np.float32))
        yield from zip(store.keys[start : start + _BLOCK], block, strict=True)


def _cells(camera: Camera) -> list[int | float]:
    """image_w, image_h, vfov; a whole angle as an integer, which some readers require."""
    vfov = camera.vfov_deg or 0.0
    return [camera.image_width_px or 0, camera.image_height_px or 0, int(vfov) if vfov == int(vfov) else vfov]


def _write_tsv(file: BinaryIO, items: Items, camera: Camera) -> None:
    """scanId viewpointId image_w image_h vfov features, as R2R-EnvDrop writes it: base64 of float32, CR LF."""
    middle = "\t".join(map(str, _cells(camera)))
    for key, features in items:
        scan, _, viewpoint = key.rpartition("_")
        file.write(f"{scan}\t{viewpoint}\t{middle}\t".encode())
        file.write(base64.b64encode(features.astype("<f4", copy=False).tobytes()))
        file.write(b"\r\n")


def _write_hdf5(file: BinaryIO, items: Items, camera: Camera) -> None:
    """One dataset [V, D] a viewpoint with its attributes, as HAMT writes it, in the order of the store."""
    import h5py

    cells: dict[str, Any] = dict(zip(_CAMERA, _cells(camera), strict=True))
    known = {name: value for name, value in cells.items() if value}
    with _Patient(file.fileno()) as patient:
        with h5py.File(patient, "w", track_order=True) as table:
            for key, features in items:
                scan, _, viewpoint = key.rpartition("_")
                dataset = table.create_dataset(key, data=features, compression="gzip", compression_opts=1)
                dataset.attrs.update(scanId=scan, viewpointId=viewpoint, **known)
                if patient.error is not None:
                    break
        if patient.error is not None:
            raise patient.error


class _Patient(io.FileIO):
    """A file for h5py, which crashes the process if writing fails: the first error is kept instead."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(os.dup(descriptor), "r+b")
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Writes all of the data; after an error nothing more."""
        rest = memoryview(data).cast("B")
        try:
            while self.error is None and len(rest):
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        """Sets the length of the file; after an error nothing more."""
        try:
            return super().truncate(size) if self.error is None else 0
        except OSError as error:
            self.error = error
            return 0

    def flush(self) -> None:
        """Nothing waits here."""

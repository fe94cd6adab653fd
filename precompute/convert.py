"""Converts a feature file of the field, TSV or HDF5, into a feature store."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from clip_core.feature_files import ChannelOrder, Dtype, Header, Layer, partial_path
from clip_core.feature_writer import StoreWriter
from clip_core.features import FeatureStore
from precompute.legacy import Camera, Panorama, read_panoramas
from precompute.screen import say

_LOGITS = 1000  # ImageNet classes, which HAMT and DUET append to the features


@dataclass(frozen=True)
class Convert:
    """Convert a feature file of the field, TSV or HDF5, into a feature store.

    The file says little about the features; what you know of them, record it with the flags: agents check it.
    A conversion that was interrupted continues when the same command is given again.
    """

    source: Annotated[Path, tyro.conf.arg(name="from")]
    """TSV (scanId viewpointId image_w image_h vfov features[ logits]) or HDF5 (one dataset a viewpoint)."""
    out: Path
    """Folder of the store to make."""
    dim: int | None = None
    """Keep the first so many numbers of each view, where class logits follow the features."""
    dtype: Dtype = "float16"
    """Number format of the store; float32 keeps the numbers of the file."""
    model: str | None = None
    """Encoder, as open_clip or timm name it, e.g. ViT-B-32."""
    pretrained: str | None = None
    """Tag of its weights, e.g. openai."""
    weights_sha256: str | None = None
    """Hash of its weights file."""
    layer: Layer = "unknown"
    """projected: joint space of CLIP; unprojected: the pooled vector before it."""
    channel_order: ChannelOrder = "unknown"
    """Order of the colours as the encoder saw them; the released CLIP-ViL TSV may be BGR."""
    preprocessing: str | None = None
    """From pixels to the encoder, e.g. "centre crop, 224 px, bicubic"."""


def convert(config: Convert, console: Console | None = None) -> FeatureStore:
    """Writes the store that the config asks for, a row at a time in constant memory; returns it opened.

    A row that comes twice with the same features counts once. Raises ValueError, with the row, for a file that is cut
    or damaged, for rows of different sizes or cameras, for two rows of one key with different features, and for values
    that are not finite or do not fit the dtype. What came before is kept for the next run.
    """
    console = Console() if console is None else console
    began, continued = time.perf_counter(), partial_path(config.out).is_dir()
    panoramas = read_panoramas(config.source, config.dim)
    first = next(panoramas, None)
    if first is None:
        raise ValueError(f"{config.source} has no rows; expected one a viewpoint")
    header = _header(config, first)
    if config.dim is None and header.dim - _LOGITS in (512, 640, 768, 1024, 2048):
        say(console, f"{header.dim} numbers a view: with class logits? Then cut them off: --dim {header.dim - _LOGITS}")
    with StoreWriter(config.out, header) as writer, _progress(console) as progress:
        if continued:
            say(console, f"Continuing {config.out}: {len(writer.rows)} rows are there")
        task = progress.add_task(config.source.name, total=1.0)
        for panorama in _copied(itertools.chain([first], panoramas), writer, first.camera):
            progress.update(task, completed=panorama.done)
        store = writer.finish()
    seconds = time.perf_counter() - began
    say(
        console,
        f"{config.out}: {len(store)} x {' x '.join(map(str, header.shape))} {header.dtype}, "
        f"{store.table.nbytes / 1e9:.2f} GB, in {seconds:.1f} s "
        f"({config.source.stat().st_size / seconds / 1e6:.0f} MB/s of {config.source.name})",
    )
    return store


def _header(config: Convert, first: Panorama) -> Header:
    """Header of the store; the size of the source tells a file from a longer or shorter copy of it."""
    return Header(
        source=f"{config.source.name} ({config.source.stat().st_size} bytes)",
        shape=first.load().shape,
        dtype=config.dtype,
        model=config.model,
        pretrained=config.pretrained,
        weights_sha256=config.weights_sha256,
        layer=config.layer,
        channel_order=config.channel_order,
        preprocessing=config.preprocessing,
        **dataclasses.asdict(first.camera),
    )


def _copied(panoramas: Iterable[Panorama], writer: StoreWriter, camera: Camera) -> Iterator[Panorama]:
    """Adds each panorama to the store, then gives it back; those of an earlier run are not decoded again."""
    seen: set[str] = set()
    for panorama in panoramas:
        if panorama.camera != camera:
            raise ValueError(f"{panorama.place} has {panorama.camera}; expected {camera} as in the first row")
        if panorama.key in seen or panorama.key not in writer.rows:
            features = panorama.load()
            try:
                _add(panorama.key, features, writer)
            except ValueError as error:
                raise ValueError(f"{panorama.place}: {error}") from error
        seen.add(panorama.key)
        yield panorama


def _add(key: str, features: np.ndarray, writer: StoreWriter) -> None:
    """Adds a panorama that is new; one that is there must be the same."""
    if key not in writer.rows:
        writer.append(key, features)
    elif not np.array_equal(writer.convert(features), writer.read(key)):
        raise ValueError(
            f"{key} was there before with other features; expected one row a viewpoint: remove one of the two rows"
        )


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), console=console
    )

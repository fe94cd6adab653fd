"""How images were prepared for an encoder, in the words of a store's header, and from those words again."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import get_args

from clip_core.encoder import ClipEncoder
from clip_core.images import HOW_RESIZED, ImageTransform, Interpolation, ResizeMode
from clip_core.runtime import Precision
from precompute.encoders import ImageEncoder, Point

_UPRIGHT, _GRID = "upright", "grid as for "
_SIZE = re.compile(r"(\d+) x (\d+) px")


@dataclass(frozen=True)
class Preprocessing:
    """Transform, whether images were turned upright first, the point of a ViT's grid, and the precision."""

    transform: ImageTransform
    upright: bool
    point: Point
    precision: Precision


def preprocessing_words(
    encoder: ImageEncoder, transform: ImageTransform, layer: str, point: Point, upright: bool
) -> str:
    """For the header of a store; the precision is added by `EncoderRecord.header_fields`."""
    words = [_UPRIGHT] if upright else []
    words.append(transform.describe())
    if layer == "grid" and isinstance(encoder, ClipEncoder) and encoder.kind == "ViT":
        words.append(f"{_GRID}{point}")
    return ", ".join(words)


def read_preprocessing(text: str | None, own: ImageTransform) -> Preprocessing:
    """What the words of a header say; `own` is the transform of the encoder, whose constants are not in them.

    Raises ValueError for words that `preprocessing_words` does not write: nobody knows then how to prepare an image.
    """
    words = (text or "").split(", ")
    upright = words[0] == _UPRIGHT
    parts = words[1:] if upright else words
    precision: Precision | None = next((p for p in get_args(Precision) if parts[-1] == p), None)
    modes = [mode for mode, said in HOW_RESIZED.items() if ", ".join(parts).startswith(said)]
    size = next((match for part in parts if (match := _SIZE.fullmatch(part))), None)
    interpolation: Interpolation | None = next((how for how in get_args(Interpolation) if how in parts), None)
    if precision is None or not modes or size is None or interpolation is None:
        raise ValueError(
            f"the store records its preprocessing as {text!r}; expected the words of python -m precompute images, "
            "which alone can be repeated for another image: make the store with that command"
        )
    point: Point = next((p for p in get_args(Point) if f"{_GRID}{p}" in parts), "captioning")
    transform = dataclasses.replace(
        own,
        height_px=int(size[2]),
        width_px=int(size[1]),
        resize_mode=modes[0],
        interpolation=interpolation,
    )
    return Preprocessing(transform, upright, point, precision)


def parse_size(size: str | None) -> tuple[int, int] | None:
    """(height, width) of "600x1000"; None for None. ValueError for another text."""
    if size is None:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*", size)
    if match is None:
        raise ValueError(f"size is {size!r}; expected height x width in pixels, e.g. 600x1000")
    return int(match[1]), int(match[2])


def resized_to(
    own: ImageTransform, size: tuple[int, int] | None, fit: ResizeMode | None, interpolation: Interpolation | None
) -> ImageTransform:
    """A model's own transform with another size (squashed to it unless `fit` says otherwise), or another filter."""
    height, width = size or (own.height_px, own.width_px)
    mode = fit or ("squash" if size else own.resize_mode)
    how = interpolation or own.interpolation
    return dataclasses.replace(own, height_px=height, width_px=width, resize_mode=mode, interpolation=how)

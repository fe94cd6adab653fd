"""Where a model looked, drawn over the image.

h x w cells of a map, H x W pixels of an image.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from clip_core.images import ImageTransform

TILE_PX, LABEL_PX, GAP_PX, LINE_LETTERS, TILES_A_ROW = 224, 24, 6, 26, 6
"""Of a sheet of words: width of a picture, height of a line above it, white between two, letters in a line, pictures
side by side."""


def seen_part(image: Image.Image, transform: ImageTransform) -> Image.Image:
    """The part of an image that a transform shows to the encoder, to lay a map of its grid over: the whole image in its
    own shape where it is squashed, else what the cut or the padding leaves."""
    if transform.resize_mode == "squash":
        return image
    return Image.fromarray(transform.pixels(image).permute(1, 2, 0).numpy())


def heat_overlay(image: Image.Image, heat: np.ndarray, strength: float = 0.65) -> Image.Image:
    """RGB image [H, W] under a map [h, w] of any numbers: blue where they are low, red where they are high.

    The map is stretched between its least and its largest number and interpolated bilinearly; a constant one leaves the
    image as it is. Raises ValueError for a map that is not two-dimensional or not finite.
    """
    heat = np.asarray(heat, np.float32)
    if heat.ndim != 2 or not np.isfinite(heat).all():
        raise ValueError(f"a map of shape {heat.shape}; expected finite numbers [h, w]")
    low, high = float(heat.min()), float(heat.max())
    if high <= low:
        return image.convert("RGB")
    grid = Image.fromarray((heat - low) / (high - low), mode=None)
    level = np.asarray(grid.resize(image.size, Image.Resampling.BILINEAR))[..., None]
    warmth = np.concatenate([_bump(level, 0.85), _bump(level, 0.55), _bump(level, 0.2)], 2)
    pixels = np.asarray(image.convert("RGB"), np.float32) / 255
    share = strength * (0.35 + 0.65 * level)
    mixed = pixels * (1 - share) + warmth * share
    return Image.fromarray((mixed * 255 + 0.5).astype(np.uint8))


def _bump(level: np.ndarray, centre: float) -> np.ndarray:
    """One channel of the colour scale."""
    return np.clip(1.5 - 3.2 * np.abs(level - centre), 0, 1)


def word_sheet(pictures: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Pictures of one shape on one sheet, each below its word, or its words, in as many lines as they need."""
    width, height = pictures[0][1].size
    tile = TILE_PX, max(1, round(TILE_PX * height / width))
    columns = min(TILES_A_ROW, len(pictures))
    labels = [textwrap.wrap(word, LINE_LETTERS) for word, _ in pictures]
    above = LABEL_PX * max(1, *map(len, labels))
    rows = -(-len(pictures) // columns)
    step = tile[0] + GAP_PX, tile[1] + above + GAP_PX
    sheet = Image.new("RGB", (columns * step[0] - GAP_PX, rows * step[1] - GAP_PX), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(LABEL_PX * 2 // 3)
    for place, (lines, (_, picture)) in enumerate(zip(labels, pictures, strict=True)):
        left, top = place % columns * step[0], place // columns * step[1]
        middle = left + tile[0] // 2, top + above // 2
        draw.multiline_text(middle, "\n".join(lines), "black", font, anchor="mm", align="center")
        sheet.paste(picture.convert("RGB").resize(tile), (left, top + above))
    return sheet


def png_bytes(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()

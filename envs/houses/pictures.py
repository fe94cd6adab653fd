"""Pictures of the houses for vision-and-language tasks: which views are worth a picture, their names, their pixels."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from envs.candidates import HEADINGS
from envs.files import replacing
from envs.houses.panorama import POSE_ROTATION
from envs.houses.sight import sight_of
from envs.houses.views import view_angles
from envs.rendering import Camera, Texture, render, view_rotation
from envs.skybox import FACES

FOLDER = "vision_language"
TAKEN_WITH = Camera(320, 240)
JPEG_QUALITY = 88
PER_VIEWPOINT = 2
APART = 3
"""Headings, 30 degrees each, between two pictures of a viewpoint: they share nothing."""
LEAST_CLEAR = 2
"""Objects that are clearly visible in a picture."""
SPLITS = ("train2014", "val2014")
"""Of the training houses, of the unseen ones: named as COCO's, which readers of these formats expect."""
IDS_PER_HOUSE = 10_000
HOUSES_PER_STREAM = 1000


def picture_views(house: Mapping[str, Any], viewpoint: int) -> list[int]:
    """The level views of a viewpoint, given by its row, that show most: at most two, apart from one another."""
    scores = {}
    for view in range(HEADINGS, 2 * HEADINGS):
        sight = sight_of(house, viewpoint, view)
        if len(sight.clear) >= LEAST_CLEAR:
            scores[view] = sum(min(item.share, 100) ** 0.5 for item in sight.clear)
    chosen: list[int] = []
    while scores and len(chosen) < PER_VIEWPOINT:
        chosen.append(max(scores, key=lambda view: (scores[view], -view)))
        scores = {view: score for view, score in scores.items() if _turn(view, chosen[-1]) >= APART}
    return sorted(chosen)


def _turn(view: int, other: int) -> int:
    steps = abs(view - other) % HEADINGS
    return min(steps, HEADINGS - steps)


def image_id(stream: int, number: int, viewpoint: int, view: int) -> int:
    """Of a picture: unique in a world. ValueError for a house of so many viewpoints that numbers would repeat."""
    place = viewpoint * 3 * HEADINGS + view
    if place >= IDS_PER_HOUSE:
        raise ValueError(f"viewpoint {viewpoint}: more than {IDS_PER_HOUSE // (3 * HEADINGS)} viewpoints in a house")
    return (stream * HOUSES_PER_STREAM + number) * IDS_PER_HOUSE + place


def image_name(stream: int, identity: int) -> str:
    """As COCO names its files."""
    return f"COCO_{SPLITS[stream]}_{identity:012d}.jpg"


def image_file(out: Path, stream: int, identity: int) -> Path:
    return out / FOLDER / "images" / SPLITS[stream] / image_name(stream, identity)


def write_pictures(strip: np.ndarray, views: Sequence[int], files: Sequence[Path]) -> None:
    """The views of a panorama [F, 6 F, 3] uint8 as JPEG files."""
    side = strip.shape[0]
    faces = np.ascontiguousarray(strip.reshape(side, FACES, side, 3).swapaxes(0, 1))
    rotations = np.stack([view_rotation(*view_angles(view), POSE_ROTATION) for view in views])
    images = render(Texture.of_faces(faces, "rgb"), rotations, TAKEN_WITH, threads=1)
    for image, path in zip(images, files, strict=True):
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(image)).save(buffer, format="JPEG", quality=JPEG_QUALITY)
        with replacing(path) as file:
            file.write(buffer.getvalue())

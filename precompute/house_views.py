"""Views of procedural houses as pictures at an encoder's input size, with what each shows.

N views of all viewpoints in the order of the houses, 36 a viewpoint; S pixels of a picture's side.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from clip_core.images import ImageTransform
from envs.houses.sight import Sight, sight_of
from envs.simulator_sight import VIEWS
from envs.skybox import read_faces
from precompute.views import FIELD, direct_camera, view_rotations, views_on_host

EDGE = round(100 * FIELD.height / FIELD.width)
"""Where the square crop of a view ends, percent of half the width of the whole view."""
CUT = 8
"""An object of which less than this (in the same percent) reaches into the crop is left out."""
MAKE_WORLD = "python -m envs.houses --out DIR"


class Place(NamedTuple):
    """A view: its house, the viewpoint's row in it, the view's number 0-35."""

    house: int
    viewpoint: int
    view: int


@dataclass(frozen=True, eq=False)
class HouseViews:
    """Houses of one part of a world with the pictures of all their views."""

    houses: Sequence[dict[str, Any]]
    """Scene graphs, as `houses/{scan}.json` has them, without what lies outside the square crop of a view."""
    pictures: np.ndarray
    """uint8 [N, S, S, 3] RGB."""

    def __len__(self) -> int:
        return len(self.pictures)

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(house["viewpoints"]) for house in self.houses)])

    def place(self, number: int) -> Place:
        """Where view 0 <= number < N was seen."""
        viewpoint, view = divmod(int(number), VIEWS)
        house = int(np.searchsorted(self._starts, viewpoint, side="right")) - 1
        return Place(house, viewpoint - int(self._starts[house]), view)

    def sight(self, number: int) -> Sight:
        """What a view shows."""
        place = self.place(number)
        return sight_of(self.houses[place.house], place.viewpoint, place.view)


def scans_of(world: Path, split: str) -> list[str]:
    """Scans of a split of a world, sorted. ValueError if the split's file is missing or broken."""
    path = world / f"R2R_{split}.json"
    try:
        return sorted({str(item["scan"]) for item in json.loads(path.read_text(encoding="utf-8"))})
    except OSError:
        raise ValueError(f"no {path.name} in {world}; expected a world of procedural houses: {MAKE_WORLD}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); make the world again: {MAKE_WORLD}") from None


def read_houses(world: Path, scans: Sequence[str]) -> list[dict[str, Any]]:
    """Scene graphs of scans. ValueError for a house that is missing, damaged, or of an older format."""
    houses = []
    for scan in scans:
        path = world / "houses" / f"{scan}.json"
        try:
            house = json.loads(path.read_text(encoding="utf-8"))
            if not all("views" in v and "view_rooms" in v for v in house["viewpoints"]):
                raise ValueError("it does not say what each view shows")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} cannot be used ({error}); make the world again: {MAKE_WORLD}") from None
        houses.append(house)
    return houses


def cropped(house: dict[str, Any]) -> dict[str, Any]:
    """The scene graph without the objects that the square crop of a view cuts off."""

    def inside(entry: Sequence[int]) -> bool:
        left, right = entry[3], entry[4]
        return left < EDGE - CUT and right > CUT - EDGE

    viewpoints = [
        {**v, "views": [[entry for entry in view if inside(entry)] for view in v["views"]]} for v in house["viewpoints"]
    ]
    return {**house, "viewpoints": viewpoints}


def load_views(
    world: Path,
    split: str,
    transform: ImageTransform,
    cache: Path,
    on_viewpoint: Callable[[int, int], None] | None = None,
) -> HouseViews:
    """The views of the houses of one split, and of no other house.

    world: folder of `python -m envs.houses`.
    cache: folder where the pictures are kept; they are rendered once, as `precompute panoramas --pixels direct` does.
    on_viewpoint: told (viewpoints done, viewpoints in all).
    """
    scans = scans_of(world, split)
    houses = [cropped(house) for house in read_houses(world, scans)]
    told = json.dumps([(world / "world.json").read_text(encoding="utf-8") if (world / "world.json").exists() else "",
                       transform.describe(), [[v["id"] for v in house["viewpoints"]] for house in houses]])  # fmt: skip
    path = cache / f"{split}-{hashlib.sha256(told.encode()).hexdigest()[:16]}.npy"
    if not path.is_file():
        _render(world, houses, transform, path, on_viewpoint or (lambda *_: None))
    return HouseViews(houses, np.load(path, mmap_mode="r"))


def _render(
    world: Path,
    houses: Sequence[dict[str, Any]],
    transform: ImageTransform,
    path: Path,
    report: Callable[[int, int], None],
) -> None:
    """Pictures of all views into a file that appears when it is whole."""
    camera = direct_camera(transform)
    jobs = [
        (house["scan"], item["image_id"], np.array(item["pose"], np.float64).reshape(4, 4))
        for house in houses
        for item in house["connectivity"]
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    shape = (len(jobs) * VIEWS, camera.height, camera.width, 3)
    table = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)

    def work(number: int) -> int:
        scan, viewpoint, pose = jobs[number]
        faces = read_faces(world, scan, viewpoint)
        table[number * VIEWS : (number + 1) * VIEWS] = views_on_host(faces, view_rotations(pose), camera, "RGB")
        return number

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1) as pool:
        for done in pool.map(work, range(len(jobs))):
            report(done + 1, len(jobs))
    table.flush()
    temporary.replace(path)

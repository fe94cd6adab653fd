"""What tests of several packages share: the real data, and small buildings that anybody can generate."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from envs.scenes import Scene, load_scenes
from envs.tables import World, load_world

Items = list[dict[str, Any]]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder with r2r/, connectivity/ and golden/ that CLIPNAV_DATA names; without it the test is skipped."""
    name = os.environ.get("CLIPNAV_DATA")
    if not name:
        pytest.skip("CLIPNAV_DATA is not set: name the folder that holds r2r/, connectivity/ and golden/")
    folder = Path(name).resolve()
    if not (folder / "connectivity").is_dir():
        pytest.skip(f"CLIPNAV_DATA names {folder}, which holds no connectivity/")
    return folder


@pytest.fixture(scope="session")
def golden_dir(data_dir: Path) -> Path:
    """Recordings of the original code."""
    folder = data_dir / "golden"
    if not folder.is_dir():
        pytest.skip(f"CLIPNAV_DATA names {data_dir}, which holds no golden/")
    return folder


@pytest.fixture(scope="session")
def scenes_all(data_dir: Path) -> dict[str, Scene]:
    """The 90 buildings of Matterport3D."""
    return load_scenes(data_dir / "connectivity")


@pytest.fixture(scope="session")
def world_val_seen(data_dir: Path) -> World:
    """R2R val_seen in its real buildings; tests must not write to its arrays."""
    return load_world(data_dir / "r2r", "val_seen")


@pytest.fixture
def square_items() -> Items:
    """A connectivity file of five viewpoints: a, b, c, d at the corners of a 2 m square, x excluded in its middle.

    Sides are edges; c lies 1 m higher; x sees everything, but counts for nothing.
    """
    places = {"a": (0, 0, 1.5), "b": (0, 2, 1.5), "c": (2, 2, 2.5), "d": (2, 0, 1.5), "x": (1, 1, 1.5)}
    sides = {"ab", "bc", "cd", "ad"}
    return [
        {
            "image_id": name,
            "pose": [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1],
            "included": name != "x",
            "visible": [True] * len(places),
            "unobstructed": [
                name != other and ("x" in (name, other) or "".join(sorted((name, other))) in sides) for other in places
            ],
            "height": 1.5,
        }
        for name, (x, y, z) in places.items()
    ]


@pytest.fixture
def square_routes() -> Items:
    """Two routes with three instructions in all."""
    return [
        {
            "scan": "square",
            "path_id": 7,
            "path": ["a", "b", "c"],
            "heading": 0.3,
            "distance": 2 + 5**0.5,
            "instructions": ["Walk ahead. Turn right.", "Go up to c"],
        },
        {"scan": "square", "path_id": 8, "path": ["d", "a"], "heading": 6.2, "distance": 2, "instructions": ["Left!"]},
    ]


@pytest.fixture
def make_square(tmp_path: Path, square_items: Items, square_routes: Items) -> Callable[..., Path]:
    """make_square(split="train") writes a data folder with one scan `square`, as `square_items` and `square_routes`
    are when it is called, and returns it."""

    def write(split: str = "train") -> Path:
        folder = tmp_path / "connectivity"
        folder.mkdir(exist_ok=True)
        (folder / "scans.txt").write_text("square\n")
        (folder / "square_connectivity.json").write_text(json.dumps(square_items))
        (tmp_path / f"R2R_{split}.json").write_text(json.dumps(square_routes))
        return tmp_path

    return write

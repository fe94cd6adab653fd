"""Houses that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_world import CONFIG

from envs.houses.house import House, draw_house
from envs.houses.world import make_world


@pytest.fixture(scope="session")
def houses() -> list[House]:
    """Three houses of one seed; one of them at least has stairs."""
    return [draw_house(f"house{i}", 1, 0, i) for i in range(3)]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small world on disk, made by CONFIG."""
    out = tmp_path_factory.mktemp("houses") / "world"
    make_world(out, CONFIG)
    return out

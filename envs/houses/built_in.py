"""Where the built-in world lies."""

from __future__ import annotations

import os
from pathlib import Path

from envs.houses.world import FORMAT

CACHE_VARIABLE = "CLIPNAV_CACHE"


def cache_folder() -> Path:
    """Where ClipNav keeps what it makes once: what CLIPNAV_CACHE names, else clipnav/ in the user's cache folder."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "clipnav"


def world_folder() -> Path:
    """Folder of the built-in houses; a later format of houses has another."""
    return cache_folder() / f"houses-{FORMAT}"

"""What a view shows, found by casting a ray through each of its pixels: the check of what is said about pictures."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from envs.houses.furnish import Item
from envs.houses.furniture import CATALOG
from envs.houses.house import House
from envs.houses.panorama import view_rays
from envs.houses.plan import STOREY_M
from envs.houses.raycast import grid_arrays, trace
from envs.houses.wording import SYNONYMS

WIDTH, HEIGHT = 160, 120
NOUNS = {name: category for category in CATALOG for name in (category, *SYNONYMS.get(category, ()))}


@dataclass(frozen=True)
class Truth:
    """Of one view: the room that it shows, item -> its columns (one entry per pixel), among WIDTH x HEIGHT pixels."""

    house: House
    room: int
    columns: dict[int, np.ndarray]
    eye_m: tuple[float, float]

    def share(self, index: int) -> float:
        """Permille of the pixels."""
        return 1000 * len(self.columns.get(index, ())) / (WIDTH * HEIGHT)

    def of(self, noun: str, least: float = 0.0, colour: str = "", material: str = "") -> list[Item]:
        """Visible objects that a noun may mean."""
        return [
            item
            for item in self.house.items
            if item.category == NOUNS[noun]
            and item.index in self.columns
            and self.share(item.index) >= least
            and colour in ("", item.colour)
            and material in ("", item.material)
        ]

    def x(self, index: int) -> float:
        """Mean column, -1 left to 1 right."""
        return float(self.columns[index].mean() / WIDTH * 2 - 1)


def look(house: House, row: int, view: int) -> Truth:
    rays = view_rays(WIDTH, HEIGHT, math.radians(60), math.radians(view % 12 * 30), math.radians(view // 12 * 30 - 30))
    eye = house.graph.position_m[row]
    distance_m, solid, _ = trace(*grid_arrays(house.stage.grid), eye, rays.reshape(-1, 3))
    seen = house.stage.solids.item[solid].reshape(rays.shape[:-1])
    columns = np.broadcast_to(np.arange(WIDTH), seen.shape)
    found = {int(k): columns[seen == k] for k in np.unique(seen[seen >= 0])}
    points = eye + (distance_m[:, None] - 0.03) * rays.reshape(-1, 3)
    return Truth(house, shown_room(house, points), found, (float(eye[0]), float(eye[1])))


def shown_room(house: House, points: np.ndarray) -> int:
    """The room that most of the points [M, 3] are in."""
    inside = {}
    for room in house.plan.rooms:
        r, floor = room.rect, (points[:, 2] / STOREY_M).astype(int)
        x, y = points[:, 0], points[:, 1]
        inside[room.index] = ((x > r.x0) & (x < r.x1) & (y > r.y0) & (y < r.y1) & (floor == room.floor)).sum()
    return max(inside, key=lambda index: inside[index])


def plural(noun: str) -> str:
    if noun == "chest of drawers":
        return "chests of drawers"
    return re.sub(r"shelf$", "shelve", re.sub(r"(ch)$", r"\1e", noun)) + "s"


def one_of(names: list[str]) -> str:
    """A regular expression for any of the words, the longest first."""
    return "(?:" + "|".join(sorted(map(re.escape, names), key=len, reverse=True)) + ")"


def gap_m(a: Item, b: Item) -> float:
    """Between the footprints."""
    dx = max(a.rect.x0 - b.rect.x1, b.rect.x0 - a.rect.x1, 0.0)
    dy = max(a.rect.y0 - b.rect.y1, b.rect.y0 - a.rect.y1, 0.0)
    return math.hypot(dx, dy)

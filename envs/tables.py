"""Everything an environment looks up, as arrays of one array library.

Legend: R viewpoints of all scans, K candidates, E episodes, T the longest route, S the sum of the squared scan sizes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from envs.candidates import HEADINGS, STEP_RAD, CandidateTable, candidate_table, elevation_base_steps
from envs.episodes import Episode, check_routes, episode_file, load_episodes
from envs.geodesics import Geodesics, geodesics
from envs.scenes import Scene, find_connectivity, load_scenes

Array = Any
"""An array of numpy, or of any library of the Python array API (a torch tensor on a GPU, say)."""


@dataclass(frozen=True, eq=False)
class NavTables:
    """The look-up tables of `envs.dynamics`; see `nav_tables` for what they hold.

    neighbour [R, K] int32, view [R, K] uint8; relative_heading_rad [R * 12, K] by (row, heading step of the agent);
    relative_elevation_rad [R * E0, K] with E0 = 1 (base "horizon") or 3 (base "view"); action_mask [R, K + 1];
    count, distance_row, local [R]; distance_m, next_slot [S] by distance_row[from] + local[to];
    route [E, T] int32: the viewpoints of each route, its last one repeated up to the length of the longest; a viewpoint
    that follows itself counts once; start, start_view, goal, has_goal [E].
    """

    neighbour: Array
    view: Array
    relative_heading_rad: Array
    relative_elevation_rad: Array
    action_mask: Array
    count: Array
    distance_row: Array
    local: Array
    distance_m: Array
    next_slot: Array
    route: Array
    start: Array
    start_view: Array
    goal: Array
    has_goal: Array

    def convert(self, to: Callable[[np.ndarray], Array]) -> NavTables:
        """The same tables in another array library or on another device, e.g.
        `tables.convert(lambda a: torch.tensor(a, device="cuda"))`."""
        return NavTables(**{f.name: to(getattr(self, f.name)) for f in dataclasses.fields(self)})


@dataclass(frozen=True, eq=False)
class World:
    """The scenes, episodes and tables that belong together."""

    scenes: Mapping[str, Scene]
    geodesics: Mapping[str, Geodesics]
    candidates: CandidateTable
    episodes: Sequence[Episode]
    tables: NavTables
    elevation_base: str

    def __deepcopy__(self, memo: dict) -> World:
        """Itself, since nothing changes it: `gymnasium.make(..., world=world)` copies its arguments."""
        return self

    def row(self, scan: str, viewpoint: str) -> int:
        """Table row of a viewpoint."""
        return self.candidates.offset[scan] + self.scenes[scan].number(viewpoint)

    def with_episodes(self, episodes: Sequence[Episode]) -> World:
        """Other episodes in the same buildings; the tables of the buildings are shared."""
        tables = dataclasses.replace(self.tables, **_episode_tables(episodes, self.scenes, self.candidates))
        return dataclasses.replace(self, episodes=episodes, tables=tables)


def load_world(
    data: str | Path,
    split: str,
    connectivity: str | Path | None = None,
    env: str = "r2r",
    order: str = "sweep",
    elevation_base: str = "horizon",
) -> World:
    """Episodes of a split with the buildings they lie in, checked against one another.

    `connectivity=None` looks in `{data}/connectivity` and beside `data`; for the rest see `build_world`.
    """
    folder = find_connectivity(data, connectivity)
    episodes = load_episodes(data, split, env)
    scenes = load_scenes(folder, dict.fromkeys(e.scan for e in episodes))
    check_routes(episode_file(data, split, env), episodes, scenes)
    return build_world(scenes, episodes, order, elevation_base)


def build_world(
    scenes: Mapping[str, Scene],
    episodes: Sequence[Episode],
    order: str = "sweep",
    elevation_base: str = "horizon",
) -> World:
    """All tables for the given buildings and episodes.

    `order`: candidate order, "sweep" (the originals) or "graph". `elevation_base`: "horizon" (R2R-EnvDrop,
    Recurrent-VLN-BERT, HAMT) or "view" (VLN-DUET: candidate elevations relative to the agent's).
    """
    candidates = candidate_table(scenes, order)
    paths = {scan: geodesics(scene) for scan, scene in scenes.items()}
    tables = NavTables(
        neighbour=candidates.neighbour,
        view=candidates.view.astype(np.uint8),  # a quarter of the bytes in every observation
        relative_heading_rad=_relative_heading(candidates),
        relative_elevation_rad=_relative_elevation(candidates, elevation_base),
        action_mask=(np.arange(candidates.neighbour.shape[1] + 1) <= candidates.count[:, None]).astype(np.int8),
        count=candidates.count.astype(np.int64),
        **_geodesic_tables(scenes, paths, candidates),
        **_episode_tables(episodes, scenes, candidates),
    )
    return World(scenes, paths, candidates, episodes, tables, elevation_base)


def start_view(heading_rad: float) -> int:
    """The discretised view at the start: heading rounded to 30 degrees (half away from zero), at the horizon."""
    return HEADINGS + math.floor(heading_rad % (2 * math.pi) / STEP_RAD + 0.5) % HEADINGS


def _relative_heading(candidates: CandidateTable) -> np.ndarray:
    base = (np.arange(HEADINGS) * STEP_RAD).astype(np.float32)
    used = candidates.action_slots()
    relative = np.where(used[:, None], candidates.heading_rad[:, None] - base[None, :, None], np.float32(0))
    return np.ascontiguousarray(relative.reshape(-1, relative.shape[-1]))


def _relative_elevation(candidates: CandidateTable, elevation_base: str) -> np.ndarray:
    rows = np.arange(3) if elevation_base == "view" else np.array([1])
    base = (elevation_base_steps(rows * HEADINGS, elevation_base) * STEP_RAD).astype(np.float32)
    used = candidates.action_slots()
    relative = np.where(used[:, None], candidates.elevation_rad[:, None] - base[None, :, None], np.float32(0))
    return np.ascontiguousarray(relative.reshape(-1, relative.shape[-1]))


def _geodesic_tables(
    scenes: Mapping[str, Scene], paths: Mapping[str, Geodesics], candidates: CandidateTable
) -> dict[str, np.ndarray]:
    distance_row, local, distance_m, next_slot = [], [], [], []
    done = 0
    for scan, scene in scenes.items():
        n, first = len(scene.viewpoints), candidates.offset[scan]
        distance_row.append(done + n * np.arange(n))
        local.append(np.arange(n))
        distance_m.append(paths[scan].distance_m.ravel())
        next_slot.append(_next_slot(paths[scan], candidates, first).ravel())
        done += n * n
    return {
        "distance_row": np.concatenate(distance_row),
        "local": np.concatenate(local),
        "distance_m": np.concatenate(distance_m),
        "next_slot": np.concatenate(next_slot),
    }


def _next_slot(geo: Geodesics, candidates: CandidateTable, first: int) -> np.ndarray:
    """[N, N] int8: which candidate is the next hop; the stop action (the count) at the goal or without a path."""
    n = len(geo.next_hop)
    neighbour, count = candidates.neighbour[first : first + n] - first, candidates.count[first : first + n]
    slot_of = np.full((n, n), -1, np.int8)
    i, k = np.nonzero(candidates.action_slots()[first : first + n])
    slot_of[i, neighbour[i, k]] = k
    moves = (geo.next_hop >= 0) & ~np.eye(n, dtype=bool)
    found = np.take_along_axis(slot_of, np.where(moves, geo.next_hop, 0), 1)
    return np.where(moves, found, count[:, None]).astype(np.int8)


def _episode_tables(
    episodes: Sequence[Episode], scenes: Mapping[str, Scene], candidates: CandidateTable
) -> dict[str, np.ndarray]:
    route = _routes(episodes, scenes, candidates)
    return {
        "route": route,
        "start": route[:, 0].astype(np.int64),
        "start_view": np.array([start_view(e.heading_rad) for e in episodes], np.int64),
        "goal": route[:, -1].astype(np.int64),
        "has_goal": np.array([e.has_goal for e in episodes], bool),
    }


def _routes(episodes: Sequence[Episode], scenes: Mapping[str, Scene], candidates: CandidateTable) -> np.ndarray:
    """See `NavTables.route`. Episodes share their routes, so each is looked up once."""
    number: dict[tuple[str, tuple[str, ...]], int] = {}
    shared = [number.setdefault((e.scan, e.path), len(number)) for e in episodes]
    walks = [
        [candidates.offset[scan] + scenes[scan].number(viewpoint) for viewpoint, _ in groupby(path)]
        for scan, path in number
    ]
    if not walks:
        return np.zeros((0, 1), np.int32)
    longest = max(map(len, walks))
    return np.array([rows + rows[-1:] * (longest - len(rows)) for rows in walks], np.int32)[shared]

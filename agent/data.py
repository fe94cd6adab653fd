"""Splits as the agent uses them: episodes, tables on the device, instructions as ids, visual features.

Legend: E episodes, L tokens, R viewpoint rows of all scans of the run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from agent.config import NO_FEATURES
from agent.sight import Eyes
from clip_core.features import FeatureStore
from clip_core.tokenizer import Tokenizer
from envs.episodes import check_no_leak, check_routes, episode_file, load_episodes
from envs.scenes import find_connectivity, load_scenes
from envs.tables import NavTables, World, build_world

DATA_VARIABLE = "CLIPNAV_DATA"


@dataclass(frozen=True, eq=False)
class Split:
    """One split. `tables` on the device; ids [E, L] int64 there too, lengths [E] int64 on the CPU."""

    name: str
    world: World
    tables: NavTables
    ids: Tensor
    lengths: Tensor


def default_data() -> Path:
    """The folder of R2R files that the environment variable CLIPNAV_DATA names: itself, or r2r_dev/ or r2r/ in it."""
    named = os.environ.get(DATA_VARIABLE)
    if not named:
        raise ValueError(
            f"no data named: give --data DIR (the folder of R2R_train.json) or set {DATA_VARIABLE}; "
            "docs/data.md tells where to get Room-to-Room"
        )
    for folder in (Path(named), Path(named) / "r2r_dev", Path(named) / "r2r"):
        if (folder / "R2R_train.json").is_file():
            return folder
    raise ValueError(
        f"{DATA_VARIABLE}={named} holds no R2R_train.json, nor do r2r_dev/ and r2r/ in it; see docs/data.md"
    )


def chosen_data(data: Path | None, console: Console | None) -> Path:
    """The folder given, or the default one, which the console is told of."""
    if data is not None:
        return data
    data = default_data()
    if console is not None:
        console.print(f"no --data given: using {data} (from {DATA_VARIABLE})", highlight=False, markup=False)
    return data


def existing_splits(data: Path, env: str, names: Sequence[str]) -> list[str]:
    """Those of the named splits that the folder holds."""
    return [name for name in names if _exists(data, env, name)]


def _exists(data: Path, env: str, split: str) -> bool:
    try:
        return episode_file(data, split, env).is_file()
    except ValueError:
        if not data.is_dir():
            raise
        return False


def load_worlds(
    data: Path, connectivity: Path | None, env: str, names: Sequence[str], **options: str
) -> dict[str, World]:
    """The named splits over one numbering of viewpoints; no unseen split may share a building with train."""
    folder = find_connectivity(data, connectivity)
    episodes = {name: load_episodes(data, name, env) for name in names}
    scenes = load_scenes(folder, dict.fromkeys(e.scan for split in episodes.values() for e in split))
    for name, items in episodes.items():
        check_routes(episode_file(data, name, env), items, scenes)
        if "unseen" in name and "train" in episodes:
            check_no_leak(episodes["train"], items)
    first, *rest = names
    worlds = {first: build_world(scenes, episodes[first], **options)}
    return worlds | {name: worlds[first].with_episodes(episodes[name]) for name in rest}


def load_splits(worlds: Mapping[str, World], tokenizer: Tokenizer, device: torch.device) -> dict[str, Split]:
    """Tables and instructions on the device; tables that splits share are moved once."""
    moved: dict[int, Tensor] = {}

    def move(array: np.ndarray) -> Tensor:
        if id(array) not in moved:
            moved[id(array)] = torch.tensor(array, device=device)
        return moved[id(array)]

    splits = {}
    for name, world in worlds.items():
        ids, lengths = tokenizer.encode_batch([e.instruction for e in world.episodes])
        splits[name] = Split(
            name, world, world.tables.convert(move), torch.from_numpy(ids).to(device), torch.from_numpy(lengths)
        )
    return splits


def load_eyes(
    features: str, world: World, device: torch.device, expected: Mapping[str, Any] | None = None
) -> tuple[Eyes, int, dict[str, Any] | None]:
    """What the agent sees with, the visual feature size, and where the features come from (None when blind).

    `expected`: fields of the store's header that must have these values (`FeatureStore.origin` of another store).
    Raises ValueError for a store that differs, lacks a viewpoint of the world, or holds no panoramas.
    """
    if features == NO_FEATURES:
        return Eyes().to(device), 0, None
    store = FeatureStore.open(features)
    included = [i for i, (scan, v) in enumerate(world.candidates.viewpoints) if _included(world, scan, v)]
    keys = ["_".join(world.candidates.viewpoints[i]) for i in included]
    # JSON, which a checkpoint keeps the fields in, knows lists only.
    wanted = {name: tuple(v) if isinstance(v, list) else v for name, v in (expected or {}).items()}
    store.check(keys=keys, **wanted)
    if len(store.header.shape) != 2 or store.header.shape[0] != 36:
        raise ValueError(f"{features} holds items of shape {store.header.shape}; expected (36, D): panoramic features")
    table = store.to(device, store.rows(keys))
    store_row = torch.zeros(len(world.candidates.viewpoints), dtype=torch.int64)
    store_row[torch.tensor(included)] = torch.arange(len(included))
    return Eyes(table, store_row).to(device), store.header.shape[1], store.origin()


def _included(world: World, scan: str, viewpoint: str) -> bool:
    scene = world.scenes[scan]
    return bool(scene.included[scene.row[viewpoint]])

"""Splits as the agent uses them: episodes, tables on the device, instructions as ids, visual features.

Legend: E episodes, L tokens, R viewpoint rows of all scans of the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agent.config import NO_FEATURES
from agent.sight import Eyes
from clip_core.features import FeatureStore
from clip_core.tokenizer import Tokenizer
from envs.episodes import Episode, check_no_leak, check_routes, episode_file, load_episodes
from envs.scenes import find_connectivity, load_scenes
from envs.tables import NavTables, World, build_world


@dataclass(frozen=True, eq=False)
class Split:
    """One split. `tables` on the device; ids [E, L] int64 there too, lengths [E] int64 on the CPU."""

    name: str
    world: World
    tables: NavTables
    ids: Tensor
    lengths: Tensor


def load_worlds(
    data: Path,
    connectivity: Path | None,
    env: str,
    names: Sequence[str],
    *,
    languages: Sequence[str] = (),
    **options: str,
) -> dict[str, World]:
    """The named splits over one numbering of viewpoints; no unseen split may share a building with train.

    languages: those of `load_episodes`; options: those of `build_world`.
    """
    folder = find_connectivity(data, connectivity)
    episodes = {name: load_episodes(data, name, env, languages=languages) for name in names}
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


def alongside(split: Split, name: str, episodes: Sequence[Episode], tokenizer: Tokenizer) -> Split:
    """Other episodes in the buildings of a loaded split; the tables of the buildings are shared."""
    world, device = split.world.with_episodes(episodes), split.ids.device
    fields = [field.name for field in dataclasses.fields(NavTables)]
    there = {id(getattr(split.world.tables, field)): getattr(split.tables, field) for field in fields}
    tables = world.tables.convert(lambda a: there[id(a)] if id(a) in there else torch.tensor(a, device=device))
    ids, lengths = tokenizer.encode_batch([e.instruction for e in episodes])
    return Split(name, world, tables, torch.from_numpy(ids).to(device), torch.from_numpy(lengths))


def load_eyes(
    features: str, world: World, device: torch.device, expected: Mapping[str, Any] | None = None
) -> tuple[Eyes, int, dict[str, Any] | None]:
    """What the agent sees with, the visual feature size, and where the features come from (None when blind).

    `expected`: fields of the store's header that must have these values (`FeatureStore.origin` of another store).
    Raises ValueError for a store that differs, lacks a viewpoint of the world, or holds no panoramas.
    """
    edge_m = torch.tensor(world.candidates.distance_m)
    if features == NO_FEATURES:
        return Eyes(edge_m=edge_m).to(device), 0, None
    store = FeatureStore.open(features)
    included = [i for i, (scan, v) in enumerate(world.candidates.viewpoints) if _included(world, scan, v)]
    keys = ["_".join(world.candidates.viewpoints[i]) for i in included]
    # JSON, which a checkpoint keeps the fields in, knows lists only.
    wanted: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in (expected or {}).items()}
    store.check(keys=keys, **wanted)
    if len(store.header.shape) != 2 or store.header.shape[0] != 36:
        raise ValueError(f"{features} holds items of shape {store.header.shape}; expected (36, D): panoramic features")
    table = store.to(device, store.rows(keys))
    store_row = torch.zeros(len(world.candidates.viewpoints), dtype=torch.int64)
    store_row[torch.tensor(included)] = torch.arange(len(included))
    return Eyes(table, store_row, edge_m).to(device), store.header.shape[1], store.origin()


def _included(world: World, scan: str, viewpoint: str) -> bool:
    scene = world.scenes[scan]
    return bool(scene.included[scene.row[viewpoint]])

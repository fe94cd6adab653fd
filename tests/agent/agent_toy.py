"""What the agent's tests share: small followers, small splits of real data, a plain follower to compare with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from agent.data import Split, load_splits
from agent.follower import Follower, FollowerSizes
from agent.sight import Eyes
from clip_core.feature_files import Header
from clip_core.feature_writer import StoreWriter
from clip_core.tokenizer import WordTokenizer, build_vocabulary
from envs.episodes import load_episodes
from envs.scenes import load_scenes
from envs.tables import World

CPU = torch.device("cpu")
TINY = ["--hidden", "16", "--word", "8", "--batch", "4", "--max-steps", "6", "--angle", "8"]
"""Flags of agent.train for a follower that learns nothing, quickly."""


def first_episodes(world: World, count: int) -> Split:
    """Some episodes of a world with a vocabulary of their own; every third episode, so that routes differ."""
    small = world.with_episodes(list(world.episodes)[: 3 * count : 3])
    tokenizer = WordTokenizer(build_vocabulary((e.instruction for e in small.episodes), 1))
    return load_splits({"small": small}, tokenizer, CPU)["small"]


def to_device(split: Split, device: str) -> Split:
    """The same split on another device; lengths stay on the CPU."""
    tables = split.world.tables.convert(lambda a: torch.tensor(a, device=device))
    return Split(split.name, split.world, tables, split.ids.to(device), split.lengths)


def words_of(split: Split) -> int:
    return int(split.ids.max()) + 1


def tiny_follower(split: Split, feature: int = 0, dropout: float = 0.0, seed: int = 0, **sizes: int) -> Follower:
    """A follower whose weights are large enough that its choices differ from place to place."""
    torch.manual_seed(seed)
    given = {"word": 8, "hidden": 16, "action": 4, "angle": 12} | sizes
    follower = Follower(FollowerSizes(words_of(split), feature, **given, dropout=dropout, feature_dropout=dropout))
    with torch.no_grad():
        for parameter in follower.parameters():
            parameter.mul_(3.0)
    return follower


def random_eyes(world: World, feature: int, seed: int = 1) -> Eyes:
    """Eyes over a table of random features for every viewpoint of a world."""
    rows = len(world.candidates.viewpoints)
    table = torch.randn(rows, 36, feature, generator=torch.Generator().manual_seed(seed)).half()
    return Eyes(table, torch.arange(rows))


def gradients(module: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Gradient of the loss by parameter name; those it does not depend on are zero."""
    module.zero_grad()
    loss.backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


def assert_close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def write_small(source: Path, folder: Path, routes: Mapping[str, int]) -> Path:
    """A data folder with the first routes of each split of R2R that lie in its first two buildings."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in routes.items():
        items = json.loads((source / f"R2R_{split}.json").read_text())
        scans = sorted({item["scan"] for item in items})[:2]
        chosen = [item for item in items if item["scan"] in scans][:count]
        (folder / f"R2R_{split}.json").write_text(json.dumps(chosen))
    return folder


def write_store(path: Path, data: Path, graphs: Path, model: str, leave_out: str = "") -> Path:
    """A store of small random features for every included viewpoint of the small data's buildings."""
    scans = {e.scan for name in ("train", "val_seen", "val_unseen") for e in load_episodes(data, name)}
    keys = [
        f"{scan}_{v}"
        for scan, scene in load_scenes(graphs, sorted(scans)).items()
        for v, included in zip(scene.viewpoints, scene.included, strict=True)
        if included and f"{scan}_{v}" != leave_out
    ]
    generator = np.random.default_rng(0)
    header = Header("test", (36, 4), model=model, pretrained="openai", layer="projected", channel_order="RGB")
    with StoreWriter(path, header) as writer:
        for key in keys:
            writer.append(key, generator.standard_normal((36, 4)).astype(np.float32))
        writer.finish()
    return path

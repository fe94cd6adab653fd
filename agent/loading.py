"""A trained follower from its checkpoint: what training records of itself for that, and how it is read back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from agent.config import NO_FEATURES, FollowerConfig
from agent.data import load_eyes
from agent.follower import Follower, FollowerSizes
from agent.sight import Eyes
from clip_core.checkpoint import load_model
from clip_core.tokenizer import WordTokenizer
from envs.tables import World

PREFIX = "follower."
"""Where the follower's weights are among those of its objective."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A follower as it was trained. `origin`: the features that it saw (`FeatureStore.origin`), None if blind;
    `scans`: the buildings that it was trained in."""

    follower: Follower
    tokenizer: WordTokenizer
    config: FollowerConfig
    origin: Mapping[str, Any] | None
    scans: frozenset[str]


def run_config(
    env: str,
    config: FollowerConfig,
    sizes: FollowerSizes,
    tokenizer: WordTokenizer,
    origin: dict[str, Any] | None,
    scans: list[str],
) -> dict[str, Any]:
    """What a checkpoint must hold to be evaluated anywhere."""
    return {
        "env": env,
        "follower": dataclasses.asdict(config),
        "sizes": dataclasses.asdict(sizes),
        "vocabulary": list(tokenizer.vocabulary),
        "features": origin,
        "train_scans": scans,
    }


def check_unseen(trained: Trained, split: str, world: World) -> None:
    """ValueError if a split that is called unseen holds buildings that the follower was trained in."""
    shared = sorted(trained.scans & {e.scan for e in world.episodes})
    if "unseen" in split and shared:
        raise ValueError(
            f"the follower was trained in {len(shared)} of the buildings of {split} (first: {shared[0]}); "
            "expected none, for a result on unseen buildings. Name the data folder that it was trained on"
        )


def load_trained(checkpoint: Path, device: torch.device) -> Trained:
    """The follower of a run folder or a checkpoint file, in eval mode.

    Raises ValueError (CheckpointError where the file is missing or damaged) for a checkpoint of something else.
    """
    state, record = load_model(checkpoint, PREFIX)
    try:
        config, sizes = FollowerConfig(**record["follower"]), FollowerSizes(**record["sizes"])
        tokenizer = WordTokenizer(record["vocabulary"], config.max_words)
        follower = Follower(sizes)
        follower.load_state_dict(state)
        origin, scans = record["features"], frozenset(record["train_scans"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{checkpoint} is not of this version's follower ({error}); expected a run of python -m agent.train: "
            "use the version that wrote it, or train anew"
        ) from None
    return Trained(follower.to(device).eval(), tokenizer, config, origin, scans)


def trained_eyes(trained: Trained, features: str, world: World, device: torch.device) -> Eyes:
    """What the follower sees with in a world: the store that it was trained with, or its equal.

    Raises ValueError for another store, a store for a blind follower, none for one that sees.
    """
    if features == NO_FEATURES and trained.origin is not None:
        raise ValueError(
            f"the follower was trained with features {_described(trained.origin)}: name their store with --features"
        )
    if features != NO_FEATURES and trained.origin is None:
        raise ValueError(f"the follower was trained blind, but --features is {features}; leave --features away")
    eyes, _, _ = load_eyes(features, world, device, trained.origin)
    return eyes


def _described(origin: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in origin.items() if value not in (None, "unknown"))

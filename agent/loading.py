"""A trained follower or speaker from its checkpoint: what training records of it for that, how it is read back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import nn

from agent.config import NO_FEATURES, FollowerConfig
from agent.data import load_eyes
from agent.follower import Follower, FollowerSizes
from agent.sight import Eyes
from agent.speaker import Speaker, SpeakerSizes
from agent.speaker_config import SpeakerConfig
from clip_core.checkpoint import BEST, find_checkpoint, load_model
from clip_core.reading import record_tokenizer, restore_tokenizer
from clip_core.tokenizer import Tokenizer
from envs.tables import World

Kind = Literal["follower", "speaker"]
"""What a run trains. Also where its weights are among those of its objective, and its config in the checkpoint."""
Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config", FollowerConfig, SpeakerConfig)


@dataclass(frozen=True, eq=False)
class Trained(Generic[Model, Config]):
    """A model as it was trained, on the data set `env`. `origin`: the features that it saw (`FeatureStore.origin`),
    None if blind; `scans`: the buildings that it was trained in; `explored`: unseen ones that back-translation walked
    through (--pre-explore)."""

    kind: Kind
    env: str
    model: Model
    tokenizer: Tokenizer
    config: Config
    origin: Mapping[str, Any] | None
    scans: frozenset[str]
    explored: frozenset[str] = frozenset()


TrainedFollower = Trained[Follower, FollowerConfig]
TrainedSpeaker = Trained[Speaker, SpeakerConfig]
AnyTrained = Trained[Any, Any]


def run_config(
    kind: Kind,
    env: str,
    config: FollowerConfig | SpeakerConfig,
    sizes: FollowerSizes | SpeakerSizes,
    tokenizer: Tokenizer,
    origin: dict[str, Any] | None,
    scans: list[str],
    best_metric: str | None,
) -> dict[str, Any]:
    """What a checkpoint must hold to be evaluated anywhere."""
    return {
        "env": env,
        kind: dataclasses.asdict(config),
        "sizes": dataclasses.asdict(sizes),
        "vocabulary": record_tokenizer(tokenizer),
        "features": origin,
        "train_scans": scans,
        "best_metric": best_metric,
    }


def chosen_by(checkpoint: Path) -> str | None:
    """By which metric the weights of a run folder or a checkpoint file are the best of their run, "val_unseen/success"
    say; None for the last ones, which nothing chose."""
    file = find_checkpoint(checkpoint)
    return load_model(file)[1].get("best_metric") if file.name == BEST else None


def check_unseen(trained: AnyTrained, split: str, world: World) -> None:
    """ValueError if a split that is called unseen holds buildings that the model was trained in."""
    shared = sorted(trained.scans & {e.scan for e in world.episodes})
    if "unseen" in split and shared:
        raise ValueError(
            f"the {trained.kind} was trained in {len(shared)} of the buildings of {split} (first: {shared[0]}); "
            "expected none, for a result on unseen buildings. Name the data folder that it was trained on"
        )


def check_same_language(tokenizer: Tokenizer, origin: Mapping[str, Any] | None, speaker: TrainedSpeaker) -> None:
    """ValueError if a speaker was trained with other words or other features than those of a follower."""
    words, others = tokenizer.vocabulary, speaker.tokenizer.vocabulary
    if words != others:
        raise ValueError(
            f"the speaker was trained with another vocabulary than the follower ({len(others)} words, {len(words)}); "
            "expected the same: train one of them again with --vocabulary RUN/vocab.txt of the other"
        )
    if origin != speaker.origin:
        raise ValueError(
            f"the speaker was trained with the features {described(speaker.origin)}, the follower with "
            f"{described(origin)}; expected the same: train one of them again with the --features of the other"
        )


def check_partners(follower: TrainedFollower, speaker: TrainedSpeaker) -> None:
    """ValueError if a follower and a speaker do not understand one another: other words, features or angles."""
    check_same_language(follower.tokenizer, follower.origin, speaker)
    base, other = follower.config.elevation_base, speaker.config.elevation_base
    if base != other:
        raise ValueError(
            f"the speaker was trained with --elevation-base {other}, the follower with {base}; expected the same"
        )


def load_trained(checkpoint: Path, device: torch.device) -> TrainedFollower:
    """The follower of a run folder or a checkpoint file, in eval mode.

    Raises ValueError (CheckpointError where the file is missing or damaged) for a checkpoint of something else.
    """
    trained = _load(checkpoint, device, "follower", FollowerConfig, FollowerSizes, Follower)
    trained.model.way_back_penalty = trained.config.way_back_penalty
    return trained


def load_speaker(checkpoint: Path, device: torch.device) -> TrainedSpeaker:
    """The speaker of a run folder or a checkpoint file; see `load_trained`."""
    return _load(checkpoint, device, "speaker", SpeakerConfig, SpeakerSizes, Speaker)


def _load(
    checkpoint: Path,
    device: torch.device,
    kind: Kind,
    config_type: type[Config],
    sizes_type: type[FollowerSizes] | type[SpeakerSizes],
    model_type: type[Model],
) -> Trained[Model, Config]:
    state, record = load_model(checkpoint)
    other = "speaker" if kind == "follower" else "follower"
    if kind not in record and other in record:
        raise ValueError(
            f"{find_checkpoint(checkpoint)} holds a {other}; expected a {kind}: name a run of "
            f"python -m agent.train --train {kind}"
        )
    try:
        config, sizes = config_type(**record[kind]), sizes_type(**record["sizes"])
        tokenizer = restore_tokenizer(record["vocabulary"], config.max_words)
        model = model_type(sizes)
        prefix = f"{kind}."
        model.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
        env, origin, scans = record["env"], record["features"], frozenset(record["train_scans"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{checkpoint} is not of this version's {kind} ({error}); expected a run of python -m agent.train: "
            "use the version that wrote it, or train anew"
        ) from None
    explored = frozenset(record.get("augment", {}).get("explored", ()))
    return Trained(kind, env, model.to(device).eval(), tokenizer, config, origin, scans, explored)


def trained_eyes(trained: AnyTrained, features: str, world: World, device: torch.device) -> Eyes:
    """What the model sees with in a world: the store that it was trained with, or its equal.

    Raises ValueError for another store, a store for a blind model, none for one that sees.
    """
    if features == NO_FEATURES and trained.origin is not None:
        raise ValueError(
            f"the {trained.kind} was trained with features {described(trained.origin)}: "
            "name their store with --features"
        )
    if features != NO_FEATURES and trained.origin is None:
        raise ValueError(f"the {trained.kind} was trained blind, but --features is {features}; leave --features away")
    eyes, _, _ = load_eyes(features, world, device, trained.origin)
    return eyes


def described(origin: Mapping[str, Any] | None) -> str:
    """The features that a model saw, for a person to read."""
    if origin is None:
        return "none (blind)"
    return ", ".join(f"{name} {value}" for name, value in origin.items() if value not in (None, "unknown"))

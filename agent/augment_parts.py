"""What back-translation loads: a frozen speaker, new routes, with the checks that they fit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.markup import escape

from agent.augment import Author
from agent.augment_config import AugmentConfig
from agent.data import Split, alongside
from agent.languages import foreign_ids, languages_of
from agent.loading import TrainedSpeaker, check_same_language, check_unseen, load_speaker
from agent.routes import episode_routes
from agent.run_parts import Parts
from envs.episodes import Episode, read_episodes
from envs.route_sampling import sample_routes
from envs.tables import World

PATHS = ("speaker", "routes")
"""Fields of the configuration that name files. What these hold is compared when a run goes on, not where they lie."""
PATH_FIELDS = tuple(f"{name}_path" for name in PATHS)
"""Under which a checkpoint keeps them."""


@dataclass(frozen=True, eq=False)
class Generated:
    """The routes to learn from, who writes about them (None: the split has instructions), the unseen buildings among
    theirs, and what a checkpoint records of it all."""

    split: Split
    author: Author | None
    explored: list[str]
    record: dict[str, Any]


def load_generated(config: AugmentConfig, parts: Parts, seed: int) -> Generated:
    """Everything that back-translation needs beside the parts of the run, on its device.

    Raises ValueError: a speaker of another vocabulary, of other features, of other angles, or trained in an unseen
    building; a route that leaves the graph, or in a building that is not one of train.
    """
    world = parts.train.world
    speaker = None if config.speaker is None else fitting_speaker(config.speaker, parts)
    unseen = unseen_scans(parts.judged, parts.scans)
    if config.pre_explore and not unseen:
        raise ValueError("--pre-explore found no unseen buildings; expected an unseen split among --eval-splits")
    if config.routes is not None:
        episodes = read_routes(config.routes, world, [*parts.scans, *(unseen if config.pre_explore else [])])
    else:
        episodes = sample_routes(
            world, world.episodes, config.count, seed, unseen if config.pre_explore else parts.scans
        )
    split = alongside(parts.train, "generated", episodes, parts.tokenizer)
    author = None
    if speaker is not None:
        routes = episode_routes(split.world, split.ids.device)
        unwritten = foreign_ids(parts.tokenizer, written_language(world))
        author = Author(speaker.model, routes, parts.tokenizer, config.how(), unwritten)
    explored = sorted({e.scan for e in episodes} & set(unseen))
    return Generated(split, author, explored, record_of(config, episodes, speaker, explored))


def fitting_speaker(run: Path, parts: Parts) -> TrainedSpeaker:
    """The speaker of a run, if follower and speaker understand one another and it knows no building it must not."""
    trained = load_speaker(run, parts.train.ids.device)
    check_same_language(parts.tokenizer, parts.origin, trained)
    base = parts.train.world.elevation_base
    if trained.config.elevation_base != base:
        raise ValueError(
            f"the speaker was trained with --elevation-base {trained.config.elevation_base}, the follower has {base}; "
            "expected the same"
        )
    for name, split in parts.judged.items():
        check_unseen(trained, name, split.world)
    trained.model.requires_grad_(False)
    return trained


def written_language(world: World) -> str | None:
    """The language that the speaker writes in: that of the training instructions, None where the data does not say.

    Raises ValueError if these are of several: a speaker writes in one at a time.
    """
    found = languages_of(world.episodes)
    if len(found) > 1:
        raise ValueError(
            f"the training instructions are in {', '.join(found)}; expected one language where --augment-speaker "
            "writes new ones (e.g. --languages en), or a file of instructions that were written for each "
            "(python -m agent.speak --sample-routes, then --augment-routes)"
        )
    return found[0] if found else None


def unseen_scans(judged: Mapping[str, Split], train: Collection[str]) -> list[str]:
    """The buildings of the judged splits that are called unseen."""
    found = {e.scan for name, split in judged.items() if "unseen" in name for e in split.world.episodes}
    return sorted(found - set(train))


def read_routes(file: Path, world: World, scans: Collection[str]) -> list[Episode]:
    """The episodes of a file in R2R's format. ValueError, naming the path_id, for a route in another building than
    those named, or one that leaves the graph."""
    for episode in (episodes := read_episodes(file)):
        if episode.scan not in scans:
            raise ValueError(
                f"{file}: route {episode.path_id} lies in scan {episode.scan}, which is not among the {len(scans)} "
                "buildings to learn in; expected routes in the buildings of train alone (those of unseen splits too "
                "with --pre-explore)"
            )
    read_episodes(file, scenes=world.scenes)
    if not all(e.has_goal for e in episodes):
        raise ValueError(f"{file} has the name of a test split, whose routes are starts alone; expected whole routes")
    return episodes


def record_of(
    config: AugmentConfig, episodes: Sequence[Episode], speaker: TrainedSpeaker | None, explored: Sequence[str]
) -> dict[str, Any]:
    """What a checkpoint keeps: the settings, checksums of routes and speaker, and the unseen buildings explored."""
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in PATHS}
    named = {field: getattr(config, name) for field, name in zip(PATH_FIELDS, PATHS, strict=True)}
    digest = hashlib.sha256(json.dumps([dataclasses.astuple(e) for e in episodes]).encode()).hexdigest()
    weights = hashlib.sha256()
    if speaker is not None:
        for name, tensor in sorted(speaker.model.state_dict().items()):
            weights.update(name.encode() + tensor.cpu().numpy().tobytes())
    return {
        **settings,
        **{field: None if path is None else str(path) for field, path in named.items()},
        "routes_sha256": digest,
        "speaker_sha256": None if speaker is None else weights.hexdigest(),
        "explored": list(explored),
    }


def describe_generated(console: Console, config: AugmentConfig, generated: Generated, blind: bool) -> None:
    """What will be learned beside people's instructions."""
    routes = generated.split.world.episodes
    distinct = {e.path_id: e for e in routes}.values()
    length = fmean(e.distance_m for e in distinct if e.distance_m is not None) if distinct else 0.0
    origin = "sampled" if config.routes is None else f"from {config.routes}"
    told = "with the instructions of the file" if config.speaker is None else f"told by {config.speaker}"
    dropout = (
        "environmental dropout: none, a blind agent has no feature channels to leave out"
        if blind
        else f"environmental dropout {config.env_dropout}"
    )
    console.print(
        f"back-translation: every second batch from {len(distinct):,} routes {escape(origin)} "
        f"({len({e.scan for e in routes})} buildings, {length:.1f} m on average), {escape(told)}; {dropout}",
        highlight=False,
    )
    if config.routes is None and len(routes) < config.count:
        console.print(
            f"(the buildings have no more: {config.count:,} were asked for with --augment-count)", highlight=False
        )
    if generated.explored:
        console.print(
            f"[bold red]PRE-EXPLORATION[/]: the generated routes walk {len(generated.explored)} UNSEEN buildings "
            "(their graphs; no human instruction of them is read). Scores on unseen splits are then those of the "
            "pre-explored setting; do not set them beside others. The checkpoints record it.",
            highlight=False,
        )

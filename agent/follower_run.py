"""A training run of the follower, from the folders named to the table of metrics."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace

from rich.console import Console

from agent.augment import BackTranslation
from agent.augment_parts import PATH_FIELDS, Generated, describe_generated, load_generated
from agent.comparison import TABLE_NAME, compare
from agent.config import NO_FEATURES, TrainConfig
from agent.evaluation import follow, score
from agent.follower import Follower, FollowerSizes
from agent.loading import run_config
from agent.objectives import FollowerObjective
from agent.pictures import save_routes
from agent.run_parts import Parts, describe, learning_rate, load_parts
from agent.sources import Source, choose_source
from agent.starting import start_from
from clip_core.checkpoint import FREE_FIELDS, LAST
from clip_core.optim import build_optimizer
from clip_core.reading import write_tokenizer
from clip_core.runtime import Runtime, resume_command
from clip_core.trainer import fit
from envs.tables import World
from precompute.prepare import features_folder
from precompute.screen import say

FREE = FREE_FIELDS | {"start_path", *PATH_FIELDS}
"""What may differ when a run goes on: where things lie, not what they hold."""


def run_follower(config: TrainConfig, runtime: Runtime, console: Console) -> None:
    """The whole job of the command on one rank."""
    source = choose_source(config.data, config.features, runtime, console, config.env)
    config = replace(config, data=source.data, features=source.features)
    worlds, metrics = train_follower(config, runtime, console)
    blind = config.features == NO_FEATURES
    followers = {"blind" if blind else "this agent": metrics}
    if config.blind_twin and not blind and (config.augment.active or config.start_from is not None):
        if runtime.is_main:
            say(console, "no blind twin: a blind follower can use neither the speaker nor the weights of one that sees")
    elif config.blind_twin and not blind:
        if runtime.is_main:
            console.print("\n[bold]The same follower blind[/], for comparison:", highlight=False)
        folder = config.out / "blind"
        resume = config.resume and (folder / LAST).exists()
        _, metrics = train_follower(replace(config, features=NO_FEATURES, out=folder, resume=resume), runtime, console)
        followers = {"blind": metrics, **followers}
    if runtime.is_main:
        compare(config.out, worlds, followers, console)
        say_what_next(config, source, console)


def train_follower(
    config: TrainConfig, runtime: Runtime, console: Console
) -> tuple[dict[str, World], dict[str, dict[str, float]]]:
    """Trains one follower on one rank. The judged splits, and on the main rank what the last weights score there."""
    made = config.follower
    parts = load_parts(config, made, runtime, order=made.candidate_order, elevation_base=made.elevation_base)
    sizes = FollowerSizes(**parts.sizes(made), layout=made.layout)
    follower = Follower(sizes).to(runtime.device)
    follower.way_back_penalty = made.way_back_penalty
    if runtime.is_main:
        describe(console, config, parts, follower, config.trainer.steps, runtime)
    if config.start_from is not None and not config.resume:
        start_from(config.start_from, follower, parts, config.augment.pre_explore)
    objective, generated = make_objective(config, parts, follower, runtime)
    if generated is not None and runtime.is_main:
        describe_generated(console, config.augment, generated, blind=not parts.feature)
    optimizers = {"rmsprop": build_optimizer("rmsprop", objective.parameter_groups())}
    record = run_config(
        "follower", config.env, made, sizes, parts.tokenizer, parts.origin, parts.scans, objective.best_metric
    )
    record |= {} if config.start_from is None else {"start_path": str(config.start_from)}
    record |= {} if generated is None else {"augment": generated.record}
    schedule = learning_rate(made.lr_decay, config.trainer.steps)
    fit(objective, optimizers, {"rmsprop": schedule}, config.trainer, runtime, config.out, record, config.resume, FREE)
    metrics = finish(config, objective, parts) if runtime.is_main else {}
    return {name: split.world for name, split in parts.judged.items()}, metrics


def make_objective(
    config: TrainConfig, parts: Parts, follower: Follower, runtime: Runtime
) -> tuple[FollowerObjective, Generated | None]:
    """What is minimised, and what back-translation loaded for it, if the flags ask for that."""
    seed = config.trainer.seed
    learned = (follower, parts.eyes, parts.train, parts.judged, config.follower, seed)
    place = (runtime.rank, runtime.world, config.best_by)
    if not config.augment.active:
        return FollowerObjective(*learned, *place), None
    generated = load_generated(config.augment, parts, seed)
    split, author = generated.split, generated.author
    return BackTranslation(*learned, *place, generated=split, author=author, augment=config.augment), generated


def finish(config: TrainConfig, objective: FollowerObjective, parts: Parts) -> dict[str, dict[str, float]]:
    """Vocabulary, route pictures and the metrics of the last weights by split."""
    write_tokenizer(config.out, parts.tokenizer)
    metrics = {}
    for name, split in parts.judged.items():
        predictions = follow(objective.follower, objective.eyes, split, config.follower.max_steps)
        metrics[name], _ = score(predictions, split.world)
        save_routes(config.out / f"routes_{name}.png", split.world, predictions)
    return metrics


def say_what_next(config: TrainConfig, source: Source, console: Console) -> None:
    """Where things lie, and commands to go on with."""
    out = shlex.quote(str(config.out))
    lines = [f"In {config.out}: checkpoints, log.jsonl, curves.png, {TABLE_NAME}, pictures of routes (routes_*.png)."]
    if source.built_in:
        data = shlex.quote(str(source.data))
        default = source.features in (NO_FEATURES, str(features_folder()))
        inside = f" (first: source {sys.prefix}/bin/activate)" if sys.prefix != sys.base_prefix else ""
        seen = "" if default else f" --features {shlex.quote(source.features)}"
        lines += [
            f"The houses lie in {source.data}, in the files of R2R and Matterport3D; their features in features/.",
            f"Next, for example{inside}:",
            "  look at a house and a route:",
            f"    python -m envs.houses show {data}",
            "  score the best checkpoint in unseen houses, draw some of its routes:",
            f"    python -m agent.evaluate --checkpoint {out}{seen} --split val_unseen --routes routes.png",
            "  learn longer:",
            f"    {resume_command(1)} --steps {2 * config.trainer.steps}",
            "  imitation and reinforcement in one update, as R2R-EnvDrop:",
            "    python -m agent.train --objective a2c --out runs/a2c",
            "  real buildings (docs/data.md tells where to get them):",
            "    python -m agent.train --data R2R --out runs/r2r",
        ]
    for line in lines:
        say(console, line)

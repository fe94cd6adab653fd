"""A training run of the speaker, from the folders named to instructions and their scores."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from agent.comparison import TABLE_NAME
from agent.config import NO_FEATURES
from agent.languages import by_language
from agent.loading import run_config
from agent.pictures import save_spoken
from agent.report import SPEAKER_COLUMNS, metrics_table
from agent.routes import episode_routes
from agent.run_parts import Parts, describe, learning_rate, load_parts
from agent.sources import choose_source
from agent.speaker import Speaker, SpeakerSizes
from agent.speaker_config import TrainSpeakerConfig
from agent.speaker_objective import SpeakerObjective
from agent.speaking import as_r2r, judge_by_teacher, retrieve, score_spoken
from clip_core.optim import build_optimizer
from clip_core.reading import write_tokenizer
from clip_core.runtime import Runtime, resume_command
from clip_core.trainer import fit
from envs.files import replacing
from envs.tables import World
from precompute.screen import say


def run_speaker(config: TrainSpeakerConfig, runtime: Runtime, console: Console) -> None:
    """The whole job of the command on one rank."""
    source = choose_source(config.data, config.features, runtime, console, config.env)
    config = replace(config, data=source.data, features=source.features)
    made = config.speaker
    parts = load_parts(config, made, runtime, elevation_base=made.elevation_base)
    sizes = SpeakerSizes(**parts.sizes(made))
    speaker = Speaker(sizes).to(runtime.device)
    if runtime.is_main:
        describe(console, config, parts, speaker, config.trainer.steps, runtime)
    objective = SpeakerObjective(
        speaker,
        parts.eyes,
        parts.train,
        parts.judged,
        parts.tokenizer,
        made,
        config.trainer.seed,
        runtime.rank,
        runtime.world,
    )
    optimizers = {"adam": build_optimizer("adam", objective.parameter_groups())}
    record = run_config(
        "speaker", config.env, made, sizes, parts.tokenizer, parts.origin, parts.scans, objective.best_metric
    )
    schedules = {"adam": learning_rate(made.lr_decay, config.trainer.steps)}
    fit(objective, optimizers, schedules, config.trainer, runtime, config.out, record, config.resume)
    if runtime.is_main:
        finish(config, objective, parts, console)
        say_what_next(config, source.built_in, console)


def finish(config: TrainSpeakerConfig, objective: SpeakerObjective, parts: Parts, console: Console) -> None:
    """Vocabulary, and for each judged split (for each of its languages, if there are several) instructions, pictures
    and scores of the last weights."""
    write_tokenizer(config.out, parts.tokenizer)
    speaker, eyes, tables = objective.speaker, parts.eyes, {}
    known = by_language(parts.train, parts.tokenizer)
    for split, languages in objective.judged_languages.items():
        for language, part in languages.items():
            name = split if language is None else f"{split}_{language}"
            spoken, routes = objective.write(part, language), episode_routes(part.world, part.ids.device)
            scores = judge_by_teacher(speaker, eyes, part, routes) | score_spoken(spoken, part.world)
            nearest = retrieve(eyes, part, known.get(language, parts.train))
            rows = {
                "nearest route": score_spoken(nearest, part.world),
                "blind speaker" if config.features == NO_FEATURES else "speaker": scores,
            }
            tables[name] = rows
            show_scores(name, part.world, rows, console)
            save_instructions(config.out / f"spoken_{name}.json", spoken, part.world)
            save_spoken(config.out / f"spoken_{name}.png", part.world, spoken)
    with replacing(config.out / TABLE_NAME) as file:
        file.write((json.dumps(tables, indent=1, allow_nan=False) + "\n").encode())


def show_scores(name: str, world: World, rows: Mapping[str, Mapping[str, float]], console: Console) -> None:
    """The table of a split."""
    routes, scans = len({e.path_id for e in world.episodes}), len({e.scan for e in world.episodes})
    title = f"{name}: {routes:,} routes, {len(world.episodes):,} references, {scans} buildings"
    console.print(metrics_table(title, rows, SPEAKER_COLUMNS))


def save_instructions(path: Path, spoken: Mapping[str, Sequence[str] | str], world: World) -> None:
    """Write a file in R2R's format. spoken: path_id -> instruction, or several."""
    with replacing(path) as file:
        file.write((json.dumps(as_r2r(spoken, world), indent=1, allow_nan=False) + "\n").encode())


def say_what_next(config: TrainSpeakerConfig, built_in: bool, console: Console) -> None:
    """Where things lie, and a command to go on with."""
    out = shlex.quote(str(config.out))
    lines = [
        f"In {config.out}: checkpoints, log.jsonl, curves.png, {TABLE_NAME}, instructions (spoken_*.json), pictures of "
        "some (spoken_*.png).",
    ]
    if built_in:
        lines += [
            "Next:",
            f"  python -m agent.speak --checkpoint {out} --split val_unseen --search beam --pictures routes.png",
            f"  {resume_command(1)} --steps {2 * config.trainer.steps}",
        ]
    for line in lines:
        say(console, line)

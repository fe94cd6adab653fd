"""Command: write instructions for the routes of a split (`python -m agent.speak --help`)."""

from __future__ import annotations

from collections.abc import Sequence

import tyro
from rich.console import Console

from agent.config import NO_FEATURES
from agent.data import load_splits, load_worlds
from agent.loading import check_unseen, load_speaker, trained_eyes
from agent.pictures import save_spoken
from agent.report import work_bar
from agent.routes import episode_routes
from agent.sources import choose_source
from agent.speaker_config import SpeakConfig
from agent.speaker_run import save_instructions, show_scores
from agent.speaking import by_route, judge_by_teacher, retrieve, score_spoken, speak
from clip_core.log import print_error
from clip_core.runtime import Runtime, start_runtime
from envs.episodes import existing_splits
from precompute.screen import say


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, speak, score, write what was asked for."""
    try:
        config = tyro.cli(SpeakConfig, args=argv, prog="python -m agent.speak")
        check(config)
        with start_runtime(config.device, config.precision, config.seed) as runtime:
            speak_about(config, runtime, Console())
    except (ValueError, OSError) as error:  # OSError: an output that cannot be written
        print_error(error)
        return 2
    return 0


def check(config: SpeakConfig) -> None:
    """Flags that cannot be, before anything is read. Raises ValueError."""
    config.how()
    if config.samples < 1:
        raise ValueError(f"samples is {config.samples}: expected 1 or more")
    for name in ("out", "pictures"):
        path = getattr(config, name)
        if path is not None and path.is_dir():
            raise ValueError(f"--{name} {path} is a folder; expected the name of a file to write")


def speak_about(config: SpeakConfig, runtime: Runtime, console: Console) -> None:
    """The whole job of the command."""
    trained = load_speaker(config.checkpoint, runtime.device)
    features = NO_FEATURES if config.features is None and trained.origin is None else config.features
    source = choose_source(config.data, features, runtime, console, config.env)
    names = [config.split, *(n for n in existing_splits(source.data, config.env, ["train"]) if n != config.split)]
    worlds = load_worlds(
        source.data, config.connectivity, config.env, names, elevation_base=trained.config.elevation_base
    )
    check_unseen(trained, config.split, worlds[config.split])
    splits = load_splits(worlds, trained.tokenizer, runtime.device)
    split = splits[config.split]
    routes = episode_routes(split.world, runtime.device)
    eyes = trained_eyes(trained, source.features, split.world, runtime.device)
    with work_bar(console) as bar, runtime.autocast():
        task = bar.add_task(f"speaker on {config.split}", total=len(by_route(split.world)))
        spoken = speak(trained.model, eyes, split, trained.tokenizer, config.how(), done=lambda n: bar.advance(task, n))
        scores = judge_by_teacher(trained.model, eyes, split, routes) | score_spoken(spoken, split.world)
    rows = {f"speaker, {config.search}": scores}
    if config.split != "train" and "train" in splits:
        rows = {"nearest route": score_spoken(retrieve(eyes, split, splits["train"]), split.world)} | rows
    show_scores(config.split, split.world, rows, console)
    if config.out is not None:
        save_instructions(config.out, spoken, split.world)
        say(console, f"instructions: {config.out}, {len(spoken):,} routes in R2R's format")
    if config.pictures is not None:
        save_spoken(config.pictures, split.world, spoken, config.samples, config.seed)
        say(console, f"pictures: {config.pictures}")
    for path_id, text in list(spoken.items())[:3] if config.out is None else []:
        say(console, f"{path_id}: {text}")


if __name__ == "__main__":
    raise SystemExit(main())

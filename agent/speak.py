"""Command: write instructions for the routes of a split (`python -m agent.speak --help`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tyro
from rich.console import Console

from agent.config import NO_FEATURES
from agent.data import Split, alongside, load_splits, load_worlds
from agent.languages import foreign_ids, languages_of
from agent.loading import TrainedSpeaker, check_unseen, load_speaker, trained_eyes
from agent.pictures import save_spoken
from agent.report import work_bar
from agent.routes import episode_routes
from agent.sight import Eyes
from agent.sources import choose_source
from agent.speaker_config import SpeakConfig
from agent.speaker_run import save_instructions, show_scores
from agent.speaking import Spoken, by_route, judge_by_teacher, retrieve, score_spoken, speak_several
from clip_core.log import print_error
from clip_core.runtime import Runtime, start_runtime
from envs.episodes import existing_splits
from envs.route_sampling import sample_routes
from envs.tables import World
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
    for name, least in (("samples", 1), ("instructions", 1), ("sample_routes", 0)):
        if getattr(config, name) < least:
            raise ValueError(f"{name} is {getattr(config, name)}: expected {least} or more")
    if config.sample_routes and config.out is None:
        raise ValueError("--sample-routes writes new routes with their instructions; name a file with --out")
    for name in ("out", "pictures"):
        path = getattr(config, name)
        if path is not None and path.is_dir():
            raise ValueError(f"--{name} {path} is a folder; expected the name of a file to write")


def speak_about(config: SpeakConfig, runtime: Runtime, console: Console) -> None:
    """The whole job of the command."""
    trained = load_speaker(config.checkpoint, runtime.device)
    features = NO_FEATURES if config.features is None and trained.origin is None else config.features
    source = choose_source(config.data, features, runtime, console, config.env)
    if config.sample_routes:
        config = replace(config, split="train")
    splits = read_splits(config, source.data, trained, runtime)
    split = splits[config.split]
    language = one_language(config, split.world)
    if config.sample_routes:
        routes = sample_routes(split.world, split.world.episodes, config.sample_routes, config.seed)
        split = alongside(split, "sampled", routes, trained.tokenizer)
    eyes = trained_eyes(trained, source.features, split.world, runtime.device)
    with work_bar(console) as bar, runtime.autocast():
        task = bar.add_task(f"speaker on {split.name}", total=len(by_route(split.world)))
        several = speak_several(
            trained.model,
            eyes,
            split,
            trained.tokenizer,
            config.how(),
            config.instructions,
            done=lambda n: bar.advance(task, n),
            unwritten=foreign_ids(trained.tokenizer, language),
        )
        spoken = {path_id: texts[0] for path_id, texts in several.items()}
        if not config.sample_routes:
            judge(config, trained, eyes, splits, spoken, console)
    if config.out is not None:
        # R2R's files have no empty instruction; a route that the speaker has no word for is left out of new ones.
        told = {i: texts for i, texts in several.items() if not config.sample_routes or texts[0]}
        save_instructions(config.out, told, split.world)
        written = sum(map(len, told.values()))
        say(console, f"instructions: {config.out}, {written:,} about {len(told):,} routes in R2R's format")
    if config.pictures is not None:
        save_spoken(config.pictures, split.world, spoken, config.samples, config.seed)
        say(console, f"pictures: {config.pictures}")
    for path_id, text in list(spoken.items())[:3] if config.out is None else []:
        say(console, f"{path_id}: {text}")


def read_splits(config: SpeakConfig, data: Path, trained: TrainedSpeaker, runtime: Runtime) -> dict[str, Split]:
    """The split to speak about, and train where there is one. ValueError if it is unseen in name alone."""
    names = [config.split, *(n for n in existing_splits(data, config.env, ["train"]) if n != config.split)]
    worlds = load_worlds(
        data,
        config.connectivity,
        config.env,
        names,
        languages=config.languages,
        elevation_base=trained.config.elevation_base,
    )
    check_unseen(trained, config.split, worlds[config.split])
    return load_splits(worlds, trained.tokenizer, runtime.device)


def judge(
    config: SpeakConfig, trained: TrainedSpeaker, eyes: Eyes, splits: dict[str, Split], spoken: Spoken, console: Console
) -> None:
    """Compare with what people said, beside the nearest route of train."""
    split = splits[config.split]
    by_teacher = judge_by_teacher(trained.model, eyes, split, episode_routes(split.world, split.ids.device))
    rows = {f"speaker, {config.search}": by_teacher | score_spoken(spoken, split.world)}
    if config.split != "train" and "train" in splits:
        rows = {"nearest route": score_spoken(retrieve(eyes, split, splits["train"]), split.world)} | rows
    show_scores(config.split, split.world, rows, console)


def one_language(config: SpeakConfig, world: World) -> str | None:
    """The language to write in, None where the data does not say. ValueError if there are several."""
    found = languages_of(world.episodes)
    if len(found) > 1:
        raise ValueError(
            f"split {config.split} has instructions in {', '.join(found)}; expected --languages with one of them: a "
            "speaker writes in one language at a time, and is compared with what people wrote in it"
        )
    return found[0] if found else None


if __name__ == "__main__":
    raise SystemExit(main())

"""Command: train an instruction follower (`python -m agent.train --help`)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import tyro
from rich.console import Console
from rich.markup import escape

from agent.config import NO_FEATURES, PRESETS, TrainConfig
from agent.data import Split, chosen_data, existing_splits, load_eyes, load_splits, load_worlds
from agent.evaluation import follow, score
from agent.follower import Follower, FollowerSizes
from agent.loading import run_config
from agent.objectives import FollowerObjective
from agent.pictures import save_routes
from agent.report import metrics_table
from clip_core.log import print_error
from clip_core.optim import build_optimizer
from clip_core.runtime import Runtime, start_runtime
from clip_core.tokenizer import WordTokenizer, build_vocabulary, read_vocabulary, write_vocabulary
from clip_core.trainer import fit
from envs.tables import World


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, build the parts, connect them, train, show what came out."""
    console = Console()
    try:
        config = parse(sys.argv[1:] if argv is None else list(argv))
        with start_runtime(config.device, config.trainer.precision, config.trainer.seed) as runtime:
            train(config, runtime, console)
    except ValueError as error:
        print_error(error)
        return 2
    return 0


def parse(argv: list[str]) -> TrainConfig:
    """The preset of --env, overlaid by the other flags."""
    early = argparse.ArgumentParser(add_help=False)
    early.add_argument("--env", default="r2r")
    env = early.parse_known_args(argv)[0].env
    preset = PRESETS.get(env, PRESETS["r2r"])()
    return tyro.cli(
        TrainConfig, args=argv, default=preset, prog="python -m agent.train", config=(tyro.conf.OmitArgPrefixes,)
    )


def train(config: TrainConfig, runtime: Runtime, console: Console) -> None:
    """The whole job of the command on one rank."""
    data = chosen_data(config.data, console if runtime.is_main else None)
    judged = existing_splits(data, config.env, config.eval_splits)
    worlds = load_worlds(
        data,
        config.connectivity,
        config.env,
        ["train", *judged],
        order=config.follower.candidate_order,
        elevation_base=config.follower.elevation_base,
    )
    tokenizer = make_tokenizer(config, worlds["train"])
    splits = load_splits(worlds, tokenizer, runtime.device)
    eyes, feature_size, origin = load_eyes(config.features, worlds["train"], runtime.device)
    sizes = FollowerSizes(
        words=len(tokenizer),
        feature=feature_size,
        word=config.follower.word,
        hidden=config.follower.hidden,
        angle=config.follower.angle,
        dropout=config.follower.dropout,
        feature_dropout=config.follower.feature_dropout,
    )
    follower = Follower(sizes).to(runtime.device)
    train_split = splits.pop("train")
    if runtime.is_main:
        describe(console, config, train_split, splits, follower, runtime)
    objective = FollowerObjective(
        follower, eyes, train_split, splits, config.follower, config.trainer.seed, runtime.rank, runtime.world
    )
    optimizers = {"rmsprop": build_optimizer("rmsprop", objective.parameter_groups())}
    scans = sorted({e.scan for e in train_split.world.episodes})
    record = run_config(config.env, config.follower, sizes, tokenizer, origin, scans)
    fit(objective, optimizers, {}, config.trainer, runtime, config.out, record, config.resume)
    if runtime.is_main:
        finish(config, objective, splits, tokenizer, console)


def make_tokenizer(config: TrainConfig, world: World) -> WordTokenizer:
    """The tokenizer of the vocabulary given, or of the words of the train split."""
    if config.vocabulary is not None:
        words = read_vocabulary(config.vocabulary)
    else:
        words = build_vocabulary((e.instruction for e in world.episodes), config.follower.min_word_count)
    return WordTokenizer(words, config.follower.max_words)


def describe(
    console: Console, config: TrainConfig, train: Split, judged: dict[str, Split], follower: Follower, runtime: Runtime
) -> None:
    """One look at what is about to run."""
    scans = len({e.scan for e in train.world.episodes})
    parameters = sum(p.numel() for p in follower.parameters())
    eyes = (
        "blind (no image features: route geometry and language alone)"
        if config.features == NO_FEATURES
        else escape(config.features)
    )
    console.print(
        f"[bold]follower[/] on {config.env}: {len(train.world.episodes):,} instructions in {scans} buildings, "
        f"evaluated on {', '.join(judged) or 'nothing (no such split in the data folder)'}\n"
        f"features: {eyes}; {parameters / 1e6:.1f} M parameters on {runtime.device}, {config.trainer.steps:,} steps, "
        f"run folder {escape(str(config.out))}",
        highlight=False,
    )


def finish(
    config: TrainConfig,
    objective: FollowerObjective,
    judged: dict[str, Split],
    tokenizer: WordTokenizer,
    console: Console,
) -> None:
    """Vocabulary, route pictures and the table of the last weights."""
    out = Path(config.out)
    write_vocabulary(out / "vocab.txt", tokenizer.vocabulary)
    rows = {}
    for name, split in judged.items():
        predictions = follow(objective.follower, objective.eyes, split, config.follower.max_steps)
        rows[name], _ = score(predictions, split.world)
        save_routes(out / f"routes_{name}.png", split.world, predictions)
    if rows:
        console.print(metrics_table(f"{out} after {config.trainer.steps:,} steps", rows))
    console.print(f"checkpoints, log.jsonl, curves.png and route pictures are in {out}", highlight=False, markup=False)


if __name__ == "__main__":
    raise SystemExit(main())

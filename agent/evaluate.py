"""Command: score a follower, a simple policy or a predictions file (`python -m agent.evaluate --help`)."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console

from agent.config import NO_FEATURES, EvaluateConfig
from agent.data import load_splits, load_worlds
from agent.evaluation import POLICIES, Predictions, follow, score
from agent.loading import check_unseen, load_trained, trained_eyes
from agent.pictures import save_routes
from agent.report import metrics_table, work_bar
from agent.sources import choose_source
from clip_core.checkpoint import find_checkpoint
from clip_core.log import print_error
from clip_core.runtime import Runtime, start_runtime
from envs.files import replacing
from envs.metrics import mean_scores
from envs.submission import flatten_trajectory, read_predictions, summary, validate, write_predictions
from envs.tables import World
from precompute.screen import say

SOURCES = ("checkpoint", "policy", "predictions")
OUTPUTS = ("json", "submission", "routes")


@dataclass(frozen=True)
class Judged:
    """What the metrics say: over all instructions, over those of each seed, of each instruction."""

    mean: Mapping[str, float]
    per_seed: Mapping[int, Mapping[str, float]]
    per_item: Mapping[str, Mapping[str, float]]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, predict, score, write what was asked for."""
    config = tyro.cli(EvaluateConfig, args=argv, prog="python -m agent.evaluate")
    try:
        check(config)
        with start_runtime(config.device, config.precision, config.seed) as runtime:
            evaluate(config, runtime, Console())
    except (ValueError, OSError) as error:  # OSError: an output that cannot be written
        print_error(error)
        return 2
    return 0


def check(config: EvaluateConfig) -> None:
    """Flags that do not go together, before anything is read. Raises ValueError."""
    given = [f"--{name}" for name in SOURCES if getattr(config, name) is not None]
    if len(given) != 1:
        raise ValueError(
            f"{' and '.join(given) or 'nothing'} given to evaluate; expected exactly one of "
            "--checkpoint RUN, --policy shortest|random|stop, --predictions FILE"
        )
    if config.features not in (None, NO_FEATURES) and config.checkpoint is None:
        raise ValueError(f"--features goes with --checkpoint, found {given[0]}; leave --features away")
    if config.seeds < 1 or (config.seeds > 1 and config.policy != "random"):
        raise ValueError(f"--seeds is {config.seeds}; expected 1, or more with --policy random: nothing else is random")
    if config.submission is not None and (config.predictions is not None or config.seeds > 1):
        raise ValueError(
            "--submission writes the routes of one --checkpoint or one run of a --policy; found "
            + (f"--seeds {config.seeds}" if config.seeds > 1 else "--predictions, which is such a file already")
        )
    for name in OUTPUTS:
        path = getattr(config, name)
        if path is not None and path.is_dir():
            raise ValueError(f"--{name} {path} is a folder; expected the name of a file to write")


def evaluate(config: EvaluateConfig, runtime: Runtime, console: Console) -> None:
    """The whole job of the command."""
    start = time.perf_counter()
    world, predictions = predict(config, runtime, console)
    goals = all(e.has_goal for e in world.episodes)
    if goals:
        judged = judge(config, world, predictions)
        show(config, world, judged, time.perf_counter() - start, console)
        if config.json is not None:
            write_json(config, judged)
            say(console, f"metrics: {config.json}")
    first = predictions[config.seed]
    if config.submission is not None:
        write_submission(config.submission, world, first)
        say(console, f"submission: {config.submission}, {len(first):,} routes in EvalAI's format, checked")
    elif not goals and config.predictions is not None:
        say(console, f"{config.predictions} has no fault: {len(first):,} routes, every instruction of {config.split}")
    if config.routes is not None:
        save_routes(config.routes, world, first, seed=config.seed)
        say(console, f"routes: {config.routes}")


def predict(config: EvaluateConfig, runtime: Runtime, console: Console) -> tuple[World, dict[int, Predictions]]:
    """The world of the split, and the routes by seed."""
    if config.checkpoint is not None:
        return predict_follower(config, runtime, console)
    world = read_world(config, choose_source(config.data, NO_FEATURES, runtime, console, config.env).data)
    if config.predictions is not None:
        return world, {config.seed: checked_predictions(config.predictions, world)}
    policy = POLICIES[config.policy or ""]
    with work_bar(console) as bar:
        task = bar.add_task(f"{config.policy}", total=config.seeds * len(world.episodes))
        found = {}
        for seed in range(config.seed, config.seed + config.seeds):
            found[seed] = policy(world, seed)
            bar.advance(task, len(world.episodes))
    return world, found


def predict_follower(
    config: EvaluateConfig, runtime: Runtime, console: Console
) -> tuple[World, dict[int, Predictions]]:
    """The greedy routes of a trained follower."""
    assert config.checkpoint is not None
    trained = load_trained(config.checkpoint, runtime.device)
    features = NO_FEATURES if config.features is None and trained.origin is None else config.features
    source = choose_source(config.data, features, runtime, console, config.env)
    angles = {"order": trained.config.candidate_order, "elevation_base": trained.config.elevation_base}
    world = read_world(config, source.data, **angles)
    check_unseen(trained, config.split, world)
    split = load_splits({config.split: world}, trained.tokenizer, runtime.device)[config.split]
    eyes = trained_eyes(trained, source.features, world, runtime.device)
    with work_bar(console) as bar, runtime.autocast():
        task = bar.add_task(f"follower on {config.split}", total=len(world.episodes))
        found = follow(
            trained.model, eyes, split, trained.config.max_steps, done=lambda episodes: bar.advance(task, episodes)
        )
    return world, {config.seed: found}


def read_world(config: EvaluateConfig, data: Path, **options: str) -> World:
    """The split with its buildings. Raises ValueError where there are no goals for what was asked."""
    names = [config.split]
    worlds = load_worlds(data, config.connectivity, config.env, names, languages=config.languages, **options)
    world = worlds[config.split]
    if all(e.has_goal for e in world.episodes):
        return world
    if config.json is not None or config.policy == "shortest":
        asked = "--json" if config.json is not None else "--policy shortest"
        raise ValueError(
            f"split {config.split} has no goals, which {asked} needs; its metrics are known to EvalAI alone"
        )
    if config.submission is None and config.predictions is None:
        raise ValueError(
            f"split {config.split} has no goals, so there are no metrics; write its routes for EvalAI with "
            "--submission FILE, or check such a file with --predictions FILE"
        )
    return world


def checked_predictions(path: Path, world: World) -> Predictions:
    """The routes of a predictions file. Raises ValueError that sums up every fault of it."""
    items = read_predictions(path)
    faults = validate(items, world.episodes, world.scenes)
    if faults:
        raise ValueError(f"{path}: {summary(faults)}")
    return {item["instr_id"]: flatten_trajectory(item["trajectory"]) for item in items}


def write_submission(path: Path, world: World, predictions: Predictions) -> None:
    """Write the file of EvalAI's R2R challenge, read it back and check it."""
    write_predictions(path, predictions)
    faults = validate(read_predictions(path), world.episodes, world.scenes)
    if faults:
        raise ValueError(f"{path} was written, but EvalAI would refuse it: {summary(faults)}")


def judge(config: EvaluateConfig, world: World, predictions: Mapping[int, Predictions]) -> Judged:
    """Score the routes of every seed; means over seeds are means of what each seed scored."""
    per_seed, items = {}, []
    for seed, routes in predictions.items():
        per_seed[seed], per_item = score(routes, world, spl_by=config.spl_by, collapse_repeats=not config.keep_repeats)
        items.append(per_item)
    of_each = {instr_id: mean_scores([per_item[instr_id] for per_item in items]) for instr_id in items[0]}
    return Judged(mean_scores(per_seed.values()), per_seed, of_each)


def show(config: EvaluateConfig, world: World, judged: Judged, seconds: float, console: Console) -> None:
    """The table, a row for each language if there are several, and over several seeds how much they differ."""
    rows = {config.split: judged.mean}
    spoken = sorted({e.language for e in world.episodes if e.language is not None})
    for language in spoken if len(spoken) > 1 else []:
        rows[language] = mean_scores(judged.per_item[e.instr_id] for e in world.episodes if e.language == language)
    if len(judged.per_seed) > 1:
        of_seed = list(judged.per_seed.values())
        rows["± over seeds"] = {name: statistics.stdev(m[name] for m in of_seed) for name in judged.mean}
    over = f", mean of {config.seeds} seeds" if config.seeds > 1 else ""
    console.print(metrics_table(f"{source_name(config)} on {config.env} {config.split}{over}", rows))
    scans = len({e.scan for e in world.episodes})
    say(console, f"{len(world.episodes):,} instructions in {scans} buildings, {seconds:.1f} s")


def source_name(config: EvaluateConfig) -> str:
    """The file or the policy that is evaluated."""
    if config.checkpoint is not None:
        return str(find_checkpoint(config.checkpoint))
    return config.policy or str(config.predictions)


def write_json(config: EvaluateConfig, judged: Judged) -> None:
    """Metrics in metres and fractions at the top level, then what they are of; `per_item` as a list with instr_id."""
    kind = next(name for name in SOURCES if getattr(config, name) is not None)
    document: dict[str, Any] = {
        **judged.mean,
        "env": config.env,
        "split": config.split,
        "count": len(judged.per_item),
        "source": {"kind": kind, "name": source_name(config)},
        "spl_by": config.spl_by,
        "keep_repeats": config.keep_repeats,
        "per_seed": [{"seed": seed, **metrics} for seed, metrics in judged.per_seed.items()],
        "per_item": [{"instr_id": instr_id, **metrics} for instr_id, metrics in judged.per_item.items()],
    }
    assert config.json is not None
    with replacing(config.json) as file:
        file.write((json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


if __name__ == "__main__":
    raise SystemExit(main())

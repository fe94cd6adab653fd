"""Command: score a follower, a simple policy or a predictions file (`python -m agent.evaluate --help`)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import tyro
from rich.console import Console

from agent.config import NO_FEATURES, check_way_back_penalty
from agent.data import load_splits, load_worlds
from agent.ensemble import Ensemble, check_alike
from agent.evaluate_config import SOURCES, EvaluateConfig
from agent.evaluation import POLICIES, Predictions
from agent.inference import TUNING_SPLIT, Answers, Searcher, follow_greedily, infer
from agent.judging import judge, show, write_json
from agent.loading import (
    AnyTrained,
    TrainedFollower,
    check_partners,
    check_unseen,
    load_speaker,
    load_trained,
    trained_eyes,
)
from agent.pictures import save_routes
from agent.report import work_bar
from agent.sources import choose_source
from clip_core.log import print_error
from clip_core.runtime import Runtime, start_runtime
from envs.episodes import existing_splits
from envs.submission import read_predictions, summary, validate, write_predictions
from envs.submission_rxr import read_rxr_predictions, write_rxr_predictions
from envs.tables import World
from envs.trajectories import flatten_trajectory
from precompute.screen import say

OUTPUTS = ("json", "submission", "routes")
OF_SEARCH = ("k", "speaker", "speaker_weight", "count_exploration")
READERS = {"rxr": read_rxr_predictions}
WRITERS = {"rxr": write_rxr_predictions}
"""Of predictions files; other data sets have R2R's."""


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
    given = [f"--{name}" for name in SOURCES if getattr(config, name)]
    if len(given) != 1:
        raise ValueError(
            f"{' and '.join(given) or 'nothing'} given to evaluate; expected exactly one of "
            "--checkpoint RUN, --policy shortest|random|stop, --predictions FILE"
        )
    if config.features not in (None, NO_FEATURES) and not config.checkpoint:
        raise ValueError(f"--features goes with --checkpoint, found {given[0]}; leave --features away")
    if config.way_back_penalty is not None and not config.checkpoint:
        raise ValueError(f"--way-back-penalty goes with --checkpoint, found {given[0]}; leave it away")
    if config.seeds < 1 or (config.seeds > 1 and config.policy != "random"):
        raise ValueError(f"--seeds is {config.seeds}; expected 1, or more with --policy random: nothing else is random")
    if config.submission is not None and (config.predictions is not None or config.seeds > 1):
        raise ValueError(
            "--submission writes the routes of one --checkpoint or one run of a --policy; found "
            + (f"--seeds {config.seeds}" if config.seeds > 1 else "--predictions, which is such a file already")
        )
    check_search(config, given[0])
    for name in OUTPUTS:
        path = getattr(config, name)
        if path is not None and path.is_dir():
            raise ValueError(f"--{name} {path} is a folder; expected the name of a file to write")


def check_search(config: EvaluateConfig, source: str) -> None:
    """The flags of a search. Raises ValueError."""
    if config.how() is None:
        used = [f"--{name.replace('_', '-')}" for name in OF_SEARCH if getattr(config, name) not in (None, False)]
        if used:
            raise ValueError(f"{used[0]} goes with --search beam, dijkstra or best-first; found --search greedy")
    elif not config.checkpoint:
        raise ValueError(f"--search {config.search} goes with --checkpoint, found {source}; leave --search away")
    weight = config.speaker_weight
    if weight is not None and config.speaker is None:
        raise ValueError(f"--speaker-weight is {weight}, but there is no speaker; name one with --speaker RUN")
    if weight is not None and not 0 <= weight <= 1:
        raise ValueError(f"--speaker-weight is {weight}: expected 0 (the follower alone) to 1 (the speaker alone)")


def evaluate(config: EvaluateConfig, runtime: Runtime, console: Console) -> None:
    """The whole job of the command."""
    start = time.perf_counter()
    world, predictions, answers = predict(config, runtime, console)
    goals = all(e.has_goal for e in world.episodes)
    if goals:
        judged = judge(config, world, predictions, answers)
        show(config, world, judged, answers, time.perf_counter() - start, console)
        if config.json is not None:
            write_json(config, judged, answers)
            say(console, f"metrics: {config.json}")
    for note in answers.notes:
        say(console, note)
    first = predictions[config.seed]
    if config.submission is not None:
        write_submission(config, world, first)
        form = "the form of the RxR competition" if config.env == "rxr" else "EvalAI's format"
        say(console, f"submission: {config.submission}, {len(first):,} routes in {form}, checked")
    elif not goals and config.predictions is not None:
        say(console, f"{config.predictions} has no fault: {len(first):,} routes, every instruction of {config.split}")
    if config.routes is not None:
        save_routes(config.routes, world, first, seed=config.seed)
        say(console, f"routes: {config.routes}")


def predict(
    config: EvaluateConfig, runtime: Runtime, console: Console
) -> tuple[World, dict[int, Predictions], Answers]:
    """The world of the split, the routes by seed, how they were found."""
    if config.checkpoint:
        world, answers = predict_follower(config, runtime, console)
        return world, {config.seed: answers.predictions}, answers
    source = choose_source(config.data, NO_FEATURES, runtime, console, config.env)
    world = read_worlds(config, source.data, [config.split])[config.split]
    if config.predictions is not None:
        routes = checked_predictions(config, world)
        return world, {config.seed: routes}, Answers(routes)
    policy = POLICIES[config.policy or ""]
    with work_bar(console) as bar:
        task = bar.add_task(f"{config.policy}", total=config.seeds * len(world.episodes))
        found = {}
        for seed in range(config.seed, config.seed + config.seeds):
            found[seed] = policy(world, seed)
            bar.advance(task, len(world.episodes))
    return world, found, Answers(found[config.seed])


def penalise_way_back(members: Sequence[TrainedFollower], config: EvaluateConfig) -> None:
    """The penalty that the flags name, or its default, for every follower. ValueError for one that cannot be."""
    if config.way_back_penalty is not None:
        for member in members:
            check_way_back_penalty(config.way_back_penalty, member.config.layout)
            member.model.way_back_penalty = config.way_back_penalty
    elif config.search != "greedy":
        for member in members:
            member.model.way_back_penalty = 0.0


def predict_follower(config: EvaluateConfig, runtime: Runtime, console: Console) -> tuple[World, Answers]:
    """The routes of a trained follower, or of several that decide together."""
    members = [load_trained(checkpoint, runtime.device) for checkpoint in config.checkpoint]
    check_alike(members, config.checkpoint)
    penalise_way_back(members, config)
    first, speaker = members[0], None
    if config.speaker is not None:
        speaker = load_speaker(config.speaker, runtime.device)
        check_partners(first, speaker)
    features = NO_FEATURES if config.features is None and first.origin is None else config.features
    source = choose_source(config.data, features, runtime, console, config.env)
    angles = {"order": first.config.candidate_order, "elevation_base": first.config.elevation_base}
    worlds = read_worlds(config, source.data, splits_of(config, source.data), **angles)
    world = worlds[config.split]
    models: list[AnyTrained] = [*members, *([] if speaker is None else [speaker])]
    for model in models:
        check_unseen(model, config.split, world)
        if shared := model.explored & {e.scan for e in world.episodes}:
            say(
                console,
                f"PRE-EXPLORED: the {model.kind} learned in {len(shared)} buildings of {config.split} from routes "
                "through their graphs (--pre-explore); its scores are not those of unseen buildings",
            )
    splits = load_splits(worlds, first.tokenizer, runtime.device)
    heard = {} if speaker is None else load_splits(worlds, speaker.tokenizer, runtime.device)
    eyes, search = trained_eyes(first, source.features, world, runtime.device), config.how()
    ensemble, max_steps = Ensemble([member.model for member in members]), first.config.max_steps
    with work_bar(console) as bar, runtime.autocast():
        if search is None:
            return world, follow_greedily(ensemble, eyes, splits[config.split], max_steps, bar)
        searcher = Searcher(ensemble, eyes, search, max_steps, None if speaker is None else speaker.model)
        weight, counted = config.speaker_weight, config.count_exploration
        return world, infer(searcher, splits, heard, config.split, weight, counted, bar)


def splits_of(config: EvaluateConfig, data: Path) -> list[str]:
    """The split to evaluate, and where the speaker's weight is to be chosen that other one. Raises ValueError without
    it."""
    if config.speaker is None or config.speaker_weight is not None or config.split == TUNING_SPLIT:
        return [config.split]
    if not existing_splits(data, config.env, [TUNING_SPLIT]):
        raise ValueError(
            f"{data} has no split {TUNING_SPLIT} to choose the speaker's weight on (never on unseen buildings); "
            "expected that split, or the weight: --speaker-weight 0.9, say"
        )
    return [config.split, TUNING_SPLIT]


def read_worlds(config: EvaluateConfig, data: Path, names: Sequence[str], **options: str) -> dict[str, World]:
    """The splits with their buildings, the first one to be evaluated. Raises ValueError where that one has no goals
    for what was asked."""
    worlds = load_worlds(data, config.connectivity, config.env, names, languages=config.languages, **options)
    if all(e.has_goal for e in worlds[config.split].episodes):
        return worlds
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
    return worlds


def checked_predictions(config: EvaluateConfig, world: World) -> Predictions:
    """The routes of a predictions file. Raises ValueError that sums up every fault of it."""
    assert config.predictions is not None
    items = READERS.get(config.env, read_predictions)(config.predictions)
    faults = validate(items, world.episodes, world.scenes)
    if faults:
        raise ValueError(f"{config.predictions}: {summary(faults)}")
    return {item["instr_id"]: flatten_trajectory(item["trajectory"]) for item in items}


def write_submission(config: EvaluateConfig, world: World, predictions: Predictions) -> None:
    """Write the file of the challenge, read it back and check it."""
    path = config.submission
    assert path is not None
    WRITERS.get(config.env, write_predictions)(path, predictions)
    faults = validate(READERS.get(config.env, read_predictions)(path), world.episodes, world.scenes)
    if faults:
        raise ValueError(f"{path} was written, but the challenge would refuse it: {summary(faults)}")


if __name__ == "__main__":
    raise SystemExit(main())

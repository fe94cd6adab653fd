"""What the metrics say of routes, for a person or a file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from agent.evaluate_config import SOURCES, EvaluateConfig
from agent.evaluation import Predictions, score
from agent.inference import Answers
from agent.loading import chosen_by
from agent.report import metrics_table
from clip_core.checkpoint import find_checkpoint
from envs.files import replacing
from envs.metrics import mean_scores
from envs.tables import World
from precompute.screen import say


@dataclass(frozen=True)
class Judged:
    """What the metrics say: over all instructions, over those of each seed, of each instruction; over all instructions
    of what stands beside the answers; over those in each language, where there are several."""

    mean: Mapping[str, float]
    per_seed: Mapping[int, Mapping[str, float]]
    per_item: Mapping[str, Mapping[str, float]]
    beside: Mapping[str, Mapping[str, float]]
    per_language: Mapping[str, Mapping[str, float]]


def judge(config: EvaluateConfig, world: World, predictions: Mapping[int, Predictions], answers: Answers) -> Judged:
    """Score the routes of every seed; means over seeds are means of what each seed scored."""
    how: Any = {"spl_by": config.spl_by, "collapse_repeats": not config.keep_repeats}
    per_seed, items = {}, []
    for seed, routes in predictions.items():
        per_seed[seed], per_item = score(routes, world, **how)
        items.append(per_item)
    of_each = {instr_id: mean_scores([per_item[instr_id] for per_item in items]) for instr_id in items[0]}
    beside = {name: score(routes, world, **how)[0] for name, routes in answers.beside.items()}
    spoken = sorted({e.language for e in world.episodes if e.language is not None})
    languages = {
        language: mean_scores(of_each[e.instr_id] for e in world.episodes if e.language == language)
        for language in (spoken if len(spoken) > 1 else [])
    }
    return Judged(mean_scores(per_seed.values()), per_seed, of_each, beside, languages)


def show(
    config: EvaluateConfig, world: World, judged: Judged, answers: Answers, seconds: float, console: Console
) -> None:
    """The table: a row for each language if there are several, over several seeds how much they differ, of a search
    what other choices among its candidates score."""
    rows = {config.split: judged.mean, **judged.per_language}
    if len(judged.per_seed) > 1:
        of_seed = list(judged.per_seed.values())
        rows["± over seeds"] = {name: statistics.stdev(m[name] for m in of_seed) for name in judged.mean}
    rows |= judged.beside
    over = f", mean of {config.seeds} seeds" if config.seeds > 1 else f": {answers.how}" if answers.how else ""
    console.print(metrics_table(f"{source_name(config)} on {config.env} {config.split}{over}", rows))
    scans = len({e.scan for e in world.episodes})
    by = sorted({metric for metric in map(chosen_by, config.checkpoint) if metric is not None})
    best = "".join("; weights best by {1} on {0}".format(*metric.split("/")) for metric in by)
    say(console, f"{len(world.episodes):,} instructions in {scans} buildings, {seconds:.1f} s{best}")


def source_name(config: EvaluateConfig) -> str:
    """The files or the policy that is evaluated."""
    if config.checkpoint:
        return " + ".join(str(find_checkpoint(checkpoint)) for checkpoint in config.checkpoint)
    return config.policy or str(config.predictions)


def write_json(config: EvaluateConfig, judged: Judged, answers: Answers) -> None:
    """Metrics in metres and fractions at the top level, then what they are of; `per_item` as a list with instr_id.

    Of a follower also `search`: how its routes were found; `beside`: what other choices among the candidates score.
    """
    source: dict[str, Any] = {
        "kind": next(name for name in SOURCES if getattr(config, name)),
        "name": source_name(config),
    }
    search: dict[str, Any] = {}
    if config.checkpoint:
        by = [chosen_by(checkpoint) for checkpoint in config.checkpoint]
        source["chosen_by"] = by[0] if len(by) == 1 else by
        speaker = None if config.speaker is None else str(find_checkpoint(config.speaker))
        search = {"search": answers.record | {"speaker": speaker}, "beside": judged.beside}
    document: dict[str, Any] = {
        **judged.mean,
        "env": config.env,
        "split": config.split,
        "count": len(judged.per_item),
        "source": source,
        "spl_by": config.spl_by,
        "keep_repeats": config.keep_repeats,
        **search,
        **({"per_language": judged.per_language} if judged.per_language else {}),
        "per_seed": [{"seed": seed, **metrics} for seed, metrics in judged.per_seed.items()],
        "per_item": [{"instr_id": instr_id, **metrics} for instr_id, metrics in judged.per_item.items()],
    }
    assert config.json is not None
    with replacing(config.json) as file:
        file.write((json.dumps(document, indent=1, allow_nan=False) + "\n").encode())

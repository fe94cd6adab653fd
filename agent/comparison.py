"""A trained follower beside the simple policies and its blind twin."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from agent.evaluation import POLICIES, score
from agent.report import metrics_table
from envs.files import replacing
from envs.metrics import mean_scores
from envs.tables import World

SEEDS = 5
"""Random walks that the row "random" is the mean of."""
TABLE_NAME = "table.json"
Rows = dict[str, dict[str, float]]
"""Name of an agent -> its mean metrics."""


def simple_policies(world: World) -> Rows:
    """What the shortest path and the random walk of the field score on a split."""
    shortest, _ = score(POLICIES["shortest"](world, 0), world)
    walks = [score(POLICIES["random"](world, seed), world)[0] for seed in range(SEEDS)]
    return {"shortest": shortest, "random": mean_scores(walks)}


def compare(out: Path, worlds: Mapping[str, World], followers: Mapping[str, Rows], console: Console) -> None:
    """Prints a table per split and writes all of them to OUT/table.json, in metres and fractions.

    followers: name -> split -> metrics, of the same splits, all with goals.
    """
    tables: dict[str, Rows] = {}
    for split, world in worlds.items():
        rows = simple_policies(world) | {name: metrics[split] for name, metrics in followers.items()}
        tables[split] = rows
        console.print(metrics_table(f"{split}: {_described(world)}", rows))
    with replacing(out / TABLE_NAME) as file:
        file.write((json.dumps(tables, indent=1, allow_nan=False) + "\n").encode())


def _described(world: World) -> str:
    scans = len({e.scan for e in world.episodes})
    length = statistics.fmean(len(e.path) - 1 for e in world.episodes)
    return f"{len(world.episodes):,} instructions in {scans} buildings, {length:.1f} steps on average"

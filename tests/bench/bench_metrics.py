"""Speed of scoring predictions, beside the field's way with networkx tables and a numpy matrix for DTW."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import networkx as nx
import numpy as np

from envs.episodes import load_episodes
from envs.geodesics import geodesics
from envs.metrics import SUCCESS_RADIUS_M, mean_scores, score_predictions
from envs.scenes import load_scenes
from envs.submission import read_predictions, trajectories_of

ROUNDS = 5


def data() -> Path:
    """The folder that CLIPNAV_DATA names."""
    folder = os.environ.get("CLIPNAV_DATA")
    if not folder:
        raise ValueError("CLIPNAV_DATA is not set; expected the folder that holds r2r/ and golden/, see docs/data.md")
    return Path(folder)


def score_with_dictionaries(path: list[str], reference: list[str], distance: dict[str, dict[str, float]]) -> dict:
    """What the public evaluators do for one path: look-ups by viewpoint id, DTW cell by cell in a numpy matrix."""
    goal = reference[-1]
    error, nearest = distance[path[-1]][goal], min(distance[place][goal] for place in path)
    length, length_ref = (sum(distance[a][b] for a, b in pairwise(p)) for p in (path, reference))
    table = np.full((len(path) + 1, len(reference) + 1), np.inf)
    table[0, 0] = 0
    for i, place in enumerate(path):
        for j, gold in enumerate(reference):
            table[i + 1, j + 1] = distance[place][gold] + min(table[i, j + 1], table[i + 1, j], table[i, j])
    success = float(error < SUCCESS_RADIUS_M)
    ndtw = np.exp(-table[-1, -1] / (SUCCESS_RADIUS_M * len(reference)))
    near = [np.min([distance[place][gold] for place in path]) for gold in reference]
    coverage = np.mean([np.exp(-d / SUCCESS_RADIUS_M) for d in near])
    shortest, expected = distance[path[0]][goal], coverage * length_ref
    return {
        "nav_error": error,
        "oracle_error": nearest,
        "steps": len(path) - 1,
        "length": length,
        "success": success,
        "oracle_success": float(nearest < SUCCESS_RADIUS_M),
        "spl": success * shortest / max(shortest, length, 0.01),
        "ndtw": ndtw,
        "sdtw": success * ndtw,
        "cls": coverage * expected / (expected + abs(expected - length)),
    }


def best_s(work: Callable[[], object]) -> float:
    """Seconds of the fastest of some rounds."""
    times = []
    for _ in range(ROUNDS):
        begin = perf_counter()
        work()
        times.append(perf_counter() - begin)
    return min(times)


def run() -> list[dict]:
    """One row: all metrics of the golden predictions on val_seen, ours with validation; tables outside the clock."""
    folder = data()
    episodes = load_episodes(folder / "r2r", "val_seen")
    scenes = load_scenes(folder / "connectivity", {episode.scan for episode in episodes})
    tables = {scan: geodesics(scene) for scan, scene in scenes.items()}
    trajectories = trajectories_of(read_predictions(folder / "golden/metrics/predictions_val_seen.json.gz"))
    dictionaries = {k: dict(nx.all_pairs_dijkstra_path_length(scene.graph())) for k, scene in scenes.items()}

    def ours() -> dict[str, float]:
        return score_predictions(episodes, trajectories, scenes, tables, collapse_repeats=False)[0]

    def theirs() -> dict[str, float]:
        return mean_scores(
            score_with_dictionaries(trajectories[e.instr_id], list(e.path), dictionaries[e.scan]) for e in episodes
        )

    means, reference = ours(), theirs()
    apart = max(abs(means[name] - reference[name]) for name in means)
    if apart > 1e-9:
        raise ValueError(f"the two ways differ by {apart}; expected equal means before their speed is compared")
    return [
        {
            "name": "scoring, 10 metrics of R2R val_seen",
            "value": len(episodes) / best_s(ours),
            "unit": "paths/s",
            "reference": "dictionaries by id, DTW in a numpy matrix (same machine)",
            "reference_value": len(episodes) / best_s(theirs),
        }
    ]


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']:<70} {row['value']:>12,.0f} {row['unit']}")
        print(f"{row['reference']:<70} {row['reference_value']:>12,.0f} {row['unit']}")

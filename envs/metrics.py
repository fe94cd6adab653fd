"""Navigation metrics of a path against its reference route, as functions of paths on a distance table.

Every path is a sequence of rows of one scene (`Scene.row`), every distance is the length in metres of the shortest
walk over the scene's graph (`Geodesics.distance_m`). Sources: success, oracle success, error: arXiv 1711.07280; SPL:
arXiv 1807.06757; CLS: arXiv 1905.12255; nDTW, SDTW: arXiv 1907.05446. Checked against the public evaluators' scores.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import exp, fsum, inf
from typing import Literal, get_args

import numpy as np

from envs.episodes import Episode
from envs.geodesics import Geodesics
from envs.scenes import Scene
from envs.submission import summary, validate

SUCCESS_RADIUS_M = 3.0
"""An episode succeeds if it stops at less than this distance from the goal; also the decay length of nDTW and CLS."""

METRICS = (
    "nav_error", "oracle_error", "steps", "length", "success", "oracle_success", "spl", "ndtw", "sdtw", "cls",
)  # fmt: skip
"""Keys of every score: metres (`nav_error oracle_error length`), a count (`steps`), fractions (all others)."""

SplBy = Literal["shortest", "reference"]


def score_path(
    path: Sequence[int],
    reference: Sequence[int],
    distance_m: np.ndarray,
    *,
    spl_by: SplBy = "shortest",
    collapse_repeats: bool = True,
) -> dict[str, float]:
    """Scores one path.

    Args:
        path: rows of the viewpoints visited, start first; a row may follow itself (the agent turned on the spot).
        reference: rows of the route that the instruction describes; its last row is the goal.
        distance_m: [N, N] shortest distances of the scene in metres, inf where no walk exists.
        spl_by: the denominator of SPL. "shortest": distance from start to goal (Anderson; MatterSim, R2R-EnvDrop).
            "reference": length of the reference route (HAMT, DUET). Equal on R2R, not on R4R or RxR.
        collapse_repeats: a row that follows itself counts once. The public evaluators (False) count each entry: a turn
            on the spot is a step and costs DTW again. Only `steps`, `ndtw` and `sdtw` depend on this.

    Returns:
        One number for each of `METRICS`.

    Raises:
        ValueError: an empty path, a row outside the table, two rows that no walk joins, an unknown `spl_by`.
    """
    if spl_by not in get_args(SplBy):
        raise ValueError(f"spl_by is {spl_by!r}; expected one of {', '.join(get_args(SplBy))}")
    path_rows = _rows(path, "path", len(distance_m), collapse_repeats)
    reference_rows = _rows(reference, "reference", len(distance_m), collapse_repeats)
    pair_m = distance_m[np.ix_(path_rows, reference_rows)]  # [entry of the path, entry of the reference]
    if not np.isfinite(pair_m).all():
        i, j = np.argwhere(~np.isfinite(pair_m))[0].tolist()
        raise ValueError(
            f"row {path_rows[i]} (entry {i} of the path) and row {reference_rows[j]} (entry {j} of the reference) are "
            f"{pair_m[i, j]} m apart; expected a path that stays on the part of the graph which holds the reference"
        )
    length_m, reference_m = walked_m(path_rows, distance_m), walked_m(reference_rows, distance_m)
    to_goal_m = pair_m[:, -1]
    nav_error, oracle_error = float(to_goal_m[-1]), float(to_goal_m.min())
    success = float(nav_error < SUCCESS_RADIUS_M)
    shortest_m = reference_m if spl_by == "reference" else float(distance_m[path_rows[0], reference_rows[-1]])
    ndtw = exp(-dtw(pair_m) / (SUCCESS_RADIUS_M * len(reference_rows)))
    return {
        "nav_error": nav_error,
        "oracle_error": oracle_error,
        "steps": float(len(path_rows) - 1),
        "length": length_m,
        "success": success,
        "oracle_success": float(oracle_error < SUCCESS_RADIUS_M),
        "spl": success * ratio(shortest_m, max(shortest_m, length_m)),
        "ndtw": ndtw,
        "sdtw": success * ndtw,
        "cls": coverage_length_score(pair_m, length_m, reference_m),
    }


def walked_m(path: Sequence[int], distance_m: np.ndarray) -> float:
    """Length of a path in metres: the sum of the shortest distances between consecutive rows."""
    return fsum(distance_m[path[:-1], path[1:]])


def dtw(cost: np.ndarray) -> float:
    """Dynamic time warping: the cheapest monotone alignment of two sequences.

    Args:
        cost: [P, R] price of aligning entry p of the one sequence with entry r of the other, P and R at least 1.

    Returns:
        The sum of prices along the cheapest chain from (0, 0) to (P-1, R-1) whose links advance p, r or both by one.
    """
    before = [0.0] + [inf] * cost.shape[1]
    for row in cost.tolist():
        here = [inf]
        for column, price in enumerate(row):
            here.append(price + min(before[column], before[column + 1], here[column]))
        before = here
    return before[-1]


def coverage_length_score(pair_m: np.ndarray, length_m: float, reference_m: float) -> float:
    """CLS: how much of the reference a path comes close to, times how well its length suits that coverage.

    Args:
        pair_m: [P, R] distances in metres between the entries of the path and of the reference.
        length_m: length of the path in metres.
        reference_m: length of the reference in metres.
    """
    coverage = float(np.exp(-pair_m.min(axis=0) / SUCCESS_RADIUS_M).mean())
    expected_m = coverage * reference_m
    return coverage * ratio(expected_m, expected_m + abs(expected_m - length_m))


def ratio(part_m: float, whole_m: float) -> float:
    """part / whole of two lengths, 1 if both are zero: a route that starts at its goal is walked perfectly by no step.

    (The public evaluators divide by zero there, or by 0.01; no route of R2R starts at its goal.)
    """
    return part_m / whole_m if whole_m > 0 else 1.0


def mean_scores(items: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every metric over the scores of several paths, each path with the same weight.

    Raises:
        ValueError: no item.
    """
    scores = list(items)
    if not scores:
        raise ValueError("no score to average; expected at least one path")
    return {name: fsum(score[name] for score in scores) / len(scores) for name in scores[0]}


def score_predictions(
    episodes: Iterable[Episode],
    trajectories: Mapping[str, Sequence[str]],
    scenes: Mapping[str, Scene],
    geodesics: Mapping[str, Geodesics],
    *,
    spl_by: SplBy = "shortest",
    collapse_repeats: bool = True,
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Scores one trajectory for every episode.

    Args:
        episodes: the episodes of a split that has goals.
        trajectories: instr_id -> ids of the viewpoints visited, the start first.
        scenes: scan -> its scene, for every scan of the episodes.
        geodesics: scan -> its distances.
        spl_by: see `score_path`.
        collapse_repeats: see `score_path`.

    Returns:
        The mean of every metric, then instr_id -> every metric, in the order of the episodes.

    Raises:
        ValueError: a missing or unknown instr_id, a trajectory that leaves the graph, an episode without a goal. The
            message names the instr_id of each (of the first ones if there are many).
    """
    episodes = list(episodes)
    goalless = [episode.instr_id for episode in episodes if not episode.has_goal]
    if goalless:
        raise ValueError(
            f"{len(goalless)} of {len(episodes)} episodes have no goal to score against, the first is {goalless[0]}; "
            "expected a split with reference paths (the test split is scored by the EvalAI server)"
        )
    faults = validate(
        [{"instr_id": i, "trajectory": [[vp] for vp in path]} for i, path in trajectories.items()], episodes, scenes
    )
    if faults:
        raise ValueError(summary(faults))
    per_item = {}
    for episode in episodes:
        row = scenes[episode.scan].row
        try:
            per_item[episode.instr_id] = score_path(
                [row[viewpoint] for viewpoint in trajectories[episode.instr_id]],
                [row[viewpoint] for viewpoint in episode.path],
                geodesics[episode.scan].distance_m,
                spl_by=spl_by,
                collapse_repeats=collapse_repeats,
            )
        except ValueError as error:
            raise ValueError(f"instr_id {episode.instr_id} in scan {episode.scan}: {error}") from error
    return mean_scores(per_item.values()), per_item


def _rows(path: Sequence[int], name: str, n_rows: int, collapse_repeats: bool) -> list[int]:
    """The rows of a path as plain integers, checked against the size of the table, repeats collapsed if asked."""
    rows = [int(row) for row in path]
    if not rows:
        raise ValueError(f"the {name} is empty; expected at least its start")
    outside = [row for row in rows if not 0 <= row < n_rows]
    if outside:
        raise ValueError(f"the {name} has row {outside[0]}; expected 0 to {n_rows - 1}, the viewpoints of the scene")
    if not collapse_repeats:
        return rows
    return [row for i, row in enumerate(rows) if i == 0 or row != rows[i - 1]]

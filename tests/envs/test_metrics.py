"""Metrics against values worked by hand, the public evaluators' scores, brute force."""

import gzip
import json
import random
from functools import cache
from math import exp, inf

import numpy as np
import pytest
from tiny_scene import corridor

from envs.episodes import Episode, load_episodes
from envs.geodesics import geodesics
from envs.metrics import METRICS, dtw, mean_scores, score_path, score_predictions
from envs.scenes import load_scenes
from envs.submission import read_predictions, trajectories_of

LINE_M = 2.0 * np.abs(np.subtract.outer(np.arange(6), np.arange(6)))  # six viewpoints in a row, 2 m apart


def test_path_that_stops_one_viewpoint_short():
    score = score_path([0, 1, 2], [0, 1, 2, 3], LINE_M)
    coverage = (1 + 1 + 1 + exp(-2 / 3)) / 4  # the goal is 2 m from the nearest viewpoint of the path
    expected_m = 6 * coverage
    assert score == pytest.approx(
        {
            "nav_error": 2.0,
            "oracle_error": 2.0,
            "steps": 2,
            "length": 4.0,
            "success": 1.0,
            "oracle_success": 1.0,
            "spl": 1.0,  # shorter than the shortest way: 6 / max(6, 4)
            "ndtw": exp(-2 / (3 * 4)),  # 0-0, 1-1, 2-2 cost nothing, 2-3 costs 2 m
            "sdtw": exp(-2 / (3 * 4)),
            "cls": coverage * expected_m / (expected_m + abs(expected_m - 4)),
        }
    )
    assert tuple(score) == METRICS


def test_path_that_passes_the_goal_and_fails():
    score = score_path([0, 1, 2, 3, 4, 5], [0, 1, 2, 3], LINE_M)
    expected_m = 6.0  # every viewpoint of the reference is visited: coverage 1
    assert score == pytest.approx(
        {
            "nav_error": 4.0,
            "oracle_error": 0.0,
            "steps": 5,
            "length": 10.0,
            "success": 0.0,
            "oracle_success": 1.0,
            "spl": 0.0,
            "ndtw": exp(-(2 + 4) / (3 * 4)),  # entries 4 and 5 both align with the goal
            "sdtw": 0.0,
            "cls": expected_m / (expected_m + 4),
        }
    )


def test_detour_costs_spl():
    score = score_path([0, 1, 0, 1, 2, 3], [0, 1, 2, 3], LINE_M)
    assert score["spl"] == pytest.approx(6 / 10)


def test_success_is_strictly_inside_the_radius():
    exactly_3_m = np.array([[0.0, 3.0], [3.0, 0.0]])
    score = score_path([0], [0, 1], exactly_3_m)
    assert (score["nav_error"], score["success"], score["oracle_success"]) == (3.0, 0.0, 0.0)
    assert score_path([0], [0, 1], exactly_3_m * (1 - 1e-12))["success"] == 1.0


def test_turn_on_the_spot_counts_only_for_the_public_evaluators():
    path, reference = [0, 0, 1, 2, 2, 2], [0, 1]
    collapsed = score_path(path, reference, LINE_M)
    counted = score_path(path, reference, LINE_M, collapse_repeats=False)
    assert (collapsed["steps"], counted["steps"]) == (2, 5)
    assert collapsed["ndtw"] == pytest.approx(exp(-2 / (3 * 2)))  # viewpoint 2 once, 2 m from the goal
    assert counted["ndtw"] == pytest.approx(exp(-6 / (3 * 2)))  # and three times
    assert counted["sdtw"] == counted["ndtw"]
    changed = {"steps", "ndtw", "sdtw"}
    assert {k: v for k, v in counted.items() if k not in changed} == {
        k: v for k, v in collapsed.items() if k not in changed
    }


def test_spl_denominator_differs_where_the_reference_is_no_shortest_path():
    reference = [0, 1, 2, 3, 2, 1]  # 10 m long, its ends 2 m apart
    assert score_path([0, 1], reference, LINE_M)["spl"] == 1.0
    assert score_path(reference, reference, LINE_M)["spl"] == pytest.approx(2 / 10)
    assert score_path(reference, reference, LINE_M, spl_by="reference")["spl"] == 1.0
    longer = [*reference, 0, 1]
    assert score_path(longer, reference, LINE_M, spl_by="reference")["spl"] == pytest.approx(10 / 14)


def test_route_that_starts_at_its_goal():
    stay = score_path([0], [0], LINE_M)
    assert (stay["spl"], stay["cls"], stay["ndtw"], stay["steps"]) == (1.0, 1.0, 1.0, 0.0)
    wander = score_path([0, 1, 0], [0], LINE_M)
    assert (wander["spl"], wander["cls"]) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("path", "reference", "message"),
    [
        ([], [0, 1], "the path is empty"),
        ([0], [], "the reference is empty"),
        ([0, 6], [0, 1], "path has row 6; expected 0 to 5"),
        ([0, -1], [0, 1], "path has row -1"),
    ],
)
def test_rows_that_cannot_be_scored(path, reference, message):
    with pytest.raises(ValueError, match=message):
        score_path(path, reference, LINE_M)


def test_unknown_denominator():
    with pytest.raises(ValueError, match="spl_by is 'gold'; expected one of shortest, reference"):
        score_path([0], [0], LINE_M, spl_by="gold")


def test_path_outside_the_part_of_the_reference():
    apart = np.array([[0.0, 1.0, inf], [1.0, 0.0, inf], [inf, inf, 0.0]])
    with pytest.raises(
        ValueError, match=r"row 2 \(entry 1 of the path\) and row 0 \(entry 0 of the reference\) are inf"
    ):
        score_path([0, 2], [0, 1], apart)


def _dtw_by_definition(cost: np.ndarray) -> float:
    """The cheapest of all chains from corner to corner, by trying them."""

    @cache
    def cheapest_from(i: int, j: int) -> float:
        if (i, j) == (cost.shape[0] - 1, cost.shape[1] - 1):
            return float(cost[i, j])
        ahead = [(i + 1, j), (i, j + 1), (i + 1, j + 1)]
        inside = [cell for cell in ahead if cell[0] < cost.shape[0] and cell[1] < cost.shape[1]]
        return float(cost[i, j]) + min(cheapest_from(*cell) for cell in inside)

    return cheapest_from(0, 0)


def test_dtw_equals_its_definition():
    rng = np.random.default_rng(0)
    for _ in range(200):
        cost = rng.random(rng.integers(1, 8, size=2))
        assert dtw(cost) == pytest.approx(_dtw_by_definition(cost), abs=1e-12)
        assert dtw(cost.T) == pytest.approx(dtw(cost), abs=1e-12)


def test_every_score_lies_in_its_range_and_the_perfect_path_has_the_best():
    rng = random.Random(1)
    scene = corridor(12)
    distance_m = geodesics(scene).distance_m
    for _ in range(200):
        start, goal = rng.sample(range(12), 2)
        reference = [*range(start, goal, 1 if goal > start else -1), goal]
        perfect = score_path(reference, reference, distance_m, spl_by=rng.choice(["shortest", "reference"]))
        assert [perfect[k] for k in ("success", "oracle_success", "spl", "ndtw", "sdtw", "cls")] == [1.0] * 6
        path = [start]
        for _ in range(rng.randrange(15)):
            path.append(rng.choice(np.flatnonzero(scene.adjacency[path[-1]]).tolist()))
        score = score_path(path, reference, distance_m)
        assert all(0 <= score[k] <= 1 for k in ("success", "oracle_success", "spl", "ndtw", "sdtw", "cls"))
        assert score["oracle_error"] <= score["nav_error"]
        assert score["spl"] <= score["success"] <= score["oracle_success"]
        assert score["sdtw"] <= score["ndtw"]
        assert score["length"] == pytest.approx(2.0 * score["steps"])


def test_mean():
    assert mean_scores([{"spl": 1.0, "steps": 3.0}, {"spl": 0.0, "steps": 4.0}]) == {"spl": 0.5, "steps": 3.5}
    with pytest.raises(ValueError, match="no score to average"):
        mean_scores([])


def _episode(instr_id, path, scan="corridor", has_goal=True):
    return Episode(instr_id, instr_id.split("_")[0], scan, tuple(path), 0.0, "Walk.", None, has_goal)


def test_score_predictions_by_viewpoint_id():
    scene = corridor()
    episodes = [_episode("1_0", ["corridor0", "corridor1", "corridor2"]), _episode("1_1", ["corridor3", "corridor4"])]
    trajectories = {"1_1": ["corridor3"], "1_0": ["corridor0", "corridor0", "corridor1", "corridor2"]}
    means, per_item = score_predictions(episodes, trajectories, {"corridor": scene}, {"corridor": geodesics(scene)})
    assert list(per_item) == ["1_0", "1_1"]
    assert [per_item["1_0"][k] for k in ("nav_error", "steps", "spl")] == [0.0, 2.0, 1.0]
    assert [per_item["1_1"][k] for k in ("nav_error", "steps", "success")] == [2.0, 0.0, 1.0]
    assert (means["nav_error"], means["steps"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("trajectories", "message"),
    [
        ({}, "instr_id 1_0: no prediction"),
        ({"1_0": ["corridor0"], "2_0": ["corridor0"]}, "instr_id 2_0: no episode"),
        ({"1_0": ["corridor0", "corridor2"]}, "instr_id 1_0: entries 0 and 1 move from corridor0 to corridor2"),
        ({"1_0": ["corridor0", "lobby"]}, "instr_id 1_0: entry 1 is lobby, which scan corridor does not have"),
        ({"1_0": []}, "instr_id 1_0: the trajectory has no entry"),
    ],
)
def test_faulty_predictions_are_named(trajectories, message):
    scene = corridor()
    episodes = [_episode("1_0", ["corridor0", "corridor1"])]
    with pytest.raises(ValueError, match=message):
        score_predictions(episodes, trajectories, {"corridor": scene}, {"corridor": geodesics(scene)})


def test_split_without_goals_is_not_scored():
    scene = corridor()
    episodes = [_episode("1_0", ["corridor0"], has_goal=False)]
    with pytest.raises(ValueError, match="1 of 1 episodes have no goal to score against, the first is 1_0"):
        score_predictions(episodes, {"1_0": ["corridor0"]}, {"corridor": scene}, {"corridor": geodesics(scene)})


@pytest.fixture(scope="module")
def golden(data_dir):
    """Episodes, scenes, geodesics, trajectories and the public evaluators' scores of R2R val_seen."""
    episodes = load_episodes(data_dir / "r2r", "val_seen")
    scenes = load_scenes(data_dir / "connectivity", {episode.scan for episode in episodes})
    tables = {scan: geodesics(scene) for scan, scene in scenes.items()}
    trajectories = trajectories_of(read_predictions(data_dir / "golden/metrics/predictions_val_seen.json.gz"))
    with gzip.open(data_dir / "golden/metrics/scores_val_seen.json.gz") as file:
        return episodes, scenes, tables, trajectories, json.load(file)


def test_public_evaluators_scores(golden):
    episodes, scenes, tables, trajectories, scores = golden
    means, per_item = score_predictions(episodes, trajectories, scenes, tables, collapse_repeats=False)
    assert set(means) == set(scores["mean"])
    assert means == pytest.approx(scores["mean"], rel=0, abs=1e-9)
    assert len(per_item) == len(scores["per_item"]) == 1021
    for item in scores["per_item"]:
        expected = {name: float(item[name]) for name in METRICS}
        assert per_item[item["instr_id"]] == pytest.approx(expected, rel=0, abs=1e-9), item["instr_id"]


def test_turns_on_the_spot_change_no_score(golden):
    episodes, scenes, tables, trajectories, _ = golden
    rng = random.Random(2)
    turning = {k: [vp for vp in path for _ in range(rng.choice([1, 1, 3]))] for k, path in trajectories.items()}
    means, _ = score_predictions(episodes, trajectories, scenes, tables)
    assert score_predictions(episodes, turning, scenes, tables)[0] == means
    counted, _ = score_predictions(episodes, turning, scenes, tables, collapse_repeats=False)
    assert counted["steps"] > means["steps"]
    assert counted["ndtw"] < means["ndtw"]
    assert counted["cls"] == means["cls"]


def test_reference_walked_is_perfect_on_real_routes(golden):
    episodes, scenes, tables, _, _ = golden
    perfect = {episode.instr_id: list(episode.path) for episode in episodes}
    means, _ = score_predictions(episodes, perfect, scenes, tables)
    assert {k: means[k] for k in ("success", "spl", "ndtw", "sdtw", "cls")} == pytest.approx(
        dict.fromkeys(("success", "spl", "ndtw", "sdtw", "cls"), 1.0), abs=1e-9
    )
    assert means["nav_error"] == 0.0

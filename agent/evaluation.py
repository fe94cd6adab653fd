"""Predictions of an agent on a split: a trained follower, or one of the field's simple policies."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch

from agent.data import Split
from agent.policy import Policy, S
from agent.rollout import Choice, Trajectory, rollout
from agent.sight import Eyes
from envs.candidates import HALF_VISIBLE_RAD, HEADINGS, STEP_RAD
from envs.episodes import Episode
from envs.geodesics import shortest_path
from envs.metrics import SplBy, score_predictions
from envs.tables import World

Pose = tuple[str, float, float]
"""Viewpoint id, heading and elevation in radians."""
Predictions = dict[str, list[Pose]]
"""instr_id -> the poses visited, the start first: EvalAI's trajectory."""

RANDOM_MOVES = 5
"""Anderson et al. 2018: a random heading, then five forward moves."""


def follow(
    follower: Policy[S],
    eyes: Eyes,
    split: Split,
    max_steps: int,
    batch: int = 128,
    done: Callable[[int], object] = lambda episodes: None,
) -> Predictions:
    """The follower's greedy routes for every episode of a split, in eval mode without gradients.

    `done` is told of the number of episodes after each batch.
    """
    was_training = follower.training
    follower.eval()
    order = torch.argsort(split.lengths, stable=True)  # texts of like length together: less padding
    found: Predictions = {}
    device = split.ids.device
    with torch.no_grad():
        for index in order.split(batch):
            episodes = index.to(device)
            recurrent = follower.read(split.ids[episodes], split.lengths[index])
            choice = Choice(torch.zeros(len(index), dtype=torch.bool, device=device), greedy=True)
            trajectory = rollout(follower, eyes, split.tables, episodes, recurrent, choice, max_steps)
            found |= poses(trajectory, index.tolist(), split.world)
            done(len(index))
    follower.train(was_training)
    return {e.instr_id: found[e.instr_id] for e in split.world.episodes}


def poses(trajectory: Trajectory, episodes: Sequence[int], world: World) -> Predictions:
    """The poses of a trajectory; a viewpoint is repeated only where the agent came back to it."""
    viewpoint, view = trajectory.viewpoint.cpu().numpy(), trajectory.view.cpu().numpy()
    found = {}
    for b, episode in enumerate(episodes):
        moved = np.concatenate([[True], viewpoint[1:, b] != viewpoint[:-1, b]])
        route = poses_along(world, viewpoint[moved, b].tolist(), view[moved, b].tolist())
        found[world.episodes[episode].instr_id] = route
    return found


def poses_along(world: World, viewpoints: Iterable[int], views: Iterable[int]) -> list[Pose]:
    """Poses from viewpoint rows and the views (0-35) faced there."""
    return [
        (world.candidates.viewpoints[v][1], float(s % HEADINGS * STEP_RAD), float((s // HEADINGS - 1) * STEP_RAD))
        for v, s in zip(viewpoints, views, strict=True)
    ]


def score(
    predictions: Mapping[str, Sequence[Pose]],
    world: World,
    *,
    spl_by: SplBy = "shortest",
    collapse_repeats: bool = True,
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Mean metrics and those of each instruction; see `envs.metrics.score_predictions`."""
    paths = {instr_id: [pose[0] for pose in route] for instr_id, route in predictions.items()}
    return score_predictions(
        world.episodes, paths, world.scenes, world.geodesics, spl_by=spl_by, collapse_repeats=collapse_repeats
    )


def shortest_policy(world: World, seed: int) -> Predictions:
    """The shortest path to the goal: success and SPL 1 by construction."""
    found: Predictions = {}
    for e in world.episodes:
        scene = world.scenes[e.scan]
        rows = shortest_path(world.geodesics[e.scan], scene.row[e.start], scene.row[e.goal])
        found[e.instr_id] = [(scene.viewpoints[row], e.heading_rad, 0.0) for row in rows]
    return found


def stop_policy(world: World, seed: int) -> Predictions:
    """Stop where the episode starts."""
    return {e.instr_id: [(e.start, e.heading_rad, 0.0)] for e in world.episodes}


def random_policy(world: World, seed: int) -> Predictions:
    """The field's random baseline (Anderson et al. 2018): turn to a random heading, then five times forward.

    As their RandomAgent on the discretised simulator: forward is the navigable location nearest to the middle of the
    view; where there is none in view, the agent turns right until there is.
    """
    generator = random.Random(seed)
    return {e.instr_id: _random_walk(world, e, generator) for e in world.episodes}


def _random_walk(world: World, episode: Episode, generator: random.Random) -> list[Pose]:
    row = world.row(episode.scan, episode.start)
    route, heading = [(episode.start, episode.heading_rad, 0.0)], generator.randrange(HEADINGS)
    for _ in range(RANDOM_MOVES):
        for turn in range(HEADINGS):
            ahead = _ahead(world, row, heading + turn)
            if ahead is not None:
                row, heading = ahead, (heading + turn) % HEADINGS
                route.append((world.candidates.viewpoints[row][1], heading * STEP_RAD, 0.0))
                break
    return route


def _ahead(world: World, row: int, heading: int) -> int | None:
    """The navigable location nearest to the middle of a horizontal view; None if the view shows none."""
    table, n = world.candidates, world.candidates.count[row]
    beside = (table.heading_rad[row, :n] - heading * STEP_RAD + np.pi) % (2 * np.pi) - np.pi
    distance = np.where(np.abs(beside) < HALF_VISIBLE_RAD, np.hypot(beside, table.elevation_rad[row, :n]), np.inf)
    return int(table.neighbour[row, distance.argmin()]) if np.isfinite(distance).any() else None


POLICIES: Mapping[str, Callable[[World, int], Predictions]] = {
    "shortest": shortest_policy,
    "random": random_policy,
    "stop": stop_policy,
}

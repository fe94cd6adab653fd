"""Candidate routes: what a search finds for every episode, likeliest first.

Legend: E episodes, C candidates of all episodes, T viewpoints of the longest, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from agent.evaluation import Predictions, poses_along
from agent.routes import Routes, trace_routes
from envs.tables import World

STOP = -1
"""A stop among the actions of a candidate, and what fills up behind its last action."""


@dataclass(frozen=True, eq=False)
class Found:
    """What a search finds in a batch of B episodes: C candidates.

    episode [C] int64: the place in the batch; action [C, A] int64: candidate slots, then STOP; actions [C]: how many
    count, a stop among them; log_prob [C] float32: their sum. visited: of each of the B, the viewpoint rows where the
    search asked the follower for a decision, in that order. cut [B] bool: the search gave up before it was done.
    """

    episode: Tensor
    action: Tensor
    actions: Tensor
    log_prob: Tensor
    visited: list[list[int]]
    cut: Tensor


@dataclass(frozen=True, eq=False)
class Candidates:
    """Complete routes of all episodes of a split; those of an episode stand together, likeliest first.

    episode [C]; viewpoint, view [C, T]: rows and the views faced on arrival, the last ones repeated; viewpoints [C]:
    how many there are; actions [C]: how many decisions, the stop among them; log_prob [C] their sum (float64). All on
    the host. visited: by episode, see `Found`; cut: episodes of which the search gave up.
    """

    episode: np.ndarray
    viewpoint: np.ndarray
    view: np.ndarray
    viewpoints: np.ndarray
    actions: np.ndarray
    log_prob: np.ndarray
    visited: list[list[int]]
    cut: int

    def __len__(self) -> int:
        return len(self.episode)

    def counts(self) -> np.ndarray:
        """[E] candidates of each episode."""
        return np.bincount(self.episode, minlength=len(self.visited))

    def best(self, score: np.ndarray) -> np.ndarray:
        """[E] of each episode the candidate with the highest score [C], the likelier of equal ones."""
        order = np.lexsort((-score, self.episode))
        return order[np.searchsorted(self.episode[order], np.arange(len(self.visited)))]

    def path(self, candidate: int) -> list[int]:
        """The viewpoint rows of one candidate."""
        return self.viewpoint[candidate, : self.viewpoints[candidate]].tolist()

    def predictions(self, chosen: np.ndarray, world: World) -> Predictions:
        """The poses of the chosen candidates [E]."""
        return {
            world.episodes[self.episode[c]].instr_id: poses_along(
                world, self.path(c), self.view[c, : self.viewpoints[c]].tolist()
            )
            for c in chosen.tolist()
        }

    def routes(self, world: World, device: torch.device) -> Routes:
        """All of them as a speaker meets them."""
        start_views = np.asarray(world.tables.start_view)[self.episode].tolist()
        return trace_routes(world, [self.path(c) for c in range(len(self))], start_views, device)

    def error_m(self, world: World) -> np.ndarray:
        """[C] distance from the end of each to the goal of its episode. Privileged: to judge, never to choose."""
        tables = world.tables
        end, goal = self.viewpoint[:, -1], np.asarray(tables.goal)[self.episode]
        return np.asarray(tables.distance_m)[tables.distance_row[end] + tables.local[goal]]


def collect(batches: Sequence[tuple[np.ndarray, Found]], world: World) -> Candidates:
    """All batches together, each with the episodes [B] that it searched."""
    tables, size = world.tables, max(found.action.shape[1] for _, found in batches) + 1
    order = np.argsort(np.concatenate([episodes for episodes, _ in batches]), kind="stable")
    visited = [rows for _, found in batches for rows in found.visited]
    columns: dict[str, list[np.ndarray]] = {}
    for episodes, found in batches:
        episode = episodes[found.episode.cpu().numpy()]
        action = found.action.cpu().numpy()
        viewpoint, view = np.zeros((2, len(episode), size), np.int64)
        viewpoint[:, 0], view[:, 0] = tables.start[episode], tables.start_view[episode]
        for t in range(size - 1):
            here, slot = viewpoint[:, t], action[:, t] if t < action.shape[1] else np.full(len(action), STOP)
            moves, slot = slot != STOP, np.maximum(slot, 0)
            viewpoint[:, t + 1] = np.where(moves, tables.neighbour[here, slot], here)
            view[:, t + 1] = np.where(moves, tables.view[here, slot], view[:, t])
        part = {
            "episode": episode,
            "viewpoint": viewpoint,
            "view": view,
            "viewpoints": 1 + (action != STOP).sum(1),
            "actions": found.actions.cpu().numpy(),
            "log_prob": found.log_prob.cpu().numpy().astype(np.float64),
        }
        for name, values in part.items():
            columns.setdefault(name, []).append(values)
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    ranking = np.lexsort((-joined["log_prob"], joined["episode"]))
    return Candidates(
        **{name: values[ranking] for name, values in joined.items()},
        visited=[visited[i] for i in order],
        cut=sum(int(found.cut.sum()) for _, found in batches),
    )

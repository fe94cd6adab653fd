"""Routes as a walker meets them: at each step where it is, what it faces, which candidate it takes.

Legend: N routes, T steps (the stop is the last one), P packed steps (see `blocks.Packing`), R viewpoint rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from agent.follower import Sight
from agent.sight import Eyes
from clip_core.blocks import Packing
from envs.dynamics import NavState, observe
from envs.tables import NavTables, World


@dataclass(frozen=True, eq=False)
class Routes:
    """viewpoint, view, slot [N, T] int64 on the device: the row, the view faced on arrival, the candidate taken (the
    count of candidates at the last step: stop); lengths [N] int64 on the CPU: steps, the stop included."""

    viewpoint: Tensor
    view: Tensor
    slot: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.lengths)

    def rows(self, index: Tensor) -> Routes:
        """Some of the routes; index [n] int64 on the CPU."""
        there = index.to(self.viewpoint.device)
        return Routes(self.viewpoint[there], self.view[there], self.slot[there], self.lengths[index])


def trace_routes(
    world: World, paths: Sequence[Sequence[int]], start_views: Sequence[int], device: torch.device
) -> Routes:
    """Routes from viewpoint rows [R] in order and the view faced at the start. A row repeated in a row counts once.

    Raises ValueError for an empty route, and for a step that the graph does not have.
    """
    walked = [[row for row, _ in groupby(path)] for path in paths]
    lengths = np.array([len(path) for path in walked])
    if not len(lengths) or not lengths.min():
        raise ValueError("found no route, or one without a viewpoint; expected the start at least")
    table = world.candidates
    viewpoint = np.zeros((len(walked), lengths.max()), np.int64)
    viewpoint[np.arange(lengths.max()) < lengths[:, None]] = np.concatenate([np.array(path) for path in walked])
    view, slot = np.zeros_like(viewpoint), table.count[viewpoint].astype(np.int64)
    view[:, 0] = start_views
    for t in range(lengths.max() - 1):
        (moving,) = np.nonzero(lengths > t + 1)
        here, there = viewpoint[moving, t], viewpoint[moving, t + 1]
        taken = (table.neighbour[here] == there[:, None]) & (
            np.arange(table.neighbour.shape[1]) < table.count[here, None]
        )
        if not taken.any(1).all():
            i = int(np.flatnonzero(~taken.any(1))[0])
            (scan, a), (_, b) = table.viewpoints[here[i]], table.viewpoints[there[i]]
            raise ValueError(
                f"step {t} of route {moving[i]} goes from {a} to {b}, but scan {scan} has no such edge; "
                "expected a route along the navigation graph: check that routes and connectivity belong together"
            )
        slot[moving, t] = taken.argmax(1)
        view[moving, t + 1] = table.view[here, slot[moving, t]]

    def move(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(device)

    return Routes(move(viewpoint), move(view), move(slot), torch.from_numpy(lengths))


def episode_routes(world: World, device: torch.device) -> Routes:
    """The reference route of every episode, in their order. Raises ValueError on a split without goals."""
    if not all(e.has_goal for e in world.episodes):
        raise ValueError("the split has no routes, only starts (a test split); expected routes to speak about")
    paths = [[world.row(e.scan, viewpoint) for viewpoint in e.path] for e in world.episodes]
    return trace_routes(world, paths, np.asarray(world.tables.start_view).tolist(), device)


def see_routes(eyes: Eyes, tables: NavTables, routes: Routes) -> tuple[Sight, Packing]:
    """What is seen at all steps of all routes, packed [P, ...]. The only candidate of each step is the one taken, all
    zero at the stop (as in R2R-EnvDrop)."""
    pack = Packing(routes.lengths, routes.viewpoint.device)
    viewpoint, view, slot = (a[pack.text, pack.step] for a in (routes.viewpoint, routes.view, routes.slot))
    none = torch.zeros_like(viewpoint)
    observation = observe(tables, NavState(none, none, none, viewpoint, view, none, none.bool()))
    moves = slot < torch.as_tensor(tables.count).index_select(0, viewpoint)
    chosen = torch.where(moves, slot, 0)[:, None]
    for name in ("candidate_viewpoint", "candidate_view", "candidate_heading", "candidate_elevation"):
        observation[name] = observation[name].gather(1, chosen)
    observation["action_mask"] = torch.stack([torch.ones_like(moves), moves], 1)
    return eyes(observation), pack

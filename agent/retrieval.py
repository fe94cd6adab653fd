"""The baseline of a speaker: say what was said of the most similar route of the train split.

Legend: N routes, T steps, P packed steps, D visual feature.

Two routes are compared step by step: by the directions of their moves (sine and cosine of heading, relative to the
walker, and of elevation) and, where there are visual features, by what is seen ahead: the view of the edge taken and
the mean of the 36 views. Only routes of the same number of steps are compared, while there are any.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agent.routes import Routes, see_routes
from agent.sight import Eyes
from envs.tables import NavTables


def nearest_routes(eyes: Eyes, tables: NavTables, routes: Routes, train: Routes, batch: int = 256) -> list[int]:
    """For each route the number of the nearest one of `train` (the first one among equals)."""
    groups: dict[int, list[int]] = {}
    for i, length in enumerate(train.lengths.tolist()):
        groups.setdefault(length, []).append(i)
    nearest = [0] * len(routes)
    for length in sorted(set(routes.lengths.tolist())):
        mine = torch.nonzero(routes.lengths == length).squeeze(1)
        known = min((abs(other - length), other) for other in groups)[1]
        steps = min(length, known)
        theirs = torch.tensor(groups[known])
        keys = describe_routes(eyes, tables, train.rows(theirs), steps, batch)
        for index in mine.split(batch):
            query = describe_routes(eyes, tables, routes.rows(index), steps, batch)
            for i, j in zip(index.tolist(), torch.cdist(query, keys).argmin(1).tolist(), strict=True):
                nearest[i] = groups[known][j]
    return nearest


def describe_routes(eyes: Eyes, tables: NavTables, routes: Routes, steps: int, batch: int) -> Tensor:
    """[N, steps * (4 or 4 + 2 D)] the first steps of routes that have at least so many; visual parts have length 1, so
    that each weighs as much as a direction."""
    described = []
    with torch.no_grad():
        for index in torch.arange(len(routes)).split(batch):
            sight, pack = see_routes(eyes, tables, routes.rows(index))
            parts = [sight.candidate_angles[:, 0]]
            if sight.views is not None and sight.candidates is not None:
                normal = torch.nn.functional.normalize
                parts += [normal(sight.candidates[:, 0].float(), dim=1), normal(sight.views.float().mean(1), dim=1)]
            described.append(pack.unpack(torch.cat(parts, 1))[:, :steps].flatten(1))
    return torch.cat(described)

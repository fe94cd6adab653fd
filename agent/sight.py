"""Observations become the follower's inputs: angles and, where a store is given, visual features.

Legend: B batch, V = 36 views, K candidates, D feature, R viewpoint rows of the world.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from agent.follower import Sight
from envs.candidates import HEADINGS, STEP_RAD, VIEWS, view_angle_features


class Eyes(nn.Module):
    """Gathers what an agent sees at its viewpoints. Holds tables only, no parameters.

    `table` [stored, 36, D] (any float type) with `store_row` [R]: the row of the table for each viewpoint row of the
    world; None for the blind follower, which then moves no zero-filled table around. `edge_m` [R, K]: length of the
    edge to each candidate in metres, for followers that look at the layout.
    """

    angles: Tensor
    table: Tensor | None
    store_row: Tensor | None
    edge_m: Tensor | None

    def __init__(
        self, table: Tensor | None = None, store_row: Tensor | None = None, edge_m: Tensor | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("angles", torch.from_numpy(view_angle_features(4)), persistent=False)
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("store_row", store_row, persistent=False)
        self.register_buffer("edge_m", edge_m, persistent=False)
        self.channels: Tensor | None = None

    def masked(self, channels_D: Tensor) -> Eyes:
        """The same eyes with every visual feature, of views and candidates alike, times a number per channel [D]
        float32. Angles stay as they are, and so does what a blind agent sees."""
        other = copy.copy(self)
        other.channels = channels_D
        return other

    def forward(self, observation: Mapping[str, Tensor]) -> Sight:
        """What the follower sees in each environment."""
        view, slots = observation["view"], observation["candidate_heading"].shape[1]
        mask = observation["action_mask"].bool()
        # A slot holds a candidate where the slot after it is allowed too: stop is the last allowed one.
        used = mask[:, 1:].unsqueeze(2)
        heading, elevation = observation["candidate_heading"], observation["candidate_elevation"]
        candidate_angles = _with_stop(angle_numbers(heading, elevation) * used)
        own = angle_numbers(
            view % HEADINGS * STEP_RAD, (torch.div(view, HEADINGS, rounding_mode="floor") - 1) * STEP_RAD
        )
        views = candidates = None
        if self.table is not None and self.store_row is not None:
            rows = self.store_row.index_select(0, observation["viewpoint"])
            views = self.table.index_select(0, rows)
            if self.channels is not None:
                views = views * self.channels
            flat = torch.arange(len(rows), device=rows.device)[:, None] * VIEWS + observation["candidate_view"]
            gathered = views.flatten(0, 1).index_select(0, flat.flatten()).unflatten(0, (len(rows), slots))
            candidates = _with_stop(gathered * used)
        viewpoint, length_m, viewpoints = observation["viewpoint"], None, None
        if self.edge_m is not None:
            length_m = self.edge_m.index_select(0, viewpoint)
            viewpoints = observation["candidate_viewpoint"]
        return Sight(
            views,
            self.angles.index_select(0, view),
            candidates,
            candidate_angles,
            own,
            mask,
            viewpoint,
            length_m,
            viewpoints,
        )


def angle_numbers(heading_rad: Tensor, elevation_rad: Tensor) -> Tensor:
    """[...] angles -> [..., 4]: sin h, cos h, sin e, cos e."""
    return torch.stack([heading_rad.sin(), heading_rad.cos(), elevation_rad.sin(), elevation_rad.cos()], -1)


def _with_stop(items_BKD: Tensor) -> Tensor:
    """One more, zero row: room for the stop action."""
    return nn.functional.pad(items_BKD, (0, 0, 0, 1))

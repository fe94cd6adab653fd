"""The shortest-path expert, as R2R-EnvDrop's `_shortest_path_action`; for training and oracles only."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from envs.tables import Array, NavTables


def teacher_action(tables: NavTables, episode: Array, viewpoint: Array) -> Array:
    """[B] int64: the candidate that is the next hop to the episode's goal, or the stop action at the goal."""
    xp: Any = array_namespace(episode)
    goal = xp.take(tables.goal, episode, axis=0)
    place = xp.take(tables.distance_row, viewpoint, axis=0) + xp.take(tables.local, goal, axis=0)
    return xp.astype(xp.take(tables.next_slot, place, axis=0), xp.int64)

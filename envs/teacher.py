"""The experts that training imitates: the shortest path to the goal, or the annotated route; for training only.

Legend: B environments, T viewpoints of the longest route.
"""

from __future__ import annotations

from typing import Any, Literal

from array_api_compat import array_namespace

from envs.tables import Array, NavTables

Teacher = Literal["shortest", "route"]
"""shortest: R2R-EnvDrop's and CLIP-ViL's, on RxR too; route: HAMT's and DUET's on R4R and RxR."""


def teach(teacher: Teacher, tables: NavTables, episode: Array, viewpoint: Array, reached: Array) -> tuple[Array, Array]:
    """The action of the named expert, and `reached` as `route_action` has it (unchanged by the shortest path)."""
    if teacher == "shortest":
        return teacher_action(tables, episode, viewpoint), reached
    return route_action(tables, episode, viewpoint, reached)


def teacher_action(tables: NavTables, episode: Array, viewpoint: Array) -> Array:
    """[B] int64: the candidate that is the next hop to the episode's goal, or the stop action at the goal; as
    R2R-EnvDrop's `_shortest_path_action`."""
    xp: Any = array_namespace(episode)
    return next_hop(tables, viewpoint, xp.take(tables.goal, episode, axis=0))


def route_action(tables: NavTables, episode: Array, viewpoint: Array, reached: Array) -> tuple[Array, Array]:
    """The candidate that leads along the episode's route, or the stop action at its end; and how far each came.

    A route may visit a viewpoint twice, so that the viewpoint alone does not say what comes next. `reached` [B] int64
    is the place on the route, 0 at the start; it moves on to the first place from there on that has the present
    viewpoint. So a walk along the route counts its steps, one that cuts a loop short goes on behind the loop, and
    nothing counts twice.

    Off the route the action is the next hop on the shortest way to the viewpoint after the place reached: back to
    where the route was left behind. The field has no common answer there: HAMT (`_teacher_path_action`) has none and
    imitates along the route alone; DUET (`_teacher_action_r4r`) heads for the goal, or for the neighbour of highest
    nDTW.

    Returns ([B] int64 actions, [B] int64 places). Give the places back at the next step.
    """
    xp: Any = array_namespace(episode)
    longest = tables.route.shape[1]
    place = xp.arange(longest, device=episode.device)
    passes = xp.take(tables.route, episode, axis=0) == viewpoint[:, None]
    later = xp.where(passes & (place >= reached[:, None]), place, xp.full_like(place, longest))
    first = xp.min(later, axis=1)
    reached = xp.where(first < longest, first, reached)
    ahead = xp.where(reached < longest - 1, reached + 1, reached)  # behind the end of a route its goal is repeated
    target = xp.take(xp.reshape(tables.route, (-1,)), episode * longest + ahead, axis=0)
    return next_hop(tables, viewpoint, target), reached


def next_hop(tables: NavTables, viewpoint: Array, target: Array) -> Array:
    """[B] int64: the candidate that begins the shortest way to `target` [B], the stop action there or without a way."""
    xp: Any = array_namespace(viewpoint)
    place = xp.take(tables.distance_row, viewpoint, axis=0) + xp.take(tables.local, target, axis=0)
    return xp.astype(xp.take(tables.next_slot, place, axis=0), xp.int64)

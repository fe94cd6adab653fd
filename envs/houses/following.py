"""A follower of directions that knows the building: what each clause means.

It is the meaning of our instructions: those that it does not follow to the goal are not written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from envs.houses.guide import Guide, relative_rad
from envs.houses.phrases import TURNS, Clause

SECTORS = {
    "left": (-155.0, -28.0),
    "right": (28.0, 155.0),
    "straight": (-35.0, 35.0),
}
"""Turns, degrees, that a word allows; "around" allows those beyond 140."""
DOOR_REACH_M = 1.9
DOOR_MARGIN_M = 0.8


class LostError(ValueError):
    """A clause that means nothing, or several things, where the follower stands."""


@dataclass(frozen=True)
class State:
    """Viewpoint, heading in radians, the turn that the next step must make, the clause before."""

    viewpoint: int
    heading_rad: float
    turn: str = ""
    before: str = ""


def follow(guide: Guide, start: int, heading_rad: float, clauses: Sequence[Clause]) -> list[int]:
    """The viewpoints visited, start included. Raises LostError."""
    state, route = State(start, heading_rad), [start]
    for clause in clauses:
        state, walked = act(guide, state, clause)
        route += walked[1:]
    if not clauses or not clauses[-1].kind.startswith("stop"):
        raise LostError("no clause says where to stop")
    return route


def act(guide: Guide, state: State, clause: Clause) -> tuple[State, list[int]]:
    """The state after a clause and the viewpoints walked, the present one included. Raises LostError."""
    if clause.kind in TURNS:
        return State(state.viewpoint, state.heading_rad, clause.kind, clause.kind), [state.viewpoint]
    path = _path(guide, state, clause)
    if len(path) > 1:
        if state.turn:
            check_turn(state.turn, relative_rad(guide.heading_rad(path[0], path[1]), state.heading_rad))
        heading = guide.heading_rad(path[-2], path[-1])
        state = State(path[-1], heading, "", clause.kind)
    elif state.turn or not clause.kind.startswith("stop"):
        raise LostError(f"{clause.kind}: nothing to walk")
    if clause.kind == "pass_side":
        _check_side(guide, path, clause)
    return state, path


def check_turn(turn: str, relative: float) -> None:
    """LostError unless the relative heading (radians) is what the word says."""
    degrees = math.degrees(relative)
    low, high = SECTORS.get(turn, (140.0, 180.0))
    if not low <= (abs(degrees) if turn == "around" else degrees) <= high:
        raise LostError(f"{turn} does not mean {degrees:.0f} degrees")


def side_of(guide: Guide, path: Sequence[int], thing: int) -> str:
    """On which side a walker at the end of a path has an object: "left", "right", or "" where that is unclear."""
    x, y = guide.position_m[path[-1], :2]
    bearing = math.atan2(guide.things[thing].x - x, guide.things[thing].y - y)
    degrees = math.degrees(relative_rad(bearing, guide.heading_rad(path[-2], path[-1])))
    if not 30 <= abs(degrees) <= 140:
        return ""
    return "right" if degrees > 0 else "left"


def _check_side(guide: Guide, path: list[int], clause: Clause) -> None:
    thing = _the_only(guide, clause.thing, int(guide.room[path[-1]]))
    if side_of(guide, path, thing) != clause.side:
        raise LostError(f"{clause.thing} is not on the {clause.side}")


def _path(guide: Guide, state: State, clause: Clause) -> list[int]:
    """Where a clause leads, looked up where it was asked before. Raises LostError."""
    key = (state.viewpoint, state.before, clause)
    if key not in guide.ways:
        try:
            guide.ways[key] = _find_path(guide, state, clause)
        except LostError as error:
            guide.ways[key] = str(error)
    found = guide.ways[key]
    if isinstance(found, str):
        raise LostError(found)
    return found


def _find_path(guide: Guide, state: State, clause: Clause) -> list[int]:
    here, room = state.viewpoint, int(guide.room[state.viewpoint])
    if clause.kind in ("pass", "pass_side", "stop_by", "stop_before"):
        return guide.walk(here, [nearest_viewpoint(guide, _the_only(guide, clause.thing, room))], [room])
    if clause.kind == "enter":
        return _through(guide, here, room, {d.other(room) for d in guide.neighbours[room]}, clause.room)
    if clause.kind == "exit":
        if guide.kind[room] != clause.room or len(guide.neighbours[room]) != 1:
            raise LostError(f"this is no {clause.room} with one door")
        return _through(guide, here, room, {guide.neighbours[room][0].other(room)}, "")
    if clause.kind == "gate":
        return _through(guide, here, room, {door_by(guide, _the_only(guide, clause.thing, room))}, "")
    if clause.kind in ("up", "down"):
        return _over_stairs(guide, here, room, clause.kind)
    return _stay(guide, state, clause)


def _the_only(guide: Guide, name: str, room: int) -> int:
    found = guide.called(name, room)
    if len(found) != 1:
        raise LostError(f"{len(found)} objects called {name} in the {guide.kind[room]}")
    return found[0]


def nearest_viewpoint(guide: Guide, thing: int) -> int:
    """The viewpoint of an object's room that is nearest to it."""
    rows = [n for n in guide.network if guide.room[n] == guide.things[thing].room and not guide.on_steps[n]]
    return min(rows, key=lambda n: (guide.reach_m[n, thing], n))


def door_by(guide: Guide, thing: int) -> int:
    """The room behind the door that an object stands by. LostError if no door is near, or two are."""
    t = guide.things[thing]
    doors = guide.neighbours[t.room]
    far = sorted((math.hypot(d.x - t.x, d.y - t.y), i) for i, d in enumerate(doors))
    if not far or far[0][0] > DOOR_REACH_M or (len(far) > 1 and far[1][0] < far[0][0] + DOOR_MARGIN_M):
        raise LostError(f"no one door by the {t.name}")
    return doors[far[0][1]].other(t.room)


def _through(guide: Guide, here: int, room: int, behind: set[int], kind: str) -> list[int]:
    targets = {r for r in behind if not kind or guide.kind[r] == kind}
    if len(targets) != 1:
        raise LostError(f"{len(targets)} rooms of kind {kind or 'any'} behind the doors")
    target = targets.pop()
    path = guide.walk(here, [n for n in guide.network if guide.room[n] == target], [room, target])
    if not path:
        raise LostError("no way through the door")
    return path


def _over_stairs(guide: Guide, here: int, room: int, way: str) -> list[int]:
    """From the foot, or a room next to it, to the landing; from the landing, or next to it, to the foot."""
    start, end = (guide.foot, guide.landing) if way == "up" else (guide.landing, guide.foot)
    beside = room == start or start in {d.other(room) for d in guide.neighbours[room]}
    if start < 0 or not beside:
        raise LostError("no stairs here")
    goals = [n for n in guide.network if guide.room[n] == end and not guide.on_steps[n]]
    return guide.walk(here, goals, [room, guide.foot, guide.landing])


def _stay(guide: Guide, state: State, clause: Clause) -> list[int]:
    room = int(guide.room[state.viewpoint])
    if clause.kind == "stop_inside" and state.before in ("enter", "gate", "exit") and guide.kind[room] == clause.room:
        return [state.viewpoint]
    if (clause.kind, state.before) in (("stop_top", "up"), ("stop_bottom", "down")):
        return [state.viewpoint]
    raise LostError(f"{clause.kind} says nothing after {state.before or 'the start'}")

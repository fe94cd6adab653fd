"""Instructions for a route: clauses that lead along it, found by search, told in varied words."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from envs.houses.following import LostError, State, act, follow, side_of
from envs.houses.guide import Guide, relative_rad
from envs.houses.materials import COLOURS
from envs.houses.phrases import Clause, read, say

NEAR_M = 1.6
"""A landmark that is passed or stopped at is nearer than this."""
TRIES = 6


def write_instructions(
    rng: np.random.Generator, guide: Guide, route: Sequence[int], heading_rad: float, count: int = 3
) -> list[str]:
    """`count` different instructions for a route of viewpoint rows, or [] where so many cannot be told.

    Each one, read back and followed, visits exactly the route.
    """
    texts: list[str] = []
    options = [(_options(guide, route, at, False), _options(guide, route, at, True)) for at in range(len(route))]
    for _ in range(count * TRIES):
        passes = int(rng.integers(0, 4))
        clauses = _search(rng, guide, list(route), options, 0, State(route[0], heading_rad), passes)
        if clauses is None:
            return []
        if _repeats(clauses):
            continue
        text = say(rng, clauses)
        if text not in texts and follow(guide, route[0], heading_rad, read(text)) == list(route):
            texts.append(text)
        if len(texts) == count:
            return texts
    return []


def _repeats(clauses: Sequence[Clause]) -> bool:
    """Whether two clauses speak of one category of objects, which would puzzle a reader."""
    named = [
        clause.thing.split(" ", 1)[-1] if clause.thing.split(" ")[0] in COLOURS else clause.thing for clause in clauses
    ]
    named = [name for name in named if name]
    return len(set(named)) < len(named)


def _search(
    rng: np.random.Generator,
    guide: Guide,
    route: list[int],
    all_options: Sequence[tuple[list[Clause], list[Clause]]],
    at: int,
    state: State,
    passes: int,
) -> list[Clause] | None:
    """Clauses from route[at] to its end by depth-first search in random order, None if there are none.

    all_options: what could be said at each viewpoint of the route, without and with passing objects."""
    options = all_options[at][passes > 0]
    order = rng.permutation(len(options))
    if rng.random() < 0.7:  # mostly by rooms, sometimes by objects
        order = np.array(sorted(order, key=lambda i: options[i].kind == "pass"), dtype=int)
    for i in order:
        clauses = _with_turn(rng, guide, route, at, state, options[i])
        try:
            after, walked = state, [route[at]]
            for clause in clauses:
                after, part = act(guide, after, clause)
                walked += part[1:]
        except LostError:
            continue
        end = at + len(walked) - 1
        if walked != route[at : end + 1]:
            continue
        if clauses[-1].kind.startswith("stop"):
            if end == len(route) - 1:
                return clauses
            continue
        rest = _search(rng, guide, route, all_options, end, after, passes - clauses[-1].kind.startswith("pass"))
        if rest is not None:
            return _with_side(rng, guide, walked, clauses) + rest
    return None


def _options(guide: Guide, route: Sequence[int], at: int, passing: bool) -> list[Clause]:
    """What could be said at a viewpoint of a route; whether it leads along it is tried afterwards."""
    room = int(guide.room[route[at]])
    options: list[Clause] = []
    ahead = [n for n in route[at:] if guide.room[n] == room]
    stays = all(guide.room[n] == room for n in route[at:])
    for thing, t in enumerate(guide.things):
        if t.room != room or not guide.sees(route[at], thing):
            continue
        for name in (t.name, t.category):
            if not guide.is_only_one(name, thing, route[at]):
                continue
            if stays and guide.sees(route[-1], thing) and guide.reach_m[route[-1], thing] <= NEAR_M:
                options.append(Clause("stop_before" if t.hangs else "stop_by", thing=name))
            if passing and min(guide.reach_m[n, thing] for n in ahead) <= NEAR_M and len(ahead) > 1:
                options.append(Clause("pass", thing=name))
            if not stays:
                options.append(Clause("gate", thing=name))
    if stays:
        options += [Clause("stop_inside", room=guide.kind[room]), Clause("stop_top"), Clause("stop_bottom")]
        return options
    following = next(int(guide.room[n]) for n in route[at:] if guide.room[n] != room)
    weight = 3  # rooms are the usual words
    options += [Clause("enter", room=guide.kind[following])] * weight
    options += [Clause("exit", room=guide.kind[room])] * weight
    if guide.landing >= 0:
        options += [Clause("up"), Clause("down")] * weight
    return options


def _with_turn(
    rng: np.random.Generator, guide: Guide, route: list[int], at: int, state: State, clause: Clause
) -> list[Clause]:
    """The clause after a word on the turn that it takes, said where it is needed and clear."""
    if at + 1 >= len(route) or clause.kind in ("stop_inside", "stop_top", "stop_bottom"):
        return [clause]
    degrees = math.degrees(relative_rad(guide.heading_rad(route[at], route[at + 1]), state.heading_rad))
    if abs(degrees) > 152:
        turn = "around"
    elif 42 <= abs(degrees) <= 135:
        turn = "right" if degrees > 0 else "left"
    elif abs(degrees) < 20:
        turn = "straight"
    else:
        return [clause]
    wanted = 0.25 if turn == "straight" else 0.85
    return [Clause(turn), clause] if rng.random() < wanted else [clause]


def _with_side(rng: np.random.Generator, guide: Guide, walked: list[int], clauses: list[Clause]) -> list[Clause]:
    """Sometimes tell on which side the passed object is."""
    last = clauses[-1]
    if last.kind != "pass" or rng.random() < 0.4:
        return clauses
    thing = guide.called(last.thing, int(guide.room[walked[-1]]))[0]
    side = side_of(guide, walked, thing)
    return [*clauses[:-1], Clause("pass_side", thing=last.thing, side=side)] if side else clauses

"""Captions of views, as people write them: one short sentence about the most salient things, true of the picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import permutations
from typing import Any

import numpy as np

from envs.houses.sight import (
    STEPS_PERMILLE,
    Seen,
    Sight,
    is_above,
    is_in_front_of,
    is_left_of,
    is_next_to,
    sight_of,
)
from envs.houses.wording import GROUNDS, NUMBERS, WALLS, a, capital, noun, phrase, pick, plural, room_noun, shows_colour

TRIES = 6
"""Sentences drawn for each caption until it differs from those before."""
BARE_PERMILLE = 25

Writer = Callable[[np.random.Generator, Sight], str]


def view_captions(
    house: Mapping[str, Any], viewpoint: int, view: int, rng: np.random.Generator, count: int = 5
) -> list[str]:
    """Captions of a view, in varied wording; where there is little to say some may be equal.

    Args:
        house: the JSON of a house, `houses/{scan}.json`.
        viewpoint: row of the viewpoint in it.
        view: 0-35, as in MatterSim.
        rng: chooses what is said and how.
        count: how many captions.

    Raises:
        ValueError: the house is of an older format, without views.
    """
    return sight_captions(sight_of(house, viewpoint, view), rng, count)


def sight_captions(sight: Sight, rng: np.random.Generator, count: int = 5) -> list[str]:
    """The same for a sight."""
    writers, weights = _writers(sight)
    cumulated = np.cumsum(weights) / sum(weights)
    captions: list[str] = []
    for _ in range(count):
        for _ in range(TRIES):
            chosen = int(np.searchsorted(cumulated, rng.random()))
            caption = capital(writers[chosen](rng, sight)) + "."
            if caption not in captions:
                break
        captions.append(caption)
    return captions


def _writers(sight: Sight) -> tuple[list[Writer], list[float]]:
    """The kinds of sentences that fit a sight, with how often each is chosen."""
    found: list[tuple[Writer, float]] = []
    if len(sight.clear) >= 1:
        found.append((_one, 3.0 if len(sight.clear) == 1 else 0.8))
    if len(sight.clear) >= 2:
        found.append((_two, 2.0))
    if len(sight.clear) >= 3:
        found.append((_three, 2.0))
    if _relations(sight):
        found.append((_related, 5.0))
    if _several(sight):
        found.append((_count, 1.5))
    if sight.doorways:
        found.append((_doorway, 1.2))
    if sight.steps >= STEPS_PERMILLE:
        found.append((_stairs, 4.0))
    if sight.through:
        found.append((_look_through, 1.5))
    if not sight.clear:
        found.append((_bare if sum(item.share for item in sight.items) < BARE_PERMILLE else _part, 3.0))
    if sight.shows_room and (sight.elevation != 0 or not found):
        found.append((_surfaces, 1.0))
    found = found or [(_bare, 1.0)]
    return [writer for writer, _ in found], [weight for _, weight in found]


def _salient(rng: np.random.Generator, items: Iterable[Seen], count: int) -> list[Seen]:
    """Some of them, the larger the likelier, the largest first."""
    keys = [(rng.random() ** (1.0 / item.share**0.7), item) for item in items]
    chosen = sorted(keys, key=lambda entry: -entry[0])[:count]
    return sorted((item for _, item in chosen), key=lambda item: -item.share)


def _names(rng: np.random.Generator, items: Iterable[Seen]) -> list[str]:
    """Phrases for objects; the second of a pair of equals is "another one"."""
    names: list[str] = []
    for item in items:
        name = phrase(rng, item)
        names.append(f"another {name.split(' ', 1)[1]}" if name in names else name)
    return names


def _in_room(rng: np.random.Generator, sight: Sight, items: Iterable[Seen]) -> str:
    """ " in a kitchen" where all of the objects are in the room of the picture, or nothing."""
    if not sight.shows_room or any(item.room != sight.room for item in items) or rng.random() < 0.2:
        return ""
    return f" in {_room(rng, sight)}"


def _room(rng: np.random.Generator, sight: Sight) -> str:
    return a(room_noun(sight.kind)) if rng.random() < 0.7 else f"the {room_noun(sight.kind)}"


def _verb(rng: np.random.Generator, item: Seen) -> str:
    if item.hangs and item.category != "window":
        return pick(rng, ("hangs on the wall", "is on the wall"))
    if item.category in ("window", "rug"):
        return {"window": "is in the wall", "rug": "lies on the floor"}[item.category]
    return pick(rng, ("stands", "is", "stands on the floor"))


def _one(rng: np.random.Generator, sight: Sight) -> str:
    (item,) = _salient(rng, sight.clear, 1)
    name, place = phrase(rng, item), _in_room(rng, sight, [item])
    choices = [f"there is {name} in the picture", f"a picture of {name} in a house", f"{name} inside a building"]
    if place:
        choices = [f"{name} {_verb(rng, item)}{place}", f"{name}{place}"]
        room = _room(rng, sight)
        choices += [f"{room} with {name}", f"there is {name}{place}", f"a view of {room} with {name}"]
        wall = WALLS[sight.wall]
        if item.hangs and item.category != "window":
            choices.append(f"{name} hangs on the {wall} wall of {room}")
    return pick(rng, choices)


def _two(rng: np.random.Generator, sight: Sight) -> str:
    items = _salient(rng, sight.clear, 2)
    (first, second), place = _names(rng, items), _in_room(rng, sight, items)
    if not place:
        return pick(
            rng, (f"{first} and {second}", f"there is {first} and {second}", f"a picture of {first} and {second}")
        )
    room = _room(rng, sight)
    return pick(rng, (
        f"{room} with {first} and {second}", f"{first} and {second}{place}", f"there is {first} and {second}{place}",
        f"{room} has {first} and {second}", f"a view of {room} with {first} and {second}",
    ))  # fmt: skip


def _three(rng: np.random.Generator, sight: Sight) -> str:
    items = _salient(rng, sight.clear, 3)
    (first, second, third), place = _names(rng, items), _in_room(rng, sight, items)
    if not place:
        return f"{first}, {second} and {third}"
    room = _room(rng, sight)
    return pick(rng, (
        f"{room} with {first}, {second} and {third}", f"{first}, {second} and {third}{place}",
        f"in {room} one sees {first}, {second} and {third}",
    ))  # fmt: skip


RELATIONS = (
    (is_next_to, ("{a} {stands} next to {b}", "{a} is beside {b}", "{a} next to {b}")),
    (is_left_of, ("{a} to the left of {b}", "{b} to the right of {a}", "{a} is on the left and {b} on the right")),
    (is_above, ("{a} {hangs} above {b}", "{b} stands below {a}", "{b} under {a}")),
    (is_in_front_of, ("{a} in front of {b}", "{a} stands in front of {b}", "{b} behind {a}")),
)


def _relations(sight: Sight) -> list[tuple[Seen, Seen, tuple[str, ...]]]:
    return [
        (first, second, wordings)
        for first, second in permutations(sight.clear, 2)
        for holds, wordings in RELATIONS
        if first.category != second.category and holds(first, second)
    ]


def _related(rng: np.random.Generator, sight: Sight) -> str:
    found = _relations(sight)
    kinds = sorted({wordings for _, _, wordings in found})
    wordings = pick(rng, kinds)
    pairs = {first.index * 10_000 + second.index: (first, second) for first, second, w in found if w == wordings}
    weights = np.array([(first.share * second.share) ** 0.5 for first, second in pairs.values()])
    chosen = int(np.searchsorted(np.cumsum(weights / weights.sum()), rng.random()))
    first, second = list(pairs.values())[min(chosen, len(pairs) - 1)]
    names = _names(rng, (first, second))
    hangs = "is" if first.category == "window" else "hangs"
    stands = hangs if first.hangs else "stands"
    sentence = pick(rng, wordings).format(a=names[0], b=names[1], stands=stands, hangs=hangs)
    return sentence + _in_room(rng, sight, (first, second))


def _several(sight: Sight) -> list[str]:
    """Categories of which two or more are seen, all of them clearly, all of them in the room."""
    names = [item.category for item in sight.inside]
    return sorted({n for n in names if names.count(n) >= 2 and all(i in sight.inside for i in sight.called(n))})


def _count(rng: np.random.Generator, sight: Sight) -> str:
    category = pick(rng, _several(sight))
    alike = sight.called(category)
    colours = {item.colour for item in alike}
    many = NUMBERS[len(alike)]
    if len(colours) == 1 and all(shows_colour(item) for item in alike):
        many += f" {colours.pop()}"
    name = f"{many} {plural(noun(rng, category))}"
    others = [item for item in sight.inside if item.category != category]
    wall = " on the wall" if alike[0].hangs and category != "window" and rng.random() < 0.5 else ""
    choices = [f"a view of {name}{wall}{_in_room(rng, sight, alike)}", f"there are {name}{_in_room(rng, sight, alike)}"]
    if sight.shows_room:
        choices.append(f"{_room(rng, sight)} with {name}{wall}")
    if others:
        (other,) = _salient(rng, others, 1)
        choices += [f"{name} and {phrase(rng, other)}{_in_room(rng, sight, [*alike, other])}"] * 2
    return pick(rng, choices)


def _doorway(rng: np.random.Generator, sight: Sight) -> str:
    doorway = pick(rng, sight.doorways)
    other, room = room_noun(doorway.kind), _room(rng, sight)
    beside = [i for i in sight.inside if not (i.left - 4 <= doorway.x <= i.right + 4) and abs(i.x - doorway.x) < 90]
    choices = [f"an open doorway leads from {room} to {a(other)}", f"a doorway from {room} to {a(other)}",
               f"{room} with an open door to {a(other)}", f"{a(other)} is visible through a doorway"]  # fmt: skip
    if beside:
        (item,) = _salient(rng, beside, 1)
        side = "left" if doorway.x < item.x else "right"
        name = phrase(rng, item)
        choices += [
            f"a doorway to {a(other)} is to the {side} of {name}",
            f"{room} with {name} and a door to {a(other)}",
        ]
    return pick(rng, choices)


def _stairs(rng: np.random.Generator, sight: Sight) -> str:
    choices = ["a view of the stairs", "a wooden staircase in a house", "wooden steps of a staircase",
               "the stairs of a house with wooden steps"]  # fmt: skip
    if sight.clear:
        choices.append(f"a staircase and {phrase(rng, sight.clear[0])}")
    return pick(rng, choices)


def _look_through(rng: np.random.Generator, sight: Sight) -> str:
    other = a(room_noun(sight.kind))
    choices = [f"looking through a doorway into {other}", f"a view into {other} through an open door"]
    if sight.inside:
        name = phrase(rng, sight.inside[0])
        choices += [f"through the doorway one can see {name} in {other}", f"a view into {other} with {name}"]
    return pick(rng, choices)


def _part(rng: np.random.Generator, sight: Sight) -> str:
    item = sight.items[0]
    if item.share < 15 or item.visible < 0.1:
        return _surfaces(rng, sight)
    name = phrase(rng, item)
    return pick(
        rng,
        (f"part of {name}{_in_room(rng, sight, [item])}", f"{name} is partly visible{_in_room(rng, sight, [item])}"),
    )


def _bare(rng: np.random.Generator, sight: Sight) -> str:
    if not sight.shows_room:
        return pick(rng, ("a view past the edge of a wall", "a wall and a doorway in a house"))
    room, wall = _room(rng, sight), WALLS[sight.wall]
    return pick(rng, (
        f"a bare {wall} wall in {room}", f"an empty {wall} wall of {room}", f"nothing but a {wall} wall in {room}",
        f"a view of {room} with bare {wall} walls", f"a {wall} wall without any furniture in {room}",
    ))  # fmt: skip


def _surfaces(rng: np.random.Generator, sight: Sight) -> str:
    room, wall, ground = _room(rng, sight), WALLS[sight.wall], GROUNDS[sight.ground]
    if not sight.shows_room:
        return _bare(rng, sight)
    if sight.elevation > 0:
        return pick(rng, (f"the ceiling of {room}", f"a view up at the ceiling of {room} with {wall} walls"))
    if sight.elevation < 0:
        with_item = f" and {phrase(rng, sight.inside[0])}" if sight.inside else ""
        return pick(
            rng,
            (f"the {ground} of {room}", f"a view down at the {ground} of {room}", f"{room} with a {ground}{with_item}"),
        )
    return pick(rng, (f"{room} with {wall} walls", f"a view of {room} with {wall} walls"))

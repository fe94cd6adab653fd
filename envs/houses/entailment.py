"""Statements about a picture that are true, false, or left open by it.

Every statement that is chosen is chosen equally often with each label, in the same words: the words alone tell nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from envs.houses.balance import choose
from envs.houses.furniture import CATALOG
from envs.houses.questions import is_absent, likely_rooms, only_ones
from envs.houses.rooms import KINDS
from envs.houses.sight import Sight, is_above, is_apart, is_left_of, is_next_to
from envs.houses.wording import MATERIALS_SHOWN, a, noun, pick, shows_colour

ENTAILMENT, NEUTRAL, CONTRADICTION = "entailment", "neutral", "contradiction"
LABELS = (ENTAILMENT, NEUTRAL, CONTRADICTION)
OPEN_TRIED = 24
"""Statements tried on each picture for one that it leaves open."""
ROOMS_OF = {c: [k for k, r in KINDS.items() if any(c == f[0] for f in r.furniture)] for c in CATALOG}
"""Kinds of room that may have an object of a category."""
WORDINGS: Mapping[str, tuple[str, ...]] = {
    "colour": ("The {0} is {1}.", "The {0} in the house is {1}.", "The color of the {0} is {1}."),
    "material": ("The {0} is made of {1}.", "The {0} consists of {1}."),
    "next": ("The {0} is next to the {1}.", "The {0} is beside the {1}.", "The {0} and the {1} are side by side."),
    "left": ("The {0} is to the left of the {1}.", "The {1} is to the right of the {0}."),
    "above": ("The {0} hangs above the {1}.", "The {1} is below the {0}."),
    "same": ("The {0} has the same color as the {1}.", "The {0} and the {1} are of the same color."),
    "in": ("The {0} is in the {1}.", "The {0} belongs to the {1}."),
    "room": ("This is {1}.", "The picture was taken in {1}.", "This room is {1}."),
}  # fmt: skip
SHARES = {
    "colour": 0.4,
    "material": 0.12,
    "next": 0.2,
    "left": 0.2,
    "above": 0.1,
    "same": 0.15,
    "in": 0.12,
    "room": 0.2,
}


@dataclass(frozen=True)
class Statement:
    """What is said, as a kind of WORDINGS with two names, about the picture numbered `image`, and how true it is."""

    image: int
    kind: str
    names: tuple[str, str]
    label: str


@dataclass(frozen=True)
class Pair:
    """A hypothesis about the picture numbered `image` with its label."""

    image: int
    hypothesis: str
    label: str


def pairs_about(sights: Sequence[Sight], total: int, per_image: int, rng: np.random.Generator) -> list[Pair]:
    """About `total` pairs, at most `per_image` for one of the pictures, numbered as they come."""
    groups: dict[tuple[str, tuple[str, str]], list[Statement]] = {}
    for image, sight in enumerate(sights):
        for kind, names, label in _decided(sight):
            groups.setdefault((kind, names), []).append(Statement(image, kind, names, label))
    both = sorted(key for key, found in groups.items() if len({s.label for s in found}) == 2)
    for image, sight in enumerate(sights):
        for index in rng.integers(len(both), size=OPEN_TRIED if both else 0):
            kind, names = both[index]
            if _leaves_open(sight, kind, names):
                groups[kind, names].append(Statement(image, kind, names, NEUTRAL))
    sets = choose(
        {key: groups[key] for key in both}, lambda s: s.label, lambda s: s.image, lambda s: s.kind, SHARES, per_image,
        total, lambda kind, labels: len(LABELS), rng,
    )  # fmt: skip
    return [
        Pair(statement.image, text, statement.label)
        for one in sets
        for text in [_text(one[0], rng)]
        for statement in one
    ]  # fmt: skip


def _text(statement: Statement, rng: np.random.Generator) -> str:
    kind, (first, second) = statement.kind, statement.names
    if kind == "room":
        return pick(rng, WORDINGS[kind]).format("", a(second))
    names = noun(rng, first), noun(rng, second) if kind in ("next", "left", "above", "same") else second
    return pick(rng, WORDINGS[kind]).format(*names)


def _decided(sight: Sight) -> Iterator[tuple[str, tuple[str, str], str]]:
    """What the picture makes true or false: kind, names, label."""
    ones = only_ones(sight)
    kinds = likely_rooms(sight, sight.clear)
    for item in ones:
        if shows_colour(item):
            for colour in CATALOG[item.category].colours:
                yield "colour", (item.category, colour), _label(colour == item.colour)
        if item.category in MATERIALS_SHOWN and item.share >= 20:
            for material in CATALOG[item.category].materials:
                yield "material", (item.category, material), _label(material == item.material)
        if len(kinds) == 1 and item.room == sight.room:
            for kind in ROOMS_OF[item.category]:
                yield "in", (item.category, kind), _label(kind == kinds[0])
    if len(kinds) == 1:
        for kind in KINDS:
            yield "room", ("", kind), _label(kind == kinds[0])
    for first, second in permutations(ones, 2):
        names = first.category, second.category
        if is_left_of(first, second) or is_left_of(second, first):
            yield "left", names, _label(is_left_of(first, second))
        if names[0] < names[1] and (is_next_to(first, second) or is_apart(first, second)):
            yield "next", names, _label(is_next_to(first, second))
        if first.hangs and not second.hangs and (is_above(first, second) or is_apart(first, second)):
            yield "above", names, _label(is_above(first, second))
        if names[0] < names[1] and shows_colour(first) and shows_colour(second):
            yield "same", names, _label(first.colour == second.colour)


def _label(true: bool) -> str:
    return ENTAILMENT if true else CONTRADICTION


def _leaves_open(sight: Sight, kind: str, names: tuple[str, str]) -> bool:
    """Whether the picture neither shows nor excludes it."""
    if kind == "room":
        kinds = likely_rooms(sight, sight.items)
        return names[1] in kinds and len(kinds) > 1
    if kind in ("colour", "material", "in"):
        return is_absent(sight, names[0])
    return is_absent(sight, names[0]) or is_absent(sight, names[1])

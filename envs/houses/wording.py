"""Words for what pictures show: nouns with their synonyms, plurals, articles, phrases for an object.

The first noun of a category is the one that instructions use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from envs.houses.sight import LARGE_PERMILLE, Seen

T = TypeVar("T")

SYNONYMS: dict[str, tuple[str, ...]] = {
    "sofa": ("couch",),
    "television": ("tv",),
    "bookshelf": ("bookcase",),
    "plant": ("potted plant",),
    "floor lamp": ("lamp",),
    "refrigerator": ("fridge",),
    "stove": ("oven",),
    "counter": ("kitchen counter",),
    "cabinet": ("cupboard",),
    "wardrobe": ("closet",),
    "nightstand": ("bedside table",),
    "dresser": ("chest of drawers",),
    "washing machine": ("washer",),
    "basket": ("laundry basket",),
    "trash can": ("garbage can",),
    "ball": ("exercise ball",),
    "toy chest": ("toy box",),
    "painting": ("framed picture",),
}
"""Other nouns of a category; each is used one time in four."""

PLURALS = {"bookshelf": "bookshelves", "bench": "benches", "couch": "couches", "chest of drawers": "chests of drawers"}
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MATERIAL_WORDS = {"wood": "wooden", "fabric": "fabric", "leather": "leather", "stone": "stone", "metal": "metal",
                  "plastic": "plastic", "ceramic": "ceramic", "glass": "glass"}  # fmt: skip
COLOURED_PART = {
    "television": "on a {} stand", "sink": "on a {} cabinet", "mirror": "in a {} frame", "window": "with a {} frame",
}  # fmt: skip
"""Where the colour of a category is not that of the thing itself but of this part of it."""
COLOURED_PART_TOO = {
    "bed": "with a {} blanket", "floor lamp": "with a {} shade", "clock": "with a {} frame",
}  # fmt: skip
COLOURED = 0.3
"""An object shows its colour if so much of what is visible of it has it: a counter from above does not."""
PLACES = {"stairs": "stairwell", "landing": "upstairs landing"}
WALLS = {"plain": "plain", "stripes": "striped", "brick": "brick", "tiles": "tiled"}
GROUNDS = {"planks": "wooden floor", "tiles": "tiled floor", "marble": "marble floor", "carpet": "carpeted floor"}
MATERIALS_SHOWN = ("sofa", "armchair", "coffee table", "table", "chair", "desk", "trash can", "bench", "toy chest")
"""Categories of which some are of another material than the rest."""


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of them, all equally likely."""
    return options[int(rng.integers(len(options)))]


def noun(rng: np.random.Generator, category: str) -> str:
    """A word for a category, most often its own name."""
    others = SYNONYMS.get(category, ())
    return pick(rng, others) if others and rng.random() < 0.25 else category


def plural(name: str) -> str:
    return PLURALS.get(name, f"{name}s")


def a(name: str) -> str:
    """With its indefinite article."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def room_noun(kind: str) -> str:
    """A kind of room as a noun that takes an article."""
    return PLACES.get(kind, kind)


def shows_colour(item: Seen) -> bool:
    """Whether the colour of an object is one of the thing itself, which one would name when asked for it."""
    return item.category not in COLOURED_PART and item.category != "plant" and item.coloured >= COLOURED


def phrase(rng: np.random.Generator, item: Seen) -> str:
    """An object with its article, most often with its colour, sometimes with its material: "a red leather sofa"."""
    category = item.category
    name = noun(rng, category)
    part = COLOURED_PART.get(category)
    if category == "plant":
        return a(pick(rng, ("green ", "", "tall green ")[: 2 if item.box[5] - item.box[2] < 1.3 else 3]) + name)
    if part is not None:
        return a(name) + _with_part(rng, item, part)
    if category in COLOURED_PART_TOO and shows_colour(item) and item.share >= LARGE_PERMILLE / 2 and rng.random() < 0.3:
        return a(name) + _with_part(rng, item, COLOURED_PART_TOO[category], 1.0)
    words = [name]
    often = 0.3 if category in MATERIALS_SHOWN else 0.1 * (item.material == "wood" and not item.hangs)
    if item.share >= 20 and rng.random() < often:
        words.insert(0, MATERIAL_WORDS[item.material])
    if shows_colour(item) and rng.random() < (0.85 if len(words) == 1 else 0.7):
        words.insert(0, item.colour)
    return a(" ".join(words))


def _with_part(rng: np.random.Generator, item: Seen, part: str, probability: float = 0.6) -> str:
    if item.share < 20 or item.coloured < 0.1 or rng.random() >= probability:
        return ""
    return " " + part.replace("a {}", a(item.colour))

"""What is said of views: captions, captions made false by one word, prompts, object labels.

The words are those of `envs.houses.captions`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from envs.houses.captions import sight_captions
from envs.houses.furniture import CATALOG
from envs.houses.materials import COLOURS
from envs.houses.rooms import KINDS
from envs.houses.sight import Seen, Sight
from envs.houses.wording import SYNONYMS, a, noun, pick, room_noun, shows_colour
from precompute.house_views import HouseViews

Label = tuple[str, str]
"""Category, colour of an object."""
COLOUR_NAMES = tuple(COLOURS)
ROOM_KINDS = tuple(KINDS)
ROOM_PROMPTS = ("{a}", "a view of {a}", "{a} with plain walls", "looking through a doorway into {a}")
COLOUR_PROMPTS = ("{a}", "there is {a} in the picture", "{a} stands on the floor")
_NOUNS = {word: category for category in CATALOG for word in (category, *SYNONYMS.get(category, ()))}
_SIDES = {"left": "right", "right": "left", "above": "below", "below": "above"}


def _pattern(words: Iterable[str]) -> re.Pattern[str]:
    """Any of the words as a whole word, longer ones first."""
    return re.compile(rf"\b({'|'.join(sorted(map(re.escape, words), key=len, reverse=True))})\b")


_COLOUR, _NOUN, _SIDE = _pattern(COLOUR_NAMES), _pattern(_NOUNS), _pattern(_SIDES)
_ROOM = _pattern(room_noun(kind) for kind in ROOM_KINDS)
_ARTICLE = re.compile(r"\b([Aa])n? (?=(\w))")


def captions_of(views: HouseViews, numbers: Sequence[int], rng: np.random.Generator, count: int) -> list[list[str]]:
    """`count` captions of each view, drawn afresh."""
    return [sight_captions(views.sight(number), rng, count) for number in numbers]


def falsified(caption: str, sight: Sight, rng: np.random.Generator) -> str:
    """The caption with one word exchanged so that it is no longer true: a colour or an object that the view does not
    show, another room, the other side. The caption itself where no word of it can be exchanged."""
    kinds = {item.category for item in sight.items}
    colours = {item.colour for item in sight.items}
    choices: list[tuple[re.Match[str], str]] = []
    for match in _COLOUR.finditer(caption):
        choices += [(match, pick(rng, [c for c in COLOUR_NAMES if c not in colours] or [match[0]]))] * 3
    for match in _NOUN.finditer(caption.lower()):
        choices += [(match, noun(rng, pick(rng, [c for c in CATALOG if c not in kinds])))] * 2
    for match in _ROOM.finditer(caption.lower()):
        choices.append((match, room_noun(pick(rng, [k for k in ROOM_KINDS if room_noun(k) != match[0]]))))
    sides = _SIDE.search(caption)
    if sides:
        choices.append((sides, ""))
    if not choices:
        return caption
    match, word = pick(rng, choices)
    if match is sides:
        return _SIDE.sub(lambda m: _SIDES[m[0]], caption)
    text = caption[: match.start()] + word + caption[match.end() :]
    text = _ARTICLE.sub(lambda m: f"{m[1]}n " if m[2] in "aeio" else f"{m[1]} ", text)
    return text[0].upper() + text[1:]


def room_prompts(kind: str) -> list[str]:
    """Sentences about a view of a kind of room."""
    return [f"{text[0].upper()}{text[1:]}." for text in (p.format(a=a(room_noun(kind))) for p in ROOM_PROMPTS)]


def colour_prompts(category: str, colour: str) -> list[str]:
    """Sentences about a view of an object of a colour."""
    return [f"{t[0].upper()}{t[1:]}." for t in (p.format(a=a(f"{colour} {category}")) for p in COLOUR_PROMPTS)]


def label_of(item: Seen) -> Label:
    """What an encoder should tell of an object; the colour only where it is one of the thing itself."""
    return item.category, item.colour if shows_colour(item) else ""


def frequent_labels(views: HouseViews, least: int) -> list[Label]:
    """Labels of the objects of houses that are clear in at least so many views, sorted."""
    counts = Counter(label for number in range(len(views)) for label in labels_of(views.sight(number)))
    return sorted(label for label, count in counts.items() if count >= least)


def labels_of(sight: Sight) -> set[Label]:
    """Labels of what anyone would recognise in a view."""
    return {label_of(item) for item in sight.clear}


def label_matrix(views: HouseViews, numbers: Sequence[int], labels: Sequence[Label]) -> np.ndarray:
    """bool [N, labels]: which of the labels each view has."""
    column = {label: index for index, label in enumerate(labels)}
    found = np.zeros((len(numbers), len(labels)), bool)
    for row, number in enumerate(numbers):
        known = [column[label] for label in labels_of(views.sight(number)) if label in column]
        found[row, known] = True
    return found

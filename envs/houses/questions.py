"""Questions about a picture that have one answer, true of its pixels.

Nothing is asked about what is hardly visible: an object either is clear, or not one pixel of it shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from envs.houses.furniture import CATALOG
from envs.houses.rooms import KINDS
from envs.houses.sight import Seen, Sight, is_above, is_apart, is_left_of, is_next_to
from envs.houses.wording import MATERIALS_SHOWN, a, noun, pick, plural, shows_colour

CONFUSABLE: Mapping[str, tuple[str, ...]] = {
    "chair": ("armchair", "bench"),
    "armchair": ("chair", "sofa"),
    "sofa": ("armchair", "bench"),
    "bench": ("sofa", "table", "coffee table", "chair"),
    "table": ("coffee table", "console table", "desk", "bench", "nightstand"),
    "coffee table": ("table", "bench", "console table"),
    "console table": ("table", "desk", "coffee table"),
    "desk": ("table", "console table"),
    "cabinet": ("wardrobe", "dresser", "counter", "sink", "nightstand", "toy chest", "television"),
    "wardrobe": ("cabinet", "refrigerator"),
    "dresser": ("cabinet", "nightstand", "counter", "toy chest"),
    "nightstand": ("dresser", "cabinet"),
    "counter": ("sink", "cabinet", "dresser"),
    "sink": ("counter",),
    "toy chest": ("dresser", "cabinet"),
    "floor lamp": ("nightstand",),
    "plant": ("console table",),
    "basket": ("trash can",),
    "trash can": ("basket",),
    "stove": ("washing machine", "fireplace"),
    "washing machine": ("stove",),
}
"""What may be taken for an object of a category, or shows one: where it is visible, a question is not asked."""
TALLIED = ("chair", "painting", "window", "plant", "bookshelf", "armchair", "ball", "washing machine")
"""Categories of which a room may have more than one."""
ABSENT_ASKED = 4
QUESTION_TYPES = (
    "how many", "is there a", "is there an", "is there", "are there any", "are there", "is the", "is this a",
    "is this an", "is this", "what color is the", "what color", "what is the", "what is", "what room is",
    "what kind of", "which", "what",
)  # fmt: skip
"""Beginnings by which the evaluation of VQA v2 groups questions."""


@dataclass(frozen=True)
class Question:
    """A question about the picture numbered `image`. kind: "exists", "count", "colour", "material", "relation",
    "room"; group: what is asked, so that answers can be balanced among questions that differ in the picture alone;
    answer_type: as in VQA v2."""

    image: int
    kind: str
    group: tuple[str, ...]
    text: str
    answer: str
    answer_type: str

    @property
    def question_type(self) -> str:
        """The longest beginning that fits."""
        text = self.text.lower()
        return max((t for t in QUESTION_TYPES if text.startswith(f"{t} ")), key=len, default="none of the above")


def questions_about(image: int, sight: Sight, rng: np.random.Generator) -> list[Question]:
    """All that may be asked about a picture; far more than one keeps."""
    asked = (_existence, _counts, _colours, _materials, _sides, _nearness, _neighbours, _rooms)
    return [
        Question(image, kind, group, text, answer, answer_type)
        for ask in asked
        for kind, group, text, answer, answer_type in ask(sight, rng)
    ]


Asked = Iterator[tuple[str, tuple[str, ...], str, str, str]]
YES_NO = {True: "yes", False: "no"}


def is_absent(sight: Sight, category: str) -> bool:
    """Whether not a pixel shows an object of the category, or one that may be taken for it."""
    return not any(sight.called(name) for name in (category, *CONFUSABLE.get(category, ())))


def only_one(sight: Sight, category: str) -> Seen | None:
    """The object that "the sofa" means: clear, and the one of its category that shows at all."""
    found = sight.called(category)
    if len(found) != 1 or not found[0].is_clear:
        return None
    return found[0] if not any(sight.called(other) for other in CONFUSABLE.get(category, ())) else None


def only_ones(sight: Sight) -> list[Seen]:
    return [item for item in sight.clear if only_one(sight, item.category) is not None]


def likely_rooms(sight: Sight, items: Iterable[Seen]) -> list[str]:
    """The kinds of room that have all of the objects; empty where the picture is not one of a furnished room."""
    seen = {item.category for item in items if item.room == sight.room}
    if not seen or not sight.shows_room or sight.through:
        return []
    return [kind for kind, r in KINDS.items() if seen <= {category for category, *_ in r.furniture}]


def evident_room(sight: Sight) -> str:
    """The kind of room that the clear objects tell, "" where several kinds have them all."""
    kinds = likely_rooms(sight, sight.clear)
    return kinds[0] if len(kinds) == 1 else ""


def _existence(sight: Sight, rng: np.random.Generator) -> Asked:
    for category in dict.fromkeys(item.category for item in sight.clear):
        yield _exists(rng, category, "yes")
    likely = [category for category, *_ in KINDS[sight.kind].furniture]
    for _ in range(ABSENT_ASKED):
        category = pick(rng, likely) if likely and rng.random() < 0.7 else pick(rng, list(CATALOG))
        if is_absent(sight, category):
            yield _exists(rng, category, "no")
    for item in only_ones(sight):
        if shows_colour(item) and item.category != "clock":
            others = [c for c in CATALOG[item.category].colours if c != item.colour]
            yield _exists_coloured(rng, item.category, item.colour, "yes")
            yield _exists_coloured(rng, item.category, pick(rng, others), "no")


def _exists(rng: np.random.Generator, category: str, answer: str) -> tuple[str, tuple[str, ...], str, str, str]:
    name = noun(rng, category)
    text = pick(rng, (f"Is there {a(name)} in the picture?", f"Are there any {plural(name)} in the picture?"))
    return "exists", ("exists", category), text, answer, "yes/no"


def _exists_coloured(
    rng: np.random.Generator, category: str, colour: str, answer: str
) -> tuple[str, tuple[str, ...], str, str, str]:
    name = f"{colour} {noun(rng, category)}"
    text = pick(rng, (f"Is there {a(name)}?", f"Is there {a(name)} in the picture?"))
    return "exists", ("exists", category, colour), text, answer, "yes/no"


def _counts(sight: Sight, rng: np.random.Generator) -> Asked:
    hanging = [item for item in sight.items if item.hangs and item.category != "window"]
    if all(item.is_clear for item in hanging):
        text = pick(rng, ("How many things hang on the walls?", "How many things are hanging on the wall?"))
        yield "count", ("count", "hanging"), text, str(len(hanging)), "number"
    for category in TALLIED:
        found = sight.called(category)
        if any(sight.called(other) for other in CONFUSABLE.get(category, ())) or not all(i.is_clear for i in found):
            continue
        name = plural(noun(rng, category))
        text = pick(
            rng,
            (f"How many {name} are there?", f"How many {name} are in the picture?", f"How many {name} can you see?"),
        )
        yield "count", ("count", category), text, str(len(found)), "number"


def _colours(sight: Sight, rng: np.random.Generator) -> Asked:
    for item in only_ones(sight):
        name = noun(rng, item.category)
        if not shows_colour(item) or item.share < 12:
            continue
        text = pick(rng, (f"What color is the {name}?", f"What is the color of the {name}?"))
        yield "colour", ("colour", item.category), text, item.colour, "other"


def _materials(sight: Sight, rng: np.random.Generator) -> Asked:
    for item in only_ones(sight):
        if item.category in MATERIALS_SHOWN and item.share >= 20:
            text = f"What is the {noun(rng, item.category)} made of?"
            yield "material", ("material", item.category), text, item.material, "other"


def _sides(sight: Sight, rng: np.random.Generator) -> Asked:
    for first, second in permutations(only_ones(sight), 2):
        left = is_left_of(first, second)
        if not left and not is_left_of(second, first):
            continue
        names = noun(rng, first.category), noun(rng, second.category)
        if rng.random() < 0.5:
            text = f"Is the {names[0]} to the left of the {names[1]}?"
            yield "relation", ("left", first.category, second.category), text, YES_NO[left], "yes/no"
        else:
            text = f"Is the {names[0]} on the left or the right of the {names[1]}?"
            yield "relation", ("side", first.category, second.category), text, "left" if left else "right", "other"


def _nearness(sight: Sight, rng: np.random.Generator) -> Asked:
    for first, second in permutations(only_ones(sight), 2):
        if first.category < second.category and (is_next_to(first, second) or is_apart(first, second)):
            pair = (first, second) if rng.random() < 0.5 else (second, first)
            names = [noun(rng, item.category) for item in pair]
            text = f"Is the {names[0]} next to the {names[1]}?"
            group = "next", first.category, second.category
            yield "relation", group, text, YES_NO[is_next_to(first, second)], "yes/no"


def _neighbours(sight: Sight, rng: np.random.Generator) -> Asked:
    for item in only_ones(sight):
        if item.hangs or item.is_rug:
            continue
        name = noun(rng, item.category)
        found = _one_kind(other for other in sight.items if is_next_to(other, item))
        if found:
            yield "relation", ("what next", item.category), f"What is next to the {name}?", found, "other"
        found = _one_kind(other for other in sight.items if is_above(other, item))
        if found:
            yield "relation", ("what above", item.category), f"What is on the wall above the {name}?", found, "other"
    if found := _one_kind(item for item in sight.items if item.hangs and item.category != "window"):
        yield "relation", ("what hangs",), "What hangs on the wall?", found, "other"


def _one_kind(items: Iterable[Seen]) -> str:
    """The category that all of the objects have, all of them clear, else ""."""
    found = list(items)
    alike = {item.category for item in found}
    return alike.pop() if len(alike) == 1 and all(item.is_clear for item in found) else ""


def _rooms(sight: Sight, rng: np.random.Generator) -> Asked:
    kind = evident_room(sight)
    if not kind:
        return
    text = pick(rng, ("What room is this?", "What room is shown in the picture?", "Which room is this?"))
    yield "room", ("room",), text, kind, "other"
    yield "room", ("is room", kind), _is_room(rng, kind), "yes", "yes/no"
    other = pick(rng, _rooms_but(kind))
    yield "room", ("is room", other), _is_room(rng, other), "no", "yes/no"


def _rooms_but(kind: str) -> Sequence[str]:
    """Other kinds that a picture may evidently show."""
    return [other for other, r in KINDS.items() if r.furniture and other != kind]


def _is_room(rng: np.random.Generator, kind: str) -> str:
    return pick(rng, (f"Is this {a(kind)}?", f"Is this picture taken in {a(kind)}?"))

"""Wording of directions: clauses become sentences, sentences become clauses again.

A clause is one act of a follower. `say` chooses among wordings; `read` inverts it exactly.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from envs.houses.furniture import CATALOG
from envs.houses.materials import COLOURS
from envs.houses.rooms import KINDS


@dataclass(frozen=True)
class Clause:
    """kind: a key of WORDINGS; room: a kind of room; thing: an object's name; side: "left", "right"."""

    kind: str
    room: str = ""
    thing: str = ""
    side: str = ""


WORDINGS: dict[str, tuple[str, ...]] = {
    "left": ("turn left", "take a left", "make a left turn", "turn to your left"),
    "right": ("turn right", "take a right", "make a right turn", "turn to your right"),
    "around": ("turn around", "turn all the way around", "make a U-turn"),
    "straight": ("go straight", "walk straight ahead", "keep going straight", "continue forward"),
    "enter": (
        "go into the {room}", "enter the {room}", "walk into the {room}", "walk through the door into the {room}",
        "head into the {room}", "go through the doorway to the {room}", "continue into the {room}",
        "step into the {room}", "move on to the {room}",
    ),
    "exit": (
        "leave the {room}", "exit the {room}", "walk out of the {room}", "go out of the {room}",
        "go through the only door of the {room}",
    ),
    "gate": (
        "go through the door next to the {thing}", "take the door by the {thing}",
        "walk through the doorway closest to the {thing}", "go through the doorway near the {thing}",
    ),
    "pass": (
        "walk to the {thing}", "go past the {thing}", "walk past the {thing}", "pass the {thing}",
        "walk by the {thing}", "head toward the {thing}",
    ),
    "pass_side": (
        "walk past the {thing} on your {side}", "pass the {thing} on the {side}", "go past the {thing} on your {side}",
    ),
    "up": ("go up the stairs", "walk up the stairs", "climb the stairs to the upper floor", "take the stairs up"),
    "down": ("go down the stairs", "walk down the stairs", "take the stairs down", "descend the stairs"),
    "stop_by": (
        "stop next to the {thing}", "stop by the {thing}", "wait beside the {thing}", "wait near the {thing}",
        "stop when you reach the {thing}",
    ),
    "stop_before": ("stop in front of the {thing}", "wait in front of the {thing}", "stop at the {thing}"),
    "stop_inside": (
        "stop just inside the {room}", "wait as soon as you are in the {room}", "stop once you are inside the {room}",
        "wait at the entrance of the {room}",
    ),
    "stop_top": ("stop at the top of the stairs", "wait at the top of the stairs"),
    "stop_bottom": ("stop at the bottom of the stairs", "wait at the foot of the stairs"),
}  # fmt: skip
TURNS = ("left", "right", "around", "straight")
CALLED = {"stairs": "stairwell", "landing": "landing area"}
"""What instructions call rooms whose kind reads badly."""


def room_name(kind: str) -> str:
    return CALLED.get(kind, kind)


def say(rng: np.random.Generator, clauses: Sequence[Clause]) -> str:
    """Clauses as sentences in varied wording."""
    text, joint = "", ""
    for i, clause in enumerate(clauses):
        wordings = WORDINGS[clause.kind]
        words = str(wordings[rng.integers(len(wordings))])
        words = words.format(room=room_name(clause.room), thing=clause.thing, side=clause.side)
        if i == 0:
            joint = ""
        elif clauses[i - 1].kind in TURNS:
            joint = str(rng.choice((" and ", ", then "))) if joint == ". " or i == 1 else " and "
        elif joint in (" and ", ", then "):
            joint = str(rng.choice((". ", ". ", ". Then ")))
        else:
            joint = str(rng.choice((". ", ". ", ", then ", " and ", ". Then ")))
        if joint in ("", ". "):
            words = words[0].upper() + words[1:]
        text += joint + words
    return text + "."


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    things = sorted([*CATALOG, *(f"{c} {k}" for c in COLOURS for k in CATALOG)], key=len, reverse=True)
    rooms = sorted((room_name(kind) for kind in KINDS), key=len, reverse=True)
    slots = {"{thing}": f"(?P<thing>{'|'.join(things)})", "{room}": f"(?P<room>{'|'.join(rooms)})",
             "{side}": "(?P<side>left|right)"}  # fmt: skip
    found = []
    for kind, wordings in WORDINGS.items():
        for wording in wordings:
            pattern = wording
            for slot, expression in slots.items():
                pattern = pattern.replace(slot, expression)
            found.append((kind, re.compile(pattern + r"(?![\w-])", re.IGNORECASE)))
    return tuple(found)


JOINT = re.compile(r"[.,]?\s*(?:and\s+|then\s+)?", re.IGNORECASE)


def read(text: str) -> list[Clause]:
    """The clauses of an instruction. ValueError for words that no wording has."""
    kinds = {room_name(kind): kind for kind in KINDS}
    clauses, at = [], 0
    while at < len(text):
        joint = JOINT.match(text, at)
        at = joint.end() if joint else at
        if at >= len(text):
            break
        matches = [(kind, m) for kind, pattern in _patterns() if (m := pattern.match(text, at))]
        if not matches:
            raise ValueError(f"cannot read {text[at:]!r} in the instruction {text!r}")
        kind, match = max(matches, key=lambda found: found[1].end())
        slots = match.groupdict()
        room = kinds[slots["room"].lower()] if slots.get("room") else ""
        clauses.append(Clause(kind, room, (slots.get("thing") or "").lower(), (slots.get("side") or "").lower()))
        at = match.end()
    return clauses

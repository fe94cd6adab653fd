"""Entries of a trajectory, [viewpoint, heading, elevation], in every form that the field's code writes them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any


def flatten_trajectory(trajectory: Iterable[Any]) -> list[tuple[str, float, float]]:
    """A flat trajectory from one that is nested in any of the ways seen in the field.

    DUET appends the whole graph path of a move as one list of viewpoint ids, `[["a"], ["b", "c"]]`; others nest
    `[[viewpoint, heading, elevation], ...]` once more, or write bare ids. Angles that are not there become 0.

    >>> flatten_trajectory([["a"], ["b", "c"], "d", [["e", 0.5, 0.0]]])
    [('a', 0.0, 0.0), ('b', 0.0, 0.0), ('c', 0.0, 0.0), ('d', 0.0, 0.0), ('e', 0.5, 0.0)]

    Raises:
        ValueError: an entry that holds no viewpoint id.
    """
    flat: list[tuple[str, float, float]] = []
    for entry in trajectory:
        if isinstance(entry, str):
            flat.append((entry, 0.0, 0.0))
        elif is_sound(entry):
            heading_rad, elevation_rad = entry[1:] or (0.0, 0.0)
            flat.append((entry[0], float(heading_rad), float(elevation_rad)))
        elif isinstance(entry, list | tuple) and entry and all(isinstance(part, str | list | tuple) for part in entry):
            flat += flatten_trajectory(entry)
        else:
            raise ValueError(f"the entry {short(entry)} is no viewpoint; expected [viewpoint, heading, elevation]")
    return flat


def is_nested(entry: Any) -> bool:
    """Whether an entry is itself a list of entries, or of viewpoint ids."""
    return isinstance(entry, list | tuple) and (
        any(isinstance(part, list | tuple) for part in entry)
        or (len(entry) > 1 and all(isinstance(p, str) for p in entry))
    )


def has_viewpoint(entry: Any) -> bool:
    """Whether an entry begins with a viewpoint id, whatever follows."""
    return isinstance(entry, list | tuple) and len(entry) > 0 and isinstance(entry[0], str) and not is_nested(entry)


def is_number(angle: Any) -> bool:
    """Whether an angle is a finite number."""
    return isinstance(angle, int | float) and not isinstance(angle, bool) and math.isfinite(angle)


def is_sound(entry: Any) -> bool:
    """Whether an entry is [viewpoint] or [viewpoint, heading, elevation]."""
    if not isinstance(entry, list | tuple) or len(entry) not in (1, 3) or not isinstance(entry[0], str):
        return False
    return len(entry) == 1 or (is_number(entry[1]) and is_number(entry[2]))


def short(value: Any) -> str:
    """A value as a message shows it."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

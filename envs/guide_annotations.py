"""Guide annotations of Room-across-Room (RxR): one instruction a line, in English, Hindi or Telugu.

Format: google-research-datasets/RxR. Read are `instruction_id, path_id, scan, path, heading, language, instruction`.
The others (`split, annotator_id, edit_distance, timed_instruction`) are not needed to navigate: a line may lack them or
hold anything there, and most of a line's bytes, the timed words, are dropped as soon as the line is read.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

LANGUAGES = ("en-IN", "en-US", "hi-IN", "te-IN")
"""RxR's tags (IETF BCP 47)."""
SCRIPTS = {"en": "LATIN", "hi": "DEVANAGARI", "te": "TELUGU"}
"""Language -> the script it is written in, by its Unicode name."""
HELP = "see docs/data.md for where RxR comes from and what a line must hold"


def read_guide(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a `.jsonl.gz` file one after the other, never more than one in memory, each with the fields above.

    `path_id` may be absent (the public test splits do not tell it).

    Raises ValueError, with the number of the line, for a file that is cut or not gzip, a line that is cut or no JSON
    object, an absent field, a value of the wrong kind, an empty instruction, a language that RxR does not have.
    """
    number = 0
    try:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                yield _checked(f"{file}: line {number}", line)
    except (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} is not complete gzip after line {number} ({error}); copy the file again, {HELP}"
        ) from None


def check_languages(wanted: Sequence[str]) -> None:
    """ValueError for a language that RxR does not have."""
    for name in wanted:
        if not any(language_matches(tag, [name]) for tag in LANGUAGES):
            raise ValueError(f"unknown language {name!r}; expected some of en, hi, te, {', '.join(LANGUAGES)}")


def language_matches(tag: str | None, wanted: Sequence[str]) -> bool:
    """Whether a tag (en-IN) is among tags (en-IN) or languages (en). None, an unknown language, is not."""
    return tag is not None and (tag in wanted or tag.split("-")[0] in wanted)


def _checked(place: str, line: str) -> dict[str, Any]:
    try:
        item = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"{place} is cut or no JSON ({error}); copy the file again, {HELP}") from None
    absent = [name for name in FIELDS if not isinstance(item, dict) or name not in item]
    if absent:
        raise ValueError(f"{place} lacks {', '.join(absent)}; expected {', '.join(FIELDS)}; {HELP}")
    for name, (expected, sound) in FIELDS.items():
        if not sound(item[name]):
            raise ValueError(f"{place} has the {name} {item[name]!r}; expected {expected}; {HELP}")
    if "path_id" in item and not _is_id(item["path_id"]):
        raise ValueError(f"{place} has the path_id {item['path_id']!r}; expected a whole number or a text; {HELP}")
    item.pop("timed_instruction", None)
    return item


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_path(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(viewpoint, str) for viewpoint in value)


def _is_angle(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_language(value: Any) -> bool:
    return value in LANGUAGES


FIELDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "instruction_id": ("a whole number or a text", _is_id),
    "scan": ("a building's name", _is_text),
    "path": ("a list of viewpoint ids, the start at least", _is_path),
    "heading": ("a finite number, radians", _is_angle),
    "language": (f"one of {', '.join(LANGUAGES)}", _is_language),
    "instruction": ("a text that is not empty", _is_text),
}
"""Field of a line -> what must be in it."""

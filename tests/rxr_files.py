"""Small files in the exact format of Room-across-Room: routes as given, made-up texts in its three languages."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from envs.guide_annotations import LANGUAGES

PHRASES = {
    "en": [
        "You are standing in a room,",
        "turn left and walk past the table.",
        "Go up the stairs.",
        "That's your stop!",
    ],
    "hi": ["आप एक कमरे में खड़े हैं,", "बाएं मुड़ें और मेज़ के पास से आगे चलें।", "सीढ़ियों से ऊपर जाएं।", "यही आपका अंतिम स्थान है!"],
    "te": ["మీరు ఒక గదిలో నిల్చున్నారు,", "ఎడమవైపు తిరిగి బల్ల పక్కనుండి నడవండి.", "మెట్లు ఎక్కి పైకి వెళ్ళండి.", "ఇదే మీ గమ్యస్థానం!"],
}
"""Language -> the beginning of a text, what is said on the way, the end."""


def text_of(language: str, steps: int) -> str:
    """An instruction for a route of so many steps."""
    first, *way, last = PHRASES[language.split("-")[0]]
    return " ".join([first, *(way[i % len(way)] for i in range(steps)), last])


def guide_lines(split: str, routes: Iterable[dict[str, Any]], first_id: int = 0) -> list[dict[str, Any]]:
    """An annotation in every language for every route of R2R (`scan, path_id, path, heading`)."""
    lines = []
    for route in routes:
        for language in LANGUAGES:
            text = text_of(language, len(route["path"]) - 1)
            lines.append(
                {
                    "path_id": int(route["path_id"]),
                    "split": split,
                    "scan": route["scan"],
                    "heading": route["heading"],
                    "path": route["path"],
                    "instruction_id": first_id + len(lines),
                    "annotator_id": 19,
                    "language": language,
                    "instruction": text,
                    "timed_instruction": timed(text),
                    "edit_distance": 0.1113,
                }
            )
    return lines


def timed(text: str) -> list[dict[str, Any]]:
    """Words with the times they were spoken at; as in RxR, some words have none."""
    words: list[dict[str, Any]] = [{"word": word} for word in text.split()]
    for i, word in enumerate(words):
        if i % 7 != 3:
            word |= {"start_time": 0.4 + i, "end_time": 1.0 + i}
    return words


def public_lines(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the public test files tell: the start, no route, no times."""
    hidden = ("path_id", "timed_instruction", "edit_distance", "annotator_id")
    return [{k: v for k, v in line.items() if k not in hidden} | {"path": line["path"][:1]} for line in lines]


def write_guide(folder: Path, split: str, lines: Sequence[dict[str, Any] | str]) -> Path:
    """`rxr_{split}_guide.jsonl.gz`; a line given as text is written as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"rxr_{split}_guide.jsonl.gz"
    texts = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    file.write_bytes(gzip.compress("".join(f"{text}\n" for text in texts).encode(), mtime=0))
    return file

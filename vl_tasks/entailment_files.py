"""Pairs of image and hypothesis in the files of SNLI-VE."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from envs.files import replacing
from vl_tasks.data import check_ids, field_of, read_json_lines

Label = Literal["contradiction", "neutral", "entailment"]
LABELS: tuple[Label, ...] = get_args(Label)
"""In the order of the classes."""
IMAGE_KEYS = ("Flickr30K_ID", "Flikr30kID")
"""Both spellings: that of the generator, that of the first release."""


@dataclass(frozen=True)
class Pair:
    """A hypothesis about an image. `premise` is the caption the pair was made from: it describes the image, so a model
    that reads it need not look; it stays unread by default."""

    pair_id: str
    images: tuple[str, ...]
    hypothesis: str
    label: Label
    premise: str


@dataclass(frozen=True)
class PairsFile:
    """Pairs in the order of the file; `without_label`: lines left out because people did not agree (label `-`)."""

    pairs: list[Pair]
    without_label: int


def pairs_file(folder: Path, split: str) -> Path:
    """The pairs of a split: train, dev, test."""
    return folder / f"snli_ve_{split}.jsonl"


def read_pairs(folder: Path, split: str) -> PairsFile:
    """Pairs of a split.

    Raises ValueError, with the number of the line, for a line that is no JSON object, lacks a field or the image's key,
    has an empty hypothesis or another label.
    """
    path = pairs_file(folder, split)
    pairs, without = [], 0
    for number, item in read_json_lines(path):
        where = Path(f"{path}, line {number}")
        label = field_of(where, item, "gold_label", str)
        if label == "-":
            without += 1
            continue
        if label not in LABELS:
            raise ValueError(f"{where}: found gold_label {label!r}; expected one of {', '.join(LABELS)} or -")
        image = next((item[key] for key in IMAGE_KEYS if isinstance(item.get(key), str | int)), None)
        if image is None:
            raise ValueError(f"{where}: found the keys {sorted(item)}; expected the image as {' or '.join(IMAGE_KEYS)}")
        hypothesis = field_of(where, item, "sentence2", str)
        if not hypothesis.strip():
            raise ValueError(f"{where}: sentence2 is empty; expected a hypothesis")
        pair_id = str(item.get("pairID") or number)
        pairs.append(Pair(pair_id, (str(image),), hypothesis, label, str(item.get("sentence1") or "")))
    if not pairs:
        raise ValueError(f"{path} has no labelled pair; expected one or more lines")
    return PairsFile(pairs, without)


def write_predictions(path: Path, pairs: Sequence[Pair], chances: Sequence[Mapping[Label, float]]) -> None:
    """A line for each pair, the likeliest label first of all: {"pairID": ..., "prediction": ..., "probabilities": {}}.
    chances: probability of each label."""
    with replacing(path) as file:
        for pair, chance in zip(pairs, chances, strict=True):
            found = max(chance, key=lambda label: chance[label])
            rounded = {label: round(value, 6) for label, value in chance.items()}
            line = {"pairID": pair.pair_id, "prediction": found, "probabilities": rounded}
            file.write(json.dumps(line).encode() + b"\n")


def read_predictions(path: Path, pairs: Sequence[Pair]) -> list[Label]:
    """The label that such a file gives each pair.

    Raises ValueError for a line of another format, a pair that comes twice, pairs that are missing or unknown.
    """
    found: dict[str, Label] = {}
    for number, item in read_json_lines(path):
        where = Path(f"{path}, line {number}")
        identity, label = field_of(where, item, "pairID", str), field_of(where, item, "prediction", str)
        if label not in LABELS:
            raise ValueError(f"{where}: found prediction {label!r}; expected one of {', '.join(LABELS)}")
        if identity in found:
            raise ValueError(f"{where}: pair {identity} comes twice; expected every pairID once")
        found[identity] = label
    check_ids(path, found, [pair.pair_id for pair in pairs], "has no prediction for", "tells of unknown", "pairs")
    return [found[pair.pair_id] for pair in pairs]

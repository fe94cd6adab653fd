"""Captions in COCO's files and in Karpathy's split of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.files import replacing
from vl_tasks.data import check_ids, coco_names, field_of, items_of, read_answers, read_json

KARPATHY_FILE = "dataset_coco.json"
TRAIN_PARTS = ("train", "restval")
"""Parts of Karpathy's file that are trained on together: 113,287 images of COCO."""


@dataclass(frozen=True)
class Captioned:
    """An image with its captions. `images`: what its file may be called; `tokens`: the words of each caption, lower
    case, without punctuation, as Karpathy's file has them; none from COCO's own file."""

    image_id: int
    images: tuple[str, ...]
    captions: tuple[str, ...]
    tokens: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class KarpathySplit:
    """Images by part. `notes`: what a user should know of the file, a sentence each."""

    parts: Mapping[str, list[Captioned]]
    notes: tuple[str, ...]

    @property
    def train(self) -> list[Captioned]:
        """`train` with `restval`."""
        return [image for part in TRAIN_PARTS for image in self.parts.get(part, ())]


def read_karpathy(path: Path) -> KarpathySplit:
    """Karpathy's `dataset_coco.json` (or that of Flickr30k, which has no `restval`: a note tells so).

    Captions without a word are left out, with a note. Raises ValueError for a file that is missing or of another
    format, an image without split or captions, an id that comes twice, a file without training images.
    """
    parts: dict[str, list[Captioned]] = {}
    seen: set[int] = set()
    empty = 0
    for item in items_of(path, read_json(path), "images"):
        part = field_of(path, item, "split", str)
        identity = field_of(path, item, "cocoid" if "cocoid" in item else "imgid", int)
        if identity in seen:
            raise ValueError(f"{path}: image {identity} comes twice; expected every image once")
        seen.add(identity)
        name = field_of(path, item, "filename", str)
        folder = item.get("filepath")
        names = (f"{folder}/{name}", name) if folder else (name,)
        said = [sentence for sentence in items_of(path, item, "sentences") if _words(path, sentence)]
        empty += len(item["sentences"]) - len(said)
        if not said:
            raise ValueError(
                f"{path}: image {identity} has no caption with a word; expected one or more: write one, or take the "
                "image out of the file"
            )
        texts = tuple(field_of(path, sentence, "raw", str).strip() for sentence in said)
        parts.setdefault(part, []).append(Captioned(identity, names, texts, tuple(_words(path, s) for s in said)))
    if not parts.get("train"):
        raise ValueError(f"{path} has no image of the split train (found {sorted(parts)}); is it Karpathy's file?")
    notes = [f"{path.name}: left out {empty} captions without a word"] if empty else []
    if "restval" not in parts:
        notes.append(f"{path.name} has no split restval: training uses train alone ({len(parts['train']):,} images)")
    return KarpathySplit(parts, tuple(notes))


def _words(path: Path, sentence: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(token) for token in field_of(path, sentence, "tokens", list) if str(token).strip())


def captions_file(folder: Path, split: str) -> Path:
    """COCO's captions of a split such as `val2014`."""
    return folder / f"captions_{split}.json"


def read_coco_captions(path: Path) -> list[Captioned]:
    """Images of COCO's own captions file, in its order; an image that nobody captioned is left out.

    Raises ValueError for a file that is missing or of another format, a caption of an unknown image, an empty one.
    """
    document = read_json(path)
    names: dict[int, tuple[str, ...]] = {}
    for item in items_of(path, document, "images"):
        identity = field_of(path, item, "id", int)
        name = item.get("file_name")
        names[identity] = (
            (name,) if isinstance(name, str) else coco_names(path.stem.removeprefix("captions_"), identity)
        )
    captions: dict[int, list[str]] = {identity: [] for identity in names}
    for item in items_of(path, document, "annotations"):
        identity = field_of(path, item, "image_id", int)
        caption = field_of(path, item, "caption", str).strip()
        if identity not in captions:
            raise ValueError(f"{path}: caption {item.get('id')} is of image {identity}, which is not in the file")
        if not caption:
            raise ValueError(f"{path}: caption {item.get('id')} of image {identity} is empty; expected words")
        captions[identity].append(caption)
    found = [Captioned(identity, names[identity], tuple(said)) for identity, said in captions.items() if said]
    if not found:
        raise ValueError(f"{path} has no caption; expected one or more")
    return found


def write_captions(path: Path, captions: Mapping[int, str]) -> None:
    """COCO's results file: [{"image_id": 42, "caption": "a cat"}, ...]."""
    results = [{"image_id": image, "caption": caption} for image, caption in captions.items()]
    with replacing(path) as file:
        file.write(json.dumps(results).encode())


def read_captions(path: Path, expected: Mapping[int, Any]) -> dict[int, str]:
    """Caption by image id of a results file; ValueError for another format, ids that are missing, unknown or twice
    there."""
    found = read_answers(path, "image_id", "caption", int)
    check_ids(path, found, expected, "has no caption for", "has captions of unknown", "images")
    return found

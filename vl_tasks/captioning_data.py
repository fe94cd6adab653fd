"""Captions of a split as tensors, with the words that a model is to write.

Legend: Q images, C captions of all of them, B images of a batch, E captions taken of each, L tokens.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain, pairwise
from pathlib import Path

import torch
from torch import Tensor

from clip_core.caption_scores import CaptionScores, score_tokens
from clip_core.caption_tokens import tokenize_captions
from clip_core.tokenizer import Tokenizer
from vl_tasks.coco_files import (
    TRAIN_PARTS,
    Captioned,
    KarpathySplit,
    captions_file,
    read_coco_captions,
    read_karpathy,
)
from vl_tasks.data import DOCUMENTATION, coco_names, field_of, items_of, read_json

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class CaptionFiles:
    """Splits of a folder by name: parts of Karpathy's file (`dataset_*.json`), captions_NAME.json of COCO.

    notes: what a user should know of what was read, a sentence each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes: list[str] = []

    def read(self, names: Sequence[str]) -> list[Captioned]:
        """The images of these splits, one after the other. Without a `restval` there is a note; ValueError for other
        splits that are missing, for an image that comes twice."""
        found: list[Captioned] = []
        for name in names:
            found += self._one(name)
        if len({record.image_id for record in found}) < len(found):
            raise ValueError(f"the splits {' '.join(names)} have images in common; expected splits apart")
        return found

    def has(self, name: str) -> bool:
        """Whether there is a split of this name."""
        return captions_file(self.folder, name).exists() or name in self._karpathy_parts()

    def images(self, name: str) -> list[Captioned]:
        """The images of a split, captioned or not; image_info_NAME.json is enough for them."""
        path = self.folder / f"image_info_{name}.json"
        if self.has(name) or not path.exists():
            return self._one(name)
        found = []
        for item in items_of(path, read_json(path), "images"):
            identity, file = field_of(path, item, "id", int), item.get("file_name")
            found.append(Captioned(identity, (file,) if isinstance(file, str) else coco_names(name, identity), ()))
        if not found:
            raise ValueError(f"{path} has no image; expected one or more")
        return found

    def _one(self, name: str) -> list[Captioned]:
        path = captions_file(self.folder, name)
        if path.exists():
            return read_coco_captions(path)
        parts = self._karpathy_parts()
        if name in parts:
            return parts[name]
        if name in TRAIN_PARTS[1:] and parts:
            return []  # the reader left a note
        raise ValueError(
            f"no captions of the split {name!r} in {self.folder}: expected {path.name}, or dataset_coco.json with that "
            f"part (found the parts {sorted(parts)}); {DOCUMENTATION}"
        )

    def _karpathy_parts(self) -> Mapping[str, list[Captioned]]:
        return {} if self._karpathy is None else self._karpathy.parts

    @cached_property
    def _karpathy(self) -> KarpathySplit | None:
        files = sorted(self.folder.glob("dataset_*.json"))
        if len(files) > 1:
            raise ValueError(f"{self.folder} has {', '.join(file.name for file in files)}; expected one of them")
        if not files:
            return None
        split = read_karpathy(files[0])
        self.notes += split.notes
        return split


def spoken_words(record: Captioned) -> list[str]:
    """The captions of an image as they are learned: words of Karpathy's file; else lower case, punctuation taken out,
    as that file does. A caption in which nothing is left is left out."""
    if record.tokens:
        return [" ".join(words) for words in record.tokens]
    texts = [" ".join(caption.lower().translate(_NO_PUNCTUATION).split()) for caption in record.captions]
    return [text for text in texts if text]


@dataclass(frozen=True, eq=False)
class CaptionSet:
    """A split. image [Q]: number of the image among those of the run; ids [C, L], lengths [C]: the captions, those of
    an image neighbours; first [Q + 1]: the first caption of each image. All on the CPU."""

    name: str
    records: list[Captioned]
    image: Tensor
    ids: Tensor
    lengths: Tensor
    first: Tensor

    def __len__(self) -> int:
        return len(self.records)

    def take(self, numbers_B: Tensor, each: int, turn_B: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Captions [B * E, L], cut to the longest, with their lengths: E of each image, those of an image neighbours.
        At the next turn of an image come those after them, in a ring; None: the first ones."""
        start, end = self.first[numbers_B], self.first[numbers_B + 1]
        turn_B = torch.zeros_like(numbers_B) if turn_B is None else turn_B
        place_BE = (turn_B[:, None] * each + torch.arange(each)) % (end - start)[:, None]
        chosen = (start[:, None] + place_BE).flatten()
        lengths = self.lengths[chosen]
        return self.ids[chosen][:, : int(lengths.max())], lengths

    @cached_property
    def references(self) -> dict[int, list[list[str]]]:
        """Words of all captions by image id, as the COCO evaluation splits them."""
        words = iter(tokenize_captions(list(chain.from_iterable(record.captions for record in self.records))))
        return {record.image_id: [next(words) for _ in record.captions] for record in self.records}

    def reference_ids(self) -> list[list[list[int]]]:
        """Token ids [image][caption] with the end, without the beginning."""
        rows = [ids[1:length] for ids, length in zip(self.ids.tolist(), self.lengths.tolist(), strict=True)]
        ends = self.first.tolist()
        return [rows[start:end] for start, end in pairwise(ends)]

    def score(self, captions: Mapping[int, str]) -> CaptionScores[int]:
        """Scores of a caption for each image id against those of people."""
        words = tokenize_captions([captions[record.image_id] for record in self.records])
        return score_tokens(dict(zip(self.references, words, strict=True)), self.references)


def image_numbers(splits: Mapping[str, Sequence[Captioned]]) -> dict[tuple[str, ...], int]:
    """The images of all splits, by the names that their files may have, with their numbers."""
    names = dict.fromkeys(record.images for records in splits.values() for record in records)
    return {image: number for number, image in enumerate(names)}


def caption_set(
    name: str, records: list[Captioned], images: Mapping[tuple[str, ...], int], tokenizer: Tokenizer
) -> CaptionSet:
    """A split for a tokenizer; ValueError if it is empty, or an image has no caption with a word."""
    if not records:
        raise ValueError(f"{name} has no image; expected one or more")
    spoken = [spoken_words(record) for record in records]
    for record, texts in zip(records, spoken, strict=True):
        if record.captions and not texts:
            raise ValueError(
                f"{name}: image {record.image_id} has no caption with a word; expected one or more: write one, or take "
                "the image out of the file"
            )
    ids, lengths = tokenizer.encode_batch(list(chain.from_iterable(spoken)))
    return CaptionSet(
        name,
        records,
        torch.tensor([images[record.images] for record in records]),
        torch.from_numpy(ids),
        torch.from_numpy(lengths),
        torch.tensor([0, *accumulate(map(len, spoken))]),
    )

"""A small SNLI-VE data set that anybody can learn: images of two halves, hypotheses about the left one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image
from vqa_world import COLOURS

HIDDEN = (128, 128, 128)
"""What a half looks like of which nothing can be said."""


def picture(left: str | None, right: str | None) -> Image.Image:
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, :48] = HIDDEN if left is None else COLOURS[left]
    pixels[:, 48:] = HIDDEN if right is None else COLOURS[right]
    return Image.fromarray(pixels)


def label_of(shown: str | None, claimed: str) -> str:
    return "neutral" if shown is None else "entailment" if shown == claimed else "contradiction"


def write_pairs_world(folder: Path, train: int = 120, dev: int = 24) -> Path:
    """Files of train, dev with their images; returns the folder. Both spellings of the image's key, one line without a
    label in dev."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for split, count, key in (("train", train, "Flickr30K_ID"), ("dev", dev, "Flikr30kID")):
        lines = []
        for number in range(count):
            name = f"{split}{number:04d}"
            halves = [None if index == 3 else list(COLOURS)[index] for index in rng.integers(0, 4, 2)]
            picture(*halves).save(folder / "images" / f"{name}.png")
            claimed = halves[0] if halves[0] and rng.random() < 0.5 else list(COLOURS)[rng.integers(3)]
            lines.append(
                {
                    "gold_label": label_of(halves[0], claimed),
                    "pairID": f"{name}#0",
                    "sentence1": f"The left half is {halves[0] or 'hidden'}, the other is {halves[1] or 'hidden'}.",
                    "sentence2": f"The left half is {claimed}.",
                    key: name,
                }
            )
        if split == "dev":
            lines.append({**lines[0], "gold_label": "-", "pairID": "undecided"})
        (folder / f"snli_ve_{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder

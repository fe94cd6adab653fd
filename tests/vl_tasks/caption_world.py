"""Captions of images of two colours in Karpathy's file, with its parts train, restval, val, test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from vqa_world import COLOURS

PARTS = {"train": 32, "restval": 4, "val": 8, "test": 6}


def captions_of(left: str, right: str) -> list[str]:
    """What people say: of unequal lengths, five of an image, or two where it is of one colour."""
    captions = [
        f"{left.capitalize()} on the left, {right} on the right side.",
        f"A {left} half beside a {right} half.",
        f"{left.capitalize()} on the left and {right} on the right.",
        f"{left.capitalize()} next to {right}.",
        f"On the left {left}, {right} on the right.",
    ]
    return captions[:2] if left == right else captions


def sentence(number: int, image: int, text: str) -> dict[str, Any]:
    tokens = text.lower().replace(".", "").replace(",", "").split()
    return {"tokens": tokens, "raw": text, "imgid": image, "sentid": number}


def write_caption_world(folder: Path) -> Path:
    """Images and dataset_coco.json; returns the folder."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    for part, count in PARTS.items():
        for _ in range(count):
            number = len(images) + 1
            pair = [list(COLOURS)[i] for i in rng.integers(0, 3, 2)]
            pixels = np.zeros((64, 96, 3), np.uint8)
            pixels[:, :48], pixels[:, 48:] = COLOURS[pair[0]], COLOURS[pair[1]]
            name = f"COCO_val2014_{number:012d}.png"
            Image.fromarray(pixels).save(folder / "images" / name)
            sentences = [sentence(10 * number + i, number, text) for i, text in enumerate(captions_of(*pair))]
            images.append({"cocoid": number, "imgid": number, "split": part, "filename": name, "sentences": sentences})
    (folder / "dataset_coco.json").write_text(json.dumps({"dataset": "coco", "images": images}))
    return folder

"""A small VQA v2 data set that anybody can learn: images of two colours side by side, questions about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (20, 180, 60), "blue": (30, 60, 220)}
SIDES = ("left", "right")


def write_world(folder: Path, train: int = 24, val: int = 9) -> Path:
    """Files of train2014 and val2014 with their images; returns the folder."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    for split, count, first in (("train2014", train, 1), ("val2014", val, 1001)):
        questions, annotations = [], []
        for number in range(first, first + count):
            pair = [list(COLOURS)[i] for i in rng.integers(0, 3, 2)]
            pixels = np.zeros((64, 96, 3), np.uint8)
            pixels[:, :48], pixels[:, 48:] = COLOURS[pair[0]], COLOURS[pair[1]]
            Image.fromarray(pixels).save(folder / "images" / f"COCO_{split}_{number:012d}.png")
            for index, (text, answer, kind) in enumerate(asked(pair)):
                identity = number * 10 + index
                questions.append({"image_id": number, "question": text, "question_id": identity})
                annotations.append(annotation(identity, number, text, answer, kind))
        write_split(folder, split, questions, annotations)
    return folder


def asked(pair: list[str]) -> list[tuple[str, str, str]]:
    return [
        *((f"What color is on the {side}?", colour, "other") for side, colour in zip(SIDES, pair, strict=True)),
        ("Is there anything red?", "yes" if "red" in pair else "no", "yes/no"),
    ]


def annotation(identity: int, image: int, text: str, answer: str, kind: str) -> dict[str, Any]:
    return {
        "question_id": identity,
        "image_id": image,
        "question_type": " ".join(text.lower().split()[:2]),
        "answer_type": kind,
        "multiple_choice_answer": answer,
        "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": i + 1} for i in range(10)],
    }


def write_split(folder: Path, split: str, questions: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
    common = {"info": {}, "data_type": "mscoco", "data_subtype": split, "license": {}}
    (folder / f"v2_OpenEnded_mscoco_{split}_questions.json").write_text(json.dumps({**common, "questions": questions}))
    (folder / f"v2_mscoco_{split}_annotations.json").write_text(json.dumps({**common, "annotations": annotations}))

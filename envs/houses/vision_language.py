"""Data of vision-and-language tasks in their fields' own files: VQA v2, COCO captions, Karpathy's split, SNLI-VE.

Pictures of the training houses make train, those of the unseen houses make val (VQA, captions) and dev (SNLI-VE).
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.files import replacing
from envs.houses.answers import ten_answers
from envs.houses.balance import choose
from envs.houses.captions import sight_captions
from envs.houses.entailment import Pair, pairs_about
from envs.houses.pictures import FOLDER, SPLITS, TAKEN_WITH, image_id, image_name
from envs.houses.questions import Question, questions_about
from envs.houses.sight import Sight, sight_of
from envs.houses.writer import write_json

QUESTIONS_EACH, MOST_QUESTIONS = 5, 6
PAIRS_EACH, MOST_PAIRS = 3, 4
SHARES = {"exists": 0.25, "count": 0.18, "colour": 0.25, "material": 0.1, "relation": 0.25, "room": 0.1}
"""How much of the questions each kind may take."""
VE_SPLITS = ("train", "dev")
RESTVAL = 8
"""One in so many training houses is `restval` in Karpathy's split: it belongs to training there."""
ANNOTATORS = 5
"""Labels of a pair of the dev set; pairs of the training set have one, as in SNLI."""
INFO = {"description": "Procedural houses of ClipNav", "version": "1.0", "contributor": "python -m envs.houses"}
LICENCE = {"name": "made by a program, free to use", "url": ""}


@dataclass(frozen=True)
class Picture:
    """A picture: its id, file name, what it shows, the number of its house among those of its stream."""

    identity: int
    name: str
    sight: Sight
    house: int


def language_files(out: Path) -> list[Path]:
    """The files that `write_language_files` writes."""
    names = ["dataset_coco.json"]
    for split, ve_split in zip(SPLITS, VE_SPLITS, strict=True):
        names += [
            _questions_file(split),
            _annotations_file(split),
            f"captions_{split}.json",
            f"snli_ve_{ve_split}.jsonl",
        ]
    return [out / FOLDER / name for name in names]


def _questions_file(split: str) -> str:
    return f"v2_OpenEnded_mscoco_{split}_questions.json"


def _annotations_file(split: str) -> str:
    return f"v2_mscoco_{split}_annotations.json"


def write_language_files(
    out: Path, streams: Sequence[Sequence[Mapping[str, Any]]], seed: int
) -> dict[str, dict[str, int]]:
    """Questions, captions, pairs of a world.

    Args:
        out: the folder of the world.
        streams: for the training and the unseen houses the JSON of each, in order.
        seed: of the world.

    Returns:
        For each split the numbers of pictures, questions, captions, pairs.
    """
    folder, karpathy, counts = out / FOLDER, [], {}
    for stream, (split, houses) in enumerate(zip(SPLITS, streams, strict=True)):
        pictures = _pictures(stream, houses)
        rng = np.random.default_rng([seed, stream, 10**7])
        captions = [sight_captions(picture.sight, rng) for picture in pictures]
        questions = _questions(pictures, rng)
        pairs = pairs_about([picture.sight for picture in pictures], PAIRS_EACH * len(pictures), MOST_PAIRS, rng)
        _write_questions(folder, split, pictures, questions, rng)
        _write_captions(folder, split, pictures, captions)
        _write_pairs(folder / f"snli_ve_{VE_SPLITS[stream]}.jsonl", stream, pictures, captions, pairs, rng)
        karpathy += _karpathy(stream, pictures, captions, len(houses))
        counts[split] = {"pictures": len(pictures), "questions": len(questions), "captions": sum(map(len, captions)),
                         "pairs": len(pairs)}  # fmt: skip
    _write_karpathy(folder, karpathy)
    return counts


def _pictures(stream: int, houses: Sequence[Mapping[str, Any]]) -> list[Picture]:
    found = []
    for number, house in enumerate(houses):
        for row, viewpoint in enumerate(house["viewpoints"]):
            for view in viewpoint["pictures"]:
                identity = image_id(stream, number, row, view)
                found.append(Picture(identity, image_name(stream, identity), sight_of(house, row, view), number))
    return found


def _questions(pictures: Sequence[Picture], rng: np.random.Generator) -> list[Question]:
    """Balanced questions, in the order of the pictures."""
    groups: dict[Hashable, list[Question]] = {}
    for image, picture in enumerate(pictures):
        for question in questions_about(image, picture.sight, rng):
            groups.setdefault(question.group, []).append(question)
    sets = choose(
        groups, lambda q: q.answer, lambda q: q.image, lambda q: q.kind, SHARES, MOST_QUESTIONS,
        QUESTIONS_EACH * len(pictures), _least_answers, rng,
    )  # fmt: skip
    return sorted((question for one in sets for question in one), key=lambda question: question.image)


def _least_answers(kind: str, answers: int) -> int:
    """How many different answers must be taken together: half of those that occur, but never one alone; three counts,
    since nought and one are so common that nothing else would be left to count."""
    return 3 if kind == "count" else max(2, (answers + 1) // 2)


def _write_questions(
    folder: Path, split: str, pictures: Sequence[Picture], questions: Sequence[Question], rng: np.random.Generator
) -> None:
    """`question_id` is the id of the picture with three more digits, as in VQA v2."""
    asked, answered, number, before = [], [], 0, -1
    for question in questions:
        number = number + 1 if question.image == before else 0
        before = question.image
        image = pictures[question.image].identity
        identity = image * 1000 + number
        asked.append({"image_id": image, "question": question.text, "question_id": identity})
        answered.append({
            "question_type": question.question_type, "multiple_choice_answer": question.answer,
            "answers": ten_answers(question, rng), "image_id": image, "answer_type": question.answer_type,
            "question_id": identity,
        })  # fmt: skip
    common = {"info": INFO, "data_type": "mscoco", "data_subtype": split, "license": LICENCE}
    write_json(folder / _questions_file(split), {**common, "task_type": "Open-Ended", "questions": asked})
    write_json(folder / _annotations_file(split), {**common, "annotations": answered})


def _write_captions(folder: Path, split: str, pictures: Sequence[Picture], captions: Sequence[Sequence[str]]) -> None:
    images = [
        {"license": 1, "file_name": p.name, "height": TAKEN_WITH.height, "width": TAKEN_WITH.width, "id": p.identity}
        for p in pictures
    ]  # fmt: skip
    annotations = [
        {"image_id": picture.identity, "id": picture.identity * 10 + k, "caption": caption}
        for picture, said in zip(pictures, captions, strict=True)
        for k, caption in enumerate(said)
    ]
    value = {"info": INFO, "licenses": [{"id": 1, **LICENCE}], "type": "captions", "images": images,
             "annotations": annotations}  # fmt: skip
    write_json(folder / f"captions_{split}.json", value)


def _karpathy(
    stream: int, pictures: Sequence[Picture], captions: Sequence[Sequence[str]], houses: int
) -> list[dict[str, Any]]:
    """Items of `dataset_coco.json` without their running numbers: houses of training make train and restval, the
    unseen ones val and test."""
    items = []
    for picture, said in zip(pictures, captions, strict=True):
        if stream == 0:
            split = "restval" if picture.house >= houses - houses // RESTVAL else "train"
        else:
            split = "test" if picture.house >= (houses + 1) // 2 else "val"
        sentences = [{"tokens": tokens(caption), "raw": caption} for caption in said]
        items.append({
            "filepath": SPLITS[stream], "filename": picture.name, "split": split, "cocoid": picture.identity,
            "sentences": sentences,
        })  # fmt: skip
    return items


def tokens(caption: str) -> list[str]:
    """Words as in Karpathy's file: lower case, without punctuation."""
    return re.findall(r"[a-z0-9]+", caption.lower())


def _write_karpathy(folder: Path, items: Sequence[dict[str, Any]]) -> None:
    images, sentence = [], 0
    for number, item in enumerate(items):
        sentences = []
        for spoken in item["sentences"]:
            sentences.append({**spoken, "imgid": number, "sentid": sentence})
            sentence += 1
        ids = [spoken["sentid"] for spoken in sentences]
        images.append({**item, "imgid": number, "sentids": ids, "sentences": sentences})
    write_json(folder / "dataset_coco.json", {"images": images, "dataset": "coco"})


def _write_pairs(
    path: Path,
    stream: int,
    pictures: Sequence[Picture],
    captions: Sequence[Sequence[str]],
    pairs: Sequence[Pair],
    rng: np.random.Generator,
) -> None:
    """One JSON object a line, with both spellings of the image's key; sentence1 is a caption, which readers ignore."""
    lines = []
    for number, pair in enumerate(sorted(pairs, key=lambda pair: (pair.image, pair.hypothesis))):
        picture = pictures[pair.image]
        stem = Path(picture.name).stem
        which = int(rng.integers(len(captions[pair.image])))
        caption = f"{picture.name}#{which}"
        labels = [pair.label]
        if stream == 1:
            labels += [pair.label if rng.random() < 0.9 else "neutral" for _ in range(ANNOTATORS - 1)]
            if labels.count(pair.label) <= ANNOTATORS // 2:
                labels = [pair.label] * ANNOTATORS
        lines.append(json.dumps({
            "annotator_labels": labels, "captionID": caption, "gold_label": pair.label,
            "pairID": f"{caption}r{number}{pair.label[0]}", "sentence1": captions[pair.image][which],
            "sentence2": pair.hypothesis, "Flickr30K_ID": stem, "Flikr30kID": stem,
        }))  # fmt: skip
    with replacing(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())

"""Pictures, questions, captions, pairs on disk: formats, balance, and truth by rays cast through every pixel."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from ray_truth import NOUNS, Truth, gap_m, look, one_of, plural
from small_world import CONFIG

from envs.houses.furniture import CATALOG
from envs.houses.house import House, draw_house
from envs.houses.materials import COLOURS
from envs.houses.rooms import KINDS
from envs.houses.vision_language import language_files, tokens
from envs.houses.world import make_world

VISIBLE = 2.0
"""Permille of the pixels, a patch of 12 x 12 in a picture: less is not seen."""
SPLITS = {"train2014": "train", "val2014": "dev"}
NOUN = rf"\b{one_of(list(NOUNS))}\b"
PLURAL_OF = {plural(noun): noun for noun in NOUNS}
ROOM = one_of(list(KINDS))
COLOUR = one_of(list(COLOURS))


def read(world: Path, name: str) -> Any:
    return json.loads((world / "vision_language" / name).read_text())


def asked(world: Path, split: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    questions = read(world, f"v2_OpenEnded_mscoco_{split}_questions.json")["questions"]
    annotations = read(world, f"v2_mscoco_{split}_annotations.json")["annotations"]
    assert [q["question_id"] for q in questions] == [a["question_id"] for a in annotations]
    return list(zip(questions, annotations, strict=True))


def pairs(world: Path, split: str) -> list[dict[str, Any]]:
    text = (world / "vision_language" / f"snli_ve_{SPLITS[split]}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@cache
def house_of(stream: int, number: int) -> House:
    return draw_house(f"s3{'tu'[stream]}{number:03d}", CONFIG.seed, stream, number)


@cache
def truth_of(image_id: int) -> Truth:
    """The id of a picture says where it was taken."""
    house, place = divmod(image_id, 10_000)
    return look(house_of(*divmod(house, 1000)), *divmod(place, 36))


def test_pictures_are_there_and_of_houses_apart(world: Path) -> None:
    houses: dict[str, set[int]] = {}
    for split in SPLITS:
        images = read(world, f"captions_{split}.json")["images"]
        folder = world / "vision_language" / "images" / split
        assert {image["file_name"] for image in images} == {path.name for path in folder.iterdir()}
        assert {image["file_name"] for image in images} == {f"COCO_{split}_{image['id']:012d}.jpg" for image in images}
        with Image.open(folder / images[0]["file_name"]) as picture:
            assert picture.size == (images[0]["width"], images[0]["height"]) == (320, 240)
            assert np.asarray(picture).std() > 10
        houses[split] = {image["id"] // 10_000 for image in images}
    assert houses == {"train2014": {0, 1}, "val2014": {1000}}
    for house_json in (world / "houses").iterdir():
        taken = [viewpoint["pictures"] for viewpoint in json.loads(house_json.read_text())["viewpoints"]]
        assert all(len(views) <= 2 and all(12 <= view < 24 for view in views) for views in taken)
        assert np.mean([len(views) for views in taken]) > 1.2


def test_questions_have_the_fields_of_vqa(world: Path) -> None:
    for split in SPLITS:
        whole = read(world, f"v2_mscoco_{split}_annotations.json")
        assert whole["data_type"] == "mscoco"
        assert whole["data_subtype"] == split
        assert read(world, f"v2_OpenEnded_mscoco_{split}_questions.json")["task_type"] == "Open-Ended"
        images = {image["id"] for image in read(world, f"captions_{split}.json")["images"]}
        ids = set()
        for question, annotation in asked(world, split):
            assert question["image_id"] == annotation["image_id"]
            assert question["image_id"] in images
            assert question["question_id"] // 1000 == question["image_id"]
            assert question["question"].endswith("?")
            ids.add(question["question_id"])
            given = Counter(answer["answer"] for answer in annotation["answers"])
            assert [answer["answer_id"] for answer in annotation["answers"]] == list(range(1, 11))
            assert {answer["answer_confidence"] for answer in annotation["answers"]} <= {"yes", "maybe", "no"}
            assert given.most_common(1)[0][0] == annotation["multiple_choice_answer"]
            assert given[annotation["multiple_choice_answer"]] >= 5
            assert annotation["answer_type"] in ("yes/no", "number", "other")
            assert question["question"].lower().startswith(annotation["question_type"])
        assert len(ids) == len(asked(world, split)) > 2 * len(images)
        assert max(Counter(number // 1000 for number in ids).values()) <= 6
        different = [len({x["answer"] for x in a["answers"]}) > 1 for _, a in asked(world, split)]
        assert 0.15 < np.mean(different) < 0.7


def test_answers_are_true(world: Path) -> None:
    checked: Counter[str] = Counter()
    for split in SPLITS:
        for question, annotation in asked(world, split):
            kind = check_answer(
                truth_of(question["image_id"]), question["question"], annotation["multiple_choice_answer"]
            )
            checked[kind] += 1
    assert checked.keys() == {"exists", "count", "colour", "material", "left", "next", "what", "room"}
    assert min(checked.values()) >= 2


def check_answer(truth: Truth, question: str, answer: str) -> str:
    text = question.lower().rstrip("?")
    if match := re.fullmatch(rf"is th(?:ere|is)(?: picture taken in)? (?:a|an) ({ROOM})", text):
        assert (answer == "yes") == (room_of(truth) == match[1])
        return "room"
    if match := re.match(rf"(?:is there an?|are there any) (?:({COLOUR}) )?({NOUN}|{one_of(list(PLURAL_OF))})\b", text):
        noun = PLURAL_OF.get(match[2], match[2])
        found = truth.of(noun, 4.0 if answer == "yes" else VISIBLE, match[1] or "")
        assert bool(found) == (answer == "yes"), question
        return "exists"
    if match := re.match(rf"how many ({one_of([*PLURAL_OF, 'things'])})", text):
        hanging = [n for n in CATALOG if CATALOG[n].place == "hang" and n != "window"]
        nouns = hanging if match[1] == "things" else [PLURAL_OF[match[1]]]
        assert sum(len(truth.of(noun, VISIBLE)) for noun in nouns) == int(answer), question
        return "count"
    if match := re.fullmatch(rf"what (?:color is|is the color of) the ({NOUN})", text):
        assert {item.colour for item in truth.of(match[1], VISIBLE)} == {answer}
        return "colour"
    if match := re.fullmatch(rf"what is the ({NOUN}) made of", text):
        assert {item.material for item in truth.of(match[1], VISIBLE)} == {answer}
        return "material"
    if text.startswith("wh") and "room" in text:
        assert room_of(truth) == answer
        return "room"
    return check_relation(truth, text, answer)


def check_relation(truth: Truth, text: str, answer: str) -> str:
    if match := re.fullmatch(rf"is the ({NOUN}) (?:to|on) the left(?: or the right)? of the ({NOUN})", text):
        (a,), (b,) = truth.of(match[1], VISIBLE), truth.of(match[2], VISIBLE)
        assert (truth.x(a.index) < truth.x(b.index)) == (answer in ("yes", "left")), text
        assert abs(truth.x(a.index) - truth.x(b.index)) > 0.15
        return "left"
    if match := re.fullmatch(rf"is the ({NOUN}) next to the ({NOUN})", text):
        (a,), (b,) = truth.of(match[1], VISIBLE), truth.of(match[2], VISIBLE)
        near = a.room == b.room and gap_m(a, b) < 1.0
        assert near == (answer == "yes"), text
        return "next"
    found = truth.of(answer, 4.0)
    if text == "what hangs on the wall":
        assert found
        hanging = {
            truth.house.items[k].category
            for k in truth.columns
            if CATALOG[truth.house.items[k].category].place == "hang"
        }
        assert hanging - {"window"} == {answer}
        return "what"
    match = re.fullmatch(rf"what is (?:next to|on the wall above) the ({NOUN})", text)
    assert match, text
    (item,) = truth.of(match[1], VISIBLE)
    assert any(gap_m(item, other) <= 0.61 for other in found), text
    return "what"


def room_of(truth: Truth) -> str:
    return truth.house.plan.rooms[truth.room].kind


def test_the_question_alone_does_not_tell_the_answer(world: Path) -> None:
    """Half of the answers to each yes-no question are yes; left is as common as right; no count is the usual one."""
    for split in SPLITS:
        answers: dict[str, Counter[str]] = defaultdict(Counter)
        for _, annotation in asked(world, split):
            kind = annotation["answer_type"]
            if annotation["multiple_choice_answer"] in ("left", "right"):
                kind = "side"
            answers[kind][annotation["multiple_choice_answer"]] += 1
        assert abs(answers["yes/no"]["yes"] / answers["yes/no"].total() - 0.5) < 0.03
        assert abs(answers["side"]["left"] / answers["side"].total() - 0.5) < 0.03
        assert max(answers["number"].values()) < 0.5 * answers["number"].total()
        assert max(answers["other"].values()) < 0.3 * answers["other"].total()


def test_captions_and_karpathys_split_agree(world: Path) -> None:
    coco = read(world, "dataset_coco.json")
    assert coco["dataset"] == "coco"
    assert {image["split"] for image in coco["images"]} == {"train", "val"}
    assert [image["imgid"] for image in coco["images"]] == list(range(len(coco["images"])))
    raw = {image["cocoid"]: [s["raw"] for s in image["sentences"]] for image in coco["images"]}
    sentences = [s for image in coco["images"] for s in image["sentences"]]
    assert [s["sentid"] for s in sentences] == list(range(len(sentences)))
    for image in coco["images"]:
        assert image["sentids"] == [s["sentid"] for s in image["sentences"]]
        assert {s["imgid"] for s in image["sentences"]} == {image["imgid"]}
        assert image["filepath"] == {"train": "train2014", "val": "val2014"}[image["split"]]
        assert (world / "vision_language" / "images" / image["filepath"] / image["filename"]).is_file()
    for split in SPLITS:
        value = read(world, f"captions_{split}.json")
        said = defaultdict(list)
        for annotation in value["annotations"]:
            said[annotation["image_id"]].append(annotation["caption"])
        assert len({annotation["id"] for annotation in value["annotations"]}) == 5 * len(value["images"])
        assert set(said) == {image["id"] for image in value["images"]}
        assert all(raw[identity] == captions and len(captions) == 5 for identity, captions in said.items())
    assert tokens("A red sofa, a TV and a rug.") == ["a", "red", "sofa", "a", "tv", "and", "a", "rug"]


def test_pairs_have_the_fields_of_snli_ve_and_tell_nothing_without_the_picture(world: Path) -> None:
    for split in SPLITS:
        found = pairs(world, split)
        images = {image["file_name"] for image in read(world, f"captions_{split}.json")["images"]}
        by_text: dict[str, Counter[str]] = defaultdict(Counter)
        for pair in found:
            assert pair["Flickr30K_ID"] == pair["Flikr30kID"]
            assert f"{pair['Flikr30kID']}.jpg" in images
            assert pair["captionID"].split("#")[0] == f"{pair['Flikr30kID']}.jpg"
            assert pair["pairID"].startswith(pair["captionID"])
            assert pair["pairID"].endswith(pair["gold_label"][0])
            assert Counter(pair["annotator_labels"]).most_common(1)[0][0] == pair["gold_label"]
            assert len(pair["annotator_labels"]) == (1 if split == "train2014" else 5)
            by_text[pair["sentence2"]][pair["gold_label"]] += 1
        assert len({pair["pairID"] for pair in found}) == len(found) > len(images)
        for labels in by_text.values():
            assert len(set(labels.values())) == 1
            assert len(labels) == 3


def test_labels_of_pairs_are_right(world: Path) -> None:
    checked: Counter[str] = Counter()
    for split in SPLITS:
        for pair in pairs(world, split):
            truth = truth_of(int(pair["Flikr30kID"][-12:]))
            assert pair["gold_label"] == judged(truth, pair["sentence2"].lower().rstrip(".")), (
                pair["sentence2"],
                pair["pairID"],
            )
            checked[pair["gold_label"]] += 1
    assert len(set(checked.values())) == 1


def judged(truth: Truth, text: str) -> str:
    """The label by reading the sentence and looking at the rays."""
    nouns = re.findall(NOUN, text)
    words = {True: "entailment", False: "contradiction"}
    if match := re.search(rf"^(?:this|the picture).* an? ({ROOM})$", text):
        seen = {truth.house.items[k].category for k in truth.columns if truth.share(k) >= VISIBLE}
        seen = {c for c in seen if any(i.room == truth.room and i.category == c for i in truth.house.items)}
        kinds = [k for k, r in KINDS.items() if seen <= {c for c, *_ in r.furniture}]
        if len(kinds) > 1 and match[1] in kinds:
            return "neutral"
        return words[room_of(truth) == match[1]]
    items = [truth.of(noun, VISIBLE) for noun in nouns]
    if not all(items):
        return "neutral"
    a = items[0][0]
    if match := re.search(rf" (?:is in|belongs to) the ({ROOM})$", text):
        return words[room_of(truth) == match[1]]
    if match := re.search(r"(?:made of|consists of) (\w+)$", text):
        return words[a.material == match[1]]
    if len(items) == 1:
        return words[text.endswith(f" {a.colour}")]
    b = items[1][0]
    if "color" in text:
        return words[a.colour == b.colour]
    if "left" in text or "right" in text:
        return words[(truth.x(a.index) < truth.x(b.index)) == ("left" in text)]
    if "above" in text or "below" in text:
        a, b = (a, b) if "above" in text else (b, a)
        return words[a.z0_m > b.z1_m - 0.1 and gap_m(a, b) < 0.5]
    return words[a.room == b.room and gap_m(a, b) <= 0.61]


def test_without_tasks_there_are_none_and_lost_files_come_back(world: Path, tmp_path: Path) -> None:
    small = replace(CONFIG, train=1, unseen=0, train_routes=2, depth=False)
    make_world(tmp_path / "plain", replace(small, tasks=False))
    assert not (tmp_path / "plain" / "vision_language").exists()
    house = json.loads((tmp_path / "plain" / "houses" / "s3t000.json").read_text())
    assert {tuple(viewpoint["pictures"]) for viewpoint in house["viewpoints"]} == {()}
    lost = [language_files(world)[0], next((world / "vision_language" / "images" / "train2014").iterdir())]
    before = [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    make_world(world, CONFIG)
    assert [path.read_bytes() for path in lost] == before

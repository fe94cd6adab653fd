"""Views and captions: what they say is compared with rays cast through every pixel of the view."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from ray_truth import NOUNS, Truth, gap_m, look, one_of, plural

from envs.houses.captions import view_captions
from envs.houses.house import House
from envs.houses.materials import COLOURS
from envs.houses.rooms import KINDS
from envs.houses.sight import sight_of
from envs.houses.views import house_views
from envs.houses.wording import MATERIAL_WORDS, PLACES
from envs.houses.writer import connectivity, scene_graph

Described = list[tuple[House, dict[str, Any]]]
NUMBER = {"two": 2, "three": 3, "four": 4, "five": 5}
THING = (
    rf"(?:(?P<many>{one_of(list(NUMBER))}) )?(?:(?:tall|another|a|an) )*(?:(?P<colour>{one_of(list(COLOURS))}) )?"
    rf"(?:(?P<material>{one_of(list(MATERIAL_WORDS.values()))}) )?"
    rf"(?P<noun>{one_of([*NOUNS, *(plural(noun) for noun in NOUNS)])})\b(?! wall)"
)
PART = rf"({one_of(list(NOUNS))}) (?:on|in|with) an? ({one_of(list(COLOURS))}) (?:cabinet|stand|frame|blanket|shade)"
PLURAL_OF = {plural(noun): noun for noun in NOUNS}


@pytest.fixture(scope="module")
def described(houses: list[House]) -> Described:
    found = []
    for house in houses:
        found.append((house, {**scene_graph(house, house_views(house)), "connectivity": connectivity(house.graph)}))
    return found


def sample(
    described: Described, count: int, seed: int, views: int = 36
) -> list[tuple[House, dict[str, Any], int, int]]:
    rng = np.random.default_rng(seed)
    chosen = [described[int(i)] for i in rng.integers(len(described), size=count)]
    return [(h, facts, int(rng.integers(len(h.graph.room))), int(rng.integers(views))) for h, facts in chosen]


def test_views_hold_the_shares_that_rays_find(described: Described) -> None:
    errors = []
    for house, facts, row, view in sample(described, 60, 0):
        truth = look(house, row, view)
        listed = {entry[0]: entry[1:] for entry in facts["viewpoints"][row]["views"][view]}
        for index in truth.columns:
            share = truth.share(index)
            if share < 5:
                continue
            permille, x, left, right, part, coloured = listed[index]
            assert permille == pytest.approx(share, abs=6 + 0.25 * share)
            assert x / 100 == pytest.approx(truth.x(index), abs=0.12)
            assert left / 100 == pytest.approx(2 * truth.columns[index].min() / 160 - 1, abs=0.12)
            assert right / 100 == pytest.approx(2 * truth.columns[index].max() / 160 - 1, abs=0.12)
            assert 1 <= part <= 100
            assert 0 <= coloured <= 100
            errors.append(abs(permille - share) / share)
        for index, entry in listed.items():
            assert truth.share(index) > 0 or entry[0] <= 3
    assert len(errors) > 80
    assert np.median(errors) < 0.05


def test_rooms_of_views_are_those_behind_the_doors(described: Described) -> None:
    through = 0
    for house, facts, row, view in sample(described, 200, 1):
        place = facts["viewpoints"][row]
        shown = place["view_rooms"][view]
        assert 900 <= sum(entry[1] for entry in shown) <= 1003
        joined = {frozenset((door.a, door.b)) for door in house.plan.doors}
        if shown[0][0] != place["room"]:
            through += 1
            assert place["door"] >= 0 or frozenset((shown[0][0], place["room"])) in joined | stairs(house)
        if house.plan.stairs is None:
            assert not any(place["view_steps"])
    assert 5 < through < 80


def stairs(house: House) -> set[frozenset[int]]:
    s = house.plan.stairs
    return {frozenset((s.foot, s.landing))} if s else set()


def test_steps_are_seen_from_the_stairs_alone(described: Described) -> None:
    house, facts = next((house, facts) for house, facts in described if house.plan.stairs is not None)
    assert house.plan.stairs is not None
    seen = [max(place["view_steps"]) for place in facts["viewpoints"]]
    rooms = [place["room"] for place in facts["viewpoints"]]
    assert max(n for n, room in zip(seen, rooms, strict=True) if room == house.plan.stairs.foot) > 200
    assert np.median([n for n, room in zip(seen, rooms, strict=True) if room != house.plan.stairs.foot]) == 0


def test_captions_name_what_is_visible(described: Described) -> None:
    """Each noun with its colour, material, number; each left and right, above, next to; each room."""
    found: dict[str, int] = {}
    for house, facts, row, view in sample(described, 250, 2, views=24):
        truth = look(house, row, view)
        for caption in view_captions(facts, row, view, np.random.default_rng([row, view])):
            for kind in check_caption(house, truth, facts["viewpoints"][row], view, caption):
                found[kind] = found.get(kind, 0) + 1
    assert found.keys() == {"thing", "many", "left", "above", "next", "front", "room", "doorway"}
    assert min(found.values()) >= 2
    assert found["thing"] > 600


def check_caption(house: House, truth: Truth, place: dict[str, Any], view: int, caption: str) -> list[str]:
    text = re.sub(PART, r"\2 \1", caption[0].lower() + caption[1:-1])
    checked = []
    things = list(re.finditer(THING, text))
    for match in things:
        kind, items = named(truth, match)
        shares = [(house.items[k].name, truth.share(k)) for k in truth.columns]
        assert items, (caption, match.group(), shares)
        checked.append(kind)
    if len(things) == 2:
        checked += check_relation(truth, text, *things)
    rooms = re.findall(rf"(?:in|of|from|into|^) ?(?:a|an|the) ({one_of([PLACES.get(k, k) for k in KINDS])})", text)
    for name in rooms[:1]:
        shown = [entry[0] for entry in place["view_rooms"][view]]
        assert name in {PLACES.get(house.plan.rooms[r].kind, house.plan.rooms[r].kind) for r in shown}, caption
        checked.append("room")
    if "door" in text:
        rooms_seen = {entry[0] for entry in place["view_rooms"][view] if entry[1] >= 20} | {place["room"]}
        if "edge" not in text and "doorway in a house" not in text:
            assert len(rooms_seen) >= 2, caption
            checked.append("doorway")
    return checked


def named(truth: Truth, match: re.Match[str]) -> tuple[str, list[Any]]:
    """What a phrase may mean, all alike; empty where it is false."""
    words = match.groupdict(default="")
    material = next((m for m, word in MATERIAL_WORDS.items() if word == words["material"]), "")
    noun = PLURAL_OF.get(words["noun"], words["noun"])
    items = truth.of(noun, 4.0, words["colour"], material)
    if not words["many"]:
        return "thing", items
    return "many", items if len(truth.of(noun)) == NUMBER[words["many"]] == len(items) else []


def check_relation(truth: Truth, text: str, first: re.Match[str], second: re.Match[str]) -> list[str]:
    """Whether a pair of objects that the phrases may mean is so."""
    between = text[first.end() : second.start()]
    pairs = [(a, b) for a in named(truth, first)[1] for b in named(truth, second)[1] if a is not b]
    if re.search("to the left of|on the left and", between):
        assert any(truth.x(a.index) < truth.x(b.index) - 0.15 for a, b in pairs), text
        return ["left"]
    if "to the right of" in between:
        assert any(truth.x(a.index) > truth.x(b.index) + 0.15 for a, b in pairs), text
        return ["left"]
    if " above " in between:
        assert any(a.z0_m > b.z1_m - 0.1 and gap_m(a, b) < 0.5 for a, b in pairs), text
        return ["above"]
    if "next to" in between or "beside" in between:
        assert any(gap_m(a, b) <= 0.61 and a.room == b.room for a, b in pairs), text
        return ["next"]
    if "in front of" in between:
        eye = truth.eye_m
        near = [
            (np.hypot(*np.subtract(i.rect.centre, eye)), np.hypot(*np.subtract(j.rect.centre, eye))) for i, j in pairs
        ]
        assert any(a < b for a, b in near), text
        return ["front"]
    return []


def test_captions_are_short_varied_and_the_same_for_one_seed(described: Described) -> None:
    captions: list[str] = []
    for _, facts, row, view in sample(described, 150, 3):
        five = view_captions(facts, row, view, np.random.default_rng([row, view]))
        assert five == view_captions(facts, row, view, np.random.default_rng([row, view]))
        assert len(five) == 5
        captions += five
    words = [len(caption.split()) for caption in captions]
    assert 7 < np.mean(words) < 12
    assert max(words) < 30
    assert len(set(captions)) > 0.8 * len(captions)
    assert all(caption[0].isupper() and caption.endswith(".") and "  " not in caption for caption in captions)
    assert not any(re.search(r"\ba [aeio]|\ban [^aeio]", caption.lower()) for caption in captions)


def test_houses_without_views_are_refused(described: Described) -> None:
    old = {**described[0][1], "viewpoints": [{"id": "x", "room": 0, "door": -1, "seen_items": {}}]}
    with pytest.raises(ValueError, match="older format"):
        sight_of(old, 0, 12)

"""Choosing among candidates: answers come out balanced, pictures are not asked about too often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from envs.houses.answers import ten_answers
from envs.houses.balance import choose, rounds
from envs.houses.pictures import image_file, image_id
from envs.houses.questions import Question

Candidate = tuple[str, str, int]
"""Kind, answer, picture."""


def chosen(groups: dict[str, list[Candidate]], total: int, per_image: int = 3, least: int = 2) -> list[Candidate]:
    sets = choose(
        groups, lambda c: c[1], lambda c: c[2], lambda c: c[0], {"a": 0.6, "b": 0.5}, per_image, total,
        lambda kind, answers: least, np.random.default_rng(0),
    )  # fmt: skip
    assert all(len({c[1] for c in one}) == len(one) >= least for one in sets)
    return [c for one in sets for c in one]


def test_answers_of_a_group_are_equally_many() -> None:
    groups = {"sofa": [("a", "yes", i) for i in range(90)] + [("a", "no", i) for i in range(90, 100)]}
    assert Counter(c[1] for c in chosen(groups, 1000)) == {"yes": 10, "no": 10}


def test_a_group_with_one_answer_is_left_out() -> None:
    groups = {"stove": [("a", "metal", i) for i in range(50)]}
    assert chosen(groups, 100) == []


def test_a_third_answer_is_taken_as_often_as_asked_for() -> None:
    counts = {"0": 50, "1": 40, "2": 6, "3": 2}
    items = [("a", answer, i * 60 + k) for i, (answer, n) in enumerate(counts.items()) for k in range(n)]
    found = Counter(c[1] for c in chosen({"chair": items}, 1000, least=3))
    assert found == {"0": 6, "1": 6, "2": 6, "3": 2}
    assert len(rounds(items, lambda c: c[1], np.random.default_rng(1), 4)) == 2


def test_pictures_and_kinds_have_their_limits() -> None:
    rng = np.random.default_rng(2)
    groups = {
        f"{kind}{g}": [(kind, str(rng.choice(["yes", "no"])), int(rng.integers(30))) for _ in range(40)]
        for kind in "ab"
        for g in range(10)
    }
    found = chosen(groups, 60)
    assert max(Counter(c[2] for c in found).values()) <= 3
    kinds = Counter(c[0] for c in found)
    assert 30 <= kinds["a"] <= 36
    assert 26 <= kinds["b"] <= 30


@pytest.mark.parametrize(
    ("answer", "kind", "answer_type", "others"),
    [("gray", "colour", "other", {"grey", "black"}), ("yes", "exists", "yes/no", {"no"}),
     ("2", "count", "number", {"1", "3"}), ("sofa", "relation", "other", {"couch"}),
     ("left", "relation", "other", {"right"})],
)  # fmt: skip
def test_ten_people_mostly_agree(answer: str, kind: str, answer_type: str, others: set[str]) -> None:
    question = Question(0, kind, ("x",), "What is it?", answer, answer_type)
    rng = np.random.default_rng(3)
    given = [entry["answer"] for _ in range(200) for entry in ten_answers(question, rng)]
    assert set(given) == {answer, *others}
    assert 0.8 < given.count(answer) / len(given) < 0.99


def test_ids_of_pictures_are_unique_and_house_sized(tmp_path) -> None:  # type: ignore[no-untyped-def]
    ids = {image_id(s, n, v, w) for s in (0, 1) for n in (0, 7, 999) for v in (0, 276) for w in (12, 23)}
    assert len(ids) == 24
    assert image_file(tmp_path, 1, image_id(1, 2, 3, 14)).name == "COCO_val2014_000010020122.jpg"
    with pytest.raises(ValueError, match="more than 277 viewpoints"):
        image_id(0, 0, 278, 12)

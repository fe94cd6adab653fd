"""VQA accuracy against the official evaluator's scores, and its quirks one by one."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from vl_tasks.vqa_accuracy import answer_accuracy, normalise_answer, normalise_words, remove_punctuation, vqa_accuracy


def annotation(
    question: int, answers: list[str], answer_type: str = "other", question_type: str = "what"
) -> dict[str, Any]:
    return {
        "question_id": question,
        "answer_type": answer_type,
        "question_type": question_type,
        "answers": [{"answer": answer, "answer_id": i + 1} for i, answer in enumerate(answers)],
    }


def test_golden(golden_dir: Path) -> None:
    golden = json.loads(gzip.decompress((golden_dir / "language" / "vqa_dev.json.gz").read_bytes()))
    annotations, scores = golden["annotations"]["annotations"], golden["scores"]
    found = vqa_accuracy(annotations, golden["results"])
    official = found.official()
    assert {str(question): value for question, value in official["evalQA"].items()} == scores["per_question"]
    assert official["overall"] == scores["overall"]
    assert official["perAnswerType"] == scores["per_answer_type"]
    assert official["perQuestionType"] == scores["per_question_type"]
    assert len(found.question) == 1500
    exact = [round(30 * value / 100) / 30 for value in scores["per_question"].values()]  # scores are thirtieths
    assert math.isclose(found.overall, math.fsum(exact) / 1500, abs_tol=1e-9)
    backwards = vqa_accuracy(annotations, golden["results"][::-1])
    assert backwards == found


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("A red  apple.", "red apple"),
        ("Two", "2"),
        ("none", "0"),
        ("ten the an", "10"),
        ("dont know", "don't know"),
        ("couldntve", "couldntve"),
        ("couldnt've", "couldn't've"),
        ("somebody'd", "somebodyd"),
        ("Im", "im"),
        ("5-6", "5 6"),
        ("5 - 6", "5 6"),
        ("red/white", "red white"),
        ("red, white", "red white"),
        ("$1,000", "$1000"),
        ("1,2,3 a-b", "123 ab"),
        ("black&white", "black&white"),
        ("10:30", "10:30"),
        ("3.5", "3.5"),
        ("3 . 5", "3 5"),
        ("u.s.a.", "usa"),
        ("'quoted'", "'quoted'"),
        (" ski\tpole\n", "ski pole"),
        ("?", ""),
        ("", ""),
    ],
)
def test_normalised(answer: str, normal: str) -> None:
    assert normalise_answer(answer) == normal


def test_only_32_periods_are_removed() -> None:
    assert remove_punctuation("." * 40) == "." * 8
    assert normalise_words("The The THE") == ""


def test_leave_one_out() -> None:
    """k equal answers of ten: k times min((k - 1) / 3, 1), else min(k / 3, 1)."""
    for count, expected in [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1)]:
        humans = ["yes"] * count + ["no"] * (10 - count)
        assert answer_accuracy("yes", humans) == pytest.approx(expected)


def test_equal_answers_are_not_normalised() -> None:
    """The rule that a capital or a point costs everything where all ten people agree."""
    assert answer_accuracy("Red.", ["red"] * 10) == 0
    assert answer_accuracy("Red.", ["red"] * 9 + ["blue"]) == 1
    assert answer_accuracy(" red\n", ["red"] * 10) == 1
    assert answer_accuracy("", ["?"] * 5 + ["!"] * 5) == 1  # nothing is left of either


def test_types() -> None:
    annotations = [
        annotation(1, ["yes"] * 10, "yes/no", "is the"),
        annotation(2, ["2"] * 5 + ["3"] * 5, "number", "how many"),
        annotation(3, ["red"] * 2 + ["blue"] * 8, "other", "is the"),
    ]
    results = [{"question_id": i, "answer": a} for i, a in [(3, "red"), (1, "yes"), (2, "two")]]
    found = vqa_accuracy(annotations, results)
    assert found.question == pytest.approx({1: 1, 2: 1, 3: 0.6})
    assert found.answer_type == pytest.approx({"yes/no": 1, "number": 1, "other": 0.6})
    assert found.question_type == pytest.approx({"is the": 0.8, "how many": 1})
    assert found.overall == pytest.approx(2.6 / 3)
    assert found.official()["overall"] == 86.67


def test_bad_ids() -> None:
    annotations = [annotation(i, ["a", *"bcdefghij"]) for i in range(8)]
    results = [{"question_id": i, "answer": "b"} for i in range(8)]
    with pytest.raises(ValueError, match=r"7 questions of the annotations have no result: 1, 2, 3, 4, 5, \.\.\."):
        vqa_accuracy(annotations, results[:1])
    with pytest.raises(ValueError, match="1 questions of the results have no annotation: 7"):
        vqa_accuracy(annotations[:7], results)
    with pytest.raises(ValueError, match="results: found question 2 2 times"):
        vqa_accuracy(annotations, [*results, results[2]])
    with pytest.raises(ValueError, match="results: found an entry without question_id"):
        vqa_accuracy(annotations, [*results, {"answer": "b"}])
    with pytest.raises(ValueError, match="found no annotations"):
        vqa_accuracy([], [])


def test_bad_answers() -> None:
    result = [{"question_id": 1, "answer": "b"}]
    with pytest.raises(ValueError, match="question 1: found 3 human answers; expected 10"):
        vqa_accuracy([annotation(1, ["b", "b", "c"])], result)
    assert vqa_accuracy([annotation(1, ["b", "b", "c"])], result, answers_each=None).overall == pytest.approx(4 / 9)
    with pytest.raises(ValueError, match="question 1: found 0 human answers; expected one or more"):
        vqa_accuracy([annotation(1, [])], result, answers_each=None)
    with pytest.raises(ValueError, match="question 1: found the answer 2; expected a text"):
        vqa_accuracy([annotation(1, ["2"] * 10)], [{"question_id": 1, "answer": 2}])

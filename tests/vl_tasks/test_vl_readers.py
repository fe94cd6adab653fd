"""Readers of the official formats, and what they say of files that are not as they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from vqa_world import annotation, write_split

from vl_tasks.__main__ import main
from vl_tasks.coco_files import read_captions, read_coco_captions, read_karpathy, write_captions
from vl_tasks.data import ImageKeys, coco_names
from vl_tasks.entailment_files import read_pairs
from vl_tasks.gqa_files import read_predictions, write_predictions
from vl_tasks.gqa_files import read_questions as read_gqa
from vl_tasks.question_sets import GQA, answers_in_order
from vl_tasks.vqa_files import read_questions, read_results, write_results

# -- VQA v2 ------------------------------------------------------------------------------------------------------------


def vqa_split(folder: Path, **changes: Any) -> Path:
    """Two questions, and what their annotations have in common changed."""
    questions = [{"image_id": 42, "question": f"What is {i}?", "question_id": 42000 + i} for i in range(2)]
    annotations = [annotation(42000 + i, 42, "What is it?", "cat", "other") | changes for i in range(2)]
    write_split(folder, "val2014", questions, annotations)
    return folder


def test_questions_with_their_answers(tmp_path: Path) -> None:
    first, second = read_questions(vqa_split(tmp_path), "val2014")
    assert (first.question_id, first.text, second.text) == (42000, "What is 0?", "What is 1?")
    assert first.images[0] == "COCO_val2014_000000000042"
    assert first.answers == ("cat",) * 10
    assert (first.answer, first.question_type, first.answer_type) == ("cat", "what is", "other")


def test_test_split_has_no_answers_and_test_dev_asks_about_images_of_test(tmp_path: Path) -> None:
    write_split(tmp_path, "test-dev2015", [{"image_id": 7, "question": "Is it?", "question_id": 1}], [])
    (tmp_path / "v2_mscoco_test-dev2015_annotations.json").unlink()
    (question,) = read_questions(tmp_path, "test-dev2015")
    assert question.answers == ()
    assert question.images[0] == "COCO_test2015_000000000007"


def test_question_without_annotation(tmp_path: Path) -> None:
    folder = vqa_split(tmp_path)
    path = folder / "v2_mscoco_val2014_annotations.json"
    document = json.loads(path.read_text())
    removed = document["annotations"].pop()
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"1 questions of .*questions.json are not in .*annotations.json: 42001"):
        read_questions(folder, "val2014")
    document["annotations"] += [removed, {**removed, "question_id": 9}]
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"1 questions of .*annotations.json are not in .*: 9"):
        read_questions(folder, "val2014")


def test_fewer_than_ten_answers(tmp_path: Path) -> None:
    folder = vqa_split(tmp_path, answers=[{"answer": "cat"}, {"answer": "dog"}])
    with pytest.raises(ValueError, match=r"question 42000 has 2 human answers; expected 10 \(--any-number-of-answers"):
        read_questions(folder, "val2014")
    assert read_questions(folder, "val2014", None)[0].answers == ("cat", "dog")
    with pytest.raises(ValueError, match=r"has 0 human answers; expected one or more$"):
        read_questions(vqa_split(tmp_path, answers=[]), "val2014", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON file"),
        ('{"annotations": []}', "has no list 'questions'"),
        ('{"questions": [{"question_id": 1, "question": "a"}]}', "found image_id None"),
        (
            '{"questions": [{"question_id": "1", "question": "a", "image_id": 3}]}',
            "found question_id '1'.*expected int",
        ),
        ('{"questions": []}', "has no question"),
    ],
)
def test_files_of_another_format(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_questions(tmp_path, "val2014")
    with pytest.raises(ValueError, match=r"no file .*; docs/data.md"):
        read_questions(tmp_path, "train2014")


def test_results_file_with_missing_and_unknown_ids(tmp_path: Path) -> None:
    questions = read_questions(vqa_split(tmp_path), "val2014")
    path = tmp_path / "results.json"
    write_results(path, {42001: "dog", 42000: "cat"})
    assert answers_in_order(path, questions, read_results(path)) == ["cat", "dog"]
    write_results(path, {42000: "cat"})
    with pytest.raises(
        ValueError, match="has no answer to 1 questions: 42001; expected one for each of 2: name the split"
    ):
        answers_in_order(path, questions, read_results(path))
    write_results(path, {42000: "cat", 42001: "dog", 5: "x"})
    with pytest.raises(ValueError, match="answers unknown 1 questions: 5"):
        answers_in_order(path, questions, read_results(path))
    path.write_text('[{"question_id": 1, "answer": "a"}, {"question_id": 1, "answer": "b"}]')
    with pytest.raises(ValueError, match="question_id 1 comes twice; expected it once"):
        read_results(path)


# -- images by their names ---------------------------------------------------------------------------------------------


def test_images_by_the_names_of_several_data_sets() -> None:
    keys = ImageKeys(
        ["val2014/COCO_val2014_000000000042", "train2014/COCO_train2014_000000000007", "n7", "a/1", "b/1"], "x"
    )
    assert keys.find(coco_names("val2014", 42)) == "val2014/COCO_val2014_000000000042"
    assert keys.find(("val2014/COCO_val2014_000000000042.jpg",)) == "val2014/COCO_val2014_000000000042"
    assert keys.find(("n7.jpg",)) == "n7"
    assert keys.find(("7",)) is None  # the end of a name is not the name
    with pytest.raises(ValueError, match="means 2 images of x: a/1, b/1"):
        keys.find(("1",))
    with pytest.raises(ValueError, match=r"x lacks 2 of 3 images: COCO_val2014_000000000005, zebra"):
        keys.find_all([("n7",), ("zebra", "horse"), coco_names("val2014", 5)])


# -- captions ----------------------------------------------------------------------------------------------------------


def karpathy(folder: Path, **changes: Any) -> Path:
    sentence = {"tokens": ["a", "cat"], "raw": "A cat.", "imgid": 0, "sentid": 0}
    item = {"filepath": "val2014", "filename": "COCO_val2014_000000000042.jpg", "cocoid": 42, "imgid": 0}
    parts = ["train", "restval", "val", "test"]
    images = [{**item, "cocoid": 42 + i, "split": part, "sentences": [sentence]} for i, part in enumerate(parts)]
    images[0] |= changes
    (folder / "dataset_coco.json").write_text(json.dumps({"dataset": "coco", "images": images}))
    return folder / "dataset_coco.json"


def test_karpathy_split(tmp_path: Path) -> None:
    found = read_karpathy(karpathy(tmp_path))
    assert [image.image_id for image in found.train] == [42, 43]
    assert found.notes == ()
    (image,) = found.parts["val"]
    assert image.images[0] == "val2014/COCO_val2014_000000000042.jpg"
    assert (image.captions, image.tokens) == (("A cat.",), (("a", "cat"),))


def test_karpathy_split_without_restval_and_with_empty_captions(tmp_path: Path) -> None:
    path = karpathy(tmp_path)
    document = json.loads(path.read_text())
    document["images"].pop(1)
    document["images"][0]["sentences"].append({"tokens": [], "raw": " "})
    path.write_text(json.dumps(document))
    found = read_karpathy(path)
    assert [len(image.captions) for image in found.train] == [1]
    assert found.notes == (
        "dataset_coco.json: left out 1 captions without a word",
        "dataset_coco.json has no split restval: training uses train alone (1 images)",
    )
    with pytest.raises(ValueError, match="image 42 has no caption with a word"):
        read_karpathy(karpathy(tmp_path, sentences=[{"tokens": [""], "raw": ""}]))
    with pytest.raises(ValueError, match="image 43 comes twice"):
        read_karpathy(karpathy(tmp_path, cocoid=43))
    with pytest.raises(ValueError, match=r"no image of the split train \(found \['dev', 'restval', 'test', 'val'\]\)"):
        read_karpathy(karpathy(tmp_path, split="dev"))


def test_coco_captions(tmp_path: Path) -> None:
    path = tmp_path / "captions_val2014.json"
    images = [{"id": 1, "file_name": "COCO_val2014_000000000001.jpg"}, {"id": 2}, {"id": 3}]
    captions = [{"id": 5, "image_id": 2, "caption": " Two. "}, {"id": 6, "image_id": 1, "caption": "One."}]
    path.write_text(json.dumps({"images": images, "annotations": captions}))
    first, second = read_coco_captions(path)
    assert (first.image_id, first.captions, first.images) == (1, ("One.",), ("COCO_val2014_000000000001.jpg",))
    assert (second.captions, second.images[0]) == (("Two.",), "COCO_val2014_000000000002")
    path.write_text(json.dumps({"images": images, "annotations": [{"id": 5, "image_id": 2, "caption": " "}]}))
    with pytest.raises(ValueError, match="caption 5 of image 2 is empty"):
        read_coco_captions(path)
    path.write_text(json.dumps({"images": images, "annotations": [{"id": 5, "image_id": 9, "caption": "x"}]}))
    with pytest.raises(ValueError, match="caption 5 is of image 9, which is not in the file"):
        read_coco_captions(path)


def test_caption_results(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_captions(path, {1: "a cat", 2: "a dog"})
    assert read_captions(path, {1: None, 2: None}) == {1: "a cat", 2: "a dog"}
    with pytest.raises(ValueError, match="has no caption for 1 images: 3; expected one for each of 3: name the split"):
        read_captions(path, dict.fromkeys([1, 2, 3]))
    with pytest.raises(ValueError, match="has captions of unknown 1 images: 2"):
        read_captions(path, {1: None})


# -- SNLI-VE, GQA ------------------------------------------------------------------------------------------------------


def test_pairs_with_both_spellings_of_the_image(tmp_path: Path) -> None:
    path = tmp_path / "snli_ve_dev.jsonl"
    lines = [
        {"gold_label": "entailment", "sentence2": "A cat.", "Flickr30K_ID": "77", "pairID": "p", "sentence1": "A pet."},
        {"gold_label": "-", "sentence2": "A dog.", "Flikr30kID": "78"},
        {"gold_label": "contradiction", "sentence2": "No cat.", "Flikr30kID": "79.jpg"},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = read_pairs(tmp_path, "dev")
    assert found.without_label == 1
    first, second = found.pairs
    assert (first.images, first.hypothesis, first.label, first.pair_id) == (("77",), "A cat.", "entailment", "p")
    assert (second.images, second.premise) == (("79.jpg",), "")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"gold_label": "maybe", "sentence2": "A.", "Flikr30kID": "1"}', "line 2: found gold_label 'maybe'"),
        (
            '{"gold_label": "neutral", "sentence2": "A."}',
            "line 2: found the keys .* expected the image as Flickr30K_ID",
        ),
        ('{"gold_label": "neutral", "sentence2": " ", "Flikr30kID": "1"}', "line 2: sentence2 is empty"),
        ('{"gold_label": "neutral", ', "line 2 is no JSON"),
        ("[]", "line 2: found '\\[\\]'; expected a JSON object"),
    ],
)
def test_bad_pairs(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "snli_ve_dev.jsonl").write_text(f"\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_pairs(tmp_path, "dev")


def test_gqa(tmp_path: Path) -> None:
    item = {
        "imageId": "n7",
        "question": "Who is it?",
        "answer": "the man",
        "types": {"structural": "query", "semantic": "rel"},
    }
    binary = {**item, "answer": "yes", "types": {"structural": "verify", "semantic": "obj"}}
    (tmp_path / "testdev_balanced_questions.json").write_text(json.dumps({"01": item, "02": binary}))
    found = read_gqa(tmp_path, "testdev")
    assert [(q.question_id, q.answer, q.structural) for q in found] == [
        ("01", "the man", "query"),
        ("02", "yes", "verify"),
    ]
    questions = GQA.read(tmp_path, "testdev", 10)
    assert [(q.answers, q.answer_type, q.images) for q in questions] == [
        (("the man",), "open", ("n7",)),
        (("yes",), "binary", ("n7",)),
    ]
    scores = GQA.score(questions, ["the man", "no"], 10)
    assert (scores.overall, scores.groups["answer type"]) == (0.5, {"open": 1.0, "binary": 0.0})
    assert GQA.score(questions, ["man", "no"], 10).overall == 0  # equal strings, not the normalised ones
    path = tmp_path / "predictions.json"
    write_predictions(path, {"01": "man", "02": "yes"})
    assert answers_in_order(path, questions, read_predictions(path)) == ["man", "yes"]
    assert json.loads(path.read_text())[0] == {"questionId": "01", "prediction": "man"}


@pytest.mark.parametrize("verb", [["train"], ["eval", "--results", "x"], ["predict", "--checkpoint", "x"]])
def test_gqa_needs_its_files(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gqa", *verb]) == 2
    assert "the built-in houses have no questions of GQA; expected --data FOLDER" in flat(capsys.readouterr().err)


def test_help_of_gqa_speaks_of_gqa(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, expected in (
        ("train", "runs/gqa"),
        ("eval", "GQA's accuracy"),
        ("predict", "gqa predict"),
        ("ask", "GQA"),
    ):
        with pytest.raises(SystemExit, match="0"):
            main(["gqa", verb, "--help"])
        told = flat(capsys.readouterr().out)
        assert expected in told
        assert "official VQA accuracy" not in told


def flat(text: str) -> str:
    return " ".join(text.replace("\u2502", " ").split())

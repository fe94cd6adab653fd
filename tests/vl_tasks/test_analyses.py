"""CLIP alone on questions by prompts, runs side by side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from clip_toy import make_folder
from rich.console import Console
from vqa_world import write_world

from clip_core.encoder import ClipEncoder
from clip_core.runtime import Runtime
from precompute.images import Images, make_images
from vl_tasks.__main__ import main
from vl_tasks.compare import read_run
from vl_tasks.prompts import PROMPTS, statement
from vl_tasks.sources import image_files
from vl_tasks.vqa_data import image_numbers
from vl_tasks.vqa_files import Question, read_questions
from vl_tasks.zero_shot import candidate_answers, image_vectors, zero_shot_answers


@pytest.mark.parametrize(
    ("question", "answer", "text"),
    [
        ("What color is the sofa?", "red", "the sofa is red"),
        ("What is the color of the rug?", "blue", "the rug is blue"),
        ("What is the table made of?", "wood", "the table wood"),
        ("What room is shown in the picture?", "kitchen", "kitchen, the room shown in the picture"),
        ("How many bookcases can you see?", "3", "3 bookcases"),
        ("How many things hang on the walls?", "0", "0 things"),
        ("Is there a clock in the picture?", "yes", "there is a clock in the picture"),
        ("Is there a clock in the picture?", "no", "there is no clock in the picture"),
        ("Are there any counters?", "no", "there are no counters"),
        ("Is the bed green?", "yes", "the bed green"),
        ("Is the bed green?", "no", "not the bed green"),
        ("What is the cat on?", "sofa", "the cat on is sofa"),
        ("What hangs on the wall?", "painting", "painting hangs on the wall"),
        ("Name it.", "tree", "name it tree"),
    ],
)
def test_statements(question: str, answer: str, text: str) -> None:
    assert statement(question, answer) == text


def test_prompts() -> None:
    assert PROMPTS["answer"]("What?", "red") == "red"
    assert PROMPTS["question"]("What is it?", "red") == "question: What is it? answer: red"


def test_candidates_by_hand() -> None:
    known = [("other", "red"), ("other", "The blue"), ("other", "blue"), ("yes/no", "no"), ("number", "2")]
    questions = [Question(i, ("a",), "?", (a,), a, "what", kind) for i, (kind, a) in enumerate(known)]
    assert candidate_answers(questions, 9) == {"other": ["blue", "red"], "yes/no": ["no"], "number": ["2"]}
    assert candidate_answers(questions, 1)["other"] == ["blue"]
    among_all = candidate_answers(questions, 3, "all")
    assert among_all["number"] == among_all["other"] == ["blue", "2", "no"]


def test_answers_equal_those_of_one_question_at_a_time(tmp_path: Path) -> None:
    """All prompts that share their texts are compared at once; the slow path encodes each prompt of each question."""
    folder = write_world(tmp_path / "world", train=6, val=5)
    encoder = ClipEncoder.load(make_folder(tmp_path / "vit", "vit"))
    questions = read_questions(folder, "val2014")
    candidates = candidate_answers(read_questions(folder, "train2014"), 10)
    numbers = image_numbers({"val2014": questions})
    images = image_vectors(encoder, image_files(list(numbers), folder / "images"))
    for name, prompt in PROMPTS.items():
        found = zero_shot_answers(encoder, images, questions, numbers, candidates, prompt)
        for question, answer in zip(questions, found, strict=True):
            choices = candidates[question.answer_type or ""]
            with torch.no_grad():
                texts = encoder.text_vectors([prompt(question.text, choice) for choice in choices])
            scores = torch.nn.functional.cosine_similarity(images[numbers[question.images]][None], texts)
            assert float(scores[choices.index(answer)]) == pytest.approx(float(scores.max()), abs=1e-6), name


def test_the_command_tells_accuracies_by_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_world(tmp_path / "world")
    flags = ["--data", str(folder), "--device", "cpu", "--json", str(tmp_path / "s.json"), "--size", "64x96"]
    assert main(["analyse", "zero-shot", *flags, "--prompts", "answer", "statement", "--limit", "20"]) == 0
    out = capsys.readouterr().out
    assert "clipnav-houses alone on 20 questions of val2014" in out
    assert "answers to choose from: " in out
    assert "3 for other" in out
    scores = json.loads((tmp_path / "s.json").read_text())
    assert list(scores) == ["most common answer", "answer", "statement"]
    assert set(scores["answer"]["answer type"]) == {"other", "yes/no"}
    assert main(["analyse", "zero-shot", *flags, "--split", "test2015"]) == 2
    assert "no file" in " ".join(capsys.readouterr().err.split())


def test_runs_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_world(tmp_path / "world", train=6, val=3)
    encoder = ["--encoder", make_folder(tmp_path / "rn", "rn"), "--size", "64x64"]
    flags = ["vqa", "train", "--data", str(folder), "--device", "cpu", "--recipe", "houses", "--no-blind-twin"]
    flags += ["--hidden", "8", "--heads", "2", "--layers", "1", "--steps", "2", "--eval-every", "2", "--batch", "4"]
    pooled = tmp_path / "pooled"
    model = make_folder(tmp_path / "vit", "vit")
    make_images(
        Images(images=folder / "images", out=pooled, model=model), Runtime(torch.device("cpu")), Console(quiet=True)
    )
    beside = ["--features", str(pooled), *encoder, "--min-answer-count", "6"]
    blind, trained = ["--blind"], [*encoder, "--train-encoder"]
    for name, more in (("frozen", encoder), ("trained", trained), ("blind", blind), ("both", beside)):
        assert main([*flags, *more, "--out", str(tmp_path / name)]) == 0
    runs = {name: read_run(tmp_path / name) for name in ("frozen", "trained", "blind", "both")}
    out = capsys.readouterr().out
    assert "2 answers that are the most common one of 6 or more of 27 questions" in " ".join(out.split())
    assert "train: 18 questions about 6 images, 9 without an answer in the vocabulary" in " ".join(out.split())
    assert runs["both"].sees.endswith("[2 x 2 x 256], frozen")
    assert "[24], frozen + local-dir" in runs["both"].sees
    assert runs["frozen"].sees.endswith("[2 x 2 x 256], frozen")
    assert runs["trained"].sees.endswith("[2 x 2 x 256], trained")
    assert runs["blind"].sees == "nothing"
    assert runs["trained"].parameters > runs["frozen"].parameters > runs["blind"].parameters
    table = json.loads((tmp_path / "frozen" / "table.json").read_text())
    assert runs["frozen"].scores == {"val2014": table["model"]["val2014"]["overall"]}
    assert (runs["frozen"].task, runs["frozen"].steps) == ("vqa", 2)
    (tmp_path / "frozen" / "table.json").unlink()  # as of a run that was interrupted
    assert read_run(tmp_path / "frozen").scores == runs["frozen"].scores
    capsys.readouterr()
    out = tmp_path / "out"
    command = ["analyse", "compare", "--runs", *(str(tmp_path / name) for name in runs)]
    assert main([*command, "--out", str(out)]) == 0
    assert f"  both: {runs['both'].sees}" in capsys.readouterr().out.splitlines()
    lines = (out / "comparison.md").read_text().splitlines()
    assert len(lines) == 6
    assert lines[2].startswith("| frozen | vqa | ")
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    shutil.rmtree(tmp_path / "blind")
    assert main(command) == 2
    assert "no checkpoint found" in " ".join(capsys.readouterr().err.split())

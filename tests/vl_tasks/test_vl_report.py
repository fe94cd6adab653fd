"""Pictures and pages: overlays, bars, the report, the command line's help, word vectors."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clip_core.images import ImageTransform
from vl_tasks.__main__ import TASKS, main
from vl_tasks.overlay import heat_overlay, png_bytes, seen_part, word_sheet
from vl_tasks.report import Bars, Example, write_report
from vl_tasks.word_vectors import read_word_vectors


def grey(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (128, 128, 128))


def test_overlay_is_red_where_the_map_is_high() -> None:
    heat = np.zeros((2, 3))
    heat[0, 2] = 5.0
    pixels = np.asarray(heat_overlay(grey(90, 60), heat)).astype(int)
    assert pixels.shape == (60, 90, 3)
    hot, cold = pixels[5, 85], pixels[55, 5]
    assert hot[0] > hot[2] + 50
    assert cold[2] > cold[0] + 20
    assert np.array_equal(np.asarray(heat_overlay(grey(8, 8), np.ones((2, 2)))), np.asarray(grey(8, 8)))
    for wrong in (np.zeros(4), np.full((2, 2), np.nan)):
        with pytest.raises(ValueError, match="expected finite numbers"):
            heat_overlay(grey(8, 8), wrong)
    assert png_bytes(grey(2, 2)).startswith(b"\x89PNG")


def test_overlay_lies_on_what_the_encoder_saw() -> None:
    squashed = ImageTransform(32, 32, resize_mode="squash")
    assert seen_part(grey(90, 60), squashed).size == (90, 60)
    assert seen_part(grey(90, 60), ImageTransform(32, 32)).size == (32, 32)


def test_words_stand_above_their_pictures() -> None:
    """Many words take several lines, a long one is broken; none reaches into the gap beside its picture."""
    pictures = [(words, grey(448, 100)) for words in ("a", "of eleven words " * 4, "donaudampfschifffahrt" * 3)]
    sheet = np.asarray(word_sheet(pictures * 3).convert("L"))
    above = (sheet.shape[0] - 6) // 2 - 50
    assert above >= 3 * 24
    assert sheet.shape[1] == 6 * 230 - 6
    for place in range(6):
        left, label = place * 230, sheet[:above]
        assert (label[:, left : left + 224] < 128).any()
        assert (label[:, left + 224 : left + 230] == 255).all()
        assert (sheet[above : above + 50, left : left + 224] == 128).all()


def test_report_needs_no_other_file_and_escapes_what_people_wrote(tmp_path: Path) -> None:
    bars = Bars("By <type>", "types", {"yes/no": 0.5, "other": 0.25}, {"yes/no": 3}, {"other": 0.1})
    examples = [
        Example(grey(800, 600), [("question", "Is <b>it</b>?"), ("answer", "")], "right", np.eye(2)),
        Example(None, [("question", "Why?")], heat=np.eye(2)),
    ]
    page = write_report(tmp_path, "A & B", [("accuracy", "50 %")], [bars, Bars("none", "none", {})], examples)
    text = page.read_text()
    assert "A &amp; B" in text
    assert "Is &lt;b&gt;it&lt;/b&gt;?" in text
    assert text.count("data:image/jpeg") == 2
    assert text.count("data:image/png") == 1
    assert not re.findall(r'(?:src|href)="(?!data:)', text)
    with Image.open(tmp_path / "types.png") as picture:
        assert picture.width > 400
    assert not (tmp_path / "none.png").exists()
    assert len(text) < 200_000  # photographs become thumbnails


def test_map_of_a_report_lies_on_what_the_encoder_saw(tmp_path: Path) -> None:
    """Of a wide image, its middle green, a centre crop shows the middle alone; the map is of that."""
    wide = Image.new("RGB", (300, 100), "white")
    wide.paste("green", (100, 0, 200, 100))
    pictures = []
    for name, fitted in (("cut", ImageTransform(100, 100)), ("squash", ImageTransform(100, 100, resize_mode="squash"))):
        (tmp_path / name).mkdir()
        example = Example(wide, [("question", "Why?")], heat=np.eye(2), fitted=fitted)
        text = write_report(tmp_path / name, "A", [], [], [example]).read_text()
        found = re.findall(r"data:image/jpeg;base64,([^\"]+)", text)
        pictures.append([Image.open(io.BytesIO(base64.b64decode(data))) for data in found])
    assert [[picture.size for picture in pair] for pair in pictures] == [[(300, 100), (100, 100)], [(300, 100)] * 2]
    assert np.asarray(pictures[0][1]).min(2).max() < 100  # nothing of the white sides
    assert np.asarray(pictures[1][1]).min(2).max() > 100


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0
        told = capsys.readouterr().out
        assert all(f"python -m vl_tasks {task} {'|'.join(verbs)}" in told for task, verbs in TASKS.items())
    with pytest.raises(SystemExit):
        main(["vqa", "-h"])
    assert "gqa" not in capsys.readouterr().out.split("help:")[-1].split("vqa train --help")[-1]


@pytest.mark.parametrize(("task", "verb"), [(task, verb) for task, verbs in TASKS.items() for verb in verbs])
def test_every_command_explains_its_flags(task: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([task, verb, "--help"])
    assert stop.value.code == 0
    told = capsys.readouterr().out
    assert f"python -m vl_tasks {task} {verb}" in told
    assert ("--device" in told) == (verb != "compare")  # which reads what runs left


def test_word_vectors(tmp_path: Path) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("3 2\nred 1 2\nblue 0.5 -1\nzebra 3 4\n")
    found = read_word_vectors(path, ["<PAD>", "blue", "red"], 2)
    assert {number: vector.tolist() for number, vector in found.items()} == {2: [1.0, 2.0], 1: [0.5, -1.0]}
    with pytest.raises(ValueError, match=r"line 2: found 2 numbers; expected 3 \(--word\)"):
        read_word_vectors(path, ["red"], 3)
    with pytest.raises(ValueError, match="has none of the 1 words"):
        read_word_vectors(path, ["cat"], 2)
    with pytest.raises(ValueError, match="cannot be read"):
        read_word_vectors(tmp_path / "none", ["cat"], 2)

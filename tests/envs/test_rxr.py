"""RxR's guide annotations: what is read from a line, what is refused, that nothing more than a line is held."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import rxr_files

from envs.episodes import episode_file, existing_splits, load_episodes
from envs.guide_annotations import LANGUAGES, read_guide
from envs.tables import load_world

Lines = list[dict[str, Any]]


@pytest.fixture
def lines(square_routes: Lines) -> Lines:
    return rxr_files.guide_lines("train", square_routes)


@pytest.fixture
def write(make_square: Callable[..., Path], lines: Lines) -> Callable[[], Path]:
    """Writes `lines` as they are when it is called, beside the connectivity of the square."""

    def written() -> Path:
        folder = make_square()
        rxr_files.write_guide(folder, "train", lines)
        return folder

    return written


def test_a_line_becomes_an_episode(write: Callable[[], Path], lines: Lines) -> None:
    episodes = load_episodes(write(), "train", "rxr")
    assert len(episodes) == 8
    third = episodes[2]
    assert (third.instr_id, third.path_id, third.scan, third.path) == ("2", "7", "square", ("a", "b", "c"))
    assert (third.heading_rad, third.goal, third.has_goal, third.distance_m) == (0.3, "c", True, None)
    assert third.language == "hi-IN"
    assert third.instruction == lines[2]["instruction"]
    assert "सीढ़ियों" in third.instruction
    assert [e.language for e in episodes] == [*LANGUAGES, *LANGUAGES]


def test_real_routes_pass_the_checks_of_the_graphs(data_dir: Path, tmp_path: Path) -> None:
    routes = json.loads((data_dir / "r2r" / "R2R_val_seen.json").read_text())[:40]
    rxr_files.write_guide(tmp_path, "val_seen", rxr_files.guide_lines("val_seen", routes))
    world = load_world(tmp_path, "val_seen", data_dir / "connectivity", env="rxr")
    assert len(world.episodes) == 160
    assert world.tables.goal.shape == (160,)


@pytest.mark.parametrize(
    ("languages", "kept"),
    [(["en"], {"en-IN", "en-US"}), (["hi", "te-IN"], {"hi-IN", "te-IN"}), (["en-US"], {"en-US"}), ([], set(LANGUAGES))],
)
def test_languages_are_chosen(write: Callable[[], Path], languages: list[str], kept: set[str]) -> None:
    found = Counter(e.language for e in load_episodes(write(), "train", "rxr", languages=languages))
    assert found == dict.fromkeys(kept, 2)


def test_language_that_nobody_speaks(write: Callable[[], Path], lines: Lines) -> None:
    folder = write()
    with pytest.raises(ValueError, match=r"unknown language 'fr'; expected some of en, hi, te, en-IN"):
        load_episodes(folder, "train", "rxr", languages=["en", "fr"])
    with pytest.raises(ValueError, match="holds no episode in hi"):
        load_episodes(folder, "train", "r2r", languages=["hi"])  # R2R does not say what language it is in
    lines[:] = [line for line in lines if line["language"] != "te-IN"]
    with pytest.raises(ValueError, match="holds no episode in te"):
        load_episodes(write(), "train", "rxr", languages=["te"])


def test_public_test_split_has_starts_alone(make_square: Callable[..., Path], lines: Lines) -> None:
    folder = make_square()
    rxr_files.write_guide(folder, "test_standard_public", rxr_files.public_lines(lines))
    episodes = load_episodes(folder, "test_standard_public", "rxr")
    assert [e.has_goal for e in episodes] == [False] * 8
    assert [(e.instr_id, e.path_id, e.path) for e in episodes[3:5]] == [("3", "3", ("a",)), ("4", "4", ("d",))]
    assert existing_splits(folder, "rxr", ["train", "test_standard_public"]) == ["test_standard_public"]


def test_what_navigation_does_not_need_may_be_anything(write: Callable[[], Path], lines: Lines) -> None:
    del lines[0]["timed_instruction"]
    lines[1]["timed_instruction"] = [{"word": "no"}, 3, None]
    lines[2] |= {"edit_distance": None, "annotator_id": "x", "unknown": {}}
    assert len(load_episodes(write(), "train", "rxr")) == 8


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("language", "fr-FR", r"line 3 has the language 'fr-FR'; expected one of en-IN, en-US, hi-IN, te-IN"),
        ("language", None, r"line 3 has the language None"),
        ("language", ["en-US"], r"line 3 has the language \['en-US'\]"),
        ("instruction", "  ", r"line 3 has the instruction '  '; expected a text that is not empty"),
        ("path", [], r"line 3 has the path \[\]; expected a list of viewpoint ids"),
        ("path", "abc", "line 3 has the path 'abc'"),
        ("heading", float("nan"), "line 3 has the heading nan; expected a finite number"),
        ("instruction_id", None, "line 3 has the instruction_id None"),
        ("instruction_id", True, "line 3 has the instruction_id True"),
        ("path_id", 1.5, "line 3 has the path_id 1.5"),
        ("scan", 4, "line 3 has the scan 4; expected a building's name"),
    ],
)
def test_values_of_the_wrong_kind(
    write: Callable[[], Path], lines: Lines, field: str, value: object, message: str
) -> None:
    lines[2][field] = value
    with pytest.raises(ValueError, match=message):
        load_episodes(write(), "train", "rxr")


@pytest.mark.parametrize("field", ["instruction_id", "scan", "path", "heading", "language", "instruction"])
def test_absent_fields(write: Callable[[], Path], lines: Lines, field: str) -> None:
    del lines[4][field]
    with pytest.raises(ValueError, match=f"line 5 lacks {field}; expected instruction_id, scan"):
        load_episodes(write(), "train", "rxr")


@pytest.mark.parametrize("line", ["", "[1, 2]", "null", '{"path_id": 11, "split": "val_seen", "sc'])
def test_lines_that_are_cut_or_something_else(tmp_path: Path, lines: Lines, line: str) -> None:
    rxr_files.write_guide(tmp_path, "train", [*lines[:6], line, *lines[6:]])
    with pytest.raises(ValueError, match=r"rxr_train_guide.jsonl.gz: line 7 (is cut or no JSON|lacks)"):
        load_episodes(tmp_path, "train", "rxr")


def test_files_that_are_cut_or_no_gzip(tmp_path: Path, lines: Lines) -> None:
    file = rxr_files.write_guide(tmp_path, "train", lines)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(ValueError, match=r"not complete gzip after line \d+ .* copy the file again"):
        load_episodes(tmp_path, "train", "rxr")
    file.write_bytes(gzip.decompress(whole))
    with pytest.raises(ValueError, match="not complete gzip after line 0"):
        load_episodes(tmp_path, "train", "rxr")
    file.write_bytes(gzip.compress('{"instruction": "é"}\n'.encode("latin-1")))
    with pytest.raises(ValueError, match="not complete gzip after line 0"):
        load_episodes(tmp_path, "train", "rxr")
    file.write_bytes(gzip.compress(b""))
    with pytest.raises(ValueError, match="holds no episode"):
        load_episodes(tmp_path, "train", "rxr")
    with pytest.raises(ValueError, match="splits found there: train;"):
        episode_file(tmp_path, "val_seen", "rxr")


def test_ids_and_routes_are_checked_as_in_r2r(write: Callable[[], Path], lines: Lines) -> None:
    lines[3]["instruction_id"] = 1
    with pytest.raises(ValueError, match="instruction id 1 stands twice"):
        load_episodes(write(), "train", "rxr")
    lines[3] |= {"instruction_id": 3, "path": ["a", "c"]}
    with pytest.raises(ValueError, match="episode 3: step 0 of its path goes from a to c"):
        load_world(write(), "train", env="rxr")


def test_one_line_at_a_time(tmp_path: Path, lines: Lines) -> None:
    """2 MB of timed words in each of 40 lines: reading holds some lines' worth, not 80 MB."""
    lines[0]["timed_instruction"] = [{"word": "w" * 2_000_000}]
    file = rxr_files.write_guide(tmp_path, "train", [lines[0]] * 40)
    tracemalloc.start()
    count = sum("timed_instruction" not in line for line in read_guide(file))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 40
    assert peak < 20e6


def test_environment_of_rxr(write: Callable[[], Path]) -> None:
    env = gymnasium.make("clipnav/RxR-v0", data=write(), split="train")
    _, info = env.reset(seed=3)
    assert info["scan"] == "square"
    assert info["instruction"] in {rxr_files.text_of(language, steps) for language in LANGUAGES for steps in (1, 2)}

"""Predictions files of RxR: what is written, what is read, every line that is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from tiny_scene import corridor

from envs.episodes import Episode
from envs.submission import validate, write_predictions
from envs.submission_rxr import read_rxr_predictions, write_rxr_predictions

SCENES = {"a": corridor(5, scan="a")}
EPISODES = [
    Episode(number, "1", "a", ("a0", "a1", "a2"), 0.0, "Walk.", None, True, "en-US") for number in ("9", "10", "100")
]
WALK = [("a0", 0.0, 0.0), ("a0", 0.5, 0.0), ("a1", 0.5, 0.5), ("a0", 0.0, 0.0)]


def test_a_line_for_each_instruction_by_number(tmp_path: Path) -> None:
    file = tmp_path / "made" / "test.jsonl"
    write_rxr_predictions(file, {"100": [("a0",)], "9": WALK, "10": WALK[:2]})
    assert file.read_text().splitlines() == [
        '{"instruction_id": 9, "path": ["a0", "a1", "a0"]}',
        '{"instruction_id": 10, "path": ["a0"]}',
        '{"instruction_id": 100, "path": ["a0"]}',
    ]
    items = read_rxr_predictions(file)
    assert items[0] == {"instr_id": "9", "trajectory": [["a0"], ["a1"], ["a0"]]}
    assert validate(items, EPISODES, SCENES) == []
    (tmp_path / "test.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert read_rxr_predictions(tmp_path / "test.jsonl.gz") == items


def test_ids_that_are_no_numbers_stay_as_they_are(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    write_rxr_predictions(file, {name: [("a0",)] for name in ("b", "007", "12", "²")})
    assert [item["instr_id"] for item in read_rxr_predictions(file)] == ["12", "007", "b", "²"]
    assert json.loads(file.read_text().splitlines()[0])["instruction_id"] == 12


def test_empty_route_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text("old")
    with pytest.raises(ValueError, match="instruction_id 9: no viewpoint"):
        write_rxr_predictions(file, {"10": WALK, "9": []})
    assert file.read_text() == "old"


def test_faults_are_those_of_r2r(tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    lines = [("9", ["a0", "a2"]), ("10", []), ("10", ["a0"]), ("7", ["a0"]), ("100", ["a1", "b"])]
    file.write_text("".join(json.dumps({"instruction_id": int(n), "path": p}) + "\n" for n, p in lines))
    faults = validate(read_rxr_predictions(file), EPISODES, SCENES)
    assert [(fault.kind, fault.instr_id) for fault in faults] == [
        ("edge", "9"),
        ("empty", "10"),
        ("duplicate", "10"),
        ("unknown", "7"),
        ("start", "100"),
        ("viewpoint", "100"),
    ]
    assert [fault.kind for fault in validate(read_rxr_predictions(file)[3:4], EPISODES[:1], SCENES)] == [
        "unknown",
        "missing",
    ]


def test_r2rs_form_is_read_too(tmp_path: Path) -> None:
    write_predictions(tmp_path / "hamt.json", {"9": WALK})
    assert read_rxr_predictions(tmp_path / "hamt.json")[0]["trajectory"] == [list(entry) for entry in WALK]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"instruction_id": 10, "pa', "line 2 is cut or no JSON .*; copy the file again or predict again"),
        ("", "line 2 is cut or no JSON"),
        ("[1]", "line 2 lacks instruction_id and path; expected {"),
        ('{"instruction_id": 10}', "line 2 lacks path"),
        ('{"instruction_id": 1.5, "path": ["a0"]}', "line 2 has the instruction_id 1.5; expected a whole number"),
        ('{"instruction_id": true, "path": ["a0"]}', "line 2 has the instruction_id True"),
        ('{"instruction_id": 10, "path": "a0"}', "line 2 has the path 'a0'; expected a list of viewpoint ids"),
        ('{"instruction_id": 10, "path": [[0.5, 1.0, 2.0]]}', r"line 2 has the path \[\[0.5.*positions of RxR-Habitat"),
    ],
)
def test_lines_of_another_form(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text(f'{{"instruction_id": 9, "path": ["a0"]}}\n{line}\n')
    with pytest.raises(ValueError, match=message):
        read_rxr_predictions(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no predictions file .*absent.jsonl; expected a JSON Lines file with {"):
        read_rxr_predictions(tmp_path / "absent.jsonl")
    packed = gzip.compress(b'{"instruction_id": 9, "path": ["a0"]}\n' * 50)
    for damaged in (packed[:-9], packed[:14] + b"\xff\xff\xff" + packed[17:]):
        (tmp_path / "cut.jsonl.gz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cut.jsonl.gz cannot be read"):
            read_rxr_predictions(tmp_path / "cut.jsonl.gz")

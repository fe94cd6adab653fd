"""Predictions files: what is written, what is read, every fault that is named."""

import gzip
import json
import math

import numpy as np
import pytest
from tiny_scene import corridor

from envs.episodes import Episode, load_episodes
from envs.scenes import load_scenes
from envs.submission import (
    KINDS,
    read_predictions,
    summary,
    trajectories_of,
    validate,
    write_predictions,
)
from envs.trajectories import flatten_trajectory

SCENES = {"a": corridor(5, scan="a", excluded=(4,)), "b": corridor(5, scan="b")}
EPISODES = [
    Episode("1_0", "1", "a", ("a0", "a1", "a2"), 0.0, "Walk.", None, True),
    Episode("1_1", "1", "a", ("a0",), 0.0, "Go.", None, False),
]
GOOD = [["a0", 0.0, 0.0], ["a0", 0.5, 0.0], ["a1", 0.5, -0.5]]


def faults_of(trajectory, **more):
    """(kind, message) of a file that predicts `trajectory` for 1_0, and 1_1 well."""
    items = [{"instr_id": "1_0", "trajectory": trajectory, **more}, {"instr_id": "1_1", "trajectory": GOOD}]
    faults = validate(items, EPISODES, SCENES)
    assert all(fault.instr_id == "1_0" for fault in faults)
    return [(fault.kind, fault.message) for fault in faults]


def test_written_file_is_read_again(tmp_path):
    file = tmp_path / "made" / "predictions.json"
    write_predictions(file, {"1_0": GOOD, "1_1": [("a0", np.float32(0.25), 0)]})
    assert json.loads(file.read_text()) == [
        {"instr_id": "1_0", "trajectory": GOOD},
        {"instr_id": "1_1", "trajectory": [["a0", 0.25, 0.0]]},
    ]
    items = read_predictions(file)
    assert validate(items, EPISODES, SCENES) == []
    assert trajectories_of(items) == {"1_0": ["a0", "a0", "a1"], "1_1": ["a0"]}


@pytest.mark.parametrize(
    ("trajectory", "message"),
    [
        ([], "instr_id 1_0: no entry"),
        ([("a0", math.nan, 0.0)], "instr_id 1_0: the heading of entry 0 is nan"),
        ([("a0",)], "instr_id 1_0: entry 0 is"),
    ],
)
def test_bad_trajectory_leaves_the_old_file(tmp_path, trajectory, message):
    file = tmp_path / "predictions.json"
    file.write_text("old")
    with pytest.raises(ValueError, match=message):
        write_predictions(file, {"1_0": trajectory})
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "predictions.json"
    file.write_text("old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_predictions(file, {"1_0": GOOD})
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_cut_file_is_named(tmp_path):
    whole = json.dumps([{"instr_id": "1_0", "trajectory": GOOD}])
    cut = tmp_path / "cut.json"
    cut.write_text(whole[:-20])
    with pytest.raises(ValueError, match=r"cut\.json is not complete JSON .*; copy the file again or predict again"):
        read_predictions(cut)
    packed = tmp_path / "packed.json.gz"
    packed.write_bytes(gzip.compress(whole.encode()))
    assert read_predictions(packed) == json.loads(whole)
    packed.write_bytes(gzip.compress(whole.encode())[:-12])
    with pytest.raises(ValueError, match=r"packed\.json\.gz cannot be read"):
        read_predictions(packed)


def test_file_of_another_form(tmp_path):
    file = tmp_path / "p.json"
    file.write_text('{"1_0": []}')
    with pytest.raises(ValueError, match=r"holds a JSON dict; expected a list: \[\{"):
        read_predictions(file)
    with pytest.raises(ValueError, match="no predictions file"):
        read_predictions(tmp_path / "absent.json")


def test_viewpoint_ids_alone_are_enough():
    assert faults_of([["a0"], ["a1"], ["a2"]]) == []
    assert faults_of(GOOD, predObjId=3) == []


def test_missing_unknown_duplicate():
    items = [{"instr_id": i, "trajectory": GOOD} for i in ("1_0", "7_7", "1_0", "1_0")]
    faults = validate(items, EPISODES, SCENES)
    assert [(fault.kind, fault.instr_id) for fault in faults] == [
        ("unknown", "7_7"),
        ("duplicate", "1_0"),
        ("duplicate", "1_0"),
        ("missing", "1_1"),
    ]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (["1_0", []], r"item 0 is \['1_0', \[\]\]"),
        ({"instr_id": "1_0"}, r"item 0 lacks trajectory \(it has instr_id\)"),
        ({"trajectory": GOOD}, "item 0 lacks instr_id"),
        ({}, r"lacks instr_id and trajectory \(it has nothing\)"),
        ({"instr_id": 10, "trajectory": GOOD}, "instr_id 10, which is not a string"),
        ({"instr_id": "1_0", "trajectory": "a0"}, "trajectory 'a0', which is not a list"),
    ],
)
def test_item_of_another_form(item, message):
    faults = validate([item], EPISODES[1:], SCENES)
    assert [fault.kind for fault in faults] == ["item", "missing"]
    with pytest.raises(ValueError, match=message):
        raise ValueError(faults[0].message)
    with pytest.raises(ValueError, match=message):
        trajectories_of([item])


def test_wrong_start():
    assert faults_of([["a1"], ["a2"]]) == [("start", "begins at a1; expected the start of the episode, a0")]


def test_every_edge_that_does_not_exist():
    assert faults_of([["a0"], ["a2"], ["a2"], ["a0"]]) == [
        ("edge", "entries 0 and 1 move from a0 to a2, but scan a has no edge between them"),
        ("edge", "entries 2 and 3 move from a2 to a0, but scan a has no edge between them"),
    ]


def test_viewpoints_that_the_graph_does_not_have():
    assert faults_of([["a0"], ["b1"], ["nowhere"], ["a4"], ["a3"], ["a1"]]) == [
        ("viewpoint", "entry 1 is b1, which scan a does not have (scan b has it)"),
        ("viewpoint", "entry 2 is nowhere, which scan a does not have"),
        ("excluded", "entry 3 is a4, which scan a excludes from its graph"),
        ("edge", "entries 4 and 5 move from a3 to a1, but scan a has no edge between them"),
    ]


def test_empty():
    assert [kind for kind, _ in faults_of([])] == ["empty"]


@pytest.mark.parametrize("angle", ["0.5", None, True, math.nan, math.inf, [0.5]])
def test_angle_that_is_no_number(angle):
    kind, message = faults_of([["a0", 0.0, 0.0], ["a1", 0.0, angle]])[0]
    assert kind in ("angle", "nested")
    assert "entry 1" in message


def test_heading_and_elevation_are_both_named():
    assert [message for _, message in faults_of([["a0", None, math.nan]])] == [
        "the heading of entry 0 is None; expected a finite number in radians",
        "the elevation of entry 0 is nan; expected a finite number in radians",
    ]


@pytest.mark.parametrize("entry", ["a0", 5, None, {}, [], [7, 0.0, 0.0], ["a0", 0.0], ["a0", 0.0, 0.0, 1.0]])
def test_entry_of_another_form(entry):
    faults = faults_of([["a0", 0.0, 0.0], entry, ["b0", 0.0, 0.0]])
    assert [kind for kind, _ in faults] == ["entry", "viewpoint"]  # and what follows is still checked
    assert faults[0][1].startswith("entry 1 ")


def test_nested_trajectory_is_named_once_with_what_mends_it():
    duet = [["a0"], ["a1", "a2"], ["a1", "a0"]]
    ((kind, message),) = faults_of(duet)
    assert kind == "nested"
    assert "entry 1 is ['a1', 'a2']" in message
    assert "flatten_trajectory" in message
    assert faults_of(flatten_trajectory(duet)) == []
    assert trajectories_of([{"instr_id": "1_0", "trajectory": duet}]) == {"1_0": ["a0", "a1", "a2", "a1", "a0"]}


def test_faults_inside_a_nested_trajectory():
    assert [kind for kind, _ in faults_of([["a0"], ["a1", "a3"]])] == ["nested", "edge"]


def test_flatten():
    mixed = [["a"], ["b", "c"], "d", [["e", 0.5, 0.0], ["f"]]]
    assert flatten_trajectory(mixed) == [
        ("a", 0.0, 0.0),
        ("b", 0.0, 0.0),
        ("c", 0.0, 0.0),
        ("d", 0.0, 0.0),
        ("e", 0.5, 0.0),
        ("f", 0.0, 0.0),
    ]
    with pytest.raises(ValueError, match=r"the entry \[5, 0.0, 0.0\] is no viewpoint"):
        flatten_trajectory([[5, 0.0, 0.0]])


def test_duplicate_cannot_be_scored():
    items = [{"instr_id": "1_0", "trajectory": GOOD}] * 2
    with pytest.raises(ValueError, match="instr_id 1_0 is predicted more than once"):
        trajectories_of(items)


def test_summary_counts_every_kind():
    items = [{"instr_id": "1_0", "trajectory": [["a0"], ["a2"], ["a0"], ["a2"], ["a0"]]}, 3]
    text = summary(validate(items, EPISODES, SCENES), examples=2)
    assert text.splitlines()[0] == "6 faults in the predictions"
    assert f"  edge (4): {KINDS['edge']}" in text
    assert "    instr_id 1_0: entries 0 and 1 move from a0 to a2" in text
    assert "    ... 2 more" in text
    assert "    item 1 is 3; expected" in text
    assert "  missing (1): " in text
    assert summary([]) == "no fault"


def test_real_predictions(data_dir):
    episodes = load_episodes(data_dir / "r2r", "val_seen")
    scenes = load_scenes(data_dir / "connectivity", {episode.scan for episode in episodes})
    items = read_predictions(data_dir / "golden/metrics/predictions_val_seen.json.gz")
    assert validate(items, episodes, scenes) == []
    # every edge of the graph is found missing once its two ends are no neighbours: skip every second viewpoint
    skipping = [{**item, "trajectory": item["trajectory"][::2]} for item in items[:-1]]
    faults = validate(skipping, episodes, scenes)
    kinds = {fault.kind for fault in faults}
    assert kinds == {"edge", "missing"}
    assert sum(fault.kind == "edge" for fault in faults) > 1000

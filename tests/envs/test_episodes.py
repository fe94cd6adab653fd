"""Episodes: the real splits, and files with faults."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envs.episodes import check_no_leak, load_episodes
from envs.scenes import Scene, load_scenes
from envs.tables import load_world

# -- the real splits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "count", "scans"), [("train", 14_039, 61), ("val_seen", 1_021, 56), ("test", 4_173, 18)]
)
def test_counts_of_the_real_splits(
    data_dir: Path, scenes_all: dict[str, Scene], split: str, count: int, scans: int
) -> None:
    episodes = load_episodes(data_dir / "r2r", split, scenes=scenes_all)
    assert len(episodes) == count
    assert len({e.scan for e in episodes}) == scans
    assert all(e.has_goal == (split != "test") for e in episodes)
    assert all(len(e.path) == 1 for e in episodes) == (split == "test")


def test_first_real_episode_holds_what_the_file_says(data_dir: Path) -> None:
    item = json.loads((data_dir / "r2r" / "R2R_val_seen.json").read_text())[0]
    first, second = load_episodes(data_dir / "r2r", "val_seen")[:2]
    assert first.instr_id == f"{item['path_id']}_0"
    assert second.instr_id == f"{item['path_id']}_1"
    assert first.path_id == str(item["path_id"])
    assert (first.start, first.goal) == (item["path"][0], item["path"][-1])
    assert (first.heading_rad, first.distance_m) == (item["heading"], item["distance"])
    assert (first.instruction, second.instruction) == tuple(item["instructions"][:2])


def test_test_split_has_no_goals(data_dir: Path) -> None:
    episode = load_episodes(data_dir / "r2r", "test")[0]
    with pytest.raises(ValueError, match=f"episode {episode.instr_id} has no goal: it comes from a test split"):
        _ = episode.goal


def test_held_out_buildings_are_not_trained_on(data_dir: Path) -> None:
    train = load_episodes(data_dir / "r2r_dev", "train")
    unseen = load_episodes(data_dir / "r2r_dev", "val_unseen")
    check_no_leak(train, unseen)
    with pytest.raises(ValueError, match=r"unseen split shares 1 scans with train \(first: .*expected disjoint"):
        check_no_leak(train, [*unseen, replace(unseen[0], scan=train[0].scan)])


# -- missing files -----------------------------------------------------------------------------------------------------


def test_missing_folder_file_and_data_set(make_square: Callable[..., Path]) -> None:
    data = make_square()
    with pytest.raises(ValueError, match=r"no folder .*nowhere: expected one with R2R_train\.json; see docs/data\.md"):
        load_episodes(data / "nowhere", "train")
    with pytest.raises(ValueError, match=r"no file .*R2R_val_seen\.json; splits found there: train; see docs/data\.md"):
        load_episodes(data, "val_seen")
    with pytest.raises(ValueError, match=r"splits found there: none"):
        load_episodes(data / "connectivity", "train")
    with pytest.raises(ValueError, match="unknown data set 'r3r'; known: r2r"):
        load_episodes(data, "train", "r3r")


def test_truncated_file(make_square: Callable[..., Path]) -> None:
    data = make_square()
    file = data / "R2R_train.json"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"R2R_train\.json is not complete JSON .*copy the file again"):
        load_episodes(data, "train")


# -- faults in the file ------------------------------------------------------------------------------------------------


def edit(field: str, value: Any) -> Callable[[list], None]:
    return lambda routes: routes[1].__setitem__(field, value)


FAULTS: dict[str, tuple[Callable[[list], Any], str]] = {
    "no routes": (lambda routes: routes.clear(), "holds no episode"),
    "lacks a field": (lambda routes: routes[1].pop("heading"), "route 1 lacks heading; expected scan, path_id, path"),
    "route is no object": (lambda routes: routes.append("x"), "route 2 lacks scan"),
    "empty instruction": (edit("instructions", ["Go.", " \n"]), "instruction 8_1 is empty; expected a text"),
    "instruction is null": (edit("instructions", [None]), "instruction 8_0 is empty; expected a text"),
    "instructions are a text": (edit("instructions", "Go."), r"\(path_id 8\) has the instructions 'Go.'; expected a l"),
    "no instruction": (edit("instructions", []), r"\(path_id 8\) has the instructions \[\]; expected a list of at"),
    "empty path": (edit("path", []), r"route 1 \(path_id 8\) has the path \[\]; expected a list of viewpoint ids"),
    "path is a text": (edit("path", "da"), r"route 1 \(path_id 8\) has the path 'da'; expected a list"),
    "heading is a text": (edit("heading", "0"), r"has the heading '0'; expected a finite number, radians"),
    "heading is NaN": (edit("heading", float("nan")), r"has the heading nan; expected a finite number, radians"),
    "one id twice": (edit("path_id", 7), r"instruction id 7_0 stands twice; expected each id once"),
}
ROUTE_FAULTS: dict[str, tuple[Callable[[list], Any], str]] = {
    "unknown scan": (edit("scan", "palace"), "unknown scan 'palace'"),
    "unknown viewpoint": (edit("path", ["d", "q"]), r"episode 8_0: scan square has no viewpoint 'q'"),
    "excluded viewpoint": (
        edit("path", ["d", "x", "b"]),
        r"episode 8_0: viewpoint x of scan square is excluded .*choo",
    ),
    "missing edge": (edit("path", ["d", "a", "c"]), r"episode 8_0: step 1 of its path goes from a to c, but scan squ"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_named(make_square: Callable[..., Path], square_routes: list, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(square_routes)
    data = make_square()
    with pytest.raises(ValueError, match=message) as error:
        load_episodes(data, "train")
    assert "R2R_train.json" in str(error.value)
    assert "docs/data.md" in str(error.value)


@pytest.mark.parametrize("fault", ROUTE_FAULTS)
def test_route_that_does_not_fit_the_building_is_named(
    make_square: Callable[..., Path], square_routes: list, fault: str
) -> None:
    damage, message = ROUTE_FAULTS[fault]
    damage(square_routes)
    data = make_square()
    assert load_episodes(data, "train")  # nothing is wrong with the file alone
    with pytest.raises(ValueError, match=message):
        load_episodes(data, "train", scenes=load_scenes(data / "connectivity"))
    with pytest.raises(ValueError, match=message):
        load_world(data, "train")


def test_list_is_expected(make_square: Callable[..., Path]) -> None:
    data = make_square()
    (data / "R2R_train.json").write_text('{"scan": "square"}')
    with pytest.raises(ValueError, match="expected a list of routes, found dict"):
        load_episodes(data, "train")


def test_a_path_may_wait_at_a_viewpoint(make_square: Callable[..., Path], square_routes: list) -> None:
    square_routes[1]["path"] = ["d", "d", "a"]
    data = make_square()
    assert load_episodes(data, "train", scenes=load_scenes(data / "connectivity"))[-1].path == ("d", "d", "a")

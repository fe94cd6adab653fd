"""Buildings: the facts of the real graphs, the rules of the numbering, files that are damaged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

from envs.candidates import directions
from envs.scenes import Scene, find_connectivity, list_scans, load_scene, load_scenes

# -- the real graphs (specs/vln.md, section 2) -------------------------------------------------------------------------


def test_counts_of_the_real_graphs(scenes_all: dict[str, Scene]) -> None:
    degree = np.concatenate([s.adjacency.sum(1)[s.included] for s in scenes_all.values()])
    length_m = np.concatenate([s.edge_length_m[np.triu(s.adjacency)] for s in scenes_all.values()])
    assert len(scenes_all) == 90
    assert sum(len(s.viewpoints) for s in scenes_all.values()) == 10_800
    assert len(degree) == 10_567
    assert len(length_m) == 21_468
    assert degree.mean() == pytest.approx(4.06, abs=0.005)
    assert degree.max() == 13
    assert (degree == 0).sum() == 8
    assert length_m.mean() == pytest.approx(2.27, abs=0.005)


def test_steep_edges_of_the_real_graphs(scenes_all: dict[str, Scene]) -> None:
    elevation = np.concatenate([directions(s, *np.nonzero(s.adjacency))[1] for s in scenes_all.values()])
    assert len(elevation) == 42_936
    assert math.degrees(np.abs(elevation).max()) == pytest.approx(79.6, abs=0.05)
    assert (np.abs(elevation) > math.radians(45)).sum() == 152


def test_networkx_view_of_a_real_scan(scenes_all: dict[str, Scene]) -> None:
    scene = scenes_all["17DRP5sb8fy"]
    graph = scene.graph()
    assert set(graph) == {v for v, ok in zip(scene.viewpoints, scene.included, strict=True) if ok}
    assert graph.number_of_edges() == np.triu(scene.adjacency).sum()
    for a, b, weight in graph.edges.data("weight"):
        assert weight == pytest.approx(math.dist(graph.nodes[a]["position"], graph.nodes[b]["position"]), abs=1e-12)


# -- the rules, by hand ------------------------------------------------------------------------------------------------


def test_square_by_hand(make_square: Callable[..., Path]) -> None:
    scene = load_scene(make_square() / "connectivity", "square")
    assert scene.viewpoints == ("a", "b", "c", "d", "x")
    assert scene.included.tolist() == [True, True, True, True, False]
    assert np.argwhere(np.triu(scene.adjacency)).tolist() == [[0, 1], [0, 3], [1, 2], [2, 3]]
    assert not scene.adjacency[4].any()
    assert not scene.adjacency[:, 4].any()
    assert scene.position_m[2].tolist() == [2, 2, 2.5]
    assert scene.edge_length_m[1, 2] == pytest.approx(math.sqrt(5))
    assert scene.edge_length_m[0, 2] == 0
    assert scene.number("c") == 2
    assert nx.shortest_path(scene.graph(), "a", "c", weight="weight") in (["a", "b", "c"], ["a", "d", "c"])


def test_scene_cannot_be_changed(make_square: Callable[..., Path]) -> None:
    scene = load_scene(make_square() / "connectivity", "square")
    for array in (scene.included, scene.pose, scene.height_m, scene.adjacency, scene.position_m):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_self_loop_and_sight_of_excluded_viewpoints_are_no_edges(
    make_square: Callable[..., Path], square_items: list
) -> None:
    square_items[0]["unobstructed"][0] = True
    square_items[4]["unobstructed"] = [False] * 5  # x no longer sees back, which is nobody's edge
    scene = load_scene(make_square() / "connectivity", "square")
    assert scene.adjacency.sum() == 8


# -- damaged files -----------------------------------------------------------------------------------------------------


def edit(index: int, field: str, value: Any) -> Callable[[list], None]:
    return lambda items: items[index].__setitem__(field, value)


FAULTS: dict[str, tuple[Callable[[list], Any], str]] = {
    "lacks a field": (lambda items: items[2].pop("pose"), "viewpoint 2 lacks pose; expected image_id, pose"),
    "item is no object": (lambda items: items.__setitem__(1, 5), "viewpoint 1 lacks image_id"),
    "short unobstructed": (
        lambda items: items[1]["unobstructed"].pop(),
        r"`unobstructed` of viewpoint 1 \(b\) has 4 entries, expected a list of 5 \(one per viewpoint\)",
    ),
    "short pose": (lambda items: items[3]["pose"].pop(), r"`pose` of viewpoint 3 \(d\) has 15 entries.* 16"),
    "pose is a number": (edit(3, "pose", 1.0), r"`pose` of viewpoint 3 \(d\) has a float, expected a list of 16"),
    "pose holds a text": (lambda items: items[0]["pose"].__setitem__(3, "1.5"), "`pose` holds .* than finite numbers"),
    "pose holds NaN": (lambda items: items[0]["pose"].__setitem__(3, math.nan), "`pose` holds .* than finite numbers"),
    "pose is nested": (lambda items: items[0]["pose"].__setitem__(3, [1]), "`pose` holds .* than finite numbers"),
    "included is a text": (edit(0, "included", "false"), "`included` holds something else than booleans"),
    "unobstructed holds null": (
        lambda items: items[0]["unobstructed"].__setitem__(1, None),
        "`unobstructed` holds .* than booleans",
    ),
    "height is null": (edit(0, "height", None), "`height` holds something else than finite numbers"),
    "one id twice": (edit(1, "image_id", "a"), "an image_id stands twice; expected 5 different viewpoints"),
    "one-way edge": (
        lambda items: items[2]["unobstructed"].__setitem__(1, False),
        r"not symmetric: b leads to c but not back \(1 such edges\); expected `unobstructed` both ways",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_file_is_named_with_its_fault(make_square: Callable[..., Path], square_items: list, fault: str) -> None:
    damage, message = FAULTS[fault]
    damage(square_items)
    folder = make_square() / "connectivity"
    with pytest.raises(ValueError, match=message) as error:
        load_scene(folder, "square")
    assert "square_connectivity.json" in str(error.value)
    assert "docs/data.md" in str(error.value)


def test_truncated_file(make_square: Callable[..., Path]) -> None:
    folder = make_square() / "connectivity"
    file = folder / "square_connectivity.json"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"is not complete JSON .*copy the file again"):
        load_scene(folder, "square")


@pytest.mark.parametrize(("content", "found"), [("{}", "dict"), ("[]", "an empty one")])
def test_file_without_a_list_of_viewpoints(make_square: Callable[..., Path], content: str, found: str) -> None:
    folder = make_square() / "connectivity"
    (folder / "square_connectivity.json").write_text(content)
    with pytest.raises(ValueError, match=f"expected a list with one item per viewpoint, found {found}"):
        load_scene(folder, "square")


def test_unknown_scan_and_missing_folder(make_square: Callable[..., Path]) -> None:
    folder = make_square() / "connectivity"
    with pytest.raises(ValueError, match=r"unknown scan 'palace': .* has 1 connectivity files, but no palace_conn"):
        load_scenes(folder, ["square", "palace"])
    with pytest.raises(ValueError, match=r"no folder .*nowhere: expected the connectivity files.*docs/data\.md"):
        load_scene(folder / "nowhere", "square")
    with pytest.raises(ValueError, match=r"no folder .*nowhere"):
        load_scenes(folder / "nowhere")


def test_viewpoints_that_cannot_be_stood_on(make_square: Callable[..., Path]) -> None:
    scene = load_scene(make_square() / "connectivity", "square")
    with pytest.raises(ValueError, match=r"viewpoint x of scan square is excluded .*choose one of the included"):
        scene.number("x")
    with pytest.raises(ValueError, match=r"scan square has no viewpoint 'q' \(it has 5\)"):
        scene.number("q")


# -- where the files are -----------------------------------------------------------------------------------------------


def test_scans_are_listed_by_scans_txt_or_by_the_files(make_square: Callable[..., Path], square_items: list) -> None:
    folder = make_square() / "connectivity"
    (folder / "hut_connectivity.json").write_text(json.dumps(square_items))
    assert list_scans(folder) == ["square"]
    (folder / "scans.txt").unlink()
    assert list_scans(folder) == ["hut", "square"]
    for file in folder.iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"holds neither scans.txt nor a"):
        list_scans(folder)


def test_connectivity_folder_is_found_inside_or_beside_the_data(make_square: Callable[..., Path]) -> None:
    data = make_square()
    (data / "r2r").mkdir()
    assert find_connectivity(data) == data / "connectivity"
    assert find_connectivity(data / "r2r") == data / "connectivity"
    assert find_connectivity(data, data / "other") == data / "other"
    with pytest.raises(ValueError, match=r"no connectivity folder at .* or .*name it with --connectivity DIR"):
        find_connectivity(data / "r2r" / "deeper")

"""R4R made from R2R: by hand on a square, like the original program on real routes, the published counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import pytest

from envs import r4r
from envs.episodes import load_episodes
from envs.joining import join_routes, statistics_of
from envs.scenes import Scene, load_scenes

Routes = list[dict[str, Any]]
SLOPE_M = 5**0.5


@pytest.fixture(scope="module")
def real(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """R4R of the real R2R, train and val_seen."""
    out = tmp_path_factory.mktemp("r4r")
    assert r4r.main(command(data_dir / "r2r", out, "--connectivity", str(data_dir / "connectivity"))) == 0
    return out


def command(data: Path, out: Path, *more: str) -> list[str]:
    return ["--data", str(data), "--out", str(out), *more]


def as_the_original_does(routes: Routes, scenes: dict[str, Scene], join_m: float = 3.0) -> Routes:
    """The published rule, plainly: networkx, every pair of routes in turn."""
    found: Routes = []
    for scan in dict.fromkeys(route["scan"] for route in routes):
        graph = scenes[scan].graph()
        here = [route for route in routes if route["scan"] == scan]
        length_m, path = dict(nx.all_pairs_dijkstra_path_length(graph)), dict(nx.all_pairs_dijkstra_path(graph))
        for first in here:
            for second in here:
                end, start = first["path"][-1], second["path"][0]
                if length_m[end][start] > join_m:
                    continue
                found.append(
                    {
                        "path_id": len(found),
                        "scan": scan,
                        "path": first["path"][:-1] + path[end][start] + second["path"][1:],
                        "distance": first["distance"] + length_m[end][start] + second["distance"],
                        "heading": first["heading"],
                        "instructions": [x + y for x in first["instructions"] for y in second["instructions"]],
                        "shortest_path": path[first["path"][0]][second["path"][-1]],
                        "shortest_path_distance": length_m[first["path"][0]][second["path"][-1]],
                        "first_path_id": first["path_id"],
                        "second_path_id": second["path_id"],
                    }
                )
    return found


def test_square_by_hand(make_square: Callable[..., Path], square_routes: Routes) -> None:
    scenes = load_scenes(make_square() / "connectivity")
    bent, back, twice = join_routes(square_routes, scenes)
    assert bent["path"] == ["a", "b", "c", "d", "a"]
    assert bent["instructions"] == ["Walk ahead. Turn right.Left!", "Go up to cLeft!"]
    assert bent["distance"] == pytest.approx(2 + SLOPE_M + SLOPE_M + 2)
    assert (bent["path_id"], bent["first_path_id"], bent["second_path_id"], bent["heading"]) == (0, 7, 8, 0.3)
    assert (bent["shortest_path"], bent["shortest_path_distance"]) == (["a"], 0)
    assert back["path"] == ["d", "a", "b", "c"]
    assert (back["path_id"], back["first_path_id"], back["second_path_id"], back["heading"]) == (1, 8, 7, 6.2)
    assert back["shortest_path"] == ["d", "c"]
    assert back["shortest_path_distance"] == pytest.approx(SLOPE_M)
    assert twice["path"] == ["d", "a", "d", "a"]  # a route may follow itself
    assert twice["instructions"] == ["Left!Left!"]
    assert statistics_of([bent, back, twice])["instructions"] == 5


@pytest.mark.parametrize(("join_m", "pairs"), [(0, ["87"]), (2.0, ["87", "88"]), (4.3, ["77", "78", "87", "88"])])
def test_threshold(make_square: Callable[..., Path], square_routes: Routes, join_m: float, pairs: list[str]) -> None:
    found = join_routes(square_routes, load_scenes(make_square() / "connectivity"), join_m)
    assert [f"{route['first_path_id']}{route['second_path_id']}" for route in found] == pairs


def test_length_of_a_route_that_does_not_tell_it(make_square: Callable[..., Path], square_routes: Routes) -> None:
    del square_routes[0]["distance"]
    square_routes[1]["distance"] = 10.0
    bent, *_ = join_routes(square_routes, load_scenes(make_square() / "connectivity"))
    assert bent["distance"] == pytest.approx(2 + SLOPE_M + SLOPE_M + 10)


def test_real_routes_as_the_original_joins_them(data_dir: Path, scenes_all: dict[str, Scene], real: Path) -> None:
    routes = json.loads((data_dir / "r2r" / "R2R_val_seen.json").read_text())
    expected = as_the_original_does(routes, scenes_all)
    found = json.loads((real / "R4R_val_seen.json").read_text())
    assert len(found) == len(expected) == 115
    for route, original in zip(found, expected, strict=True):
        for name in ("distance", "shortest_path_distance"):
            assert route.pop(name) == pytest.approx(original.pop(name), abs=1e-9)
        assert route == original


def test_published_counts(real: Path) -> None:
    """Instructions as HAMT and VLN-DUET count them; lengths as in specs and paper."""
    train = json.loads((real / "R4R_train.json").read_text())
    numbers = statistics_of(train)
    assert (numbers["routes"], numbers["instructions"]) == (25_921, 233_532)
    assert numbers["length_m"] == pytest.approx(20.59, abs=0.005)
    assert numbers["shortest_m"] == pytest.approx(10.50, abs=0.005)
    assert len({route["scan"] for route in train}) == 59
    numbers = statistics_of(json.loads((real / "R4R_val_seen.json").read_text()))
    assert (numbers["routes"], numbers["instructions"]) == (115, 1_035)
    assert numbers["length_m"] == pytest.approx(20.36, abs=0.005)
    assert numbers["shortest_m"] == pytest.approx(11.11, abs=0.005)


def test_what_is_written_can_be_read(real: Path, scenes_all: dict[str, Scene]) -> None:
    episodes = load_episodes(real, "val_seen", "r4r", scenes_all)
    assert len(episodes) == 1035
    assert [e.instr_id for e in episodes[8:10]] == ["0_8", "1_0"]
    assert sum(len(e.path) for e in episodes) / len(episodes) == pytest.approx(12.22, abs=0.01)


def test_same_files_same_bytes(make_square: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = make_square()
    make_square("val_unseen")
    assert r4r.main(command(data, tmp_path / "one")) == r4r.main(command(data, tmp_path / "two")) == 0
    names = ["R4R_train.json", "R4R_val_unseen.json"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    told = capsys.readouterr().out
    assert "instructions" in told
    assert "R4R_train.json, R4R_val_unseen.json" in told
    assert [line for line in told.splitlines() if line.split()[:3] == ["train", "3", "5"]]


def test_data_that_cannot_be_joined(
    make_square: Callable[..., Path], square_routes: Routes, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"

    def refused(data: Path, *more: str) -> str:
        assert r4r.main(command(data, out, *more)) == 2
        assert not out.exists()
        return " ".join(capsys.readouterr().err.split())

    assert "no folder" in refused(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    assert "holds none of R2R_{train,val_seen,val_unseen}.json" in refused(tmp_path / "empty")
    data = make_square("test")
    assert "holds none of" in refused(data)
    assert "R2R_test.json has no goals" in refused(data, "--splits", "test")
    square_routes.pop()
    assert "no two routes of" in refused(make_square())
    square_routes[0]["path"] = ["a", "c"]
    assert "no such edge" in refused(make_square())
    (data / "R2R_train.json").write_text('[{"scan": ')
    assert "is not complete JSON" in refused(data)

"""The MatterSim drop-in against the original's traces, by hand and for its random starts."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulator_house import simulator, write_scan

import MatterSim
from envs.scenes import load_scene
from envs.simulator_random import MinstdRandom
from envs.simulator_sight import VIEW_ELEVATION_RAD, VIEW_HEADING_RAD, Place

TRACES = ("continuous_free", "continuous_restricted", "discrete_free", "discrete_restricted")
START = ("scan", "viewpoint", "heading", "elevation")
FIELDS = ("x", "y", "z", "rel_heading", "rel_elevation", "rel_distance")


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "connectivity")


# -- the original's traces ------------------------------------------------------------------------------------------


def read_trace(data_dir: Path, name: str) -> dict[str, Any]:
    with gzip.open(data_dir / "golden" / "simulator" / f"trace_{name}.json.gz", "rt") as file:
        return json.load(file)


def assert_state(state: MatterSim.SimState, golden: dict[str, Any]) -> None:
    found = (state.scanId, state.step, state.location.viewpointId, state.viewIndex)
    assert found == (golden["scan"], golden["step"], golden["viewpoint"], golden["view_index"])
    assert state.heading == pytest.approx(golden["heading"], abs=1e-12)
    assert state.elevation == pytest.approx(golden["elevation"], abs=1e-12)
    navigable = state.navigableLocations
    assert [seen.viewpointId for seen in navigable] == [other["viewpoint"] for other in golden["navigable"]]
    for seen, other in zip(navigable, golden["navigable"], strict=True):
        assert seen.ix == other["ix"]
        for field in FIELDS:
            # The last bit of the float32 arctangent is the only difference from the original (on glibc).
            assert getattr(seen, field) == pytest.approx(other[field], abs=3e-7 if field == "rel_heading" else 1e-12)


@pytest.mark.parametrize("name", TRACES)
def test_traces_with_scalars(data_dir: Path, name: str) -> None:
    trace = read_trace(data_dir, name)
    sim = simulator(
        data_dir / "connectivity", discretized=trace["discretized"], restricted=trace["restricted"], batch=None
    )
    sim.init()
    for episode in trace["episodes"]:
        sim.newEpisode(*[episode["start"][key] for key in START])
        assert_state(sim.getState(), episode["states"][0])
        for action, golden in zip(episode["actions"], episode["states"][1:], strict=True):
            sim.makeAction(*action)
            assert_state(sim.getState(), golden)


@pytest.mark.parametrize("name", TRACES)
def test_traces_with_lists(data_dir: Path, name: str) -> None:
    trace = read_trace(data_dir, name)
    episodes = trace["episodes"]
    sim = simulator(
        data_dir / "connectivity", discretized=trace["discretized"], restricted=trace["restricted"], batch=len(episodes)
    )
    sim.initialize()
    sim.newEpisode(*[[episode["start"][key] for episode in episodes] for key in START])
    for t in range(25):
        for state, episode in zip(sim.getState(), episodes, strict=True):
            assert_state(state, episode["states"][t])
        if t < 24:
            sim.makeAction(*[[episode["actions"][t][part] for episode in episodes] for part in range(3)])


# -- the state machine by hand --------------------------------------------------------------------------------------


def test_36_views_turn_right_from_below(graphs: Path) -> None:
    sim = simulator(graphs)
    sim.init()
    sim.newEpisode("house", "c", 0, math.radians(-30))
    for view in range(36):
        if view:
            sim.makeAction(0, 1.0, 1.0 if view % 12 == 0 else 0)
        state = sim.getState()
        assert (state.viewIndex, state.step) == (view, view)
        assert state.heading == pytest.approx(math.radians(30 * (view % 12)), abs=1e-12)
        assert state.elevation == pytest.approx(math.radians(30 * (view // 12 - 1)), abs=1e-12)


@pytest.mark.parametrize(
    ("heading_deg", "elevation_deg", "view"),
    [
        *[(0, 0, 12), (14.9, 0, 12), (15.1, 0, 13), (-15.1, 0, 23), (345.1, 0, 12), (750, 0, 13), (-30, 0, 23)],
        *[(0, 15.1, 24), (0, 14.9, 12), (0, -14.9, 12), (0, -15.1, 0), (0, 89, 24), (359, -89, 0)],
    ],
)
def test_new_episode_snaps(graphs: Path, heading_deg: float, elevation_deg: float, view: int) -> None:
    sim = simulator(graphs)
    sim.init()
    sim.newEpisode("house", "c", math.radians(heading_deg), math.radians(elevation_deg))
    assert sim.getState().viewIndex == view


def test_halves_snap_away_from_zero(graphs: Path) -> None:
    """lround, where Python's round would take the even neighbour."""
    sim = simulator(graphs)
    sim.init()
    for step in (0, 1, 2):
        sim.newEpisode("house", "c", (step + 0.5) * (math.pi * 2.0 / 12), 0)
        assert sim.getState().viewIndex == 12 + step + 1


def test_turns_by_sign_and_saturates_up_and_down(graphs: Path) -> None:
    sim = simulator(graphs)
    sim.init()
    sim.newEpisode("house", "c", 0, 0)
    sim.makeAction(0, -1e-9, 99.0)
    assert sim.getState().viewIndex == 24 + 11
    sim.makeAction(0, 0.0, 99.0)
    assert sim.getState().viewIndex == 24 + 11
    for _ in range(3):
        sim.makeAction(0, 0, -0.1)
    assert sim.getState().viewIndex == 11


def test_continuous_views_wrap_and_clamp(graphs: Path) -> None:
    sim = simulator(graphs, discretized=False)
    assert sim.setElevationLimits(-0.5, 0.25)
    sim.init()
    sim.newEpisode("house", "c", -0.1, 2.0)
    state = sim.getState()
    assert state.heading == pytest.approx(2 * math.pi - 0.1)
    assert (state.elevation, state.viewIndex) == (0.25, 0)
    sim.makeAction(0, 0.3, -9)
    assert sim.getState().heading == pytest.approx(0.2)
    assert sim.getState().elevation == -0.5


@pytest.mark.parametrize("limits", [(0.1, 0.5), (-0.1, -0.05), (-2, 0.5), (-0.1, 2), (float("nan"), 0.1)])
def test_elevation_limits_that_are_none_change_nothing(graphs: Path, limits: tuple[float, float]) -> None:
    sim = simulator(graphs, discretized=False)
    assert not sim.setElevationLimits(*limits)
    sim.init()
    sim.newEpisode("house", "c", 0, 9)
    assert sim.getState().elevation == 0.94


def test_restricted_sees_ahead_and_free_sees_all(graphs: Path) -> None:
    for restricted, expected in ((True, ["c", "n"]), (False, ["c", "n", "e", "s"])):
        sim = simulator(graphs, restricted=restricted)
        sim.init()
        sim.newEpisode("house", "c", 0, 0)
        assert [seen.viewpointId for seen in sim.getState().navigableLocations] == expected


def test_angles_and_distance_of_a_neighbour(graphs: Path) -> None:
    sim = simulator(graphs, restricted=False)
    sim.init()
    sim.newEpisode("house", "c", math.radians(150), math.radians(30))
    south = sim.getState().navigableLocations[1]
    assert south == ("s", 3, 0.0, -2.0, 2.5, south.rel_heading, south.rel_elevation, south.rel_distance)
    assert south.rel_heading == pytest.approx(math.radians(30), abs=1e-6)
    assert south.rel_elevation == pytest.approx(math.atan2(1, 2) - math.radians(30), abs=1e-6)
    assert south.rel_distance == pytest.approx(math.sqrt(5), abs=1e-6)


def test_move_then_turn_in_one_action(graphs: Path) -> None:
    sim = simulator(graphs)
    sim.init()
    sim.newEpisode("house", "c", 0, 0)
    sim.makeAction(1, 1, 0)
    state = sim.getState()
    assert (state.location.viewpointId, state.location.ix, state.viewIndex, state.step) == ("n", 1, 13, 1)
    assert state.location.rel_distance == 0


def edit_scan(graphs: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = graphs / "house_connectivity.json"
    items = json.loads(path.read_text())
    for item in items:
        change(item)
    path.write_text(json.dumps(items))


def test_isolated_viewpoint_has_only_itself(graphs: Path) -> None:
    edit_scan(graphs, lambda item: item.update(unobstructed=[False] * 5))
    for discretized in (True, False):
        sim = simulator(graphs, discretized=discretized)
        sim.newEpisode("house", "n", 0, 0)
        sim.makeAction(0, 1, 1)
        assert [seen.viewpointId for seen in sim.getState().navigableLocations] == ["n"]


def test_straight_up_is_in_no_field_of_view(graphs: Path) -> None:
    """The original divides 0 by 0 there: never in sight, but navigable when navigation is free."""
    edit_scan(graphs, lambda item: item.update(included=True))
    for restricted, expected in ((True, ["c", "n"]), (False, ["c", "n", "x", "e", "s"])):
        sim = simulator(graphs, restricted=restricted)
        sim.newEpisode("house", "c", 0, 0)
        navigable = sim.getState().navigableLocations
        assert [seen.viewpointId for seen in navigable] == expected
    assert navigable[2].rel_elevation == pytest.approx(math.pi / 2)


def test_camera_may_change_while_running(graphs: Path) -> None:
    """As in the original: the next action sees with the new camera, the present choice stays."""
    sim = simulator(graphs)
    sim.init()
    sim.newEpisode("house", "c", math.radians(30), 0)
    before = [seen.viewpointId for seen in sim.getState().navigableLocations]
    sim.setCameraVFOV(math.radians(10))
    assert [seen.viewpointId for seen in sim.getState().navigableLocations] == before == ["c", "n"]
    sim.makeAction(0, 0, 0)
    assert [seen.viewpointId for seen in sim.getState().navigableLocations] == ["c"]


def test_cached_views_equal_fresh_ones(data_dir: Path) -> None:
    """The 36 stored views of a place against the continuous path at the same angles, for a whole scan."""
    scene = load_scene(data_dir / "connectivity", "17DRP5sb8fy")
    half_fov_cos = math.cos(math.radians(40))
    for ix in np.flatnonzero(scene.included):
        stored, fresh = (Place(scene, int(ix), half_fov_cos, discretized) for discretized in (True, False))
        for view in range(36):
            pose = (VIEW_HEADING_RAD[view], VIEW_ELEVATION_RAD[view])
            assert stored.navigable(view, *pose) == fresh.navigable(0, *pose)


# -- random starts --------------------------------------------------------------------------------------------------


def test_random_engine_is_that_of_libstdcxx() -> None:
    """Printed by g++ 12: uniform_int_distribution<int>(0, n - 1) and uniform_real_distribution over 2 pi."""
    for seed in (1, 0, -3):
        engine = MinstdRandom(seed)
        drawn = [engine.below(n) for n in (44, 1, 300, 7, 90, 120) for _ in range(3)]
        assert drawn == [0, 5, 33, 0, 0, 0, 14, 203, 203, 6, 2, 3, 74, 3, 4, 63, 80, 0]
    engine = MinstdRandom(12345)
    assert [engine.below(44) for _ in range(3)] == [4, 36, 41]
    engine = MinstdRandom(1)
    assert [engine.uniform(math.pi * 2) for _ in range(2)] == [0.82647629525908806, 2.8817837706642719]


def test_empty_viewpoint_is_drawn_among_the_included(graphs: Path) -> None:
    starts = []
    for _ in range(2):
        sim = simulator(graphs)
        sim.setSeed(7)
        sim.init()
        drawn = []
        for _ in range(60):
            sim.newEpisode("house", "", 0, 0)
            drawn.append(sim.getState().location.viewpointId)
        assert set(drawn) == {"c", "n", "e", "s"}
        starts.append(drawn)
    assert starts[0] == starts[1]


def test_random_episode(graphs: Path) -> None:
    sim = simulator(graphs, discretized=False, batch=3)
    sim.initialize()
    sim.newRandomEpisode(["house"] * 3)
    assert [state.heading for state in sim.getState()] == pytest.approx([0.826476295, 2.881783771, 1.375761141])
    assert {state.elevation for state in sim.getState()} == {0.0}
    one = simulator(graphs)
    one.newRandomEpisode("house")
    assert one.getState().location.viewpointId in {"c", "n", "e", "s"}

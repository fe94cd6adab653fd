"""The MatterSim drop-in's two API generations: that all of both is there, and what a wrong call is told."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulator_house import simulator, write_scan

import MatterSim

VIEWPOINT_FIELDS = ("viewpointId", "ix", "x", "y", "z", "rel_heading", "rel_elevation", "rel_distance")
STATE_FIELDS = ("scanId", "step", "rgb", "depth", "location", "heading", "elevation", "viewIndex", "navigableLocations")
BINDING_V01 = """setDatasetPath setNavGraphPath setCameraResolution setCameraVFOV setRenderingEnabled
    setDiscretizedViewingAngles init setSeed setElevationLimits newEpisode getState makeAction close"""
BINDING_MASTER = """setDatasetPath setNavGraphPath setRenderingEnabled setCameraResolution setCameraVFOV
    setElevationLimits setDiscretizedViewingAngles setRestrictedNavigation setPreloadingEnabled setDepthEnabled
    setBatchSize setCacheSize setSeed initialize newEpisode newRandomEpisode getState makeAction close resetTimers
    timingInfo"""


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    return write_scan(tmp_path / "connectivity")


# -- both generations -----------------------------------------------------------------------------------------------


def test_every_name_of_both_bindings() -> None:
    for name in {*BINDING_V01.split(), *BINDING_MASTER.split()}:
        assert callable(getattr(MatterSim.Simulator, name)), name
    assert MatterSim.ViewPoint._fields == VIEWPOINT_FIELDS
    state = MatterSim.SimState(2, 3)
    assert all(hasattr(state, field) for field in STATE_FIELDS)


def test_every_setter_is_accepted_before_start(graphs: Path) -> None:
    sim = simulator(graphs, batch=2)
    sim.setDatasetPath("anywhere")
    sim.setPreloadingEnabled(True)
    sim.setDepthEnabled(False)
    sim.setCacheSize(400)
    sim.setSeed(3)
    sim.initialize()
    sim.newRandomEpisode(["house", "house"])
    assert len(sim.getState()) == 2


@pytest.mark.parametrize("start", ["init", "initialize", None])
@pytest.mark.parametrize("lists", [False, True])
def test_generations_mix_for_one_agent(graphs: Path, start: str | None, lists: bool) -> None:
    """What newEpisode was given decides what getState gives back; makeAction takes either."""
    sim = simulator(graphs)
    if start:
        getattr(sim, start)()
    if lists:
        sim.newEpisode(["house"], ["c"], [0], [0])
        sim.makeAction(1, 0, 0)
        state = sim.getState()[0]
    else:
        sim.newEpisode("house", "c", 0, 0)
        sim.makeAction([1], [0], [0])
        state = sim.getState()
    assert state.location.viewpointId == "n"


def test_numpy_arguments(graphs: Path) -> None:
    sim = simulator(graphs, batch=2)
    sim.initialize()
    sim.newEpisode(np.array(["house", "house"]), ("c", "c"), np.zeros(2), np.zeros(2, np.float32))
    sim.makeAction(np.array([1, 0]), [np.float32(1), np.int64(-1)], (np.float64(0), 0))
    assert [state.location.viewpointId for state in sim.getState()] == ["n", "c"]
    assert [state.viewIndex for state in sim.getState()] == [13, 23]
    one = simulator(graphs)
    one.init()
    one.newEpisode(np.str_("house"), "c", np.float32(0.0), np.array(0.0))
    one.makeAction(np.int64(1), np.float32(0), np.array(1.0))
    assert (one.getState().location.viewpointId, one.getState().viewIndex) == ("n", 24)


def test_states_are_live_with_lists_and_snapshots_with_scalars(graphs: Path) -> None:
    batched, single = simulator(graphs), simulator(graphs)
    batched.newEpisode(["house"], ["c"], [0], [0])
    single.newEpisode("house", "c", 0, 0)
    live, kept, snapshot = batched.getState()[0], copy.copy(batched.getState()[0]), single.getState()
    old = live.navigableLocations
    batched.makeAction([1], [1], [0])
    single.makeAction(1, 1, 0)
    assert (live.location.viewpointId, live.viewIndex, live.step) == ("n", 13, 1)
    for state in (kept, snapshot):
        assert (state.location.viewpointId, state.viewIndex, state.step) == ("c", 12, 0)
        assert [seen.viewpointId for seen in state.navigableLocations] == ["c", "n"]
    assert old[1].rel_distance == 2.0


def test_states_pickle_copy_and_print(graphs: Path) -> None:
    sim = simulator(graphs, restricted=False)
    sim.newEpisode(["house"], ["c"], [0], [0])
    for twin in (pickle.loads(pickle.dumps(sim.getState()))[0], copy.deepcopy(sim.getState())[0]):
        state = sim.getState()[0]
        assert twin is not state
        assert repr(twin) == repr(state)
        assert twin.navigableLocations == state.navigableLocations
        assert twin.rgb.shape == (480, 640, 3)
    assert "viewpointId='c'" in repr(state)
    assert "viewIndex=12" in repr(state)
    assert state.location.point == [0.0, 0.0, 1.5]
    with pytest.raises(AttributeError):
        state.location.rel_heading = 1.0


def test_images_are_empty_with_rendering_off(graphs: Path) -> None:
    sim = simulator(graphs)
    sim.init()
    sim.newEpisode("house", "c", 0, 0)
    rgb, depth = np.array(sim.getState().rgb, copy=False), sim.getState().depth
    assert (rgb.shape, rgb.dtype, int(rgb.max())) == ((480, 640, 3), np.uint8, 0)
    assert (depth.shape, depth.dtype) == ((480, 640, 1), np.uint16)


def test_navigable_is_a_fresh_list(graphs: Path) -> None:
    sim = simulator(graphs)
    sim.newEpisode("house", "c", 0, 0)
    sim.getState().navigableLocations.clear()
    assert len(sim.getState().navigableLocations) == 2


# -- wrong calls ----------------------------------------------------------------------------------------------------


def test_rendering_is_on_until_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for start in ("init", "initialize"):
        with pytest.raises(MatterSim.SimulatorError, match=r"setDatasetPath.*setRenderingEnabled\(False\)"):
            getattr(MatterSim.Simulator(), start)()
    with pytest.raises(RuntimeError, match=r"setRenderingEnabled\(False\)"):
        MatterSim.Simulator().newEpisode("house", "c", 0, 0)
    sim = MatterSim.Simulator()
    sim.setRenderingEnabled(False)
    sim.setDepthEnabled(True)
    with pytest.raises(MatterSim.SimulatorError, match=r"setDepthEnabled\(False\)"):
        sim.initialize()


@pytest.mark.parametrize(
    ("scan", "viewpoint", "kind", "said"),
    [
        ("house", "x", ValueError, "x of scan house is excluded"),
        ("house", "nowhere", ValueError, "'nowhere'"),
        ("attic", "c", IndexError, "unknown scan 'attic'.*setNavGraphPath"),
        ("house", 7, ValueError, "7"),
    ],
)
def test_start_that_is_none(graphs: Path, scan: str, viewpoint: Any, kind: type, said: str) -> None:
    sim = simulator(graphs)
    sim.init()
    sim.newEpisode("house", "n", 0, 0)
    with pytest.raises(kind, match=said):
        sim.newEpisode(scan, viewpoint, 0, 0)
    assert sim.getState().location.viewpointId == "n"


def test_missing_folder_names_the_setter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sim = MatterSim.Simulator()
    sim.setRenderingEnabled(False)
    sim.init()
    with pytest.raises(ValueError, match=r"connectivity.*setNavGraphPath"):
        sim.newEpisode("house", "c", 0, 0)
    write_scan(tmp_path / "connectivity")
    sim.newEpisode("house", "c", 0, 0)
    assert sim.getState().location.viewpointId == "c"


@pytest.mark.parametrize("index", [2, -1, 1.0, "1", None, [0, 1]])
def test_index_that_is_none(graphs: Path, index: Any) -> None:
    sim = simulator(graphs)
    sim.init()
    sim.newEpisode("house", "c", 0, 0)
    with pytest.raises(ValueError, match="index"):
        sim.makeAction(index, 0, 0)
    assert sim.getState().step == 0


@pytest.mark.parametrize("discretized", [True, False])
@pytest.mark.parametrize("angle", [float("nan"), float("inf") * 0, "left", None])
def test_angle_that_is_none(graphs: Path, discretized: bool, angle: Any) -> None:
    sim = simulator(graphs, discretized=discretized)
    sim.init()
    sim.newEpisode("house", "c", 0, 0)
    with pytest.raises(ValueError, match="finite"):
        sim.makeAction(0, 0.0, angle)
    with pytest.raises(ValueError, match="heading"):
        sim.newEpisode("house", "c", "left", 0)


def test_a_fault_leaves_the_whole_batch(graphs: Path) -> None:
    sim = simulator(graphs, batch=2)
    sim.newEpisode(["house"] * 2, ["c", "c"], [0, 0], [0, 0])
    with pytest.raises(ValueError, match="index: 5 in environment 1 of 2; expected 0 to 1"):
        sim.makeAction([1, 5], [0, 0], [0, 0])
    with pytest.raises(ValueError, match="excluded"):
        sim.newEpisode(["house"] * 2, ["n", "x"], [0, 0], [0, 0])
    assert [(state.location.viewpointId, state.step) for state in sim.getState()] == [("c", 0), ("c", 0)]


@pytest.mark.parametrize("wrong", [[0], [0, 0, 0], 0])
def test_lists_of_a_wrong_length(graphs: Path, wrong: Any) -> None:
    sim = simulator(graphs, batch=2)
    sim.newEpisode(["house"] * 2, ["c", "c"], [0, 0], [0, 0])
    with pytest.raises(IndexError, match=r"heading: found . value\(s\).* 2 .*setBatchSize"):
        sim.makeAction([0, 0], wrong, [0, 0])


def test_action_before_an_episode(graphs: Path) -> None:
    sim = simulator(graphs)
    with pytest.raises(RuntimeError, match="newEpisode must be called before makeAction"):
        sim.makeAction(0, 0, 0)
    with pytest.raises(RuntimeError, match="initialize"):
        sim.getState()
    sim.initialize()
    with pytest.raises(RuntimeError, match="newEpisode must be called before makeAction"):
        sim.makeAction([0], [0], [0])
    assert sim.getState()[0].location is None


def test_the_other_generation_is_taught(graphs: Path) -> None:
    sim = simulator(graphs)
    sim.newEpisode("house", "c", 0, 0)
    with pytest.raises(TypeError, match=r"newEpisode\(\[scanId\]"):
        sim.getState()[0]
    sim.newEpisode(["house"], ["c"], [0], [0])
    with pytest.raises(AttributeError, match=r"getState\(\)\[0\]\.location"):
        _ = sim.getState().location
    with pytest.raises(ValueError, match=r"initialize\(\)"):
        simulator(graphs, batch=4).init()


def test_late_settings_warn_and_change_nothing(graphs: Path) -> None:
    sim = simulator(graphs)
    sim.init()
    for setter, value in (("setBatchSize", 3), ("setRestrictedNavigation", False), ("setNavGraphPath", "elsewhere")):
        with pytest.warns(RuntimeWarning, match=f"{setter} after init/initialize has no effect"):
            getattr(sim, setter)(value)
    sim.newEpisode("house", "c", 0, 0)
    assert len(sim.getState().navigableLocations) == 2
    sim.close()
    with pytest.raises(RuntimeError, match="newEpisode"):
        sim.makeAction(0, 0, 0)
    sim.setRestrictedNavigation(False)
    sim.newEpisode("house", "c", 0, 0)
    assert len(sim.getState().navigableLocations) == 4


def test_settings_that_make_no_camera() -> None:
    sim = MatterSim.Simulator()
    with pytest.raises(ValueError, match="are these degrees"):
        sim.setCameraVFOV(60)
    with pytest.raises(ValueError, match="0 x 480"):
        sim.setCameraResolution(0, 480)
    with pytest.raises(ValueError, match="at least 1"):
        sim.setBatchSize(0)


def test_timing(graphs: Path) -> None:
    sim = simulator(graphs)
    assert "Process time: 0 ms" in sim.timingInfo()
    sim.newEpisode("house", "c", 0, 0)
    text = sim.timingInfo()
    assert "Rendered 0 frames" in text
    assert "Process time: 0 ms" not in text
    sim.resetTimers()
    assert "Process time: 0 ms" in sim.timingInfo()

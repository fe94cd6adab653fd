"""What the MatterSim drop-in shows with rendering on."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from simulator_house import simulator, write_scan
from skybox_files import box_distances, random_faces, write_depth, write_skybox

import MatterSim
from envs.rendering import Camera, load_depth_texture, load_texture, render, view_rotation
from envs.simulator_images import skyboxes

SIZE = (40, 30)
VFOV = 1.1


@pytest.fixture
def seeing(tmp_path: Path) -> Callable[..., MatterSim.Simulator]:
    """seeing(batch=None, depth=False, **options): a simulator, not started, of a house with small skyboxes."""
    graphs, scans = write_scan(tmp_path / "connectivity"), tmp_path / "scans"
    for seed, name in enumerate("cnes"):
        write_skybox(scans, "house", name, random_faces(24, seed))
        write_depth(scans, "house", name, box_distances(24, 1.0 + seed))

    def make(batch: int | None = None, depth: bool = False, discretized: bool = True) -> MatterSim.Simulator:
        sim = simulator(graphs, batch=batch, discretized=discretized)
        sim.setRenderingEnabled(True)
        sim.setDatasetPath(str(scans))
        sim.setDepthEnabled(depth)
        sim.setCameraResolution(*SIZE)
        sim.setCameraVFOV(VFOV)
        return sim

    return make


def expected(folder: Path, name: str, heading: float, elevation: float) -> np.ndarray:
    texture = load_texture(folder / "scans", "house", name)
    return render(texture, view_rotation(heading, elevation, np.eye(3))[None], Camera(*SIZE, VFOV))[0]


def test_scalars_see_and_snapshots_stay(seeing: Callable, tmp_path: Path) -> None:
    sim = seeing()
    sim.init()
    sim.newEpisode("house", "c", 0, 0)
    first = sim.getState()
    kept = np.array(first.rgb)
    assert (kept.shape, kept.dtype) == ((30, 40, 3), np.uint8)
    assert np.array_equal(kept, expected(tmp_path, "c", 0, 0))
    sim.makeAction(1, 1, -1)
    second = sim.getState()
    assert np.array_equal(second.rgb, expected(tmp_path, "n", math.radians(30), math.radians(-30)))
    assert np.array_equal(first.rgb, kept)
    assert not second.depth.any()
    assert second.depth.shape == (30, 40, 1)


def test_lists_see_with_depth(seeing: Callable, tmp_path: Path) -> None:
    sim = seeing(batch=3, depth=True)
    sim.newEpisode(["house"] * 3, ["c", "e", "c"], [0, 1, 2], [0, 0.5, 0])
    states = sim.getState()
    for state in states:
        name = state.location.viewpointId
        assert np.array_equal(state.rgb, expected(tmp_path, name, state.heading, state.elevation))
        rotation = view_rotation(state.heading, state.elevation, np.eye(3))[None]
        deep = render(load_depth_texture(tmp_path / "scans", "house", name), rotation, Camera(*SIZE, VFOV))[0]
        assert state.depth.dtype == np.uint16
        assert np.array_equal(state.depth, deep[:, :, None])
        assert deep.min() > 0
    before = states[1].rgb
    sim.makeAction([0, 0, 1], [1, 1, 0], [0, 0, 0])
    assert not np.array_equal(states[1].rgb, before)
    twin = pickle.loads(pickle.dumps(states))[2]
    assert np.array_equal(twin.rgb, states[2].rgb)
    assert np.array_equal(twin.depth, states[2].depth)


def test_camera_and_elevation_limits(seeing: Callable, tmp_path: Path) -> None:
    sim = seeing(discretized=False)
    assert sim.setElevationLimits(-0.5, 0.2)
    sim.initialize()
    sim.newEpisode(["house"], ["c"], [0.3], [1.0])
    assert np.array_equal(sim.getState()[0].rgb, expected(tmp_path, "c", 0.3, 0.2))
    sim.setCameraResolution(10, 8)
    sim.makeAction([0], [0.1], [-2.0])
    assert sim.getState()[0].elevation == -0.5
    assert sim.getState()[0].rgb.shape == (8, 10, 3)


def test_cache_keeps_the_last(seeing: Callable, tmp_path: Path) -> None:
    sim = seeing()
    sim.setCacheSize(2)
    sim.init()
    known = skyboxes(tmp_path / "scans", False, 2)
    for name in "cnce":
        sim.newEpisode("house", name, 0, 0)
    (tmp_path / "scans" / "house" / "matterport_skybox_images" / "c_skybox_small.jpg").unlink()
    assert len(known) == 2
    sim.newEpisode("house", "c", 0, 0)  # used after n, so still there
    sim.newEpisode("house", "n", 0, 0)
    sim.newEpisode("house", "s", 0, 0)
    with pytest.raises(MatterSim.SimulatorError, match=r"no skybox of viewpoint c of scan house.*\n.*c_skybox_small"):
        sim.newEpisode("house", "c", 0, 0)
    assert sim.getState().location.viewpointId == "s"
    with pytest.raises(ValueError, match="at least 1"):
        sim.setCacheSize(0)


def test_preloading_reads_all_and_keeps_it(seeing: Callable, tmp_path: Path) -> None:
    sim = seeing(depth=True)
    sim.setPreloadingEnabled(True)
    sim.setCacheSize(1)
    sim.initialize()
    images = tmp_path / "scans" / "house" / "matterport_skybox_images"
    for path in images.iterdir():
        path.unlink()
    for name in "cnes":
        sim.newEpisode(["house"], [name], [0], [0])
        assert sim.getState()[0].rgb.any()
    assert "Preloading images: 0 minutes" not in sim.timingInfo()


def test_preloading_wants_every_included_viewpoint(seeing: Callable, tmp_path: Path) -> None:
    (tmp_path / "scans" / "house" / "matterport_skybox_images" / "s_skybox_small.jpg").unlink()
    sim = seeing()
    sim.setPreloadingEnabled(True)
    with pytest.raises(MatterSim.SimulatorError, match="no skybox of viewpoint s"):
        sim.initialize()


def test_timing_counts_frames(seeing: Callable) -> None:
    sim = seeing(batch=2)
    sim.newEpisode(["house"] * 2, ["c", "n"], [0, 0], [0, 0])
    sim.makeAction([0, 0], [1, 1], [0, 0])
    assert "Rendered 4 frames" in sim.timingInfo()
    assert "Rendering: 0 ms" not in sim.timingInfo()
    sim.resetTimers()
    assert "Rendered 0 frames" in sim.timingInfo()


# -- wrong input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["init", "initialize"])
def test_no_images_at_all(tmp_path: Path, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default asks for ./data/v1/scans."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        RuntimeError, match=r"data/v1/scans does not exist.*setDatasetPath.*setRenderingEnabled\(False\)"
    ):
        getattr(MatterSim.Simulator(), start)()
    (tmp_path / "data" / "v1" / "scans" / "house").mkdir(parents=True)
    with pytest.raises(MatterSim.SimulatorError, match=r"has no folder \{scan\}/matterport_skybox_images"):
        MatterSim.Simulator().newEpisode("house", "c", 0, 0)


def test_a_damaged_skybox_leaves_every_agent(seeing: Callable, tmp_path: Path) -> None:
    sim = seeing(batch=2)
    sim.newEpisode(["house"] * 2, ["c", "c"], [0, 0], [0, 0])
    image = sim.getState()[0].rgb
    path = tmp_path / "scans" / "house" / "matterport_skybox_images" / "n_skybox_small.jpg"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(MatterSim.SimulatorError, match=r"n_skybox_small\.jpg is damaged"):
        sim.makeAction([0, 1], [1, 0], [0, 0])
    assert [(state.location.viewpointId, state.viewIndex, state.step) for state in sim.getState()] == [("c", 12, 0)] * 2
    assert sim.getState()[0].rgb is image


def test_depth_without_its_files(seeing: Callable, tmp_path: Path) -> None:
    for path in (tmp_path / "scans" / "house" / "matterport_skybox_images").glob("*depth*"):
        path.unlink()
    sim = seeing(depth=True)
    sim.init()
    with pytest.raises(MatterSim.SimulatorError, match=r"depth_small\.png[^$]*setDepthEnabled\(False\)"):
        sim.newEpisode("house", "c", 0, 0)
    blind = seeing(depth=True)
    blind.setRenderingEnabled(False)
    with pytest.raises(MatterSim.SimulatorError, match="rendering is off"):
        blind.initialize()


def test_a_camera_that_is_too_wide(seeing: Callable) -> None:
    sim = seeing()
    sim.setCameraVFOV(3.1415)
    with pytest.raises(MatterSim.SimulatorError, match="vertical field of view"):
        sim.newEpisode("house", "c", 0, 0)

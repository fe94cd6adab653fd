"""The candidate table against the 36-view sweep that it replaces, and the angle features by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import MatterSim
from envs.candidates import (
    CandidateTable,
    angle_feature,
    candidate_table,
    elevation_base_steps,
    nearest_view,
    view_angle_features,
)
from envs.scenes import Scene, load_scenes

STEP = math.radians(30)
HALF_VISIBLE = math.radians(80) / 2


def sweep(scene: Scene) -> list[list[tuple[int, int, float, float]]]:
    """Slow and readable: per viewpoint its candidates (neighbour, view, heading, elevation) in order.

    Turns a camera through the 36 views, lists what MatterSim would list in each (all locations within 40 degrees
    beside the camera, nearest to its axis first), and keeps of every location the view that is nearest to it.
    """
    view = np.arange(36)[:, None]
    camera_heading, camera_elevation = view % 12 * STEP, (view // 12 - 1) * STEP
    found: list[list[tuple[int, int, float, float]]] = []
    for here, position in enumerate(scene.position_m):
        others = np.flatnonzero(scene.adjacency[here])
        dx, dy, dz = (scene.position_m[others] - position).T
        ahead = dx * np.sin(camera_heading) + dy * np.cos(camera_heading)
        right = dx * np.cos(camera_heading) - dy * np.sin(camera_heading)
        elevation, beside = np.arctan2(dz, np.hypot(dx, dy)), np.arctan2(right, ahead)
        angle = np.hypot(beside, elevation - camera_elevation)
        listed = np.where(np.abs(beside) < HALF_VISIBLE, angle, np.inf)
        order, heading = np.argsort(listed, axis=1, kind="stable").tolist(), camera_heading + beside
        nearest: dict[int, tuple[float, int, float, float]] = {}
        for v, row in enumerate(listed.tolist()):
            for k in order[v]:
                if row[k] < nearest.get(k, (math.inf,))[0]:
                    nearest[k] = (row[k], v, heading[v, k], elevation[k])
        found.append([(int(others[k]), *rest[1:]) for k, rest in nearest.items()])
    return found


def rows_of(table: CandidateTable, scene: Scene, here: int) -> list[tuple[int, int, float, float]]:
    row = table.offset[scene.scan] + here
    n = table.count[row]
    assert (table.neighbour[row, n:] == row).all()
    columns = (table.neighbour[row, :n] - table.offset[scene.scan], table.view[row, :n])
    return list(zip(*columns, table.heading_rad[row, :n], table.elevation_rad[row, :n], strict=True))


def test_closed_form_is_the_sweep_on_every_edge(scenes_all: dict[str, Scene]) -> None:
    table = candidate_table(scenes_all)
    edges = 0
    for scene in scenes_all.values():
        for here, expected in enumerate(sweep(scene)):
            found = rows_of(table, scene, here)
            assert [f[:2] for f in found] == [e[:2] for e in expected], (scene.scan, here)
            np.testing.assert_allclose([f[2:] for f in found], [e[2:] for e in expected], rtol=0, atol=1e-6)
            edges += len(found)
    assert edges == 42_936


def test_closed_form_is_what_the_simulator_shows(scenes_all: dict[str, Scene], data_dir: Path) -> None:
    """The same through `import MatterSim`, as R2R-EnvDrop sweeps: all viewpoints of a scan at once."""
    for scan, scene in list(scenes_all.items())[::6]:
        table, places = candidate_table({scan: scene}), np.flatnonzero(scene.included)
        sim = MatterSim.Simulator()
        sim.setNavGraphPath(str(data_dir / "connectivity"))
        sim.setRenderingEnabled(False)
        sim.setDiscretizedViewingAngles(True)
        sim.setCameraResolution(640, 480)
        sim.setCameraVFOV(math.radians(60))
        sim.setBatchSize(len(places))
        sim.initialize()
        viewpoints, same = [scene.viewpoints[i] for i in places], [scan] * len(places)
        nearest: list[dict[str, tuple[float, int]]] = [{} for _ in places]
        for view in range(36):
            heading, elevation = view % 12 * STEP, (view // 12 - 1) * STEP
            sim.newEpisode(same, viewpoints, [heading] * len(places), [elevation] * len(places))
            for state, seen in zip(sim.getState(), nearest, strict=True):
                assert state.viewIndex == view
                for location in state.navigableLocations[1:]:
                    angle = math.hypot(location.rel_heading, location.rel_elevation)
                    if location.viewpointId not in seen or angle < seen[location.viewpointId][0]:
                        seen[location.viewpointId] = (angle, view)
        for here, seen in zip(places, nearest, strict=True):
            expected = [(scene.row[viewpoint], view) for viewpoint, (_, view) in seen.items()]
            assert [found[:2] for found in rows_of(table, scene, here)] == expected


def test_graph_order_holds_the_same_candidates(scenes_all: dict[str, Scene]) -> None:
    scenes = {scan: scenes_all[scan] for scan in ("17DRP5sb8fy", "EU6Fwq7SyZv")}
    by_sweep, by_graph = candidate_table(scenes), candidate_table(scenes, "graph")
    for scene in scenes.values():
        for here in range(len(scene.viewpoints)):
            found = rows_of(by_graph, scene, here)
            assert [f[0] for f in found] == np.flatnonzero(scene.adjacency[here]).tolist()
            assert found == sorted(rows_of(by_sweep, scene, here))
    with pytest.raises(ValueError, match="unknown candidate order 'random'; known: sweep, graph"):
        candidate_table(scenes, "random")


def test_square_by_hand(make_square: Callable[..., Path]) -> None:
    table = candidate_table(load_scenes(make_square() / "connectivity"))
    # b at (0, 2) sees a to the south (heading 180) and c to the east (90 degrees), 1 m up over 2 m.
    assert table.count.tolist() == [2, 2, 2, 2, 0]
    assert table.neighbour[1].tolist() == [2, 0]
    assert table.view[1].tolist() == [24 + 3, 12 + 6]
    np.testing.assert_allclose(table.heading_rad[1], [math.pi / 2, math.pi], atol=1e-6)
    np.testing.assert_allclose(table.elevation_rad[1], [math.atan2(1, 2), 0], atol=1e-6)
    np.testing.assert_allclose(table.distance_m[1], [math.sqrt(5), 2], atol=1e-6)
    assert table.neighbour[4].tolist() == [4, 4]
    assert table.viewpoints[2] == ("square", "c")


def test_nearest_view_wraps_and_saturates() -> None:
    heading, elevation = np.radians([0, 14, 16, 344, 346, 90]), np.radians([0, -14, -16, 16, 79, -80])
    assert nearest_view(heading, elevation).tolist() == [12, 12, 1, 24 + 11, 24, 3]


# -- angle features ----------------------------------------------------------------------------------------------------


def test_angle_feature_repeats_four_numbers() -> None:
    feature = angle_feature(np.array([[0.3, -1.0]]), np.array([[0.1, 0.2]]), 8)
    expected = [math.sin(-1), math.cos(-1), math.sin(0.2), math.cos(0.2)]
    assert feature.shape == (1, 2, 8)
    assert feature.dtype == np.float32
    np.testing.assert_allclose(feature[0, 1], expected * 2, atol=1e-7)
    for size in (0, 6):
        with pytest.raises(ValueError, match=f"angle feature size {size}; expected a multiple of 4"):
            angle_feature(np.zeros(1), np.zeros(1), size)


def test_view_angles_turn_with_the_agent() -> None:
    features = view_angle_features(4)
    assert features.shape == (36, 36, 4)
    # From base view 14 (60 degrees, horizon), view 27 (90 degrees, up) is 30 degrees right and 30 up.
    np.testing.assert_allclose(features[14, 27], [0.5, math.cos(STEP), 0.5, math.cos(STEP)], atol=1e-6)
    # From the horizon the agent looking up or down makes no difference; with the base "view" it does.
    np.testing.assert_array_equal(features[14], features[26])
    by_view = view_angle_features(4, "view")
    np.testing.assert_allclose(by_view[26, 27, 2:], [0, 1], atol=1e-7)
    np.testing.assert_allclose(by_view[2, 27, 2:], [math.sin(2 * STEP), 0.5], atol=1e-6)


def test_elevation_base_must_be_known() -> None:
    assert elevation_base_steps(np.array([0, 12, 35]), "view").tolist() == [-1, 0, 1]
    assert elevation_base_steps(np.array([0, 12, 35]), "horizon").tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="unknown elevation base 'floor'; known: horizon, view"):
        view_angle_features(4, "floor")

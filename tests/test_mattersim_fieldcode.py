"""The call patterns of the field's code on `import MatterSim`, against what EnvDrop recorded on the original.

Two small environments of our own make the same simulator calls in the same order as R2R-EnvDrop and
Recurrent-VLN-BERT (v0.1: one simulator per agent, scalars, ./connectivity) and as VLN-DUET (lists of one).
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import MatterSim

WIDTH, HEIGHT, VFOV = 640, 480, 60
BATCH = 64
TURNS = {"left": (0, -1, 0), "right": (0, 1, 0), "up": (0, 0, 1), "down": (0, 0, -1)}


@pytest.fixture(scope="module")
def episodes(data_dir: Path) -> list[dict[str, Any]]:
    with gzip.open(data_dir / "golden" / "environment" / "env_dev.json.gz", "rt") as file:
        return json.load(file)["episodes"]


def sweep(sim: Any, call: Callable[[Any], Any], scan: str, viewpoint: str, base_heading: float) -> list[dict[str, Any]]:
    """Every neighbour with the view that is nearest to it, in the order of first sight (`make_candidate`).

    `call` makes an argument of each value: itself for v0.1, a list of one for the batched API.
    """
    nearest: dict[str, dict[str, Any]] = {}
    for view in range(36):
        if view == 0:
            sim.newEpisode(call(scan), call(viewpoint), call(0), call(math.radians(-30)))
        elif view % 12 == 0:
            sim.makeAction(call(0), call(1.0), call(1.0))
        else:
            sim.makeAction(call(0), call(1.0), call(0))
        state = sim.getState()
        state = state[0] if isinstance(state, list) else state
        assert state.viewIndex == view
        for j, seen in enumerate(state.navigableLocations[1:]):
            distance = np.sqrt(seen.rel_heading**2 + seen.rel_elevation**2)
            if seen.viewpointId not in nearest or distance < nearest[seen.viewpointId]["distance"]:
                nearest[seen.viewpointId] = {
                    "viewpoint": seen.viewpointId,
                    "point_id": view,
                    "heading": state.heading - base_heading + seen.rel_heading,
                    "elevation": state.elevation + seen.rel_elevation,
                    "distance": distance,
                    "idx": j + 1,
                    "position": (seen.x, seen.y, seen.z),
                }
    return list(nearest.values())


def assert_candidates(found: Sequence[dict[str, Any]], golden: Sequence[dict[str, Any]]) -> None:
    keys = ("viewpoint", "point_id")
    assert [[c[key] for key in keys] for c in found] == [[c[key] for key in keys] for c in golden]
    for mine, theirs in zip(found, golden, strict=True):
        assert mine["heading"] == pytest.approx(theirs["heading"], abs=1e-5)
        assert mine["elevation"] == pytest.approx(theirs["elevation"], abs=1e-5)


def assert_pose(state: Any, golden: dict[str, Any]) -> None:
    assert (state.location.viewpointId, state.viewIndex) == (golden["viewpoint"], golden["view_index"])
    assert state.heading == pytest.approx(golden["heading"], abs=1e-12)
    assert state.elevation == pytest.approx(golden["elevation"], abs=1e-12)


# -- v0.1: R2R-EnvDrop, CLIP-ViL, Recurrent-VLN-BERT -----------------------------------------------------------------


def scalar_simulator() -> Any:
    """No path is set: the code runs in a folder that has ./connectivity."""
    sim = MatterSim.Simulator()
    sim.setRenderingEnabled(False)
    sim.setDiscretizedViewingAngles(True)
    sim.setCameraResolution(WIDTH, HEIGHT)
    sim.setCameraVFOV(math.radians(VFOV))
    sim.init()
    return sim


def move(sim: Any, source_view: int, candidate: dict[str, Any]) -> int:
    """`make_equiv_action`: tilt, turn right until the view is reached, go. Returns the number of actions."""
    taken = 0

    def take(name: str | int) -> None:
        nonlocal taken
        if isinstance(name, int):
            sim.makeAction(name, 0, 0)
        else:
            sim.makeAction(*TURNS[name])
        taken += 1

    source_row, target_row = source_view // 12, candidate["point_id"] // 12
    for _ in range(source_row, target_row):
        take("up")
    for _ in range(target_row, source_row):
        take("down")
    while sim.getState().viewIndex != candidate["point_id"]:
        take("right")
        assert taken < 15
    assert sim.getState().navigableLocations[candidate["idx"]].viewpointId == candidate["viewpoint"]
    take(candidate["idx"])
    return taken


def test_envdrop_style_follows_the_recorded_episodes(
    data_dir: Path, episodes: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data_dir)
    sims, looker = [scalar_simulator() for _ in range(BATCH)], scalar_simulator()
    steps = 0
    for first in range(0, len(episodes), BATCH):
        batch = episodes[first : first + BATCH]
        for sim, episode in zip(sims, batch, strict=False):
            start = episode["steps"][0]
            sim.newEpisode(episode["scan"], start["viewpoint"], start["heading"], 0)
        for t in range(max(len(episode["steps"]) for episode in batch)):
            for sim, episode in zip(sims, batch, strict=False):
                if t >= len(episode["steps"]):
                    continue
                golden, state = episode["steps"][t], sim.getState()
                assert_pose(state, golden)
                base_heading = (state.viewIndex % 12) * math.radians(30)
                candidates = sweep(looker, lambda x: x, state.scanId, state.location.viewpointId, base_heading)
                assert_candidates(candidates, golden["candidates"])
                steps += 1
                action = episode["actions"][t] if t < len(episode["actions"]) else -1
                if 0 <= action < len(candidates):
                    taken = move(sim, state.viewIndex, candidates[action])
                    assert sim.getState().step == state.step + taken
                    assert state.location.viewpointId == golden["viewpoint"]  # the held state is a snapshot
    assert steps == sum(len(episode["steps"]) for episode in episodes) == 748


def test_angle_features_of_all_base_views(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`get_all_point_angle_feature` makes a simulator per base view, at a viewpoint that it names."""
    monkeypatch.chdir(data_dir)
    for base_view in range(36):
        sim = scalar_simulator()
        base_heading = (base_view % 12) * math.radians(30)
        for view in range(36):
            if view == 0:
                sim.newEpisode("ZMojNkEp431", "2f4d90acd4024c269fb0efe49a8ac540", 0, math.radians(-30))
            else:
                sim.makeAction(0, 1.0, 1.0 if view % 12 == 0 else 0)
            state = sim.getState()
            assert state.viewIndex == view
            turned = math.radians(30 * (view % 12)) - base_heading
            assert math.sin(state.heading - base_heading) == pytest.approx(math.sin(turned), abs=1e-7)
            assert math.sin(state.elevation) == pytest.approx(math.sin(math.radians(30 * (view // 12 - 1))), abs=1e-7)


# -- batched: HAMT, VLN-DUET, NavGPT-2 -------------------------------------------------------------------------------


def list_simulator(connectivity: Path, restricted: bool = True) -> Any:
    sim = MatterSim.Simulator()
    sim.setDatasetPath("scans")
    sim.setNavGraphPath(str(connectivity))
    sim.setRenderingEnabled(False)
    sim.setCameraResolution(WIDTH, HEIGHT)
    sim.setCameraVFOV(math.radians(VFOV))
    sim.setDiscretizedViewingAngles(True)
    if not restricted:
        sim.setRestrictedNavigation(False)
    sim.setBatchSize(1)
    sim.initialize()
    return sim


def test_duet_style_teleports_along_the_recorded_episodes(data_dir: Path, episodes: list[dict[str, Any]]) -> None:
    """DUET moves by newEpisode at the candidate, with the heading of the view that saw it."""
    sims = [list_simulator(data_dir / "connectivity") for _ in episodes]
    looker = list_simulator(data_dir / "connectivity")
    for sim, episode in zip(sims, episodes, strict=True):
        start = episode["steps"][0]
        sim.newEpisode([episode["scan"]], [start["viewpoint"]], [start["heading"]], [0])
        for golden, action in zip(episode["steps"], [*episode["actions"], -1], strict=False):
            state = sim.getState()[0]
            assert_pose(state, golden)
            base_heading = (state.viewIndex % 12) * math.radians(30)
            candidates = sweep(looker, lambda x: [x], state.scanId, state.location.viewpointId, base_heading)
            assert_candidates(candidates, golden["candidates"])
            if not 0 <= action < len(candidates):
                break
            chosen = candidates[action]
            heading, elevation = (chosen["point_id"] % 12) * math.radians(30), (chosen["point_id"] // 12 - 1)
            sim.newEpisode([episode["scan"]], [chosen["viewpoint"]], [heading], [elevation * math.radians(30)])
            state = sim.getState()[0]
            here = (state.location.x, state.location.y, state.location.z)
            assert here == chosen["position"]


def test_free_navigation_sees_the_candidates_of_the_sweep(data_dir: Path, episodes: list[dict[str, Any]]) -> None:
    """BEVBert's shortcut: one look with setRestrictedNavigation(False) instead of the sweep, nearest view by angle."""
    free = list_simulator(data_dir / "connectivity", restricted=False)
    for episode in episodes:
        for golden in episode["steps"]:
            free.newEpisode([episode["scan"]], [golden["viewpoint"]], [golden["heading"]], [0])
            state = free.getState()[0]
            base_heading = (state.viewIndex % 12) * math.radians(30)
            seen = {location.viewpointId: location for location in state.navigableLocations[1:]}
            assert seen.keys() == {candidate["viewpoint"] for candidate in golden["candidates"]}
            for candidate in golden["candidates"]:
                location = seen[candidate["viewpoint"]]
                heading = state.heading + location.rel_heading
                row = min(max(round((state.elevation + location.rel_elevation) / math.radians(30)) + 1, 0), 2)
                assert candidate["point_id"] == 12 * row + round(heading / math.radians(30)) % 12
                turned = candidate["heading"] + base_heading - heading
                assert math.cos(turned) == pytest.approx(1, abs=1e-9)

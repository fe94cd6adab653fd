"""Speed of the MatterSim drop-in: agent-steps per second beside the original's rate with rendering off."""

from __future__ import annotations

import math
import os
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import MatterSim
from envs.simulator_sight import places

REFERENCE = 145_000
BATCH = 64
ROUNDS = 9
STEPS = 400  # per round

Step = tuple[list[int], list[int], list[int]]


def connectivity() -> Path:
    """The folder of the graphs in CLIPNAV_DATA."""
    data = os.environ.get("CLIPNAV_DATA")
    if not data:
        raise ValueError("CLIPNAV_DATA is not set; expected the folder that holds connectivity/, see docs/data.md")
    return Path(data) / "connectivity"


def simulator(folder: Path, batch: int, restricted: bool, discretized: bool = True) -> MatterSim.Simulator:
    """640 x 480, rendering off: the settings of EnvDrop and DUET, where `discretized` is left on."""
    sim = MatterSim.Simulator()
    sim.setNavGraphPath(folder)
    sim.setRenderingEnabled(False)
    sim.setDiscretizedViewingAngles(discretized)
    sim.setRestrictedNavigation(restricted)
    sim.setCameraResolution(640, 480)
    sim.setCameraVFOV(math.radians(60))
    sim.setBatchSize(batch)
    sim.initialize()
    return sim


def random_walk(sim: MatterSim.Simulator, scans: list[str], steps: int, seed: int) -> list[Step]:
    """Actions of a random policy, drawn and taken once before the clock runs (it fills the tables too)."""
    rng = random.Random(seed)
    sim.newRandomEpisode(scans)
    actions: list[Step] = []
    for _ in range(steps):
        index = [rng.randrange(len(state.navigableLocations)) for state in sim.getState()]
        heading = [rng.choice((-1, 0, 1)) for _ in scans]
        elevation = [rng.choice((-1, 0, 1)) for _ in scans]
        actions.append((index, heading, elevation))
        sim.makeAction(*actions[-1])
    return actions


def only_step(sim: MatterSim.Simulator, actions: list[Step]) -> None:
    """makeAction and getState."""
    for action in actions:
        sim.makeAction(*action)
        sim.getState()


def step_and_read(sim: MatterSim.Simulator, actions: list[Step]) -> None:
    """The same, reading of every state what the field's observations hold."""
    for action in actions:
        sim.makeAction(*action)
        for state in sim.getState():
            _ = (state.scanId, state.location.viewpointId, state.viewIndex, state.heading, state.elevation)
            _ = state.navigableLocations


def median_rate(replay: Callable[[], None], restart: Callable[[], None], agent_steps: int) -> float:
    """Agent-steps per second, the median over the rounds; `restart` is outside the clock."""
    rates = []
    for _ in range(ROUNDS):
        restart()
        start = perf_counter()
        replay()
        rates.append(agent_steps / (perf_counter() - start))
    return statistics.median(rates)


def batched(folder: Path, scans: list[str], restricted: bool, replay: Callable, discretized: bool = True) -> float:
    """One simulator with lists (HAMT, DUET style)."""
    sim = simulator(folder, BATCH, restricted, discretized)
    actions = random_walk(sim, scans, STEPS, seed=0)
    starts = _starts(folder, scans, restricted, discretized)
    return median_rate(lambda: replay(sim, actions), lambda: sim.newEpisode(*starts), BATCH * STEPS)


def first_walk(folder: Path, scans: list[str]) -> float:
    """The first visit of everything, graphs read before: tables are filled on the way."""
    sim = simulator(folder, BATCH, True)
    actions = random_walk(sim, scans, STEPS, seed=0)
    starts = _starts(folder, scans, True)

    def restart() -> None:
        places.cache_clear()
        sim.setCameraResolution(640, 480)  # lets go of the tables
        sim.newEpisode(*starts)

    return median_rate(lambda: step_and_read(sim, actions), restart, BATCH * STEPS)


def scalars(folder: Path, scans: list[str]) -> float:
    """64 simulators of one agent each, scalar calls, every state read: EnvDrop's EnvBatch."""
    actions = random_walk(simulator(folder, BATCH, True), scans, STEPS, seed=0)
    starts = list(zip(*_starts(folder, scans, True), strict=True))
    sims = [simulator(folder, 1, True) for _ in scans]
    rows = [list(zip(*action, strict=True)) for action in actions]

    def restart() -> None:
        for sim, start in zip(sims, starts, strict=True):
            sim.newEpisode(*start)

    def replay() -> None:
        for row in rows:
            for sim, action in zip(sims, row, strict=True):
                sim.makeAction(*action)
                state = sim.getState()
                _ = (state.scanId, state.location.viewpointId, state.viewIndex, state.heading, state.elevation)
                _ = state.navigableLocations

    return median_rate(replay, restart, BATCH * STEPS)


def _starts(folder: Path, scans: list[str], restricted: bool, discretized: bool = True) -> tuple:
    """Where `random_walk` starts: a fresh simulator of the same seed draws the same viewpoints."""
    sim = simulator(folder, BATCH, restricted, discretized)
    sim.newRandomEpisode(scans)
    states = sim.getState()
    viewpoints = [state.location.viewpointId for state in states]
    return scans, viewpoints, [state.heading for state in states], [state.elevation for state in states]


def run() -> list[dict]:
    """One row per way of calling: one core; JSON is read outside the clock, and first visits are, unless named."""
    folder = connectivity()
    listed = (folder / "scans.txt").read_text().split()
    scans = [listed[i % len(listed)] for i in range(BATCH)]
    rows = {
        "MatterSim drop-in, batch 64, restricted: makeAction + getState": batched(folder, scans, True, only_step),
        "MatterSim drop-in, batch 64, restricted: every state read": batched(folder, scans, True, step_and_read),
        "MatterSim drop-in, batch 64, free: makeAction + getState": batched(folder, scans, False, only_step),
        "MatterSim drop-in, batch 64, free: every state read": batched(folder, scans, False, step_and_read),
        "MatterSim drop-in, batch 64, continuous, restricted: every state read": batched(
            folder, scans, True, step_and_read, discretized=False
        ),
        "MatterSim drop-in, batch 64, restricted, first visits: every state read": first_walk(folder, scans),
        "MatterSim drop-in, 64 simulators, scalars: every state read": scalars(folder, scans),
    }
    return [
        {
            "name": name,
            "value": value,
            "unit": "steps/s",
            "reference": f"MatterSim C++ {REFERENCE:,} steps/s",
            "reference_value": REFERENCE,
        }
        for name, value in rows.items()
    ]


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']:<70} {row['value']:>12,.0f} {row['unit']}  ({row['reference']})")

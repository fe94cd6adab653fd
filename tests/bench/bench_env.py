"""Speed of `NavVectorEnv`, of loading R2R train, and what both keep in memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from envs.navigation import NavVectorEnv
from envs.tables import World, load_world

ENVS = 4096
STEPS = 200  # per round
ROUNDS = 9
LOADS = 5
MATTERSIM = "MatterSim C++, batch 64, rendering off"
ENVDROP = "R2R-EnvDrop's code"

LOAD = """
import json, resource, sys, time
from pathlib import Path
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6
import numpy
from clip_core.tokenizer import WordTokenizer, build_vocabulary
from envs.navigation import NavVectorEnv
from envs.tables import load_world
imported, begin = resident(), time.perf_counter()
world = load_world(sys.argv[1], "train")
texts = [episode.instruction for episode in world.episodes]
ids, lengths = WordTokenizer(build_vocabulary(texts)).encode_batch(texts)
env = NavVectorEnv(64, world=world)
env.reset(seed=0)
seconds = time.perf_counter() - begin
for _ in range(100):
    env.step(env.sample_actions(numpy.random.random(64)))
print(json.dumps({"imported_mb": imported, "resident_mb": resident(), "seconds": seconds}))
"""


def data() -> Path:
    """The folder of R2R in CLIPNAV_DATA."""
    folder = os.environ.get("CLIPNAV_DATA")
    if not folder:
        raise ValueError("CLIPNAV_DATA is not set; expected the folder that holds r2r/, see docs/data.md")
    return Path(folder).resolve() / "r2r"


def first_load(folder: Path) -> dict[str, float]:
    """Graphs, all-pairs tables, episodes, vocabulary and token ids of R2R train, and a first reset of 64 agents.

    In fresh processes, after their imports: seconds, and resident memory (no torch) before and after some steps.
    """
    command = [sys.executable, "-c", LOAD, str(folder)]
    found = [
        json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(LOADS)
    ]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def median_s(work: Callable[[], object], rounds: int) -> float:
    """Seconds of one call, the median over the rounds."""
    times = []
    for _ in range(rounds):
        begin = perf_counter()
        work()
        times.append(perf_counter() - begin)
    return statistics.median(times)


def walk(env: NavVectorEnv, rng: np.random.Generator, steps: int) -> None:
    """A random policy; its numbers are drawn inside the clock, as a policy's would be."""
    for _ in range(steps):
        env.step(env.sample_actions(rng.random(env.num_envs)))


def moved_bytes(env: NavVectorEnv) -> int:
    """Bytes that one step of one environment must read and write, however it is programmed.

    Written: the observation, reward (4), ended twice (2), the state. Read: the rows behind the observation, action,
    state, and from the tables count (8), the edge's neighbour and view (8), the goal, its place and that of both
    viewpoints (4 * 8), two distances (16), whether there is a goal (1).
    """
    observation, *_ = env.step(env.sample_actions(np.zeros(env.num_envs)))
    assert env.state is not None
    seen = sum(column.nbytes for column in observation.values()) // env.num_envs
    state = sum(column.nbytes for column in env.state) // env.num_envs
    written = seen + 4 + 2 + state
    read = seen - 3 * 8 + 8 + state + 8 + 8 + 4 * 8 + 16 + 1
    return written + read


def copy_s(nbytes: int) -> float:
    """Seconds to read and write so many bytes altogether, by the quickest plain copy."""
    source = np.ones(nbytes // 2, np.uint8)
    target = np.empty_like(source)
    return median_s(lambda: np.copyto(target, source), 200)


def stepping(world: World) -> dict[str, Any]:
    """The row of the environment's speed."""
    env, rng = NavVectorEnv(ENVS, world=world), np.random.default_rng(0)
    env.reset(seed=0)
    walk(env, rng, STEPS)
    seconds = median_s(lambda: walk(env, rng, STEPS), ROUNDS) / STEPS
    nbytes = moved_bytes(env)
    floor = copy_s(nbytes * ENVS)
    return {
        "name": f"NavVectorEnv numpy, {ENVS} environments, random policy, observations (reach: 5,000,000)",
        "value": ENVS / seconds,
        "unit": "steps/s",
        "reference": MATTERSIM,
        "reference_value": 145_000,
        "floor": f"{nbytes} bytes must move per step; a plain copy of them takes {floor / seconds:.0%} of the time",
    }


def run() -> list[dict[str, Any]]:
    """One core; files in the page cache."""
    folder = data()
    world, loading = load_world(folder, "train"), first_load(folder)
    graphs = [folder.parent / "connectivity" / f"{scan}_connectivity.json" for scan in world.scenes]
    nbytes = sum(file.stat().st_size for file in [folder / "R2R_train.json", *graphs])
    parse = median_s(lambda: [json.loads(f.read_bytes()) for f in [folder / "R2R_train.json", *graphs]], LOADS)
    return [
        stepping(world),
        {
            "name": "load R2R train: graphs, all pairs, episodes, vocabulary, token ids, reset (reach: 2 s)",
            "value": loading["seconds"],
            "unit": "s",
            "reference": ENVDROP,
            "reference_value": 9.0,
            "floor": f"{nbytes / 1e6:.0f} MB of JSON; parsing alone takes {parse / loading['seconds']:.0%} of the time",
        },
        {
            "name": "resident memory of a process that loaded R2R train and steps, without torch",
            "value": loading["resident_mb"],
            "unit": "MB",
            "reference": f"{ENVDROP}, blind training, torch included",
            "reference_value": 3200.0,
            "floor": f"{loading['imported_mb']:.0f} MB of it are Python and its libraries",
        },
    ]

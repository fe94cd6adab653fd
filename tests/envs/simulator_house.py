"""A house of five viewpoints, with a simulator for it: what the simulator's tests share."""

from __future__ import annotations

import json
import math
from pathlib import Path

import MatterSim


def write_scan(folder: Path, scan: str = "house") -> Path:
    """Four places on a cross of 2 m around `c` and, 1 m above it, `x`, which is excluded."""
    places = {"c": (0, 0, 1.5), "n": (0, 2, 1.5), "e": (2, 0, 1.5), "s": (0, -2, 2.5), "x": (0, 0, 2.5)}
    names = list(places)
    items = [
        {
            "image_id": name,
            "pose": [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1],
            "included": name != "x",
            "visible": [True] * len(names),
            "unobstructed": [name != other and "c" in (name, other) for other in names],
            "height": 1.5,
        }
        for name, (x, y, z) in places.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{scan}_connectivity.json").write_text(json.dumps(items))
    (folder / "scans.txt").write_text(scan)
    return folder


def simulator(
    graphs: Path, *, discretized: bool = True, restricted: bool = True, batch: int | None = None
) -> MatterSim.Simulator:
    """Not started yet; 640 x 480 and 60 degrees as the field has it."""
    sim = MatterSim.Simulator()
    sim.setNavGraphPath(str(graphs))
    sim.setRenderingEnabled(False)
    sim.setCameraResolution(640, 480)
    sim.setCameraVFOV(math.radians(60))
    sim.setDiscretizedViewingAngles(discretized)
    sim.setRestrictedNavigation(restricted)
    if batch is not None:
        sim.setBatchSize(batch)
    return sim

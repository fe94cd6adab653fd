"""Sample routes from above, reference and prediction, on one sheet."""

from __future__ import annotations

import random
from pathlib import Path

from agent.evaluation import Predictions
from envs.tables import World
from envs.topdown import Route, draw_routes, write_png

SAMPLES = 6


def save_routes(path: Path, world: World, predictions: Predictions, samples: int = SAMPLES, seed: int = 0) -> None:
    """Write a PNG with a few routes drawn at random, the same ones for the same seed."""
    chosen = random.Random(seed).sample(list(world.episodes), min(samples, len(world.episodes)))
    routes = [
        Route(
            world.scenes[e.scan],
            reference=list(e.path) if e.has_goal else None,
            path=[pose[0] for pose in predictions[e.instr_id]],
            title=f"{e.scan} {e.instr_id}",
            instruction=e.instruction,
        )
        for e in chosen
    ]
    write_png(path, draw_routes(routes))

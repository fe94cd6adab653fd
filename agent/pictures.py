"""Sample routes from above on one sheet: reference and prediction, or what a speaker says of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
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


def save_spoken(path: Path, world: World, spoken: Mapping[str, str], samples: int = SAMPLES, seed: int = 0) -> None:
    """Write a PNG with a few routes drawn at random, under each what a speaker said of it. spoken: path_id -> text."""
    first = {e.path_id: e for e in reversed(world.episodes)}
    chosen = random.Random(seed).sample(list(spoken), min(samples, len(spoken)))
    routes = [
        Route(
            world.scenes[first[path_id].scan],
            reference=list(first[path_id].path),
            position=first[path_id].start,
            heading_rad=first[path_id].heading_rad,
            title=f"{first[path_id].scan} {path_id}",
            instruction=spoken[path_id],
        )
        for path_id in chosen
    ]
    write_png(path, draw_routes(routes))

"""Command: make a world of procedural houses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from envs.houses.world import WorldConfig, default_workers, make_world

DESCRIPTION = """Make a world of procedural houses in the formats of Matterport3D and Room-to-Room. For example:

  python -m envs.houses --out world --seed 1

writes world/R2R_{train,val_seen,val_unseen,test}.json, world/connectivity/ with the navigation graphs,
world/v1/scans/SCAN/matterport_skybox_images/ with a panorama for each viewpoint, and world/houses/SCAN.json with rooms,
doors and objects. The unseen houses give val_unseen and test. The same settings give the same bytes. A command that was
interrupted goes on where it was when it is given again. Then:

  python -m agent.train --data world --features none --out runs/houses"""


@dataclass(frozen=True)
class Houses:
    """What to make."""

    out: Path
    """Folder of the world."""
    seed: int = 1
    """Other seeds give other houses."""
    train: int = 40
    """Houses to train in, for train and val_seen."""
    unseen: int = 8
    """Houses that are never trained in, for val_unseen and test."""
    face_px: int = 256
    """Edge of a skybox face in pixels; Matterport3D has 512. Four times the pixels take about four times as long."""
    train_routes: int = 64
    """Routes of train for each house, with three instructions each; an eighth as many for val_seen."""
    eval_routes: int = 48
    """Routes of val_unseen for each unseen house; half as many for test."""
    depth: bool = False
    """Also write the distances of all pixels ({viewpoint}_skybox_depth_small.png, 16 bits, 0.25 mm)."""
    workers: int | None = None
    """Processes; by default one per core."""


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the world; a fault of the user gives a message and exit code 2."""
    args = tyro.cli(Houses, prog="python -m envs.houses", description=DESCRIPTION, args=argv)
    config = WorldConfig(
        args.seed, args.train, args.unseen, args.face_px, args.train_routes, args.eval_routes, args.depth
    )
    console = Console()
    columns = (TextColumn("houses"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("houses", total=None)
            workers = default_workers() if args.workers is None else args.workers
            counts = make_world(
                args.out, config, workers, lambda done, total: progress.update(task, completed=done, total=total)
            )
    except (ValueError, OSError) as error:
        Console(stderr=True).print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
        return 2
    routes = ", ".join(f"{split} {count}" for split, count in counts.items())
    console.print(f"{args.out}: {args.train} + {args.unseen} houses; routes, three instructions each: {routes}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

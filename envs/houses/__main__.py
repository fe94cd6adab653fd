"""Command: make a world of procedural houses."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.text import Text

from envs.houses.pictures import FOLDER
from envs.houses.progress import make_world_shown
from envs.houses.show import show
from envs.houses.world import WorldConfig

DESCRIPTION = """Make a world of procedural houses in the formats of Matterport3D and Room-to-Room. For example:

  python -m envs.houses --out world --seed 1

writes world/R2R_{train,val_seen,val_unseen,test}.json, world/connectivity/ with the navigation graphs,
world/v1/scans/SCAN/matterport_skybox_images/ with a panorama for each viewpoint, and world/houses/SCAN.json with rooms,
doors and objects. world/vision_language/ has pictures with questions (VQA v2), captions (COCO), entailment pairs
(SNLI-VE). The unseen houses give val_unseen, test, val2014, dev. The same settings give the same bytes. A command that
was interrupted goes on where it was when it is given again. Then:

  python -m agent.train --data world --features none --out runs/houses

To look at a house and a route through it (python -m envs.houses show --help):

  python -m envs.houses show world --out sheet.png"""


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
    tasks: bool = True
    """Also write pictures with questions, captions, entailment pairs (VQA v2, COCO, SNLI-VE) to vision_language/."""
    workers: int | None = None
    """Processes; by default one per core."""


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the world, or shows one; a fault of the user gives a message and exit code 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["show"]:
        return show(argv[1:])
    args = tyro.cli(Houses, prog="python -m envs.houses", description=DESCRIPTION, args=argv)
    config = WorldConfig(
        args.seed,
        args.train,
        args.unseen,
        args.face_px,
        args.train_routes,
        args.eval_routes,
        args.depth,
        args.tasks,
    )
    console = Console()
    try:
        counts = make_world_shown(args.out, config, console, args.workers)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
        return 2
    routes = ", ".join(f"{split} {count}" for split, count in counts.items())
    console.print(f"{args.out}: {args.train} + {args.unseen} houses; routes, three instructions each: {routes}")
    if args.tasks:
        console.print(f"{args.out / FOLDER}: pictures with questions, captions, entailment pairs")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Command: a route through a procedural house on one sheet."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.text import Text

from envs.houses.built_in import world_folder
from envs.skybox import has_skyboxes

DESCRIPTION = """Draw a route through a procedural house: floor plan, navigation graph, panorama at the start,
instructions, the view ahead at each step. For example:

  python -m envs.houses --out world
  python -m envs.houses show world --scan s1u000 --route 3 --out sheet.png

Without arguments it shows the first route of val_unseen of the built-in world."""
MAKE = "python -m envs.houses --out"


@dataclass(frozen=True)
class Show:
    """What to draw."""

    world: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder that `python -m envs.houses --out` made; by default the built-in world."""
    scan: str | None = None
    """The house; by default the first unseen one."""
    route: int = 0
    """Which of its routes, counted from 0 over all splits."""
    out: Path = Path("sheet.png")
    """The picture, a PNG."""


def show(argv: Sequence[str]) -> int:
    """Draws the sheet; a fault of the user gives a message and exit code 2."""
    args = tyro.cli(Show, prog="python -m envs.houses show", description=DESCRIPTION, args=list(argv))
    try:
        told = draw(args)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
        return 2
    Console().print(Text(told), soft_wrap=True)
    return 0


def draw(args: Show) -> str:
    """Writes the sheet; returns what it shows, in a line. ValueError where there is no such world, scan, route."""
    from envs.houses.sheet import draw_sheet  # the compiled renderer loads when there is something to draw
    from envs.topdown import write_png

    world = find_world(args.world)
    house = read_house(world, args.scan)
    routes = [(split, route) for split, routes in house["routes"].items() for route in routes]
    if not 0 <= args.route < len(routes):
        raise ValueError(f"--route is {args.route}; house {house['scan']} has the routes 0 to {len(routes) - 1}")
    if args.out.suffix.lower() != ".png":
        raise ValueError(f"--out is {args.out}; expected a name that ends in .png")
    split, route = routes[args.route]
    title = (
        f"House {house['scan']}, route {args.route} of {len(routes)} ({split}): {len(route['path'])} viewpoints, "
        f"{route['distance']:.1f} m"
    )
    write_png(args.out, draw_sheet(world, house, route, title))
    return f"{args.out}: {title}"


def find_world(folder: Path | None) -> Path:
    """The folder of a world, with houses and skyboxes. ValueError with the command that makes one."""
    if folder is None:
        folder = world_folder()
        if not (folder / "houses").is_dir():
            raise ValueError(
                f"there is no built-in world yet (looked in {folder}); `python -m precompute prepare --no-features` "
                f"makes it, or make another with `{MAKE} world` and name it: python -m envs.houses show world"
            )
    if not (folder / "houses").is_dir():
        raise ValueError(f"{folder} is no world of houses (no folder {folder / 'houses'}); `{MAKE} {folder}` makes one")
    if not has_skyboxes(folder):
        raise ValueError(f"{folder} has no skyboxes (v1/scans/SCAN/matterport_skybox_images/); `{MAKE} DIR` makes them")
    return folder


def read_house(world: Path, scan: str | None) -> dict[str, Any]:
    """A house of a world by its scan, by default the first with routes of val_unseen, or the first of all."""
    files = {file.stem: file for file in sorted((world / "houses").glob("*.json"))}
    if not files:
        raise ValueError(f"{world / 'houses'} holds no house yet; `{MAKE} {world}` finishes the world")
    if scan is not None and scan not in files:
        raise ValueError(f"--scan is {scan}; {world} has the scans {', '.join(files)}")
    if scan is None:
        scan = next((name for name in files if name.rstrip("0123456789").endswith("u")), next(iter(files)))
    try:
        house: dict[str, Any] = json.loads(files[scan].read_text())
        if not {"scan", "rooms", "doors", "stairs", "items", "viewpoints", "connectivity", "routes"} <= house.keys():
            raise ValueError("parts are missing")
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{files[scan]} is damaged ({error}); remove it, and `{MAKE} {world}` makes it again"
        ) from None
    return house

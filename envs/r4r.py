"""Command: R4R from R2R (`python -m envs.r4r --help`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from envs.episodes import check_routes, episode_file, existing_splits, load_episodes
from envs.joining import JOIN_M, join_routes, statistics_of, write_routes
from envs.scenes import find_connectivity, load_scenes

DESCRIPTION = """Make R4R (Room-for-Room, Jain et al. 2019) from Room-to-Room: routes joined in pairs where the second
starts near the end of the first. For example:

  python -m envs.r4r --data R2R --out R2R
  python -m agent.train --env r4r --data R2R --out runs/r4r

writes R4R_train.json, R4R_val_seen.json, R4R_val_unseen.json for the R2R files that the folder holds. The same files
give the same bytes."""
COLUMNS = ("routes", "instructions", "length\n(m)", "shortest\npath (m)", "viewpoints", "shortest\npath")


@dataclass(frozen=True)
class R4R:
    """What to make."""

    data: Path
    """Folder of R2R_train.json and its other splits."""
    out: Path
    """Folder for the R4R files; the data folder itself will do, since the names differ."""
    connectivity: Path | None = None
    """Folder of the navigation graphs. Default: connectivity/ in the data folder or beside it."""
    splits: tuple[str, ...] = ("train", "val_seen", "val_unseen")
    """Splits to join; those that the data folder lacks are left out."""
    join_m: float = JOIN_M
    """Longest way in metres from the end of the first route to the start of the second; R4R has 3."""


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the files; a fault of the user gives a message and exit code 2."""
    args = tyro.cli(R4R, prog="python -m envs.r4r", description=DESCRIPTION, args=argv)
    console = Console()
    try:
        make(args, console)
    except (ValueError, OSError) as error:
        Console(stderr=True).print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)
        return 2
    return 0


def make(args: R4R, console: Console) -> None:
    """Joins and writes every split, then tells the statistics that the original program tells."""
    splits = existing_splits(args.data, "r2r", args.splits)
    if not splits:
        raise ValueError(
            f"{args.data} holds none of R2R_{{{','.join(args.splits)}}}.json; name their folder with --data"
        )
    table = Table("", box=None, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for split in splits:
        numbers = make_split(args, split)
        counts = (f"{numbers[name]:,.0f}" for name in ("routes", "instructions"))
        means = (f"{numbers[name]:.2f}" for name in ("length_m", "shortest_m", "viewpoints", "shortest_viewpoints"))
        table.add_row(split, *counts, *means)
    console.print(table)
    console.print(Text(f"in {args.out}: {', '.join(f'R4R_{split}.json' for split in splits)}"), soft_wrap=True)


def make_split(args: R4R, split: str) -> dict[str, float]:
    """Writes R4R_{split}.json; returns its statistics. ValueError for R2R files with faults, or without goals."""
    file = episode_file(args.data, split, "r2r")
    episodes = load_episodes(args.data, split, "r2r")
    scenes = load_scenes(find_connectivity(args.data, args.connectivity), {episode.scan for episode in episodes})
    check_routes(file, episodes, scenes)
    if not all(episode.has_goal for episode in episodes):
        raise ValueError(f"{file} has no goals, so that its routes cannot be joined; leave {split} out of --splits")
    routes = list(join_routes(json.loads(file.read_text(encoding="utf-8")), scenes, args.join_m))
    if not routes:
        raise ValueError(
            f"no two routes of {file} are within {args.join_m} m of one another; there is nothing to write"
        )
    write_routes(args.out / f"R4R_{split}.json", routes)
    return statistics_of(routes)


if __name__ == "__main__":
    raise SystemExit(main())

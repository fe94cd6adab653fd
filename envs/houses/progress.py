"""A world of houses made before the eyes of the user."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from envs.houses.world import WorldConfig, default_workers, make_world


def make_world_shown(out: Path, config: WorldConfig, console: Console, workers: int | None = None) -> dict[str, int]:
    """`envs.houses.world.make_world` with a bar of houses done and time left; one process per core by default."""
    columns = (TextColumn("houses"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("houses", total=None)
        return make_world(
            out,
            config,
            default_workers() if workers is None else workers,
            lambda done, total: progress.update(task, completed=done, total=total),
        )

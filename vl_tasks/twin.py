"""A run beside its blind twin, the same model that sees nothing: what is seeing worth?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from clip_core.checkpoint import LAST
from clip_core.runtime import Runtime
from precompute.screen import say
from vl_tasks.report import write_table
from vl_tasks.scores import Scores
from vl_tasks.sources import VisionConfig
from vl_tasks.task import TaskConfig

BLIND_FOLDER = "blind"
"""Of a run folder: the run of its blind twin."""
C = TypeVar("C", bound=TaskConfig)


@dataclass(frozen=True, eq=False)
class Ended:
    """A run that has ended, on the main rank. scores: of its best weights, by judged split; report: writes the report
    page, given the scores of the blind twin where there is one."""

    config: TaskConfig
    scores: Mapping[str, Scores]
    report: Callable[[Mapping[str, Scores] | None], Path]

    def show(self, console: Console, blind: Ended | None = None) -> None:
        """Writes table and report page, says the scores; `blind`: the twin, put beside."""
        rows = {"blind" if self.config.vision.blind else "model": self.scores}
        if blind is not None:
            rows["blind"] = blind.scores
        table = {name: {split: one.table() for split, one in scores.items()} for name, scores in rows.items()}
        write_table(self.config.out, table)
        page = self.report(None if blind is None else blind.scores)
        for name, scores in rows.items():
            for split, one in scores.items():
                say(console, f"{name:6} {split}: {one.line()}")
        say(console, f"Look at {page}")


def blind_twin(config: C) -> C:
    """The same run for a model that sees nothing, in a folder of its own, going on where it has begun."""
    folder = config.out / BLIND_FOLDER
    resume = config.resume and (folder / LAST).exists()
    return replace(config, vision=VisionConfig(blind=True), out=folder, resume=resume)


def train_beside_twin(
    config: C, train: Callable[[C], Ended | None], name: str, runtime: Runtime, console: Console
) -> None:
    """Trains and shows the model of a config, its blind twin (called `name` on the screen), both together.

    train: trains one model on this rank, shows it, and returns what came out on the main rank.
    """
    seen = train(config)
    if runtime.is_main:
        say(console, f"\nThe same model {name}, for comparison:")
    blind = train(blind_twin(config))
    if seen is not None and blind is not None:
        seen.show(console, blind)

"""Runs of the tasks side by side, from what they left in their folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from clip_core.checkpoint import find_checkpoint, read_checkpoint
from clip_core.log import LOG_NAME, read_log
from envs.files import replacing
from precompute.screen import say
from vl_tasks.analyse_config import Compare
from vl_tasks.data import read_json
from vl_tasks.report import TABLE_NAME, Bars, draw_bars

HEADLINES = ("overall", "accuracy", "cider")
"""Last names of the scores that are compared."""
TASK, SEES = "task", "sees"
"""The columns that are not on the screen: the title, and what is too wide."""


@dataclass(frozen=True)
class ComparedRun:
    """What a run folder tells. sees: encoders, with `frozen` or `trained`; parameters: of the model, of encoders that
    learned; scores: fractions by name."""

    name: str
    task: str
    sees: str
    parameters: int
    steps: int
    minutes: float
    scores: dict[str, float]


def read_run(folder: Path) -> ComparedRun:
    """One run. ValueError if the folder holds none of a vision-and-language task."""
    checkpoint = read_checkpoint(find_checkpoint(folder))
    record = checkpoint.document["config"]
    if not isinstance(record, dict) or "task" not in record or "vision" not in record:
        raise ValueError(f"{folder} is no run of a vision-and-language task; expected one of python -m vl_tasks")
    lines = read_log(folder / LOG_NAME) if (folder / LOG_NAME).exists() else []
    seconds = [line["train_seconds"] for line in lines if "train_seconds" in line]
    table = folder / TABLE_NAME
    scores = dict(_headlines(read_json(table))) if table.exists() else _best_of(lines)
    return ComparedRun(
        folder.name,
        record["task"],
        " + ".join(map(seen_with, record["vision"])),
        sum(value.numel() for value in checkpoint.model_state().values()),
        max((line["step"] for line in lines), default=0),
        (seconds[-1] if seconds else 0.0) / 60,
        scores,
    )


def seen_with(source: Mapping[str, Any]) -> str:
    """A source of features in a few words."""
    if source.get("blind"):
        return "nothing"
    shape = " x ".join(map(str, source.get("shape", ())))
    state = "trained" if source.get("trained") else "frozen"
    return f"{source.get('model') or 'unknown'} {source.get('pretrained') or ''} [{shape}], {state}".replace("  ", " ")


def _headlines(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, float]]:
    """Headline scores of a table, however deep; that of the model itself goes by its split alone."""
    for name, value in table.items():
        path = above if name in ("model", "overall") else f"{above} {name}".strip()
        if isinstance(value, Mapping):
            yield from _headlines(value, path)
        elif name in HEADLINES:
            yield path, float(value)


def _best_of(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The largest value of each headline metric of a log: of a run that has not ended."""
    found: dict[str, float] = {}
    for line in lines:
        for name, value in line.items():
            split, _, last = name.rpartition("/")
            if split and last in HEADLINES:
                path = split if last == "accuracy" else f"{split} {last}"
                found[path] = max(found.get(path, 0.0), float(value))
    return found


def run_compare(config: Compare, console: Console) -> list[ComparedRun]:
    """The command: a table for each task on screen, and with --out as Markdown with a picture."""
    runs = [read_run(folder) for folder in config.runs]
    say(console, "What they see with:")
    for run in runs:
        say(console, f"  {run.name}: {run.sees}")
    markdown = []
    for task in dict.fromkeys(run.task for run in runs):
        alike = [run for run in runs if run.task == task]
        heads, rows = task_table(alike)
        narrow = [place for place, head in enumerate(heads) if head not in (TASK, SEES)]
        columns = (Column(heads[place], overflow="fold") for place in narrow)
        shown = Table(*columns, title=f"{task}, scores in %")
        for row in rows:
            shown.add_row(*(row[place] for place in narrow))
        console.print(shown)
        lines = [heads, ["---"] * len(heads), *rows]
        markdown.append("".join(f"| {' | '.join(line)} |\n" for line in lines))
    if config.out is not None:
        with replacing(config.out / "comparison.md") as file:
            file.write("\n".join(markdown).encode())
        values = {f"{run.name}: {name}": value for run in runs for name, value in run.scores.items()}
        with replacing(config.out / "comparison.png") as file:
            file.write(draw_bars(Bars("Scores", "comparison", values)))
    return runs


def task_table(runs: Sequence[ComparedRun]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows for runs of one task, with the scores that any of them has."""
    names = list(dict.fromkeys(name for run in runs for name in run.scores))
    rows = [
        [
            run.name,
            run.task,
            run.sees,
            f"{run.parameters / 1e6:.1f} M",
            f"{run.steps:,}",
            f"{run.minutes:.1f}",
            *(f"{100 * run.scores[name]:.1f}" if name in run.scores else "" for name in names),
        ]
        for run in runs
    ]
    return ["run", TASK, SEES, "weights", "steps", "minutes", *names], rows

"""What commands show: the table of metrics, in percent and metres where files keep fractions; a bar for long work."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

COLUMNS = {
    "nav_error": ("NE", "(m)", 1.0, 2),
    "oracle_error": ("OE", "(m)", 1.0, 2),
    "steps": ("steps", "", 1.0, 1),
    "length": ("TL", "(m)", 1.0, 2),
    "success": ("SR", "(%)", 100.0, 1),
    "oracle_success": ("OSR", "(%)", 100.0, 1),
    "spl": ("SPL", "(%)", 100.0, 1),
    "ndtw": ("nDTW", "(%)", 100.0, 1),
    "sdtw": ("SDTW", "(%)", 100.0, 1),
    "cls": ("CLS", "(%)", 100.0, 1),
}
"""Metric -> heading, unit, factor from the file's number, decimals."""

SPEAKER_COLUMNS = {
    "loss": ("loss", "(nats)", 1.0, 3),
    "word_accuracy": ("words right", "(%)", 100.0, 1),
    "bleu4": ("BLEU-4", "(%)", 100.0, 1),
    "cider": ("CIDEr", "(%)", 100.0, 1),
    "words": ("words", "", 1.0, 1),
}
"""The same for a speaker."""


def metrics_table(
    title: str,
    rows: Mapping[str, Mapping[str, float]],
    columns: Mapping[str, tuple[str, str, float, int]] = COLUMNS,
) -> Table:
    """A row per name, a dash where it has no such metric. Fits a terminal of 80 columns while the names have at most 14
    letters."""
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading, unit, _, _ in columns.values():
        table.add_column(f"{heading}\n{unit}", justify="right", no_wrap=True)
    for name, metrics in rows.items():
        numbers = [
            f"{metrics[key] * factor:.{decimals}f}" if key in metrics else "-"
            for key, (_, _, factor, decimals) in columns.items()
        ]
        table.add_row(Text(name), *numbers)
    return table


def work_bar(console: Console) -> Progress:
    """A line for work that takes long, gone when it is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)

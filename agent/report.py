"""The table of metrics for people, in percent and metres; files keep fractions."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
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


def metrics_table(title: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    """A row per name. Fits a terminal of 80 columns while the names have at most 14 letters."""
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading, unit, _, _ in COLUMNS.values():
        table.add_column(f"{heading}\n{unit}", justify="right", no_wrap=True)
    for name, metrics in rows.items():
        numbers = [f"{metrics[key] * factor:.{decimals}f}" for key, (_, _, factor, decimals) in COLUMNS.items()]
        table.add_row(Text(name), *numbers)
    return table

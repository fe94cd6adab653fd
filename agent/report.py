"""Metrics as a table for people: percent and metres; files keep fractions."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

COLUMNS = {
    "nav_error": ("NE (m)", 1.0),
    "oracle_error": ("OE (m)", 1.0),
    "steps": ("steps", 1.0),
    "length": ("TL (m)", 1.0),
    "success": ("SR (%)", 100.0),
    "oracle_success": ("OSR (%)", 100.0),
    "spl": ("SPL (%)", 100.0),
    "ndtw": ("nDTW (%)", 100.0),
    "sdtw": ("SDTW (%)", 100.0),
    "cls": ("CLS (%)", 100.0),
}


def metrics_table(title: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    """A row per name."""
    table = Table(title=title)
    table.add_column("split")
    for heading, _ in COLUMNS.values():
        table.add_column(heading, justify="right")
    for name, metrics in rows.items():
        table.add_row(name, *(f"{metrics[key] * factor:.2f}" for key, (_, factor) in COLUMNS.items()))
    return table

"""Command: run the benchmarks of this folder (`python -m tests.bench --help`).

Each `bench_*.py` here has `run() -> list[dict]`. A row holds name, value, unit, reference (words), reference_value, and
where it helps lower_is_better (default: true for units of time and memory) and floor (how far the value is from what
the machine allows). Compilation and other warm-up stay outside the clocks of the rows.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from envs.files import replacing

FOLDER = Path(__file__).resolve().parent
LOWER_IS_BETTER = {"s", "ms", "us", "MB", "GB"}
Row = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """Run the benchmarks and print a table beside the reference figures."""

    only: tuple[str, ...] = ()
    """Names of benchmarks, e.g. `--only env simulator` for bench_env.py and bench_simulator.py; default: all."""
    json: Path | None = None
    """Also write the rows, with the machine, to this file."""


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 where a benchmark could not run."""
    bench = tyro.cli(Bench, args=argv, prog="python -m tests.bench")
    console = Console(width=None if sys.stdout.isatty() else 160)
    rows: list[Row] = []
    failures = 0
    for name, file in chosen(bench.only).items():
        begin = time.perf_counter()
        try:
            found = run_file(file)
        except Exception as error:  # the others still have something to say
            failures += 1
            console.print(f"[red]{name} could not run:[/red] {type(error).__name__}: {error}")
            continue
        rows += [{"bench": name, **row} for row in found]
        console.print(f"{name}: {len(found)} rows in {time.perf_counter() - begin:.0f} s")
    if rows:
        console.print(table(rows))
    if bench.json is not None:
        with replacing(bench.json) as file:
            file.write(json.dumps({"machine": machine(), "rows": rows}, indent=1).encode())
    return int(failures > 0)


def chosen(only: Sequence[str]) -> dict[str, Path]:
    """Name -> file of the benchmarks to run. ValueError for a name that no file has."""
    files = {file.stem.removeprefix("bench_"): file for file in sorted(FOLDER.glob("bench_*.py"))}
    unknown = [name for name in only if name not in files]
    if unknown:
        raise ValueError(f"no benchmark is called {', '.join(unknown)}; known: {', '.join(files)}")
    return {name: file for name, file in files.items() if not only or name in only}


def run_file(file: Path) -> list[Row]:
    """The rows of one benchmark file."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module.run()


def times_better(row: Row) -> float | None:
    """How many times better than the reference the value is; None without a reference."""
    value, reference = row["value"], row.get("reference_value")
    if not reference or not value:
        return None
    return reference / value if row.get("lower_is_better", row["unit"] in LOWER_IS_BETTER) else value / reference


def table(rows: Sequence[Row]) -> Table:
    """One line per row."""
    result = Table(title="Benchmarks: medians, warm-up outside the clock")
    result.add_column("what", overflow="fold")
    for column in ("value", "reference", "times better"):
        result.add_column(column, justify="right", no_wrap=True)
    result.add_column("what the reference is", overflow="fold")
    result.add_column("distance to the floor", overflow="fold")
    for i, row in enumerate(rows):
        better = times_better(row)
        result.add_row(
            row["name"],
            f"{figure(row['value'])} {row['unit']}",
            f"{figure(row['reference_value'])} {row['unit']}" if row.get("reference_value") else "-",
            "-" if better is None else f"[{'green' if better >= 1 else 'red'}]{better:.2f}[/]",
            str(row.get("reference") or "-"),
            str(row.get("floor") or "-"),
            end_section=i + 1 == len(rows) or rows[i + 1].get("bench") != row.get("bench"),
        )
    return result


def figure(value: float) -> str:
    """Three digits or whole numbers with separators."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "platform": platform.platform(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "numba", "torch", "gymnasium")},
        "date": time.strftime("%Y-%m-%d"),
    }


def processor() -> str:
    """The model of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    sys.exit(main())

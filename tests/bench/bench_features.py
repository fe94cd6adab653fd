"""Speed of reading the field's TSV of features, beside the loop that the field's code runs.

`run()` converts a synthetic TSV of about 200 MB, which the page cache holds; JIT warm-up is outside the clock.
"""

from __future__ import annotations

import base64
import csv
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from clip_core.features import FeatureStore
from precompute.convert import Convert, convert

COLUMNS = ["scanId", "viewpointId", "image_w", "image_h", "vfov", "features"]
VIEWS = 36


def write_tsv(path: Path, n_rows: int, dim: int) -> None:
    """Writes a TSV of random features as the field's extraction scripts do."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, delimiter="\t", fieldnames=COLUMNS)
        for index in range(n_rows):
            features = base64.b64encode(rng.standard_normal((VIEWS, dim), np.float32)).decode()
            writer.writerow(dict(zip(COLUMNS, ("scan", f"{index:032x}", 640, 480, 60, features), strict=True)))


def read_as_the_field(path: Path) -> dict[str, np.ndarray]:
    """Plain loop over csv and base64 into a dictionary in memory, what agents of the field do at every start."""
    csv.field_size_limit(sys.maxsize)
    features = {}
    with path.open() as file:
        for item in csv.DictReader(file, delimiter="\t", fieldnames=COLUMNS):
            values = np.frombuffer(base64.b64decode(item["features"]), np.float32)
            features[f"{item['scanId']}_{item['viewpointId']}"] = values.reshape(VIEWS, -1)
    return features


def _median_seconds(function: Callable[[int], object], repeats: int = 3) -> float:
    seconds = []
    for index in range(repeats):
        start = time.perf_counter()
        function(index)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def run(megabytes: int = 200, dim: int = 512) -> list[dict[str, object]]:
    """Rows of the bench table: conversion of a TSV once, then opening the store at every start of an agent."""
    with tempfile.TemporaryDirectory() as folder:
        tsv, silent = Path(folder, "features.tsv"), Console(file=io.StringIO())
        write_tsv(tsv, max(2, megabytes * 1_000_000 // (VIEWS * dim * 16 // 3)), dim)
        small = Path(folder, "small.tsv")
        write_tsv(small, 1, dim)
        convert(Convert(small, Path(folder, "small")), silent)  # compiles
        size_mb = tsv.stat().st_size / 1e6
        field_seconds = _median_seconds(lambda _: read_as_the_field(tsv))
        convert_seconds = _median_seconds(lambda index: convert(Convert(tsv, Path(folder, f"store{index}")), silent))
        open_seconds = _median_seconds(lambda _: FeatureStore.open(Path(folder, "store0")).to("cpu").sum())
    reference = "csv + base64 loop of the field"
    return [
        {
            "name": f"convert a {dim}-d TSV to a store on disk",
            "value": size_mb / convert_seconds,
            "unit": "MB/s",
            "reference": reference,
            "reference_value": size_mb / field_seconds,
        },
        {
            "name": f"open the features of {size_mb:.0f} MB of TSV and read every number",
            "value": open_seconds,
            "unit": "s",
            "reference": reference,
            "reference_value": field_seconds,
        },
    ]


if __name__ == "__main__":
    for row in run():
        print(row)

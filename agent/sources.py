"""Where an agent's data and features come from: the folders named, or the built-in houses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from agent.config import BUILT_IN, NO_FEATURES
from clip_core.runtime import Runtime
from precompute.prepare import features_folder, prepare


@dataclass(frozen=True)
class Source:
    """Folder of the R2R files, feature store (or none), whether they are the built-in houses."""

    data: Path
    features: str
    built_in: bool


def choose_source(
    data: Path | None, features: str | None, runtime: Runtime, console: Console, env: str = "r2r"
) -> Source:
    """What is named; without `data` the built-in houses, made now if this is the first time. Every rank calls it.

    features: a store or "none"; None: blind where data is named, what the embedded CLIP sees in the built-in houses.
    Raises ValueError if the built-in houses cannot be made, or have no such data set.
    """
    if data is not None:
        return Source(data, features or NO_FEATURES, False)
    if env not in BUILT_IN:
        raise ValueError(
            f"--env {env} needs --data DIR: the built-in houses have routes of R2R's kind alone; docs/data.md tells "
            "where RxR comes from, and `python -m envs.r4r` makes R4R from R2R or from houses"
        )
    if runtime.is_main:
        console.print(
            "no --data given: using the built-in procedural houses (Room-to-Room: --data DIR, see docs/data.md)",
            highlight=False,
            markup=False,
        )
    folder = prepare(runtime, console, features=features is None)
    return Source(folder, features or str(features_folder()), True)

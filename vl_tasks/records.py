"""What a checkpoint keeps of a task's run, and how it is read again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from clip_core.checkpoint import find_checkpoint, load_model
from vl_tasks.task import TaskConfig
from vl_tasks.vision import Vision


def shared_record(config: TaskConfig, task: str, vision: Vision) -> dict[str, Any]:
    """What every task's checkpoint holds, so that it can be used anywhere; no paths, since a run may move."""
    return {
        "task": task,
        "max_words": config.text.max_words,
        "optim": dataclasses.asdict(config.optim),
        "batch": config.batch,
        "vision": vision.record,
        "sizes": [dataclasses.asdict(size) for size in vision.sizes],
    }


def load_record(checkpoint: Path, task: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of an objective, and the record of the run, which has `task`; of a run folder its best checkpoint.

    Raises ValueError for a checkpoint of something else (CheckpointError if it is missing or damaged).
    """
    state, record = load_model(checkpoint)
    found = record.get("task") or record.get("kind") or "something else"
    if found != task:
        raise ValueError(
            f"{find_checkpoint(checkpoint)} is of {found}; expected a run of python -m vl_tasks {task} train"
        )
    return state, record


@contextmanager
def of_this_version(checkpoint: Path) -> Iterator[None]:
    """Where a model is built from a record: ValueError for one that another version wrote."""
    try:
        yield
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{checkpoint} is not of this version's model ({error}); use the version that wrote it, or train anew"
        ) from None


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries of a state dict below a name such as `model.`, the name taken off."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

"""Where a run stands, kept in its folder so that it can go on after anything."""

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from clip_core.checkpoint import LAST, CheckpointError, check_config, read_checkpoint, restore, save_checkpoint
from clip_core.log import Meter, merge
from clip_core.runtime import Runtime, random_state, set_random_state


@dataclass
class Progress:
    """Counters of a run; `position`, the batches each rank has consumed, is `step` times the accumulation."""

    step: int = 0
    best: float | None = None
    best_step: int | None = None
    train_seconds: float = 0.0
    metrics: dict[str, float] = field(default_factory=dict)  # of the last evaluation


class DivergedError(ValueError):
    """A loss or gradient that is no finite number."""


def check_finite(values: Mapping[str, float], step: int, out: Path) -> None:
    """Losses and gradient norms must be numbers; a report may be what it wants.

    Raises:
        DivergedError: names the value and the checkpoint of before.
    """
    for name, value in values.items():
        if name.split("/")[0] in ("loss", "grad_norm") and not math.isfinite(value):
            raise DivergedError(
                f"{name} is {value} at step {step}, or since the log line before it: expected a finite number. "
                f"{out / LAST} is from before that. Lower the learning rate or set a clip norm, and start anew"
            )


class Saver:
    """Writes and reads the checkpoints of one run. All ranks call it; rank 0 writes."""

    def __init__(
        self,
        objective: nn.Module,
        optimizers: Mapping[str, Optimizer],
        runtime: Runtime,
        out: Path,
        document: dict[str, Any],
    ) -> None:
        """`document` holds the JSON values that a resumed run must share: config, trainer, world."""
        self.meter = Meter()  # running means since the last line of the log, on each rank
        self._objective, self._optimizers, self._runtime = objective, optimizers, runtime
        self._out, self._document = out, document

    def save(self, progress: Progress, *names: str) -> None:
        """Save all state under each name, LAST last.

        A run killed between BEST and LAST resumes from the older LAST, evaluates again, writes BEST again; the other
        way round it would believe in a BEST that is not there. Weights that are not finite are never saved.
        """
        ranks = self._runtime.gather({"random": random_state(self._runtime.device), "meter": self.meter.fetch()})
        check_finite(merge([rank["meter"] for rank in ranks]), progress.step, self._out)
        if self._runtime.is_main:
            document = {
                "step": progress.step,
                "progress": dataclasses.asdict(progress),
                **self._document,
                "ranks": ranks,
            }
            for name in names:
                save_checkpoint(self._out / name, self._objective, self._optimizers, document)

    def resume(self, free_fields: Collection[str]) -> Progress:
        """Put back weights, optimizers, random states, running means from LAST.

        Raises:
            CheckpointError: damaged, of another config, of another number of processes, of another model.
        """
        checkpoint = read_checkpoint(self._out / LAST)
        found, world = checkpoint.document["world"], self._runtime.world
        if found != world:
            raise CheckpointError(
                f"{checkpoint.path} is of a run on {found} process(es), this one has {world}: "
                f"resume with {'torchrun --nproc-per-node=' + str(found) if found > 1 else 'plain python'}"
            )
        check_config(checkpoint, self._document, free_fields)
        restore(checkpoint, self._objective, self._optimizers)
        rank = checkpoint.document["ranks"][self._runtime.rank]
        set_random_state(rank["random"], self._runtime.device)
        self.meter.restore(rank["meter"])
        return Progress(**checkpoint.document["progress"])

"""What a run tells: one line on screen, one JSON line on disk, TensorBoard when asked, a picture of its curves."""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from torch import Tensor

from clip_core.runtime import Runtime

LOG_NAME, CURVES_NAME = "log.jsonl", "curves.png"


class Meter:
    """Running sums of scalars by name. Tensors stay on their device until `fetch`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor | float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Add one step's scalars; no host sync."""
        for name, value in values.items():
            value = value.detach().double() if isinstance(value, Tensor) else float(value)
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def fetch(self) -> dict[str, tuple[float, int]]:
        """Sum and number of additions by name. On CUDA this is THE host sync of training: one copy for all scalars."""
        tensors = {name: value for name, value in self._sums.items() if isinstance(value, Tensor)}
        fetched = torch.stack([value.reshape(()) for value in tensors.values()]).tolist() if tensors else []
        sums = self._sums | dict(zip(tensors, fetched, strict=True))
        return {name: (float(value), self._counts[name]) for name, value in sums.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Put the result of `fetch` back, e.g. from a checkpoint."""
        self._sums = {name: float(total) for name, (total, _) in state.items()}
        self._counts = {name: int(count) for name, (_, count) in state.items()}

    def clear(self) -> None:
        """Forget all sums."""
        self._sums, self._counts = {}, {}


def merge(ranks: list[dict[str, tuple[float, int]]]) -> dict[str, float]:
    """Means by name over all additions of all ranks, from what `Meter.fetch` gave on each."""
    totals: dict[str, tuple[float, int]] = {}
    for rank in ranks:
        for name, (total, count) in rank.items():
            before = totals.get(name, (0.0, 0))
            totals[name] = (before[0] + total, before[1] + count)
    return {name: total / count for name, (total, count) in totals.items()}


class Clock:
    """Time spent in training steps, without pauses."""

    def __init__(self) -> None:
        self.steps = 0  # counted by the owner
        self._start = time.perf_counter()

    def lap(self) -> tuple[float, float]:
        """`(seconds, seconds per step)` since the last lap; starts a new one."""
        seconds, steps = time.perf_counter() - self._start, self.steps
        self._start, self.steps = time.perf_counter(), 0
        return seconds, seconds / max(1, steps)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The body does not count."""
        before = time.perf_counter()
        yield
        self._start += time.perf_counter() - before


class RunLog:
    """The log of one process: writes on the main rank, is silent on the others. Use as a context manager."""

    def __init__(self, out: Path, steps: int, step: int, runtime: Runtime, tensorboard: bool = False) -> None:
        """`step` is the number of steps done: lines of later steps, which a resumed run repeats, are dropped."""
        self.path = out / LOG_NAME
        self._main = runtime.is_main
        self._device = runtime.device
        self._writer = None
        if not self._main:
            return
        drop_lines_after(self.path, step if step > 0 else -1)  # an evaluation before the first step is repeated
        if tensorboard:
            self._writer = _open_tensorboard(out, step)
        self._console = Console(file=sys.stderr)
        columns = (
            TextColumn("train"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} steps/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        # Without a terminal (a file, CI) a live bar is noise: one plain line per log line instead.
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._task = self._progress.add_task("train", total=steps, completed=step, rate="-", losses="")
        self._steps = steps
        self._drawn = time.monotonic()

    def __enter__(self) -> "RunLog":
        if self._main:
            self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        if self._main:
            self._progress.stop()
        if self._writer is not None:
            self._writer.close()

    def advance(self, step: int) -> None:
        """Move the bar to `step` steps done."""
        if self._main:
            self._progress.update(self._task, completed=step)

    def train(self, step: int, values: Mapping[str, float], seconds_per_step: float) -> None:
        """One line about training up to `step`: losses, learning rates, gradient norms, report, time, memory."""
        if not self._main:
            return
        self._write({"step": step, **values, "seconds_per_step": seconds_per_step, **memory_gb(self._device)})
        losses = "  ".join(f"{name} {value:.4g}" for name, value in values.items() if name.split("/")[0] == "loss")
        rate = f"{1 / seconds_per_step:.2f}" if seconds_per_step > 0 else "-"
        self._progress.update(self._task, completed=step, rate=rate, losses=losses)
        if self._progress.disable:
            left = (self._steps - step) * seconds_per_step
            self.say(f"step {step}/{self._steps}  {rate} steps/s  {_clock(left)} left  {losses}")

    def evaluation(
        self, step: int, metrics: Mapping[str, float], seconds: float, headline: Sequence[str] | None = None
    ) -> None:
        """One line about an evaluation after `step` steps; fractions and metres as they are. The screen shows those
        metrics whose last name is in `headline` (None: all), in its order, the file every one."""
        if not self._main:
            return
        self._write({"step": step, **metrics, "evaluation_seconds": seconds})
        chosen = list(metrics)
        if headline is not None:
            parts = dict.fromkeys(name[: name.rfind("/") + 1] for name in metrics)
            chosen = [part + last for part in parts for last in headline if part + last in metrics]
        shown = "  ".join(f"{name} {metrics[name]:.4g}" for name in chosen)
        self.say(f"step {step}/{self._steps}  evaluation ({seconds:.1f} s): {shown}")

    def draw(self, at_once: bool = True) -> None:
        """Draw the curves; unless `at_once`, not again within half a minute, for drawing takes about half a second."""
        if self._main and (at_once or time.monotonic() - self._drawn > 30):
            plot_curves(self.path, self.path.with_name(CURVES_NAME))
            self._drawn = time.monotonic()

    def say(self, text: str) -> None:
        """A sentence on screen, above the bar."""
        if self._main:
            self._console.print(text, highlight=False, soft_wrap=True, markup=False)

    def _write(self, line: dict[str, Any]) -> None:
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(clean, allow_nan=False) + "\n")
        if self._writer is not None:
            for name, value in line.items():
                if name != "step" and isinstance(value, int | float):
                    self._writer.add_scalar(name, value, line["step"])


def _open_tensorboard(out: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter  # an optional extra
    except ImportError as error:
        raise ValueError(
            f"TensorBoard was asked for, but cannot be imported ({error}): pip install 'clipnav[tensorboard]'"
        ) from error
    return SummaryWriter(str(out / "tensorboard"), purge_step=step + 1)


def drop_lines_after(path: Path, step: int) -> None:
    """Keep the lines of a JSONL log up to `step`; a later or half-written line goes. The file is replaced at once."""
    if not path.exists():
        return
    kept = [json.dumps(line) + "\n" for line in read_log(path) if line["step"] <= step]
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text("".join(kept), encoding="utf-8")
    os.replace(temporary, path)


def read_log(path: Path) -> list[dict[str, Any]]:
    """All lines of a JSONL log; a half-written last line, which a killed process leaves, is passed over.

    Raises:
        ValueError: a line before the last is no JSON object with a step.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    result: list[dict[str, Any]] = []
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            line["step"] + 0
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}, line {number} is no log line: {text[:60]!r}; expected a JSON object") from error
        result.append(line)
    return result


def memory_gb(device: torch.device) -> dict[str, float]:
    """Largest resident memory of this process so far, and of its tensors on CUDA, in GB (1e9 bytes)."""
    import resource  # absent on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    memory = {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if device.type == "cuda":
        memory["cuda_memory_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    return memory


def plot_curves(log_path: Path, png_path: Path) -> None:
    """Draw the learning curves of a log over the step: losses, gradient norm, learning rate if it changes, report, each
    metric."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, needed once per evaluation
    from matplotlib.figure import Figure

    series: dict[str, tuple[list[int], list[float]]] = {}
    for line in read_log(log_path):
        for name, value in line.items():
            if name not in _NOT_DRAWN and isinstance(value, int | float):
                steps, values = series.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(float(value))
    panels: dict[str, list[str]] = {}
    for name, (_, values) in series.items():  # a metric "val_seen/success" shares a panel with "val_unseen/success"
        first, _, last = name.partition("/")
        if first == "lr" and len(set(values)) == 1:
            continue  # a constant rate tells nothing
        panels.setdefault(first if first in ("loss", "lr", "grad_norm") or not last else last, []).append(name)
    columns = min(4, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = Figure(figsize=(4 * columns, 3 * rows))
    figure.subplots_adjust(0.3 / columns, 0.4 / rows / 3, 1 - 0.1 / columns, 1 - 0.3 / rows / 3, 0.25, 0.35)
    canvas = FigureCanvasAgg(figure)
    for place, (title, names) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, columns, place)
        for name in names:
            steps, values = series[name]
            axes.plot(steps, values, label=name, linewidth=1, marker="." if len(steps) < 30 else None)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="best", framealpha=0.6)
    temporary = png_path.with_name(f".{png_path.name}.tmp")
    canvas.print_png(str(temporary))
    os.replace(temporary, png_path)


_NOT_DRAWN = frozenset(
    {"step", "memory_gb", "cuda_memory_gb", "evaluation_seconds", "train_seconds", "seconds_per_step"}
)


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(seconds)) if seconds < 86400 else f"{seconds / 86400:.1f} d"


def print_error(error: Exception) -> None:
    """The message as it is, brackets included, on the error stream."""
    Console(stderr=True).print(Text.assemble(("error: ", "red"), str(error)), soft_wrap=True)

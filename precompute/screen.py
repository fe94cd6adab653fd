"""What the commands of precompute show while they work."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

QUIET_SECONDS = 30.0
"""Without a terminal (a file, CI) a live bar is noise: a plain line after so many seconds instead."""


def say(console: Console, line: str) -> None:
    """Prints a line as it is: a file name is no markup."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """`1:02:03`, hours, minutes, seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class ImageProgress:
    """Images done, images a second, time left. A context manager; silent where `shown` is false."""

    def __init__(self, console: Console, name: str, total: int, done: int = 0, shown: bool = True) -> None:
        """`total` images in all, of which an earlier run did `done`."""
        self._console, self._name, self._shown = console, name, shown
        self._total, self._before, self._done = total, done, done
        self._start = self._said = time.monotonic()
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]} images/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        live = shown and console.is_terminal
        self._bar = Progress(*columns, console=console, disable=not live)
        self._task = self._bar.add_task(name, total=total, completed=done, rate="-")

    @property
    def images_per_s(self) -> float:
        """Of this run, since the context was entered."""
        return (self._done - self._before) / max(1e-9, time.monotonic() - self._start)

    def advance(self, images: int) -> None:
        """So many more are done."""
        self._done += images
        rate = self.images_per_s
        self._bar.update(self._task, completed=self._done, rate=f"{rate:,.1f}")
        if self._shown and self._bar.disable and time.monotonic() - self._said > QUIET_SECONDS:
            self._said = time.monotonic()
            left = duration((self._total - self._done) / max(rate, 1e-9))
            say(self._console, f"{self._name}: {self._done}/{self._total} images  {rate:,.1f} images/s  {left} left")

    def __str__(self) -> str:
        """What this run did so far: images, seconds, images a second."""
        images, rate = self._done - self._before, self.images_per_s
        return f"{images:,} images in {duration(images / rate) if images else '0:00:00'} ({rate:,.1f} images/s)"

    def __enter__(self) -> ImageProgress:
        self._start = self._said = time.monotonic()
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

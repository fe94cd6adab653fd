"""Encodes a list of items into a feature store: overlapped, resumable, shared by ranks.

Worker threads prepare items (read, decode, render), the main thread feeds the encoder, rows are appended in the order
of the keys. Items are encoded in groups counted from the first key, whoever encodes them and wherever a run was cut:
the batches, and with them the bytes of the store, are those of one run that nothing disturbed (on one kind of device,
with one number of threads each).

Under torchrun every rank fills its own store `NAME.part{rank}of{world}` from whole groups; rank 0 joins them.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from clip_core.feature_files import Header, partial_path
from clip_core.feature_writer import StoreWriter
from clip_core.features import FeatureStore
from clip_core.runtime import Runtime
from precompute.screen import ImageProgress, say

COMMIT_SECONDS = 5.0
"""Rows go to the disk at least so often: the most that a kill loses, beside the group in work."""


@dataclass(frozen=True)
class Work:
    """Items to encode, and how. What `prepare` makes of an item (T) is what `encode` takes."""

    keys: Sequence[str]
    """Names of the items, in the order of the rows."""
    prepare: Callable[[str], Any]
    """Key -> T on the host; runs in worker threads, several at once. None leaves the item out of the store."""
    encode: Callable[[list[Any]], torch.Tensor]
    """n x T -> rows [n, *shape] on the device, for 1 <= n <= group; runs in the main thread without gradients."""
    group: int = 1
    """Items that are encoded together."""
    workers: int = 1
    """Threads that prepare. Memory: at most 2 * group + workers prepared items wait."""
    images: int = 1
    """How many images an item counts for, in images/s."""


def worker_threads(device: torch.device) -> int:
    """One beside an encoder on the CPU, which should have the cores; else all cores, shared by the ranks here."""
    if device.type == "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def make_store(out: Path, header: Header, work: Work, runtime: Runtime, console: Console | None = None) -> FeatureStore:
    """The store of all items at `out`, made or completed or, if it is there already, opened. Every rank calls it.

    Raises ValueError for a store or the beginning of one that was made with other settings, items or ranks, for one
    that another process is writing, for a disk that is full; what `prepare` and `encode` raise goes through. The rows
    before an error are kept: the same call continues.
    """
    console = Console() if console is None else console
    if out.exists():
        store = _complete(out, header, work)
        if runtime.is_main:
            _remove_parts(out)
            say(console, f"{out} is complete ({len(store)} items): nothing to do")
        return store
    _check_beginnings(out, runtime)
    begin, end = share(len(work.keys), work.group, runtime)
    try:
        if runtime.world == 1:
            _fill(out, header, work, begin, end, console, True)
            return FeatureStore.open(out)
        part = part_path(out, runtime.rank, runtime.world)
        if part.exists():
            _expect_header(part, header)
        elif begin < end:
            _fill(part, header, work, begin, end, console, runtime.is_main)
        parts = [path for path in runtime.gather(str(part) if part.exists() else None) if path is not None]
        if runtime.is_main:
            _join(out, header, [FeatureStore.open(path) for path in parts])
            say(console, f"{out}: {describe(FeatureStore.open(out))}, joined from {len(parts)} ranks")
        runtime.largest(0)  # the others wait until it is there
    except OSError as error:
        raise ValueError(
            f"{out} cannot be written ({error}); what is there is kept: mend that, then run the same command again"
        ) from error
    return FeatureStore.open(out)


def describe(store: FeatureStore) -> str:
    """Items, shape, format, size."""
    shape = " x ".join(map(str, store.header.shape))
    return f"{len(store)} x {shape} {store.header.dtype}, {store.table.nbytes / 1e9:.3g} GB"


def share(n_items: int, group: int, runtime: Runtime) -> tuple[int, int]:
    """First item of a rank, and the one after its last: whole groups, the same number for each rank or one more."""
    groups = -(-n_items // group)
    ends = [groups * rank // runtime.world * group for rank in (runtime.rank, runtime.rank + 1)]
    return min(ends[0], n_items), min(ends[1], n_items)


def part_path(out: Path, rank: int, world: int) -> Path:
    """Store of the items of one rank."""
    return out.with_name(f"{out.name}.part{rank}of{world}")


def _parts(out: Path) -> Iterator[tuple[Path, int]]:
    """Folders of ranks beside a store, finished or not, and how many ranks there were."""
    pattern = re.compile(re.escape(out.name) + r"\.part\d+of(\d+)(\.partial)?")
    for path in sorted(out.parent.glob("*.part*of*")):
        if match := pattern.fullmatch(path.name):
            yield path, int(match[1])


def _remove_parts(out: Path) -> None:
    for path, _ in list(_parts(out)):
        shutil.rmtree(path)


def _expect_header(path: Path, header: Header) -> FeatureStore:
    """The finished store; ValueError if its header is another."""
    store = FeatureStore.open(path)
    if differences := store.header.differences(header):
        raise ValueError(
            f"{path} exists and was made with other settings ({'; '.join(differences)}); "
            "remove it or choose another name with --out"
        )
    return store


def _complete(out: Path, header: Header, work: Work) -> FeatureStore:
    """The store that is there; ValueError if it is another one."""
    store = _expect_header(out, header)
    foreign = sorted(set(store.keys) - set(work.keys))
    if foreign:
        raise ValueError(
            f"{out} exists and holds {len(foreign)} other items, e.g. {foreign[0]}; "
            "remove it or choose another name with --out"
        )
    return store


def _check_beginnings(out: Path, runtime: Runtime) -> None:
    """ValueError if a run with another number of processes was begun here."""
    worlds = {world: path for path, world in _parts(out)}
    if runtime.world > 1 and partial_path(out).exists() and runtime.world not in worlds:
        worlds[1] = partial_path(out)
    runtime.largest(0)  # nobody begins before all have looked
    worlds.pop(runtime.world, None)
    for world, path in worlds.items():
        how = "one process" if world == 1 else f"torchrun --nproc-per-node={world}"
        raise ValueError(
            f"{path} was begun by a run with {world} process(es), this one has {runtime.world}; "
            f"continue it with {how}, or remove it to begin anew"
        )


def _fill(path: Path, header: Header, work: Work, begin: int, end: int, console: Console, shown: bool) -> None:
    """Makes the store of the items from begin to end, which are whole groups.

    A rank whose items are all left out makes none: the others may have some.
    """
    keys = list(work.keys[begin:end])
    with StoreWriter(path, header) as writer:
        done = _position(writer, keys)
        if done and shown:
            say(console, f"Continuing {path}: {done} of {len(keys)} items are there")
        first = done // work.group * work.group
        counted = len(keys) * work.images, first * work.images
        with ImageProgress(console, path.name, *counted, shown) as progress:
            _encode_rest(writer, keys[first:], work, progress)
        if not writer.rows and len(keys) < len(work.keys):
            return
        store = writer.finish()
        if shown:
            say(console, f"{path}: {describe(store)}, {progress}")


def _position(writer: StoreWriter, keys: list[str]) -> int:
    """How many of the keys are behind us; ValueError if the rows that are there are not the first of them."""
    place = {key: index for index, key in enumerate(keys)}
    found = [place.get(key, -1) for key in writer.rows]
    if any(later <= earlier for earlier, later in zip([-1, *found], found, strict=False)):
        raise ValueError(
            f"{partial_path(writer.path)} was begun with other items, or in another order; "
            "give the same ones to continue it, or remove it to begin anew"
        )
    return found[-1] + 1 if found else 0


def _encode_rest(writer: StoreWriter, keys: list[str], work: Work, progress: ImageProgress) -> None:
    """Appends the rows of the keys that the writer lacks."""
    late: _Rows | None = None  # on a GPU: the group whose rows travel while the next one is computed
    committed = time.monotonic()
    pool = ThreadPoolExecutor(work.workers, thread_name_prefix="prepare")
    groups = _prepared(keys, work, pool)
    try:
        while True:
            try:
                group = next(groups, None)
            except BaseException:  # an item that cannot be read, Ctrl-C: keep what is computed already
                if late is not None:
                    late.append_to(writer)
                raise
            rows = None if group is None else _Rows(*group, work)
            arrived = [late] if rows is None or rows.travels else [late, rows]
            late = rows if rows is not None and rows.travels else None
            for one in arrived:
                if one is not None:
                    one.append_to(writer)
                    progress.advance(one.n_items * work.images)
            if rows is None:
                return
            if time.monotonic() - committed >= COMMIT_SECONDS:
                writer.commit()
                committed = time.monotonic()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepared(keys: list[str], work: Work, pool: ThreadPoolExecutor) -> Iterator[tuple[list[str], list[Any], int]]:
    """Group by group: keys, what was prepared for them, how many items the group has with those left out."""
    ahead = 2 * work.group + work.workers
    waiting: deque[Future[Any]] = deque(pool.submit(work.prepare, key) for key in keys[:ahead])
    for start in range(0, len(keys), work.group):
        named: dict[str, Any] = {}
        group = keys[start : start + work.group]
        for index, key in enumerate(group, start):
            named[key] = waiting.popleft().result()
            if index + ahead < len(keys):
                waiting.append(pool.submit(work.prepare, keys[index + ahead]))
        kept = {key: value for key, value in named.items() if value is not None}
        yield list(kept), list(kept.values()), len(group)


class _Rows:
    """The rows of a group on their way from the device to the store."""

    def __init__(self, keys: list[str], prepared: list[Any], n_items: int, work: Work) -> None:
        self.n_items, self._keys = n_items, keys
        self._ready: torch.cuda.Event | None = None
        if not keys:
            return
        with torch.inference_mode():
            values = work.encode(prepared)
            if values.is_cuda:
                self._values = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
                self._values.copy_(values, non_blocking=True)
                self._ready = torch.cuda.Event()
                self._ready.record()
            else:
                self._values = values

    @property
    def travels(self) -> bool:
        """Whether the rows come from a GPU and need not be there yet."""
        return self._ready is not None

    def append_to(self, writer: StoreWriter) -> None:
        """Appends those that the writer lacks."""
        if self._ready is not None:
            self._ready.synchronize()  # the one host sync of a group, while the device computes the next one
        for index, key in enumerate(self._keys):
            if key not in writer.rows:
                writer.append(key, np.asarray(self._values[index]))


def _join(out: Path, header: Header, parts: Sequence[FeatureStore]) -> None:
    """One store of the parts in their order, which then are removed."""
    with StoreWriter(out, header) as writer:
        for part in parts:
            for row, key in enumerate(part.keys):
                if key not in writer.rows:
                    writer.append(key, part.table[row])
        writer.finish()
    _remove_parts(out)

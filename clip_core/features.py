"""Feature store: what an encoder gave for every viewpoint or image, as one memory-mapped table.

N items of a store, n items of a request, V views, D feature; an item has the header's shape, (V, D) for a panorama.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clip_core.feature_files import (
    CONVERT_COMMAND,
    KEYS_FILE,
    TABLE_FILE,
    Header,
    partial_path,
    read_keys,
    rows_in_table,
)

_COPY_BYTES = 64 << 20  # read at once, so that memory beside the result stays constant


class FeatureStore:
    """Reader of a store. Attributes: path, header, keys (N names in order of row), table (memory map [N, *shape])."""

    def __init__(self, path: Path, header: Header, keys: tuple[str, ...], table: np.ndarray) -> None:
        self.path, self.header, self.keys, self.table = path, header, keys, table

    @classmethod
    def open(cls, path: Path | str) -> FeatureStore:
        """Opens a finished store without reading its table.

        Raises ValueError for a folder that is missing or unfinished, and for files that are damaged or truncated.
        """
        path = Path(path)
        if not path.is_dir():
            if partial_path(path).is_dir():
                raise ValueError(f"{path} is unfinished ({partial_path(path)}); run the command that makes it again")
            raise ValueError(f"no feature store at {path}; make one: {CONVERT_COMMAND.replace('STORE', str(path))}")
        header = Header.read(path)
        keys = read_keys(path)
        n_rows = rows_in_table(path, header)
        if not n_rows == len(keys) == len(set(keys)):
            raise ValueError(
                f"{path} is damaged: {n_rows} rows in {TABLE_FILE}, {len(keys)} keys ({len(set(keys))} different) in "
                f"{KEYS_FILE}; expected one key a row: make the store again: {CONVERT_COMMAND}"
            )
        return cls(path, header, tuple(keys), np.load(path / TABLE_FILE, mmap_mode="r", allow_pickle=False))

    def __len__(self) -> int:
        """N, the number of items."""
        return len(self.keys)

    def __reduce__(self) -> tuple[Any, ...]:
        """A store travels to a data-loading process by its path, not by its table."""
        return FeatureStore.open, (self.path,)

    @functools.cached_property
    def _row_of(self) -> dict[str, int]:
        return {key: row for row, key in enumerate(self.keys)}

    def rows(self, keys: Iterable[str]) -> np.ndarray:
        """Rows of the table, int64 [n], in the order of the keys; ValueError that names the missing ones."""
        keys = list(keys)
        rows = [self._row_of.get(key, -1) for key in keys]
        missing = sorted({key for key, row in zip(keys, rows, strict=True) if row < 0})
        if missing:
            named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise ValueError(
                f"{self.path} lacks {len(missing)} of {len(set(keys))} keys: {named}; it holds {len(self)} items of "
                f"{self.header.source}: make a store from features that cover them: {CONVERT_COMMAND}"
            )
        return np.array(rows, np.int64)

    def check(self, *, keys: Iterable[str] | None = None, command: str = CONVERT_COMMAND, **expected: object) -> None:
        """Fails where the parts are connected if the store is not the one the model was made for.

        keys: items that must be there; command: what makes such a store; expected: fields of the header with the value
        each must have (None: any).
        Raises ValueError that names each difference with the command which mends it.
        """
        faults = []
        for name, value in expected.items():
            found = getattr(self.header, name)
            if value is not None and found != value:
                faults.append(f"{name} is {found!r}, expected {value!r}")
        if faults:
            raise ValueError(f"{self.path} does not fit: {'; '.join(faults)}; name a store that does, or make one: "
                             f"{command} (--help lists the flags that record these fields)")  # fmt: skip
        if keys is not None:
            self.rows(keys)

    def origin(self) -> dict[str, object]:
        """Fields that decide whether two stores are interchangeable: `other.check(**store.origin())`."""
        names = ("model", "pretrained", "weights_sha256", "layer", "channel_order", "shape")
        return {name: getattr(self.header, name) for name in names}

    def gather(self, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Items [n, *shape] of the rows in their order; the file is read in ascending order, a block at a time.

        out: array [n, *shape] to fill instead of a new one; its dtype may differ.
        """
        rows = np.asarray(rows, np.int64)
        if out is None:
            out = np.empty((len(rows), *self.header.shape), self.table.dtype)
        order = np.argsort(rows, kind="stable")
        for some in _blocks(order, self.header):
            out[some] = self.table[rows[some]]
        return out

    def to(self, device: torch.device | str, rows: np.ndarray | None = None) -> torch.Tensor:
        """Table on a device, [N, *shape], or the given rows of it in their order, [n, *shape], dtype of the store.

        The whole table on the CPU is a memory map, read where it is used. Memory beside the result is constant.
        """
        if rows is None and torch.device(device).type == "cpu":
            # torch takes writable arrays alone; what is written to a map of mode "c" never reaches the file.
            return torch.from_numpy(np.load(self.path / TABLE_FILE, mmap_mode="c", allow_pickle=False))
        rows = np.arange(len(self)) if rows is None else np.asarray(rows, np.int64)
        result = torch.empty((len(rows), *self.header.shape), dtype=getattr(torch, self.header.dtype), device=device)
        start = 0
        for some in _blocks(rows, self.header):
            result[start : start + len(some)].copy_(torch.from_numpy(self.gather(some)))  # waits for the device
            start += len(some)
        return result


def _blocks(rows: np.ndarray, header: Header) -> Iterator[np.ndarray]:
    """Consecutive parts of an index array whose items fill one buffer each."""
    step = max(1, _COPY_BYTES // header.item_bytes)
    for start in range(0, len(rows), step):
        yield rows[start : start + step]

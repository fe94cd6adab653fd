"""Writer of feature stores that a kill does not set back.

Rows are appended and committed in blocks: first the table, then the keys, so that a key on disk vouches for its row.
"""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path

import numpy as np
import torch

from clip_core.feature_files import (
    HEADER_FILE,
    KEYS_FILE,
    TABLE_FILE,
    Header,
    partial_path,
    read_keys,
    read_table_header,
    write_table_header,
)
from clip_core.features import FeatureStore

try:
    import fcntl
except ImportError:  # Windows, where a second writer goes unnoticed
    fcntl = None  # type: ignore[assignment]

_COMMIT_BYTES = 64 << 20  # buffered before a commit: the most that a kill loses


class StoreWriter:
    """Writes a store row by row; it appears under its name, whole, at `finish`.

    A `NAME.partial` that a killed writer left is taken up at its last committed row: `rows` says what it holds.
    As a context manager the writer commits and closes at the end of the block, whether or not it was finished.

    path: folder of the store; header: how the items were made, its shape and dtype those of the table.
    Attributes: path, header, rows (key -> row of the items so far).
    Raises ValueError if the store exists, or if the unfinished one was begun with another header.
    """

    def __init__(self, path: Path | str, header: Header) -> None:
        self.path, self.header = Path(path), header
        self._folder = partial_path(self.path)
        if self.path.exists():
            raise ValueError(f"{self.path} exists; expected a new path: remove it or choose another name")
        if (self._folder / HEADER_FILE).exists():
            self._check_begun()
        else:
            self._begin()
        keys = read_keys(self._folder)
        self._table_file = (self._folder / TABLE_FILE).open("r+b", buffering=0)
        _lock(self._table_file)
        self._keys_file = (self._folder / KEYS_FILE).open("r+b", buffering=0)
        _, self._offset = read_table_header(self._table_file, header)
        n_rows = min(len(keys), (os.fstat(self._table_file.fileno()).st_size - self._offset) // header.item_bytes)
        self.rows = {key: row for row, key in enumerate(keys[:n_rows])}
        self._committed = 0
        self._cut_to(n_rows)
        self._block = np.empty((max(1, _COMMIT_BYTES // header.item_bytes), *header.shape), header.dtype)
        self._waiting: list[str] = []  # keys of the rows in the block

    def _begin(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / KEYS_FILE).write_bytes(b"")
        with (self._folder / TABLE_FILE).open("wb") as file:
            write_table_header(file, self.header, 0)
        self.header.write(self._folder)  # last: a folder with a header has its other files

    def _check_begun(self) -> None:
        differences = Header.read(self._folder).differences(self.header)
        if not (self._folder / TABLE_FILE).exists():
            raise ValueError(f"{self._folder} has no {TABLE_FILE}; remove the folder to begin anew")
        if differences:
            raise ValueError(
                f"{self._folder} was begun with other settings ({'; '.join(differences)}); "
                f"give the same ones to continue it, or remove it to begin anew"
            )

    def _cut_to(self, n_rows: int) -> None:
        """Removes what lies behind the first rows in both files."""
        self._committed = n_rows
        self._table_file.truncate(self._offset + n_rows * self.header.item_bytes)
        self._table_file.seek(0, os.SEEK_END)
        self._keys_file.truncate(sum(len(key.encode()) + 1 for key in list(self.rows)[:n_rows]))
        self._keys_file.seek(0, os.SEEK_END)

    def append(self, key: str, item: np.ndarray) -> None:
        """Adds an item of the header's shape, converted to its dtype.

        Raises ValueError for another shape, a key that is there or has a line break, a value that is not finite or
        does not fit the dtype; nothing is added then.
        """
        if key in self.rows or not key or "\n" in key or "\r" in key:
            raise ValueError(f"key {key!r} is there already, is empty, or has a line break; expected a new name")
        row = self._block[len(self._waiting)]
        self.convert(item, row)
        self.rows[key] = len(self.rows)
        self._waiting.append(key)
        if len(self._waiting) == len(self._block):
            self.commit()

    def convert(self, item: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Item as the table holds it, in `out` if given; ValueError for another shape or values it cannot hold."""
        if item.shape != self.header.shape:
            raise ValueError(f"an item of shape {item.shape}; expected {self.header.shape} like the others")
        out = np.empty(self.header.shape, self.header.dtype) if out is None else out
        # torch rounds as numpy does, ten times as fast; it takes no array that is read-only.
        torch.from_numpy(out).copy_(torch.from_numpy(np.require(item, requirements=["C", "W"])))
        if not _is_finite(out):
            if not np.isfinite(item).all():
                raise ValueError(
                    "a value that is not finite (NaN or infinite); expected the features of a sound encoder"
                )
            raise ValueError(
                f"a value of {np.abs(item).max():.6g}, beyond the largest {self.header.dtype}, "
                f"{np.finfo(self.header.dtype).max:.6g}; store float32 instead (--dtype float32)"
            )
        return out

    def read(self, key: str) -> np.ndarray:
        """Item that was appended under a key, as the table holds it."""
        row = self.rows[key]
        if row >= self._committed:
            return self._block[row - self._committed]
        item = np.empty(self.header.shape, self.header.dtype)
        self._table_file.seek(self._offset + row * self.header.item_bytes)
        self._table_file.readinto(item.data)
        self._table_file.seek(0, os.SEEK_END)
        return item

    def commit(self) -> None:
        """Puts the waiting rows on disk, where neither a kill nor a power cut reaches them.

        Raises ValueError if they cannot be written, on a full disk for example; the rows committed before are kept.
        """
        if not self._waiting:
            return
        try:
            _write(self._table_file, self._block[: len(self._waiting)].data.cast("B"))
            _write(self._keys_file, memoryview("".join(f"{key}\n" for key in self._waiting).encode()))
        except OSError as error:
            for key in self._waiting:
                del self.rows[key]
            self._waiting.clear()
            self._cut_to(self._committed)
            raise ValueError(
                f"{self._folder} cannot be written ({error}); its {self._committed} rows are kept: "
                "make room on the disk, then run the same command to continue"
            ) from error
        self._committed += len(self._waiting)
        self._waiting.clear()

    def finish(self) -> FeatureStore:
        """Gives the store its name, then opens it; ValueError if it has no row."""
        self.commit()
        if not self.rows:
            raise ValueError(f"{self.header.source} gave no features; expected at least one row")
        write_table_header(self._table_file, self.header, len(self.rows))
        os.fsync(self._table_file.fileno())
        self.close()
        self._folder.rename(self.path)
        return FeatureStore.open(self.path)

    def close(self) -> None:
        """Closes the files; rows that wait are dropped."""
        self._table_file.close()
        self._keys_file.close()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self._table_file.closed:
                self.commit()
        finally:
            self.close()


def _lock(file: FileIO) -> None:
    """Keeps a second writer out; the system lifts the lock when a process ends, however it ends."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ValueError(
            f"another process is writing {file.name}; expected one writer: wait for it or stop it"
        ) from None


def _is_finite(table: np.ndarray) -> bool:
    """Whether no value is NaN or infinite; by the bits of the exponent for float16, which is 9 times as fast."""
    if table.dtype == np.float16:
        return bool((table.view(np.uint16) & 0x7FFF).max() < 0x7C00)
    return bool(np.isfinite(table).all())


def _write(file: FileIO, data: memoryview) -> None:
    """Appends all bytes, however many calls that takes, then waits until they are on the disk."""
    while data:
        data = data[file.write(data) :]
    os.fsync(file.fileno())

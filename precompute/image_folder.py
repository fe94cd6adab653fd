"""The images of a folder by key, with a list of those that cannot be read."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from glob import escape
from pathlib import Path

from envs.files import replacing

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def find_images(folder: Path) -> dict[str, Path]:
    """Key -> file of every image in a folder and its folders, sorted by key.

    The key is the path below the folder with forward slashes and without suffix, `val2014/COCO_val2014_000000000042`:
    the annotations of GQA and SNLI-VE name images that way. Suffixes count in capitals too, links are followed, names
    that begin with a dot are left out.
    Raises ValueError for a folder that is missing or has no images, and for two files of one key.
    """
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}; expected a folder of images ({', '.join(SUFFIXES)})")
    found: dict[str, list[Path]] = {}
    for path in _files(folder, ()):
        if path.suffix.lower() in SUFFIXES:
            found.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    if not found:
        raise ValueError(f"no image in {folder}; expected {', '.join(SUFFIXES)} there or in its folders")
    twins = {key: paths for key, paths in sorted(found.items()) if len(paths) > 1}
    if twins:
        first = next(iter(twins.values()))
        raise ValueError(
            f"{len(twins)} names in {folder} belong to several files, e.g. {first[0].name} and {first[1].name} in "
            f"{first[0].parent}; expected one file a name, because items are named without suffix: remove or rename one"
        )
    return {key: paths[0] for key, paths in sorted(found.items())}


def _files(folder: Path, above: tuple[str, ...]) -> Iterator[Path]:
    """Files below a folder; a link to one of the folders above is not followed."""
    here = os.path.realpath(folder)
    if here in above:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"{folder} cannot be listed ({error}); expected a folder that you may read") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _files(folder / entry.name, (*above, here))
        else:
            yield folder / entry.name


class BrokenImages:
    """Images that could not be read, in a file beside the store: one JSON object a line, `image` and `reason`.

    A line is written when an image is found broken, so that a run that goes on after a kill leaves the same images out.
    Several threads and processes may add. Attributes: path, reasons (key -> reason, as they were at `load`).
    """

    def __init__(self, store: Path) -> None:
        self._store, self._lock = store, threading.Lock()
        self.path = store.with_name(f"{store.name}.broken.jsonl")
        self.reasons: dict[str, str] = {}

    def begin(self) -> None:
        """Removes the list of an earlier store unless that store, or the beginning of it, is there."""
        begun = self._store.exists() or any(self._store.parent.glob(f"{escape(self._store.name)}.part*"))
        if not begun:
            self.path.unlink(missing_ok=True)

    def load(self) -> None:
        """Reads the list; a line that a kill cut counts for nothing."""
        self.reasons = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    record = json.loads(line)
                except ValueError:
                    continue
                self.reasons[record["image"]] = record["reason"]

    def add(self, key: str, reason: str) -> None:
        """Adds an image on the disk."""
        with self._lock, self.path.open("ab", buffering=0) as file:
            file.write(b"\n" + _line(key, reason))  # the line break in front ends a line that was cut
            os.fsync(file.fileno())

    def sort(self) -> None:
        """Writes what was loaded in order of key, whatever order the images were met in."""
        if self.reasons:
            with replacing(self.path) as file:
                file.writelines(_line(key, reason) for key, reason in sorted(self.reasons.items()))


def _line(key: str, reason: str) -> bytes:
    return json.dumps({"image": key, "reason": reason}).encode() + b"\n"

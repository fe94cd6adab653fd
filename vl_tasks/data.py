"""What the readers of all data sets share: JSON files with their faults told, images by the names annotations use."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from precompute.image_folder import SUFFIXES

SHOWN = 5
"""Examples that an error names."""
DOCUMENTATION = "docs/data.md tells where the files come from"


def read_json(path: Path) -> Any:
    """The value of a JSON file; ValueError for a file that is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"no file {path}; {DOCUMENTATION}") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no JSON file that can be read ({error}); download it again") from None


def read_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of each line; empty lines are passed over. ValueError names the line that is no JSON object."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise ValueError(f"no file {path}; {DOCUMENTATION}") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read ({error}); download it again") from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is no JSON ({error}); download the file again") from None
            if not isinstance(value, dict):
                raise ValueError(f"{path}, line {number}: found {line[:40]!r}; expected a JSON object")
            yield number, value


def items_of(path: Path, document: Any, name: str) -> list[dict[str, Any]]:
    """The list `name` of a document; ValueError if it has none or one of other things than objects."""
    found = document.get(name) if isinstance(document, dict) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        keys = sorted(document) if isinstance(document, dict) else type(document).__name__
        raise ValueError(f"{path} has no list {name!r} of objects (found {keys}); is it another file of the data set?")
    return found


def field_of(path: Path, item: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    """The field of an entry; ValueError that shows the entry if it is missing or of another type."""
    value = item.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        kinds = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise ValueError(f"{path}: found {name} {value!r} in {str(dict(item))[:80]}...; expected {kinds}")
    return value


def named(things: Iterable[object]) -> str:
    """The first few, for an error."""
    some = [str(thing) for thing in things]
    return ", ".join(some[:SHOWN]) + (", ..." if len(some) > SHOWN else "")


def read_answers(path: Path, identity: str, answer: str, kind: type) -> dict[Any, str]:
    """Text by id of a results file, a list of objects with these two fields; ids are of a kind.

    Raises ValueError for another format, an id that comes twice.
    """
    items, found = read_json(path), dict[Any, str]()
    wrong = [items] if not isinstance(items, list) else [item for item in items if not isinstance(item, dict)]
    if wrong:
        expected = f'a list of {{"{identity}": ..., "{answer}": ...}}'
        raise ValueError(f"{path}: found {str(wrong[0])[:40]}; expected {expected}")
    for item in items:
        one = field_of(path, item, identity, kind)
        if one in found:
            raise ValueError(f"{path}: {identity} {one} comes twice; expected it once")
        found[one] = field_of(path, item, answer, str)
    return found


def check_ids(path: Path, found: Iterable[Any], known: Iterable[Any], lacks: str, strange: str, things: str) -> None:
    """ValueError for ids that a results file lacks, for ids that nobody knows: "FILE {lacks} 3 {things}: 1, 2, 3"."""
    told, asked = set(found), set(known)
    for fault, ids in ((lacks, asked - told), (strange, told - asked)):
        if ids:
            raise ValueError(
                f"{path} {fault} {len(ids)} {things}: {named(sorted(ids))}; expected one for each of {len(asked)}: "
                "name the split that it is of (--split), or make it anew with the task's predict"
            )


def coco_names(subset: str, image_id: int) -> tuple[str, ...]:
    """What the file of an image of COCO may be called: as in the sets of 2014, as in those of 2017, its bare number."""
    subset = subset.replace("test-dev", "test")  # test-dev2015 asks about images of test2015
    return f"COCO_{subset}_{image_id:012d}", f"{image_id:012d}", str(image_id)


class ImageKeys:
    """Images of a folder or a store by the names that annotations give them.

    Keys are paths below a folder without suffix, `val2014/COCO_val2014_000000000042`, as `precompute.image_folder`
    makes them. A name may have folders and a suffix; it means the key that is equal to it or ends with it.
    """

    def __init__(self, keys: Iterable[str], where: str) -> None:
        """where: the folder or the store, for errors."""
        self.where = where
        self._keys = frozenset(keys)
        self._by_stem: dict[str, list[str]] = {}
        for key in self._keys:
            self._by_stem.setdefault(PurePosixPath(key).name, []).append(key)

    def find(self, names: Sequence[str]) -> str | None:
        """The key that the first fitting name means, None if there is none; ValueError for two of them."""
        for name in names:
            path = PurePosixPath(name)
            bare = str(path.with_suffix("")) if path.suffix.lower() in SUFFIXES else name
            if bare in self._keys:
                return bare
            fitting = [key for key in self._by_stem.get(PurePosixPath(bare).name, ()) if f"/{key}".endswith(f"/{bare}")]
            if len(fitting) > 1:
                raise ValueError(
                    f"{name!r} means {len(fitting)} images of {self.where}: {named(sorted(fitting))}; expected one: "
                    "give the folder of this data set alone"
                )
            if fitting:
                return fitting[0]
        return None

    def find_all(self, images: Iterable[Sequence[str]]) -> dict[tuple[str, ...], str]:
        """Names -> key of every image; ValueError that tells how many are missing, and which."""
        wanted = {tuple(names): self.find(names) for names in images}
        missing = sorted(names[0] for names, key in wanted.items() if key is None)
        if missing:
            raise ValueError(
                f"{self.where} lacks {len(missing)} of {len(wanted)} images: {named(missing)}; download them, or name "
                "the folder (or store) that has them"
            )
        return {names: key for names, key in wanted.items() if key is not None}

"""Episodes of Room-to-Room and its relatives: one route with one instruction each."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from envs.guide_annotations import check_languages, language_matches, read_guide
from envs.scenes import Scene

HELP = "see docs/data.md for where the file comes from and what it must hold"
R2R_FIELDS = ("scan", "path_id", "path", "heading", "instructions")


@dataclass(frozen=True)
class Episode:
    """One instruction with its route. `path` holds viewpoint ids from start to goal; on the test split (`has_goal`
    False) only the start. `distance_m` is what the file says, None where it is silent; so is `language` (en-IN, en-US,
    hi-IN, te-IN), which RxR alone tells."""

    instr_id: str
    path_id: str
    scan: str
    path: tuple[str, ...]
    heading_rad: float
    instruction: str
    distance_m: float | None
    has_goal: bool
    language: str | None = None

    @property
    def start(self) -> str:
        return self.path[0]

    @property
    def goal(self) -> str:
        """Viewpoint id of the goal. ValueError on a split without goals."""
        if not self.has_goal:
            raise ValueError(f"episode {self.instr_id} has no goal: it comes from a test split")
        return self.path[-1]


def load_episodes(
    data: str | Path,
    split: str,
    env: str = "r2r",
    scenes: Mapping[str, Scene] | None = None,
    languages: Sequence[str] = (),
) -> list[Episode]:
    """All episodes of a split in file order. With `scenes`, routes are checked against the graphs.

    languages: keep the instructions in these alone ("en" or "en-IN"); () keeps all.

    Raises ValueError for a missing folder or file, cut JSON, an absent field, an empty instruction, a duplicate id, an
    unknown scan, an excluded viewpoint, a route whose edge is missing, an unknown language.
    """
    if env not in LOADERS:
        raise ValueError(f"unknown data set {env!r}; known: {', '.join(LOADERS)}")
    return read_episodes(episode_file(data, split, env), env, scenes, languages)


def read_episodes(
    file: Path, env: str = "r2r", scenes: Mapping[str, Scene] | None = None, languages: Sequence[str] = ()
) -> list[Episode]:
    """All episodes of a file of any name in the format of a data set; for the rest see `load_episodes`."""
    check_languages(languages)
    if not file.is_file():
        raise ValueError(f"no file {file}; expected one in the format of {FILES[env]}; {HELP}")
    episodes = [e for e in LOADERS[env](file) if not languages or language_matches(e.language, languages)]
    if not episodes:
        spoken = f" in {', '.join(languages)}" if languages else ""
        raise ValueError(f"{file} holds no episode{spoken}; {HELP}")
    seen: set[str] = set()
    for episode in episodes:
        if episode.instr_id in seen:
            raise ValueError(f"{file}: instruction id {episode.instr_id} stands twice; expected each id once; {HELP}")
        seen.add(episode.instr_id)
    if scenes is not None:
        check_routes(file, episodes, scenes)
    return episodes


def episode_file(data: str | Path, split: str, env: str = "r2r") -> Path:
    """The file of a split. ValueError if folder or file is missing, naming the splits that are there."""
    folder = Path(data)
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: expected one with {FILES[env].format(split=split)}; {HELP}")
    file = folder / FILES[env].format(split=split)
    if not file.is_file():
        before, after = FILES[env].split("{split}")
        splits = sorted(p.name[len(before) : len(p.name) - len(after)] for p in folder.glob(f"{before}*{after}"))
        raise ValueError(f"no file {file}; splits found there: {', '.join(splits) or 'none'}; {HELP}")
    return file


def existing_splits(data: Path, env: str, names: Sequence[str]) -> list[str]:
    """Those of the named splits that the folder holds. ValueError if there is no such folder."""
    if not data.is_dir():
        raise ValueError(f"no folder {data}: expected one with {FILES[env].format(split='train')}; {HELP}")
    return [name for name in names if (data / FILES[env].format(split=name)).is_file()]


def check_routes(file: Path, episodes: list[Episode], scenes: Mapping[str, Scene]) -> None:
    """Every viewpoint is known and included, every edge exists. ValueError names the first fault."""
    checked: set[tuple[str, tuple[str, ...]]] = set()
    for episode in episodes:
        if (episode.scan, episode.path) in checked:
            continue
        checked.add((episode.scan, episode.path))
        if episode.scan not in scenes:
            raise ValueError(f"{file}: episode {episode.instr_id} is in unknown scan {episode.scan!r}; {HELP}")
        scene = scenes[episode.scan]
        try:
            rows = [scene.number(viewpoint) for viewpoint in episode.path]
        except ValueError as error:
            raise ValueError(f"{file}: episode {episode.instr_id}: {error}") from None
        for i, (a, b) in enumerate(pairwise(rows)):
            if a != b and not scene.adjacency[a, b]:
                raise ValueError(
                    f"{file}: episode {episode.instr_id}: step {i} of its path goes from {episode.path[i]} to "
                    f"{episode.path[i + 1]}, but scan {episode.scan} has no such edge; "
                    "check that data and connectivity belong together"
                )


def check_no_leak(train: list[Episode], unseen: list[Episode]) -> None:
    """ValueError if a scan of an unseen split is also trained on."""
    both = sorted({e.scan for e in train} & {e.scan for e in unseen})
    if both:
        raise ValueError(
            f"the unseen split shares {len(both)} scans with train (first: {both[0]}); "
            "expected disjoint buildings: check which files the data folder holds"
        )


def _load_r2r(file: Path) -> Iterator[Episode]:
    try:
        items = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not complete JSON ({error}); copy the file again, {HELP}") from None
    if not isinstance(items, list):
        raise ValueError(f"{file}: expected a list of routes, found {type(items).__name__}; {HELP}")
    has_goal = not file.stem.endswith("_test")
    for i, item in enumerate(items):
        _check_route_item(file, i, item)
        path = tuple(item["path"])
        for j, instruction in enumerate(item["instructions"]):
            instr_id = f"{item['path_id']}_{j}"
            if not isinstance(instruction, str) or not instruction.strip():
                raise ValueError(f"{file}: instruction {instr_id} is empty; expected a text; {HELP}")
            yield Episode(
                instr_id=instr_id,
                path_id=str(item["path_id"]),
                scan=item["scan"],
                path=path,
                heading_rad=float(item["heading"]),
                instruction=instruction,
                distance_m=item.get("distance"),
                has_goal=has_goal,
            )


def _check_route_item(file: Path, i: int, item: Any) -> None:
    absent = [field for field in R2R_FIELDS if not isinstance(item, dict) or field not in item]
    if absent:
        raise ValueError(f"{file}: route {i} lacks {', '.join(absent)}; expected {', '.join(R2R_FIELDS)}; {HELP}")
    name = f"{file}: route {i} (path_id {item['path_id']})"
    path, heading, instructions = item["path"], item["heading"], item["instructions"]
    if not isinstance(path, list) or not path or not all(isinstance(viewpoint, str) for viewpoint in path):
        raise ValueError(f"{name} has the path {path!r}; expected a list of viewpoint ids, the start at least; {HELP}")
    if not isinstance(heading, int | float) or not math.isfinite(heading):
        raise ValueError(f"{name} has the heading {heading!r}; expected a finite number, radians; {HELP}")
    if not isinstance(instructions, list) or not instructions:
        raise ValueError(f"{name} has the instructions {instructions!r}; expected a list of at least one text; {HELP}")


def _load_rxr(file: Path) -> Iterator[Episode]:
    """The instruction's own number is its id, as in RxR's predictions; HAMT writes "{path_id}_{instruction_id}"."""
    has_goal = not file.name.startswith("rxr_test")
    for line in read_guide(file):
        yield Episode(
            instr_id=str(line["instruction_id"]),
            path_id=str(line.get("path_id", line["instruction_id"])),
            scan=line["scan"],
            path=tuple(line["path"]),
            heading_rad=float(line["heading"]),
            instruction=line["instruction"],
            distance_m=None,
            has_goal=has_goal,
            language=line["language"],
        )


LOADERS: Mapping[str, Callable[[Path], Iterator[Episode]]] = {"r2r": _load_r2r, "r4r": _load_r2r, "rxr": _load_rxr}
FILES: Mapping[str, str] = {
    "r2r": "R2R_{split}.json",
    "r4r": "R4R_{split}.json",
    "rxr": "rxr_{split}_guide.jsonl.gz",
}

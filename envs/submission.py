"""The predictions file of EvalAI's Room-to-Room challenge.

A JSON list of `{"instr_id": "1234_0", "trajectory": [[viewpoint, heading, elevation], ...]}`, angles in radians, the
start viewpoint first. Consecutive entries name the same viewpoint (a turn on the spot) or two that share an edge.
Sources: Matterport3DSimulator's `tasks/R2R/eval.py`; the same file is read by the challenge server.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from envs.episodes import Episode
from envs.files import replacing
from envs.scenes import Scene
from envs.trajectories import flatten_trajectory, has_viewpoint, is_nested, is_number, is_sound, short

FORMAT = '[{"instr_id": ID, "trajectory": [[viewpoint, heading, elevation], ...]}, ...]'
AGAIN = "copy the file again or predict again"
"""What mends a damaged file."""

KINDS = {
    "item": "not an object that has instr_id and trajectory",
    "missing": "an episode without a prediction",
    "unknown": "a prediction without an episode",
    "duplicate": "an instr_id predicted more than once",
    "empty": "a trajectory without an entry",
    "nested": "a trajectory that is a list of lists of viewpoints",
    "entry": "an entry that is not [viewpoint, heading, elevation]",
    "angle": "a heading or elevation that is not a finite number",
    "start": "a trajectory that does not begin where its episode does",
    "viewpoint": "a viewpoint that the scan does not have",
    "excluded": "a viewpoint that the scan excludes",
    "edge": "a move along an edge that the scan does not have",
}
"""Every kind of `Fault`, with what it means."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with one prediction: a key of `KINDS`, its id (None if it has none), what was found, expected."""

    kind: str
    instr_id: str | None
    message: str

    def __str__(self) -> str:
        return self.message if self.instr_id is None else f"instr_id {self.instr_id}: {self.message}"


def write_predictions(path: str | Path, trajectories: Mapping[str, Iterable[Sequence[Any]]]) -> None:
    """Writes a predictions file, to a temporary file first that then takes the name.

    Args:
        path: the file to write, its folder made if need be; a file that exists is replaced.
        trajectories: instr_id -> the (viewpoint id, heading_rad, elevation_rad) visited, the start first.

    Raises:
        ValueError: an empty trajectory, an entry of another form, an angle that is not finite. Nothing is written.
    """
    items = []
    for instr_id, trajectory in trajectories.items():
        entries = [[str(entry[0]), *map(float, entry[1:])] for entry in trajectory]
        faults = [("empty", "no entry")] if not entries else list(_shape_faults(entries))
        faults += [("entry", f"entry {i} is {entry!r}") for i, entry in enumerate(entries) if len(entry) != 3]
        if faults:
            raise ValueError(f"instr_id {instr_id}: {faults[0][1]}; expected [viewpoint, heading, elevation] entries")
        items.append({"instr_id": instr_id, "trajectory": entries})
    with replacing(path) as file:
        file.write(json.dumps(items).encode())


def read_predictions(path: str | Path) -> list[Any]:
    """The items of a predictions file (`.json`, or compressed `.json.gz`) as they stand there: see `validate`.

    Raises:
        ValueError: no such file, damaged or cut JSON, something else than a list.
    """
    path = Path(path)
    try:
        items = json.loads(read_bytes(path, f"a JSON file of the form {FORMAT}"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not complete JSON ({error}); {AGAIN}") from None
    if not isinstance(items, list):
        raise ValueError(f"{path} holds a JSON {type(items).__name__}; expected a list: {FORMAT}")
    return items


def read_bytes(path: Path, expected: str) -> bytes:
    """A predictions file, decompressed if its name ends in .gz. ValueError if there is none, or a damaged one;
    `expected` says what should be there."""
    if not path.is_file():
        raise ValueError(f"no predictions file {path}; expected {expected}")
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({error}); {AGAIN}") from None


def trajectories_of(predictions: Iterable[Any]) -> dict[str, list[str]]:
    """instr_id -> ids of the viewpoints visited, nested trajectories flattened: what `metrics` scores.

    Raises:
        ValueError: an item, an entry or a duplicate that leaves unclear what was predicted.
    """
    found: dict[str, list[str]] = {}
    for i, item in enumerate(predictions):
        problem = _item_problem(item)
        if problem:
            raise ValueError(f"item {i} {problem}; expected {FORMAT}")
        if item["instr_id"] in found:
            raise ValueError(f"instr_id {item['instr_id']} is predicted more than once; keep one prediction")
        try:
            found[item["instr_id"]] = [entry[0] for entry in flatten_trajectory(item["trajectory"])]
        except ValueError as error:
            raise ValueError(f"instr_id {item['instr_id']}: {error}") from None
    return found


def validate(predictions: Iterable[Any], episodes: Iterable[Episode], scenes: Mapping[str, Scene]) -> list[Fault]:
    """Every fault of a predictions file, an empty list if the challenge server would take it.

    Args:
        predictions: the items of the file (`read_predictions`). An entry of a trajectory may be `[viewpoint]` alone.
        episodes: those that must be predicted; with or without goals.
        scenes: scan -> its scene, for every scan of the episodes.

    Returns:
        The faults of the items in their order, then the missing ids. A nested trajectory is reported once and its
        flattened walk is checked too.
    """
    by_id = {episode.instr_id: episode for episode in episodes}
    counts: Counter[str] = Counter()
    faults: list[Fault] = []
    for i, item in enumerate(predictions):
        problem = _item_problem(item)
        instr_id = item.get("instr_id") if isinstance(item, dict) else None
        instr_id = instr_id if isinstance(instr_id, str) else None
        if instr_id is not None:
            counts[instr_id] += 1
        if problem or instr_id is None:
            faults.append(Fault("item", instr_id, f"item {i} {problem}; expected {FORMAT}"))
            continue
        if counts[instr_id] > 1:
            faults.append(Fault("duplicate", instr_id, f"predicted again by item {i}; expected one prediction"))
        if instr_id not in by_id:
            message = (
                f"no episode of this split has this id (item {i}); expected ids like {next(iter(by_id), '1234_0')}"
            )
            faults.append(Fault("unknown", instr_id, message))
            continue
        found = _trajectory_faults(item["trajectory"], by_id[instr_id], scenes)
        faults += [Fault(kind, instr_id, message) for kind, message in found]
    missing = [instr_id for instr_id in by_id if instr_id not in counts]
    return faults + [
        Fault("missing", instr_id, "no prediction; every id of the split must be there") for instr_id in missing
    ]


def summary(faults: Sequence[Fault], examples: int = 3) -> str:
    """Faults for a person to read: how many there are of each kind, with its first few."""
    if not faults:
        return "no fault"
    lines = [f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in the predictions"]
    for kind, meaning in KINDS.items():
        of_kind = [fault for fault in faults if fault.kind == kind]
        if not of_kind:
            continue
        lines.append(f"  {kind} ({len(of_kind)}): {meaning}")
        for fault in of_kind[:examples]:
            lines.append(f"    {fault}")
        if len(of_kind) > examples:
            lines.append(f"    ... {len(of_kind) - examples} more")
    return "\n".join(lines)


def walk_faults(
    viewpoints: Sequence[str | None], start: str, scan: str, scenes: Mapping[str, Scene]
) -> Iterator[tuple[str, str]]:
    """Kind and message of every fault of a walk of viewpoint ids (None: not known) through a scan."""
    scene = scenes[scan]
    if viewpoints[0] not in (start, None):
        yield "start", f"begins at {viewpoints[0]}; expected the start of the episode, {start}"
    for i, viewpoint in enumerate(viewpoints):
        if viewpoint is None:
            continue
        if viewpoint not in scene.row:
            others = [other.scan for other in scenes.values() if viewpoint in other.row]
            where = f" (scan {others[0]} has it)" if others else ""
            yield "viewpoint", f"entry {i} is {viewpoint}, which scan {scan} does not have{where}"
        elif not scene.included[scene.row[viewpoint]]:
            yield "excluded", f"entry {i} is {viewpoint}, which scan {scan} excludes from its graph"
    for i, (here, there) in enumerate(pairwise(viewpoints)):
        a, b = scene.row.get(here or ""), scene.row.get(there or "")
        if a is None or b is None or a == b or not (scene.included[a] and scene.included[b]):
            continue
        if not scene.adjacency[a, b]:
            yield (
                "edge",
                f"entries {i} and {i + 1} move from {here} to {there}, but scan {scan} has no edge between them",
            )


def _trajectory_faults(trajectory: Any, episode: Episode, scenes: Mapping[str, Scene]) -> Iterator[tuple[str, str]]:
    """Kind and message of every fault of one trajectory."""
    if not trajectory:
        yield "empty", "the trajectory has no entry; expected at least the start viewpoint"
        return
    yield from _shape_faults(trajectory)
    walk: list[str | None] = []
    for entry in trajectory:
        try:
            sound = is_sound(entry) or has_viewpoint(entry)
            walk += [entry[0]] if sound else [part[0] for part in flatten_trajectory([entry])]
        except ValueError:
            walk.append(None)
    yield from walk_faults(walk, episode.start, episode.scan, scenes)


def _shape_faults(trajectory: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Kind and message of every entry that has the wrong form; nesting is named once for the whole trajectory."""
    unsound = [(i, entry) for i, entry in enumerate(trajectory) if not is_sound(entry)]
    nested = next((i for i, entry in unsound if is_nested(entry)), None)
    if nested is not None:
        yield (
            "nested",
            f"the trajectory is nested: entry {nested} is {short(trajectory[nested])}; expected [viewpoint, heading, "
            "elevation] (VLN-DUET writes it so; envs.trajectories.flatten_trajectory mends it)",
        )
    for i, entry in unsound:
        if is_nested(entry):
            continue
        if not has_viewpoint(entry):
            yield "entry", f"entry {i} is {short(entry)}; expected [viewpoint, heading, elevation]"
            continue
        angles = entry[1:]
        if len(angles) not in (0, 2):
            yield "entry", f"entry {i} has {len(entry)} parts; expected [viewpoint, heading, elevation]"
        for name, angle in zip(("heading", "elevation"), angles, strict=False):
            if not is_number(angle):
                yield "angle", f"the {name} of entry {i} is {short(angle)}; expected a finite number in radians"


def _item_problem(item: Any) -> str | None:
    """What keeps an item of the list from being a prediction, None if it is one."""
    if not isinstance(item, dict):
        return f"is {short(item)}"
    lacks = [key for key in ("instr_id", "trajectory") if key not in item]
    if lacks:
        return f"lacks {' and '.join(lacks)} (it has {', '.join(map(str, item)) or 'nothing'})"
    if not isinstance(item["instr_id"], str):
        return f"has the instr_id {short(item['instr_id'])}, which is not a string"
    if not isinstance(item["trajectory"], list):
        return f"has the trajectory {short(item['trajectory'])}, which is not a list"
    return None

"""The predictions file of the Room-across-Room competition.

JSON Lines: `{"instruction_id": 26, "path": [viewpoint, ...]}` for each instruction, the start first, by number. These
are the fields of RxR's follower annotations (google-research-datasets/RxR), and those that VLN-CE writes for the
RxR-Habitat competition, with viewpoints in place of its positions. A turn on the spot leaves no trace in a path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from envs.files import replacing
from envs.submission import AGAIN, read_bytes, read_predictions
from envs.trajectories import short

FORMAT = '{"instruction_id": NUMBER, "path": [viewpoint, ...]} on each line'


def write_rxr_predictions(path: str | Path, trajectories: Mapping[str, Iterable[Sequence[Any]]]) -> None:
    """Writes a predictions file, to a temporary file first that then takes the name.

    Args:
        path: the file to write, its folder made if need be; a file that exists is replaced.
        trajectories: instr_id -> the (viewpoint id, ...) visited, the start first; only the ids are written.

    Raises:
        ValueError: an empty trajectory. Nothing is written.
    """
    lines = []
    for instr_id, trajectory in trajectories.items():
        viewpoints = [viewpoint for viewpoint, _ in groupby(str(entry[0]) for entry in trajectory)]
        if not viewpoints:
            raise ValueError(f"instruction_id {instr_id}: no viewpoint; expected the start at least")
        lines.append({"instruction_id": _as_number(instr_id), "path": viewpoints})
    lines.sort(key=lambda line: (isinstance(line["instruction_id"], str), line["instruction_id"]))
    with replacing(path) as file:
        file.write("".join(f"{json.dumps(line)}\n" for line in lines).encode())


def read_rxr_predictions(path: str | Path) -> list[Any]:
    """The items of a predictions file (`.jsonl`, or compressed `.jsonl.gz`), in the form that `submission.validate`
    takes. A JSON list in R2R's form, which HAMT and CLIP-ViL write for RxR too, is read as it stands.

    Raises:
        ValueError: no such file, a damaged or cut one, a line that is not of the form above; names the line.
    """
    path = Path(path)
    data = read_bytes(path, f"a JSON Lines file with {FORMAT}")
    if data.lstrip().startswith(b"["):
        return read_predictions(path)
    return [_item(f"{path}: line {number}", line) for number, line in enumerate(data.splitlines(), 1)]


def _item(place: str, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{place} is cut or no JSON ({error}); {AGAIN}") from None
    lacks = [key for key in ("instruction_id", "path") if not isinstance(found, dict) or key not in found]
    if lacks:
        raise ValueError(f"{place} lacks {' and '.join(lacks)}; expected {FORMAT}")
    number, path = found["instruction_id"], found["path"]
    if not isinstance(number, int | str) or isinstance(number, bool):
        raise ValueError(f"{place} has the instruction_id {short(number)}; expected a whole number")
    if not isinstance(path, list) or not all(isinstance(viewpoint, str) for viewpoint in path):
        raise ValueError(
            f"{place} has the path {short(path)}; expected a list of viewpoint ids (the positions of RxR-Habitat are "
            "for another competition)"
        )
    return {"instr_id": str(number), "trajectory": [[viewpoint] for viewpoint in path]}


def _as_number(instr_id: str) -> int | str:
    """RxR's ids are whole numbers; anything else stays as it is."""
    return int(instr_id) if instr_id.isascii() and instr_id.isdecimal() and str(int(instr_id)) == instr_id else instr_id

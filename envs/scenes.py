"""Buildings as immutable arrays, read from the field's connectivity JSON.

Legend: N viewpoints of a scan, numbered by their place in the JSON (MatterSim's `ix`). World: z up, metres.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import networkx as nx
import numpy as np

HELP = "see docs/data.md for the files a connectivity folder must hold"
FIELDS = ("image_id", "pose", "included", "unobstructed", "height")


@dataclass(frozen=True, eq=False)
class Scene:
    """One building.

    `viewpoints` has all N viewpoints of the JSON, excluded ones too. Shapes: included [N] bool, pose [N, 4, 4]
    (camera to world, metres), height_m [N], adjacency [N, N] bool: `unobstructed` between two included viewpoints,
    symmetric, no self loops (the rule of MatterSim's NavGraph).
    """

    scan: str
    viewpoints: tuple[str, ...]
    included: np.ndarray
    pose: np.ndarray
    height_m: np.ndarray
    adjacency: np.ndarray

    @cached_property
    def position_m(self) -> np.ndarray:
        """[N, 3] float64, the translation of `pose`."""
        return self.pose[:, :3, 3]

    @cached_property
    def row(self) -> Mapping[str, int]:
        """viewpoint id -> number (MatterSim's `ix`)."""
        return {viewpoint: i for i, viewpoint in enumerate(self.viewpoints)}

    @cached_property
    def edge_length_m(self) -> np.ndarray:
        """[N, N] float64: straight distance in 3-D along an edge, 0 where there is none."""
        difference = self.position_m[:, None] - self.position_m[None]
        return np.where(self.adjacency, np.sqrt((difference**2).sum(-1)), 0.0)

    def graph(self) -> nx.Graph:
        """The included viewpoints by id, edges weighted in metres, node attribute `position`."""
        graph: nx.Graph = nx.Graph(scan=self.scan)
        for i in np.flatnonzero(self.included):
            graph.add_node(self.viewpoints[i], position=tuple(self.position_m[i]))
        for i, j in np.argwhere(np.triu(self.adjacency)):
            graph.add_edge(self.viewpoints[i], self.viewpoints[j], weight=float(self.edge_length_m[i, j]))
        return graph

    def number(self, viewpoint: str) -> int:
        """The number of an included viewpoint; ValueError for an unknown or excluded one."""
        i = self.row.get(viewpoint)
        if i is None:
            raise ValueError(f"scan {self.scan} has no viewpoint {viewpoint!r} (it has {len(self.viewpoints)})")
        if not self.included[i]:
            raise ValueError(
                f"viewpoint {viewpoint} of scan {self.scan} is excluded (`included: false` in its connectivity file); "
                "choose one of the included viewpoints"
            )
        return i


def load_scene(connectivity: str | Path, scan: str) -> Scene:
    """Read `{connectivity}/{scan}_connectivity.json`.

    Raises ValueError where the folder, the scan or a field is missing, the JSON is cut, a list has the wrong length,
    or the graph is not symmetric.
    """
    path = Path(connectivity) / f"{scan}_connectivity.json"
    if not path.is_file():
        raise ValueError(_missing(Path(connectivity), scan))
    try:
        items = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not complete JSON ({error}); copy the file again, {HELP}") from None
    if not isinstance(items, list) or not items:
        found = "an empty one" if items == [] else type(items).__name__
        raise ValueError(f"{path}: expected a list with one item per viewpoint, found {found}; {HELP}")
    _check_fields(path, items)
    unobstructed = _array(path, "unobstructed", [item["unobstructed"] for item in items], "bi").astype(bool)
    included = _array(path, "included", [item["included"] for item in items], "bi").astype(bool)
    adjacency = unobstructed & included[:, None] & included[None]
    np.fill_diagonal(adjacency, False)
    viewpoints = tuple(item["image_id"] for item in items)
    _check_symmetric(path, viewpoints, adjacency)
    pose = _array(path, "pose", [item["pose"] for item in items], "if").astype(np.float64).reshape(-1, 4, 4)
    height_m = _array(path, "height", [item["height"] for item in items], "if").astype(np.float64)
    for array in (included, pose, height_m, adjacency):
        array.flags.writeable = False
    return Scene(scan, viewpoints, included, pose, height_m, adjacency)


def load_scenes(connectivity: str | Path, scans: Iterable[str] | None = None) -> dict[str, Scene]:
    """Scan id -> Scene. `scans=None` reads those that `{connectivity}/scans.txt` lists."""
    if scans is None:
        scans = list_scans(connectivity)
    return {scan: load_scene(connectivity, scan) for scan in dict.fromkeys(scans)}


def find_connectivity(data: str | Path, connectivity: str | Path | None = None) -> Path:
    """The folder given, or `connectivity/` inside `data` or beside it."""
    if connectivity is not None:
        return Path(connectivity)
    places = [Path(data) / "connectivity", Path(data).resolve().parent / "connectivity"]
    for place in places:
        if place.is_dir():
            return place
    raise ValueError(f"no connectivity folder at {places[0]} or {places[1]}; name it with --connectivity DIR; {HELP}")


def list_scans(connectivity: str | Path) -> list[str]:
    """The scan ids of `{connectivity}/scans.txt`, or of the files there if it is missing."""
    folder = Path(connectivity)
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}: expected the connectivity files of the scans; {HELP}")
    listing = folder / "scans.txt"
    if listing.is_file():
        return listing.read_text().split()
    found = sorted(p.name.removesuffix("_connectivity.json") for p in folder.glob("*_connectivity.json"))
    if not found:
        raise ValueError(f"{folder} holds neither scans.txt nor a *_connectivity.json; {HELP}")
    return found


def _missing(folder: Path, scan: str) -> str:
    if not folder.is_dir():
        return f"no folder {folder}: expected the connectivity files of the scans; {HELP}"
    near = len(list(folder.glob("*_connectivity.json")))
    return f"unknown scan {scan!r}: {folder} has {near} connectivity files, but no {scan}_connectivity.json; {HELP}"


def _check_fields(path: Path, items: list) -> None:
    n = len(items)
    for i, item in enumerate(items):
        absent = [field for field in FIELDS if not isinstance(item, dict) or field not in item]
        if absent:
            raise ValueError(f"{path}: viewpoint {i} lacks {', '.join(absent)}; expected {', '.join(FIELDS)}; {HELP}")
        for field, size in (("unobstructed", n), ("pose", 16)):
            value = item[field]
            if not isinstance(value, list) or len(value) != size:
                found = f"{len(value)} entries" if isinstance(value, list) else f"a {type(value).__name__}"
                raise ValueError(
                    f"{path}: `{field}` of viewpoint {i} ({item['image_id']}) has {found}, expected a list of {size} "
                    f"({'one per viewpoint' if field == 'unobstructed' else 'a 4x4 matrix by rows'}); {HELP}"
                )
    if len({item["image_id"] for item in items}) != n:
        raise ValueError(f"{path}: an image_id stands twice; expected {n} different viewpoints; {HELP}")


def _array(path: Path, field: str, values: list, kinds: str) -> np.ndarray:
    """The values of a field as an array; `kinds` of numpy allowed: b booleans, i whole numbers, f floats."""
    try:
        array = np.array(values)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in kinds or not np.isfinite(array).all():
        expected = "booleans" if "b" in kinds else "finite numbers"
        raise ValueError(f"{path}: a `{field}` holds something else than {expected}; copy the file again, {HELP}")
    return array


def _check_symmetric(path: Path, viewpoints: tuple[str, ...], adjacency: np.ndarray) -> None:
    one_way = np.argwhere(adjacency & ~adjacency.T)
    if len(one_way):
        i, j = one_way[0]
        raise ValueError(
            f"{path}: not symmetric: {viewpoints[i]} leads to {viewpoints[j]} but not back "
            f"({len(one_way)} such edges); expected `unobstructed` both ways; {HELP}"
        )

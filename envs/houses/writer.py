"""Houses as files in the formats of Matterport3D and Room-to-Room."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from envs.files import replacing
from envs.houses.furniture import CATALOG
from envs.houses.graph import EYE_M, NavGraph
from envs.houses.guide import SEEN_PIXELS
from envs.houses.house import House
from envs.houses.panorama import POSE_ROTATION
from envs.houses.plan import Rect
from envs.houses.routes import GuidedRoute
from envs.houses.views import ViewContents
from envs.skybox import FOLDER

JPEG_QUALITY = 90
DEPTH_UNIT_M = 0.00025


def skybox_file(out: Path, scan: str, viewpoint: str) -> Path:
    """Where the six faces of a viewpoint lie, as the original names them (`envs.skybox` reads them)."""
    return out / "v1" / "scans" / scan / FOLDER / f"{viewpoint}_skybox_small.jpg"


def depth_file(out: Path, scan: str, viewpoint: str) -> Path:
    """Where the distances of the same pixels lie."""
    return out / "v1" / "scans" / scan / FOLDER / f"{viewpoint}_skybox_depth_small.png"


def write_skybox(path: Path, rgb: np.ndarray) -> None:
    """[size, 6 * size, 3] uint8 as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
    with replacing(path) as file:
        file.write(buffer.getvalue())


def write_depth(path: Path, distance_m: np.ndarray) -> None:
    """[size, 6 * size] metres from the camera as 16-bit PNG in units of 0.25 mm, at most 16.38 m."""
    units = np.clip(np.round(distance_m / DEPTH_UNIT_M), 0, 65535).astype(np.uint16)
    buffer = io.BytesIO()
    Image.fromarray(units).save(buffer, format="PNG")
    with replacing(path) as file:
        file.write(buffer.getvalue())


def write_json(path: Path, value: Any) -> None:
    """Compact JSON with a line break at its end."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True)
    with replacing(path) as file:
        file.write(text.encode() + b"\n")


def connectivity(graph: NavGraph) -> list[dict[str, Any]]:
    """The items of `{scan}_connectivity.json`. Poses look along +y: the camera's x is to the right, y down, z ahead."""
    items = []
    for i, viewpoint in enumerate(graph.viewpoint):
        pose = np.eye(4)
        pose[:3, :3] = POSE_ROTATION
        pose[:3, 3] = graph.position_m[i].round(6)
        items.append({
            "image_id": viewpoint,
            "pose": pose.ravel().tolist(),
            "included": True,
            "visible": graph.visible[i].tolist(),
            "unobstructed": graph.adjacency[i].tolist(),
            "height": EYE_M,
        })  # fmt: skip
    return items


def scene_graph(house: House, contents: Sequence[ViewContents]) -> dict[str, Any]:
    """Rooms, doors, objects of a house, with what each viewpoint sees, in each of its views: ground truth for other
    tasks."""
    plan, graph = house.plan, house.graph
    rooms = [
        {"kind": r.kind, "floor": r.floor, "rect_m": _corners(r.rect), "wall": wall.texture, "ground": floor.texture}
        for r, (wall, floor) in zip(plan.rooms, house.surfaces, strict=True)
    ]  # fmt: skip
    doors = [{"rooms": [d.a, d.b], "x_m": round(d.x, 4), "y_m": round(d.y, 4), "floor": d.floor} for d in plan.doors]
    stairs = None
    if plan.stairs is not None:
        stairs = {"foot": plan.stairs.foot, "landing": plan.stairs.landing, "flight_m": _corners(plan.stairs.flight)}
    items = [
        {
            "category": i.category, "colour": i.colour, "material": i.material, "size": i.size, "room": i.room,
            "rect_m": _corners(i.rect), "z_m": [round(i.z0_m, 4), round(i.z1_m, 4)],
            "hangs": CATALOG[i.category].place == "hang",
        }
        for i in house.items
    ]  # fmt: skip
    viewpoints = [
        {
            "id": viewpoint, "room": int(graph.room[i]), "door": int(graph.door[i]),
            "seen_items": {str(k): int(n) for k, n in enumerate(graph.item_pixels[i]) if n >= SEEN_PIXELS},
            "views": contents[i].items, "view_rooms": contents[i].rooms, "view_steps": contents[i].steps,
        }
        for i, viewpoint in enumerate(graph.viewpoint)
    ]  # fmt: skip
    return {"rooms": rooms, "doors": doors, "stairs": stairs, "items": items, "viewpoints": viewpoints}


def _corners(r: Rect) -> list[float]:
    return [round(value, 4) for value in (r.x0, r.y0, r.x1, r.y1)]


def route_items(house: House, routes: Sequence[GuidedRoute]) -> list[dict[str, Any]]:
    """Routes as R2R's items, without `path_id`, which numbers the routes of the whole world."""
    ids = house.graph.viewpoint
    return [
        {
            "distance": round(route.length_m, 2), "scan": house.scan, "path": [ids[row] for row in route.rows],
            "heading": route.heading_rad, "instructions": list(route.instructions),
        }
        for route in routes
    ]  # fmt: skip


def write_world_files(out: Path, houses: Sequence[Mapping[str, Any]], splits: Sequence[str]) -> dict[str, int]:
    """Connectivity files, scans.txt and `R2R_{split}.json` from the files of all houses; split -> number of routes.

    The test split keeps the start of each route alone, and no distance.
    """
    for house in houses:
        write_json(out / "connectivity" / f"{house['scan']}_connectivity.json", house["connectivity"])
    with replacing(out / "connectivity" / "scans.txt") as file:
        file.write("".join(f"{house['scan']}\n" for house in houses).encode())
    counts, path_id = {}, 0
    for split in splits:
        items = []
        for route in (route for house in houses for route in house["routes"].get(split, ())):
            item = {**route, "path_id": path_id}
            path_id += 1
            if split == "test":
                item["path"] = item["path"][:1]
                del item["distance"]
            items.append(item)
        counts[split] = len(items)
        if items:
            write_json(out / f"R2R_{split}.json", items)
    return counts

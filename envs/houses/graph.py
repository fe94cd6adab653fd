"""Navigation graph of a furnished building: viewpoints about 2 m apart, edges that a walker and an eye can pass.

Legend: N viewpoints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx
import numpy as np
from scipy import ndimage

from envs.houses.furnish import BODY_M, Item
from envs.houses.panorama import Stage, face_rays, seen_items
from envs.houses.plan import DOOR_WIDTH_M, HALF_WALL_M, STOREY_M, Plan, Rect, Room
from envs.houses.raycast import sees

EYE_M = 1.5
SPACING_M = 1.85
LONGEST_M = 3.3
CELL_M = 0.05
ID_FACE_PX = 40
"""Faces of this size are looked at to tell which objects a viewpoint sees."""


@dataclass(frozen=True, eq=False)
class NavGraph:
    """viewpoint [N] ids; position_m [N, 3] of the eye; room [N]; door [N]: the door that the viewpoint stands in, else
    -1; adjacency and visible [N, N] bool; item_pixels [N, I]: how many of 6 * 40 * 40 pixels show each object."""

    viewpoint: tuple[str, ...]
    position_m: np.ndarray
    room: np.ndarray
    door: np.ndarray
    adjacency: np.ndarray
    visible: np.ndarray
    item_pixels: np.ndarray

    def network(self) -> nx.Graph:
        """Nodes are rows, `weight` in metres."""
        graph: nx.Graph = nx.Graph()
        graph.add_nodes_from(range(len(self.viewpoint)))
        for i, j in np.argwhere(np.triu(self.adjacency)):
            length_m = float(np.linalg.norm(self.position_m[i] - self.position_m[j]))
            graph.add_edge(int(i), int(j), weight=length_m)
        return graph


def build_graph(rng: np.random.Generator, scan: str, plan: Plan, items: Sequence[Item], stage: Stage) -> NavGraph:
    """The graph of a building. ValueError where it cannot be connected; the caller draws another building."""
    free = [_free_floor(plan, items, floor) for floor in range(plan.floors)]
    points = [point for room in plan.rooms for point in _spots(rng, plan, room, free[room.floor])]
    points += _flight_points(plan)
    doors_used: set[int] = set()
    for _ in range(3):
        adjacency = _edges(points, plan, free, stage)
        missing = [d for d in _unpassed_doors(points, adjacency, plan) if d not in doors_used]
        if not missing:
            break
        for d in missing:
            door = plan.doors[d]
            sides = sorted((door.a, door.b), key=lambda r: (plan.rooms[r].kind == "hallway", plan.rooms[r].rect.area))
            points.append((door.x, door.y, door.floor * STOREY_M + EYE_M, sides[0], d))
        doors_used |= set(missing)
    adjacency = _edges(points, plan, free, stage)
    parts = [sorted(part) for part in nx.connected_components(nx.from_numpy_array(adjacency))]
    keep = max(parts, key=lambda part: (len(part), -part[0]))
    room = np.array([points[i][3] for i in keep])
    crossed = {
        frozenset((points[keep[i]][3], points[keep[j]][3])) for i, j in np.argwhere(adjacency[np.ix_(keep, keep)])
    }
    if len(set(room.tolist())) < len(plan.rooms) or not all(frozenset((d.a, d.b)) in crossed for d in plan.doors):
        raise ValueError("a room that no edge reaches, or a door that none passes")
    position = np.array([points[i][:3] for i in keep])
    pixels = np.zeros((len(keep), len(items)), np.int64)
    rays = face_rays(ID_FACE_PX)
    for row, eye in enumerate(position):
        seen = seen_items(stage, eye, rays)
        pixels[row] = np.bincount(seen[seen >= 0], minlength=len(items))
    ids = tuple(hashlib.blake2b(f"{scan}/{i}".encode(), digest_size=16).hexdigest() for i in range(len(keep)))
    stands_in = np.array([points[i][4] for i in keep])
    visible = sees(stage.grid, position)
    return NavGraph(ids, position, room, stands_in, adjacency[np.ix_(keep, keep)], visible, pixels)


Point = tuple[float, float, float, int, int]
"""x, y, z of the eye, room, door or -1."""


def _free_floor(plan: Plan, items: Sequence[Item], floor: int) -> np.ndarray:
    """[H, W] bool: where the middle of a walker may be, cells of 5 cm from the building's corner."""
    size = plan.size
    free = np.zeros((int(size.depth / CELL_M) + 1, int(size.width / CELL_M) + 1), bool)

    def mark(r: Rect, value: bool) -> None:
        x0, y0 = max(int((r.x0 - size.x0) / CELL_M), 0), max(int((r.y0 - size.y0) / CELL_M), 0)
        x1, y1 = int((r.x1 - size.x0) / CELL_M) + 1, int((r.y1 - size.y0) / CELL_M) + 1
        free[y0 : max(y1, 0), x0 : max(x1, 0)] = value

    for room in plan.rooms:
        if room.floor == floor:
            mark(room.rect.grown(-HALF_WALL_M - BODY_M), True)
    for door in plan.doors:
        if door.floor == floor:
            half, reach = DOOR_WIDTH_M / 2 - BODY_M, HALF_WALL_M + BODY_M + CELL_M
            dx, dy = (half, reach) if door.along_x else (reach, half)
            mark(Rect(door.x - dx, door.y - dy, door.x + dx, door.y + dy), True)
    for item in items:
        if item.is_obstacle and plan.rooms[item.room].floor == floor:
            mark(item.rect.grown(BODY_M), False)
    return free


def _spots(rng: np.random.Generator, plan: Plan, room: Room, free: np.ndarray) -> list[Point]:
    """Places in a room, the roomiest first, each a spacing away from those before."""
    z = room.z_m + EYE_M
    if plan.stairs is not None and room.index in (plan.stairs.foot, plan.stairs.landing):
        return [(*_stair_end(plan, room), z, room.index, -1)]
    clearance = ndimage.distance_transform_edt(free) * CELL_M
    rows, columns = np.nonzero(clearance > 0.08)
    x = plan.size.x0 + (columns + 0.5) * CELL_M
    y = plan.size.y0 + (rows + 0.5) * CELL_M
    r = room.rect.grown(-0.3)
    inside = (x > r.x0) & (x < r.x1) & (y > r.y0) & (y < r.y1)
    x, y, roomy = x[inside], y[inside], clearance[rows[inside], columns[inside]]
    order = np.argsort(-np.minimum(roomy, 0.6) - 0.1 * rng.random(len(x)), kind="stable")
    chosen: list[Point] = []
    for i in order:
        if all((x[i] - p[0]) ** 2 + (y[i] - p[1]) ** 2 >= SPACING_M**2 for p in chosen):
            chosen.append((float(x[i]), float(y[i]), z, room.index, -1))
    return chosen


def _stair_end(plan: Plan, room: Room) -> tuple[float, float]:
    """Half a metre before the first step, or behind the last."""
    stairs = plan.stairs
    assert stairs is not None
    x, y = stairs.flight.centre
    reach = (0.5 * (stairs.flight.width if stairs.up[0] else stairs.flight.depth) + 0.5) * (
        -1 if room.index == stairs.foot else 1
    )
    return x + reach * stairs.up[0], y + reach * stairs.up[1]


def _flight_points(plan: Plan) -> list[Point]:
    """Two viewpoints on the steps, of the room at the foot."""
    stairs = plan.stairs
    if stairs is None:
        return []
    length = stairs.flight.width if stairs.up[0] else stairs.flight.depth
    x, y = stairs.flight.centre
    points: list[Point] = []
    for share in (0.29, 0.71):
        reach = (share - 0.5) * length
        z = np.ceil(share * 16) / 16 * STOREY_M + EYE_M
        points.append((x + reach * stairs.up[0], y + reach * stairs.up[1], float(z), stairs.foot, -1))
    return points


def _edges(points: Sequence[Point], plan: Plan, free: Sequence[np.ndarray], stage: Stage) -> np.ndarray:
    """[N, N] bool: pairs that are near, see each other, can be walked, and have no better way round."""
    position = np.array([p[:3] for p in points])
    clear = sees(stage.grid, position)
    length = np.linalg.norm(position[:, None] - position[None], axis=-1)
    n = len(points)
    edge = np.zeros((n, n), bool)
    for i in range(n):
        for j in range(i + 1, n):
            near = 0.5 < length[i, j] <= LONGEST_M and clear[i, j]
            edge[i, j] = edge[j, i] = near and _walkable(position[i], position[j], plan, free)
    detour = np.where(edge, length, np.inf)
    kept = edge.copy()
    for i, j in np.argwhere(np.triu(edge)):
        through = np.maximum(detour[i], detour[j])
        total = detour[i] + detour[j]
        if ((through < 0.95 * length[i, j]) & (total < 1.15 * length[i, j])).any():
            kept[i, j] = kept[j, i] = False
    return kept


def _walkable(a: np.ndarray, b: np.ndarray, plan: Plan, free: Sequence[np.ndarray]) -> bool:
    flights = plan.stairs.strip if plan.stairs is not None else None
    on_stairs = flights is not None and flights.holds(a[0], a[1]) and flights.holds(b[0], b[1])
    if abs(a[2] - b[2]) > 0.01 or (a[2] - EYE_M) % STOREY_M > 0.01:
        return on_stairs and abs(a[2] - b[2]) < 1.7
    grid = free[round((a[2] - EYE_M) / STOREY_M)]
    steps = np.linspace(0.0, 1.0, int(np.linalg.norm(a - b) / 0.04) + 2)[:, None]
    line = a[:2] * (1 - steps) + b[:2] * steps
    columns = ((line[:, 0] - plan.size.x0) / CELL_M).astype(int)
    rows = ((line[:, 1] - plan.size.y0) / CELL_M).astype(int)
    return bool(grid[rows, columns].all())


def _unpassed_doors(points: Sequence[Point], adjacency: np.ndarray, plan: Plan) -> list[int]:
    """Doors that no edge passes."""
    passed = set()
    for i, j in np.argwhere(np.triu(adjacency)):
        passed.add(frozenset((points[i][3], points[j][3])))
    standing = {p[4] for p in points}
    return [d for d, door in enumerate(plan.doors) if frozenset((door.a, door.b)) not in passed and d not in standing]

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

from envs.houses.furnish import Item
from envs.houses.panorama import Stage, face_rays, seen_items
from envs.houses.plan import DOOR_WIDTH_M, STOREY_M, Door, Plan, Room
from envs.houses.raycast import sees
from envs.houses.walking import CELL_M, corners_of, free_floor, is_straight_walk, way, within

EYE_M = 1.5
SPACING_M = 1.85
LONGEST_M = 3.6
SHORTEST_M = 0.3
THROUGH_M = 0.7
"""A viewpoint that is added to pass a door stands this far behind it."""
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
    free = [free_floor(plan, items, floor) for floor in range(plan.floors)]
    points = [point for room in plan.rooms for point in _spots(rng, plan, room, free[room.floor])]
    points += _flight_points(plan)
    adjacency = _edges(points, plan, free, stage)
    for _ in plan.doors:
        door = _door_out_of_reach(points, adjacency, plan)
        if door is None:
            break
        points += _points_through(points, adjacency, plan, free[door.floor], door)
        adjacency = _edges(points, plan, free, stage)
    keep = _largest_part(adjacency)
    room = np.array([points[i][3] for i in keep])
    if len(set(room.tolist())) < len(plan.rooms) or _door_out_of_reach(points, adjacency, plan) is not None:
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
    """A viewpoint half-way up the steps, of the room at the foot."""
    stairs = plan.stairs
    if stairs is None:
        return []
    length = stairs.flight.width if stairs.up[0] else stairs.flight.depth
    x, y = stairs.flight.centre
    points: list[Point] = []
    for share in (0.5,):
        reach = (share - 0.5) * length
        z = np.ceil(share * 16) / 16 * STOREY_M + EYE_M
        points.append((x + reach * stairs.up[0], y + reach * stairs.up[1], float(z), stairs.foot, -1))
    return points


def _edges(points: Sequence[Point], plan: Plan, free: Sequence[np.ndarray], stage: Stage) -> np.ndarray:
    """[N, N] bool: pairs that are near, see each other, and can be walked in a straight line."""
    position = np.array([p[:3] for p in points])
    clear = sees(stage.grid, position)
    length = np.linalg.norm(position[:, None] - position[None], axis=-1)
    n = len(points)
    edge = np.zeros((n, n), bool)
    for i in range(n):
        for j in range(i + 1, n):
            near = SHORTEST_M < length[i, j] <= LONGEST_M and clear[i, j]
            edge[i, j] = edge[j, i] = near and _walkable(position[i], position[j], plan, free)
    return edge


def _walkable(a: np.ndarray, b: np.ndarray, plan: Plan, free: Sequence[np.ndarray]) -> bool:
    flights = plan.stairs.strip if plan.stairs is not None else None
    on_stairs = flights is not None and flights.holds(a[0], a[1]) and flights.holds(b[0], b[1])
    if abs(a[2] - b[2]) > 0.01 or (a[2] - EYE_M) % STOREY_M > 0.01:
        return on_stairs and abs(a[2] - b[2]) < 1.7
    return is_straight_walk(plan, free[round((a[2] - EYE_M) / STOREY_M)], a[:2], b[:2])


def _largest_part(adjacency: np.ndarray) -> list[int]:
    parts = [sorted(part) for part in nx.connected_components(nx.from_numpy_array(adjacency))]
    return max(parts, key=lambda part: (len(part), -part[0]))


def _door_out_of_reach(points: Sequence[Point], adjacency: np.ndarray, plan: Plan) -> Door | None:
    """A door that no edge of the largest part passes, though the part has viewpoints in one of its rooms."""
    keep = _largest_part(adjacency)
    reached = {points[i][3] for i in keep}
    passed = {
        frozenset((points[keep[i]][3], points[keep[j]][3])) for i, j in np.argwhere(adjacency[np.ix_(keep, keep)])
    }
    missing = (d for d in plan.doors if frozenset((d.a, d.b)) not in passed and reached & {d.a, d.b})
    return next(missing, None)


def _points_through(
    points: Sequence[Point], adjacency: np.ndarray, plan: Plan, free: np.ndarray, door: Door
) -> list[Point]:
    """Viewpoints that lead from the largest part through a door. ValueError where furniture leaves no way."""
    reached = {points[i][3] for i in _largest_part(adjacency)}
    front, behind = (door.a, door.b) if door.a in reached else (door.b, door.a)
    x, y = plan.rooms[behind].rect.centre
    beyond = np.array([0.0, np.sign(y - door.y)] if door.along_x else [np.sign(x - door.x), 0.0])
    starts = np.array([points[i][:2] for i in _largest_part(adjacency) if points[i][3] == front])
    line = way(plan, within(plan, free, [front, behind]), starts, np.array([door.x, door.y]) + THROUGH_M * beyond)
    if not len(line):
        raise ValueError(f"furniture leaves no way through the door at ({door.x:.1f}, {door.y:.1f})")
    z = door.floor * STOREY_M + EYE_M
    found: list[Point] = []
    for x, y in corners_of(plan, free, line, LONGEST_M).tolist():
        inside = front if plan.rooms[front].rect.holds(x, y) else behind
        stands_in = np.hypot(x - door.x, y - door.y) < DOOR_WIDTH_M / 2
        found.append((x, y, z, inside, plan.doors.index(door) if stands_in else -1))
    return found

"""New routes through buildings, drawn so that their statistics are those of given routes.

Legend: P pairs of viewpoints, C cells of a histogram.

R2R's routes are shortest paths of at least 5 m, nearly all of 5 to 7 viewpoints, about 93 in each large building, most
of them shorter than the other shortest paths of as many viewpoints. The buildings of R2R train have 178,300 such paths,
1.3 m longer on average; Speaker-Follower and R2R-EnvDrop learn from about as many (`aug_paths.json`). Here routes are
drawn to the histograms of those given.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from envs.candidates import directions
from envs.episodes import Episode
from envs.geodesics import shortest_path
from envs.tables import World

FIRST_PATH_ID = 10_000_000
"""Number of the first sampled route: larger than those of R2R, R4R and RxR."""
LENGTH_BIN_M = 2.0
"""Width of the cells in which lengths are matched."""
ROUNDS = 30
"""Of fitting the two histograms in turn; they agree to a thousandth much sooner."""


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Starts and goals [P]: building, viewpoint numbers, viewpoints on the shortest path, its length."""

    scan: np.ndarray
    start: np.ndarray
    goal: np.ndarray
    nodes: np.ndarray
    length_m: np.ndarray

    def cells(self) -> np.ndarray:
        """[P, 2] viewpoints and bin of the length."""
        return np.stack([self.nodes, (self.length_m // LENGTH_BIN_M).astype(np.int64)], 1)


def sample_routes(
    world: World, like: Sequence[Episode], count: int, seed: int, scans: Collection[str] | None = None
) -> list[Episode]:
    """At most `count` new routes, sorted by building, start and goal, with empty instructions.

    Each is the shortest path between its ends, and no two have the same ends. The number of viewpoints is distributed
    exactly as in `like`; length and building as nearly as the supply of paths allows; the heading at the start, seen
    from the first step, is that of a route of `like` drawn at random (R2R's starts look ahead a little more often than
    back). No route has the ends of one in `like`. The same arguments give the same routes.

    Fewer than `count` come back where the buildings have no more paths of some number of viewpoints.

    Args:
        world: knows the buildings.
        like: routes whose statistics are wanted; episodes that share a route count once.
        scans: the buildings to walk in, those of `like` by default; others than those count equally.

    Raises ValueError for a count below 1, an unknown building, routes without goals, no path that would do.
    """
    if count < 1:
        raise ValueError(f"{count} routes to sample; expected 1 or more")
    models = list({e.path_id: e for e in like}.values())
    if not models or not all(e.has_goal for e in models):
        raise ValueError("the routes to sample like are none, or have no goals (a test split); expected those of train")
    names = sorted({e.scan for e in models} if scans is None else set(scans))
    if unknown := [name for name in names if name not in world.scenes]:
        raise ValueError(f"no building {unknown[0]} among the {len(world.scenes)} loaded; expected known buildings")
    wanted = _measure(world, models)
    pairs = _eligible(world, names, wanted, {(e.scan, e.start, e.goal) for e in models})
    weight = _fit(pairs, wanted, _shares(names, models))
    rng = np.random.default_rng((seed, FIRST_PATH_ID))
    chosen = _draw(pairs, weight, wanted.nodes, count, rng)
    if not len(chosen):
        raise ValueError(
            f"{len(names)} buildings have no shortest path of the lengths of the {len(models)} routes given, but for "
            "these; expected larger buildings, or more routes to be like"
        )
    turns = _turns(world, models)
    return _episodes(world, names, pairs, chosen, turns[rng.integers(len(turns), size=len(chosen))])


def _measure(world: World, models: Sequence[Episode]) -> _Pairs:
    """The given routes; lengths along their paths."""
    rows = [[world.scenes[e.scan].number(v) for v in e.path] for e in models]
    lengths = [
        sum(float(world.geodesics[e.scan].distance_m[a, b]) for a, b in pairwise(path))
        for e, path in zip(models, rows, strict=True)
    ]
    ends = np.array([(path[0], path[-1], len(path)) for path in rows])
    return _Pairs(np.array([e.scan for e in models]), ends[:, 0], ends[:, 1], ends[:, 2], np.array(lengths))


def _eligible(world: World, names: Sequence[str], wanted: _Pairs, known: Collection[tuple[str, str, str]]) -> _Pairs:
    """All pairs whose shortest path has a number of viewpoints and a length (between the extremes) that was given."""
    most, parts = int(wanted.nodes.max()), []
    for i, name in enumerate(names):
        scene, geo = world.scenes[name], world.geodesics[name]
        fits = (geo.distance_m >= wanted.length_m.min()) & (geo.distance_m <= wanted.length_m.max())
        fits &= scene.included[:, None] & scene.included & ~np.eye(len(fits), dtype=bool)
        for scan, a, b in known:
            if scan == name:
                fits[scene.row[a], scene.row[b]] = False
        start, goal = np.nonzero(fits)
        nodes, here = np.ones_like(start), start
        for _ in range(most):  # a path that has not arrived then counts one viewpoint more than the longest
            nodes = nodes + (here != goal)
            here = geo.next_hop[here, goal]
        use = np.isin(nodes, wanted.nodes)
        parts.append((np.full(use.sum(), i), start[use], goal[use], nodes[use], geo.distance_m[start[use], goal[use]]))
    return _Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _shares(names: Sequence[str], models: Sequence[Episode]) -> np.ndarray:
    """The share of each building in the given routes; equal ones where none lies in any of them."""
    counts = np.array([sum(e.scan == name for e in models) for name in names], float)
    return counts / counts.sum() if counts.any() else np.full(len(names), 1 / len(names))


def _fit(pairs: _Pairs, wanted: _Pairs, shares: np.ndarray) -> np.ndarray:
    """[P] weights whose sums over cells of (viewpoints, length) and over buildings are those wanted: iterative
    proportional fitting (Deming, Stephan 1940). Cells and buildings without a pair are left out."""
    cells, place = np.unique(np.concatenate([wanted.cells(), pairs.cells()]), axis=0, return_inverse=True)
    place = place.reshape(-1)
    given, own = np.split(place, [len(wanted.nodes)])
    target = np.bincount(given, minlength=len(cells)) / len(given)
    weight = np.ones(len(own))
    for _ in range(ROUNDS):
        for index, goal in ((pairs.scan, shares), (own, target)):
            sums = np.bincount(index, weight, len(goal))
            weight = weight * np.divide(goal, sums, out=np.zeros_like(goal), where=sums > 0)[index]
    return weight


def _draw(pairs: _Pairs, weight: np.ndarray, nodes: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places of the pairs drawn, sorted: by weight, without replacement (the first arrivals of exponential clocks:
    Efraimidis, Spirakis 2006), as many of each number of viewpoints as its share in `nodes` asks for."""
    with np.errstate(divide="ignore"):
        arrival = rng.exponential(size=len(weight)) / weight
    kinds, counts = np.unique(nodes, return_counts=True)
    exact = count * counts / counts.sum()
    quota = np.floor(exact).astype(int)
    quota[np.argsort(quota - exact, kind="stable")[: count - quota.sum()]] += 1
    chosen = []
    for kind, wanted in zip(kinds, quota, strict=True):
        (own,) = np.nonzero((pairs.nodes == kind) & (weight > 0))
        chosen.append(own[np.argsort(arrival[own], kind="stable")[:wanted]])
    return np.sort(np.concatenate(chosen))


def _turns(world: World, models: Sequence[Episode]) -> np.ndarray:
    """Radians from the direction of the first step to the heading at the start, of every route that moves."""
    turns = []
    for e in models:
        ways = [v for v in e.path if v != e.start]
        if ways:
            scene = world.scenes[e.scan]
            heading, _, _ = directions(scene, *(np.array([scene.row[v]]) for v in (e.start, ways[0])))
            turns.append(e.heading_rad - heading[0])
    return np.array(turns or [0.0])


def _episodes(
    world: World, names: Sequence[str], pairs: _Pairs, chosen: np.ndarray, turns: np.ndarray
) -> list[Episode]:
    """The chosen pairs as episodes."""
    found = []
    for number, (p, turn) in enumerate(zip(chosen.tolist(), turns.tolist(), strict=True), FIRST_PATH_ID):
        scene = world.scenes[names[pairs.scan[p]]]
        rows = shortest_path(world.geodesics[scene.scan], int(pairs.start[p]), int(pairs.goal[p]))
        heading, _, _ = directions(scene, np.array(rows[:1]), np.array(rows[1:2]))
        found.append(
            Episode(
                instr_id=f"{number}_0",
                path_id=str(number),
                scan=scene.scan,
                path=tuple(scene.viewpoints[row] for row in rows),
                heading_rad=float((heading[0] + turn) % (2 * np.pi)),
                instruction="",
                distance_m=float(pairs.length_m[p]),
                has_goal=True,
            )
        )
    return found

"""Plans, furniture and graphs of procedural houses: geometry that must hold in each of them."""

from __future__ import annotations

from contextlib import suppress
from itertools import combinations

import networkx as nx
import numpy as np
import pytest

from envs.houses.furnish import furnish
from envs.houses.furniture import CATALOG
from envs.houses.graph import LONGEST_M, SPACING_M
from envs.houses.house import House, draw_house
from envs.houses.materials import COLOURS, MATERIAL_TEXTURE, TEXTURE
from envs.houses.plan import DOOR_WIDTH_M, Plan, Rect, draw_plan
from envs.houses.rooms import KINDS, name_rooms
from envs.houses.solids import _surface


def plans(count: int = 40) -> list[Plan]:
    found: list[Plan] = []
    seed = 0
    while len(found) < count:
        rng = np.random.default_rng(seed)
        seed += 1
        with suppress(ValueError):  # rooms without a shared wall: rare, as the count below says
            found.append(name_rooms(rng, draw_plan(rng)))
    assert seed < 2 * count  # most draws succeed
    return found


PLANS = plans()


def test_rooms_tile_each_storey() -> None:
    for plan in PLANS:
        for floor in range(plan.floors):
            rooms = [room.rect for room in plan.rooms if room.floor == floor]
            assert not any(a.grown(-1e-9).overlaps(b.grown(-1e-9)) for a, b in combinations(rooms, 2))
            area = sum(rect.area for rect in rooms)
            if plan.stairs is not None:
                end = plan.rooms[plan.stairs.foot if floor == 0 else plan.stairs.landing].rect
                area += plan.stairs.strip.area - end.area
            assert area == pytest.approx(plan.size.area)
            assert min(min(r.width, r.depth) for r in rooms) > 1.4


def test_doors_stand_in_shared_walls_and_join_all_rooms() -> None:
    for plan in PLANS:
        graph: nx.Graph = nx.Graph([(door.a, door.b) for door in plan.doors])
        if plan.stairs is not None:
            graph.add_edge(plan.stairs.foot, plan.stairs.landing)
        assert sorted(graph) == list(range(len(plan.rooms)))
        assert nx.is_connected(graph)
        for door in plan.doors:
            half = DOOR_WIDTH_M / 2
            ends = [(-half, 0.0), (half, 0.0)] if door.along_x else [(0.0, -half), (0.0, half)]
            for dx, dy in ends:
                for room in (plan.rooms[door.a].rect, plan.rooms[door.b].rect):
                    assert room.grown(1e-6).holds(door.x + dx, door.y + dy)


def test_plans_vary() -> None:
    assert {plan.floors for plan in PLANS} == {1, 2}
    assert {plan.stairs.up for plan in PLANS if plan.stairs} == {(1, 0), (-1, 0), (0, 1), (0, -1)}
    assert {room.kind for plan in PLANS for room in plan.rooms} == set(KINDS)
    for plan in PLANS:
        names = [room.kind for room in plan.rooms]
        assert names.count("bathroom") <= plan.floors
        assert "kitchen" in names


def test_furniture_stands_in_its_room_and_off_the_doors() -> None:
    for seed, plan in enumerate(PLANS[:15]):
        items = furnish(np.random.default_rng(seed), plan)
        solid = [item for item in items if item.is_obstacle]
        assert len(items) > 3 * len(plan.rooms)
        for item in items:
            assert plan.rooms[item.room].rect.grown(-0.059).grown(0.0).overlaps(item.rect)
            allowed = {category for category, *_ in KINDS[plan.rooms[item.room].kind].furniture}
            assert item.category in allowed
        for a, b in combinations(solid, 2):
            assert plan.rooms[a.room].floor != plan.rooms[b.room].floor or not a.rect.overlaps(b.rect), (a, b)
        for door in plan.doors:
            zone = Rect(door.x, door.y, door.x, door.y).grown(0.45)
            assert not any(plan.rooms[i.room].floor == door.floor and i.rect.overlaps(zone) for i in solid)


def test_catalog_names_only_what_can_be_drawn() -> None:
    used = {category for kind in KINDS.values() for category, *_ in kind.furniture}
    assert used == set(CATALOG)
    for template in CATALOG.values():
        assert set(template.colours) <= set(COLOURS)
        assert set(template.materials) <= set(MATERIAL_TEXTURE)
        for solid, *_, role in template.parts:
            assert solid in "bce"
            assert _surface(role, (0.5, 0.5, 0.5), "wood").texture in TEXTURE


def distance_to_rect(a: np.ndarray, b: np.ndarray, r: Rect) -> float:
    """From a line on the floor to a rectangle, by many points."""
    line = a[:2] + np.linspace(0, 1, 200)[:, None] * (b - a)[:2]
    dx = np.maximum(np.maximum(r.x0 - line[:, 0], line[:, 0] - r.x1), 0)
    dy = np.maximum(np.maximum(r.y0 - line[:, 1], line[:, 1] - r.y1), 0)
    return float(np.hypot(dx, dy).min())


def test_edges_are_free_of_obstacles_and_mutually_visible(houses: list[House]) -> None:
    assert {house.plan.floors for house in houses} == {1, 2}
    for house in houses:
        graph = house.graph
        assert (graph.adjacency == graph.adjacency.T).all()
        assert not (graph.adjacency & ~graph.visible).any()
        assert set(graph.room.tolist()) == {room.index for room in house.plan.rooms}
        for i, j in np.argwhere(np.triu(graph.adjacency)):
            a, b = graph.position_m[i], graph.position_m[j]
            storey = {house.plan.rooms[graph.room[k]].floor for k in (i, j)}
            if len(storey) == 1 and a[2] == b[2]:
                near = [o for o in house.items if o.is_obstacle and house.plan.rooms[o.room].floor in storey]
                assert min((distance_to_rect(a, b, o.rect) for o in near), default=1.0) > 0.1


def test_graphs_are_connected_and_viewpoints_two_metres_apart(houses: list[House]) -> None:
    lengths, degrees = [], []
    for house in houses:
        network = house.graph.network()
        assert nx.is_connected(network)
        lengths += [length for *_, length in network.edges(data="weight")]
        degrees += [degree for _, degree in network.degree()]
        crossed = {frozenset((int(house.graph.room[i]), int(house.graph.room[j]))) for i, j in network.edges}
        assert all(frozenset((door.a, door.b)) in crossed for door in house.plan.doors)
    assert max(lengths) <= LONGEST_M
    assert 1.5 < np.mean(lengths) < 2.5
    assert np.percentile(lengths, 75) > SPACING_M
    assert 2.0 < np.mean(degrees) < 4.5


def test_a_house_is_a_function_of_its_seed(houses: list[House]) -> None:
    again, other = draw_house("house1", 1, 0, 1), draw_house("house1", 1, 1, 1)
    assert again.items == houses[1].items
    assert (again.graph.position_m == houses[1].graph.position_m).all()
    assert again.items != other.items

"""Ways over the floor of a small building."""

import numpy as np

from envs.houses.guide import guide_of
from envs.houses.house import House
from envs.houses.plan import Door, Plan, Rect, Room
from envs.houses.routes import draw_routes
from envs.houses.walking import corners_of, free_floor, is_straight_walk, way, within

PLAN = Plan(
    Rect(0.0, 0.0, 8.0, 4.0), 1,
    (Room(0, "bedroom", 0, Rect(0.0, 0.0, 4.0, 4.0)), Room(1, "office", 0, Rect(4.0, 0.0, 8.0, 4.0))),
    (Door(0, 1, 4.0, 1.0, False, 0),), None,
)  # fmt: skip
A, B = np.array([2.0, 3.0]), np.array([6.0, 3.0])


def test_walls_stop_a_straight_walk_and_doors_let_it_pass() -> None:
    free = free_floor(PLAN, (), 0)
    assert not is_straight_walk(PLAN, free, A, B)
    assert is_straight_walk(PLAN, free, np.array([2.0, 1.0]), np.array([6.0, 1.0]))


def test_a_way_leads_through_the_door() -> None:
    free = free_floor(PLAN, (), 0)
    line = way(PLAN, free, np.stack([np.array([0.5, 3.5]), A]), B)
    assert np.array_equal(line[0], A)
    assert np.array_equal(line[-1], B)
    at_the_door = line[np.abs(line[:, 0] - 4.0).argmin()]
    assert abs(at_the_door[1] - 1.0) < 0.475
    length_m = np.abs(np.diff(line, axis=0)).sum()
    assert 7.0 < length_m < 8.5  # 4 m across, at least 1.6 m down and up again
    corners = corners_of(PLAN, free, line, 3.0)
    assert np.array_equal(corners[-1], B)
    assert len(corners) <= 6
    for a, b in zip([A, *corners[:-1]], corners, strict=True):
        assert is_straight_walk(PLAN, free, a, b)
        assert np.hypot(*(a - b)) <= 3.0


def test_no_way_leads_out_of_the_rooms_that_are_allowed() -> None:
    free = within(PLAN, free_floor(PLAN, (), 0), [0])
    assert len(way(PLAN, free, A[None], np.array([1.0, 1.0]))) > 1
    assert not free[:, int(4.5 / 0.05) :].any()


def test_graphs_are_as_dense_as_their_floors_allow(houses: list[House]) -> None:
    degree = np.concatenate([house.graph.adjacency.sum(axis=1) for house in houses])
    assert 2.8 < degree.mean() < 4.2
    assert (degree >= 4).mean() > 0.25


def test_up_to_a_quarter_of_the_routes_lead_over_the_stairs(houses: list[House]) -> None:
    house = next(house for house in houses if house.plan.stairs is not None)
    routes = draw_routes(np.random.default_rng(5), guide_of(house), 32)
    height = house.graph.position_m[:, 2]
    assert sum(height[route.rows[0]] != height[route.rows[-1]] for route in routes) == 8

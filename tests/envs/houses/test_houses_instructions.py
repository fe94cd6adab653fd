"""Instructions: wording and its reading, what clauses mean, routes that they lead along."""

from __future__ import annotations

import math
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

from envs.houses.following import LostError, check_turn, follow
from envs.houses.guide import Guide, guide_of, relative_rad
from envs.houses.house import House
from envs.houses.panorama import seen_items
from envs.houses.phrases import WORDINGS, Clause, read, say
from envs.houses.routes import GuidedRoute, draw_routes

Told = list[tuple[House, Guide, list[GuidedRoute]]]


@pytest.fixture(scope="module")
def told(houses: list[House]) -> Told:
    found = []
    for i, house in enumerate(houses):
        guide = guide_of(house)
        found.append((house, guide, draw_routes(np.random.default_rng(i), guide, 24)))
    return found


def random_clause(rng: np.random.Generator, kind: str) -> Clause:
    wordings = " ".join(WORDINGS[kind])
    return Clause(
        kind,
        room=str(rng.choice(["bedroom", "hallway", "stairs", "living room"])) if "{room}" in wordings else "",
        thing=str(rng.choice(["sofa", "red chair", "coffee table", "gray floor lamp"]))
        if "{thing}" in wordings
        else "",
        side=str(rng.choice(["left", "right"])) if "{side}" in wordings else "",
    )


def test_reading_inverts_saying() -> None:
    rng = np.random.default_rng(0)
    kinds = list(WORDINGS)
    for _ in range(400):
        clauses = [random_clause(rng, str(kind)) for kind in rng.choice(kinds, rng.integers(1, 7))]
        assert read(say(rng, clauses)) == clauses


def test_other_words_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot read 'Fly to the moon"):
        read("Turn left. Fly to the moon.")


def test_routes_are_shortest_paths_of_the_right_length(told: Told) -> None:
    for _, guide, routes in told:
        assert len(routes) == 24
        assert len({(route.rows[0], route.rows[-1]) for route in routes}) == len(routes)
        for route in routes:
            assert 4 <= len(route.rows) <= 7
            assert 5.0 <= route.length_m <= 20.0
            shortest = nx.dijkstra_path_length(guide.network, route.rows[0], route.rows[-1])
            assert route.length_m == pytest.approx(shortest)
            assert not guide.on_steps[[route.rows[0], route.rows[-1]]].any()


def test_followed_instructions_lead_along_the_route(told: Told) -> None:
    count = 0
    for _, guide, routes in told:
        for route in routes:
            assert len(set(route.instructions)) == 3
            for text in route.instructions:
                assert follow(guide, route.rows[0], route.heading_rad, read(text)) == list(route.rows)
                count += 1
    assert count == 3 * 3 * 24


def test_landmarks_are_seen_from_the_route_by_rays(told: Told) -> None:
    """Rays to points on the landmark, cast anew, meet it first from a viewpoint of the route in its room."""
    named = 0
    rng = np.random.default_rng(1)
    for house, guide, routes in told:
        for route in routes[:12]:
            rooms = {int(guide.room[row]) for row in route.rows}
            for clause in read(route.instructions[0]):
                if not clause.thing:
                    continue
                candidates = [i for room in rooms for i in guide.called(clause.thing, room)]
                assert candidates
                named += 1
                assert any(ray_meets(house, guide, row, i, rng) for i in candidates for row in route.rows)
    assert named > 30


def ray_meets(house: House, guide: Guide, row: int, number: int, rng: np.random.Generator) -> bool:
    item = house.items[number]
    if guide.room[row] != item.room:
        return False
    r, share = item.rect, rng.random((300, 3))
    low, size = np.array([r.x0, r.y0, item.z0_m]), np.array([r.width, r.depth, item.z1_m - item.z0_m])
    toward = low + share * size - guide.position_m[row]
    rays = toward / np.linalg.norm(toward, axis=1, keepdims=True)
    return int((seen_items(house.stage, guide.position_m[row], rays) == number).sum()) >= 3


def test_an_object_that_is_not_alone_is_no_landmark(told: Told) -> None:
    tried = 0
    for house, guide, _ in told:
        for room in range(len(guide.kind)):
            names = [item.category for item in house.items if item.room == room]
            twice = {name for name in names if names.count(name) > 1}
            start = int(np.flatnonzero(guide.room == room)[0])
            for name in twice:
                tried += 1
                with pytest.raises(LostError, match="objects called"):
                    follow(guide, start, 0.0, [Clause("stop_by", thing=name)])
    assert tried > 3


def test_stairs_are_climbed_and_descended(told: Told) -> None:
    guide = next(guide for _, guide, _ in told if guide.landing >= 0)
    foot = int(np.flatnonzero((guide.room == guide.foot) & ~guide.on_steps)[0])
    top = int(np.flatnonzero(guide.room == guide.landing)[0])
    up = follow(guide, foot, 0.0, read("Go up the stairs and stop at the top of the stairs."))
    assert (up[0], up[-1]) == (foot, top)
    assert (np.diff(guide.position_m[up, 2]) > 0).all()
    assert follow(guide, top, 0.0, read("Walk down the stairs. Wait at the foot of the stairs.")) == up[::-1]
    with pytest.raises(LostError, match="no stairs here"):
        follow(guide, top, 0.0, read("Go up the stairs and stop at the top of the stairs."))


def test_what_leads_nowhere_is_refused(told: Told) -> None:
    _, guide, routes = told[0]
    route = next(r for r in routes if read(r.instructions[0])[0].kind in ("left", "right"))
    first, *rest = read(route.instructions[0])
    wrong = replace(first, kind={"left": "right", "right": "left"}[first.kind])
    with pytest.raises(LostError, match="does not mean"):
        follow(guide, route.rows[0], route.heading_rad, [wrong, *rest])
    with pytest.raises(LostError, match="where to stop"):
        follow(guide, route.rows[0], route.heading_rad, [first, *rest][:-1])
    with pytest.raises(LostError, match="0 objects called red piano"):
        follow(guide, route.rows[0], route.heading_rad, [Clause("stop_by", thing="red piano")])


@pytest.mark.parametrize(
    ("word", "degrees", "fits"),
    [("left", -90, True), ("left", 90, False), ("right", 45, True), ("right", 5, False), ("around", -170, True),
     ("around", 100, False), ("straight", 10, True), ("straight", -60, False)],
)  # fmt: skip
def test_turn_words_mean_angles(word: str, degrees: float, fits: bool) -> None:
    relative = relative_rad(math.radians(100 + degrees), math.radians(100))
    assert math.degrees(relative) == pytest.approx(degrees)
    if fits:
        check_turn(word, relative)
    else:
        with pytest.raises(LostError):
            check_turn(word, relative)


def test_wording_is_varied(told: Told) -> None:
    texts = [text for _, _, routes in told for route in routes for text in route.instructions]
    assert len(set(texts)) > 0.9 * len(texts)
    kinds = {clause.kind for text in texts for clause in read(text)}
    assert kinds >= {"left", "right", "around", "straight", "enter", "exit", "gate", "pass", "stop_by", "stop_inside"}
    words = np.array([len(text.split()) for text in texts])
    assert 12 < words.mean() < 40
    assert words.max() < 90

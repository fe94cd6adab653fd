"""Searches equal the enumeration of all routes: the k likeliest, sorted, each once."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import agent_toy
import numpy as np
import pytest
import torch

from agent.candidates import Candidates
from agent.data import Split, load_splits
from agent.ensemble import Ensemble
from agent.evaluation import follow, score
from agent.follower import Follower, Recurrent
from agent.search import Method, RouteSearch, find_candidates
from agent.sight import Eyes
from clip_core.tokenizer import WordTokenizer, build_vocabulary
from envs import dynamics
from envs.dynamics import NavState
from envs.tables import load_world

METHODS: list[Method] = ["beam", "dijkstra", "best-first"]
EXACT: list[Method] = ["beam", "best-first"]
ALL = 10_000
"""More than there are routes in these tests."""
Ranked = list[tuple[float, tuple[int, ...]]]
"""Log-probability and viewpoint rows of routes, likeliest first."""


@pytest.fixture
def square(make_square: Callable[..., Path]) -> Split:
    """The square of four viewpoints with its three instructions."""
    world = load_world(make_square("val_seen"), "val_seen")
    tokenizer = WordTokenizer(build_vocabulary((e.instruction for e in world.episodes), 1))
    return load_splits({"square": world}, tokenizer, agent_toy.CPU)["square"]


@pytest.fixture(scope="module")
def few(small_split: Split) -> Split:
    """A few real instructions."""
    return agent_toy.first_episodes(small_split.world, 4)


def brute_force(follower: Follower, eyes: Eyes, split: Split, episode: int, max_steps: int) -> Ranked:
    """Every route of an episode: follow every action of every prefix, one prefix at a time."""
    follower.eval()
    found: Ranked = []
    decoder = follower.fold()

    def visit(state: NavState, recurrent: Recurrent, log_prob: float, path: tuple[int, ...]) -> None:
        if len(path) - 1 == max_steps:
            found.append((log_prob, path))
            return
        logits, _, after = decoder.step(recurrent, eyes(dynamics.observe(split.tables, state)))
        log_probs = logits.log_softmax(1)[0]
        count = int(split.tables.count[path[-1]])
        found.append((log_prob + float(log_probs[count]), path))
        for action in range(count):
            moved, _, _, _ = dynamics.move(split.tables, state, torch.tensor([action]), 99)
            visit(moved, after, log_prob + float(log_probs[action]), (*path, int(moved.viewpoint)))

    with torch.no_grad():
        index = torch.tensor([episode])
        state = dynamics.begin(split.tables, 0 * index, 0 * index, index)
        visit(state, follower.read(split.ids[index], split.lengths[index]), 0.0, (int(state.viewpoint),))
    return sorted(found, reverse=True)


def ranked(candidates: Candidates, episode: int) -> Ranked:
    (rows,) = np.nonzero(candidates.episode == episode)
    return [(float(candidates.log_prob[c]), tuple(candidates.path(c))) for c in rows.tolist()]


def assert_same(found: Ranked, expected: Ranked) -> None:
    """The same routes in the same order, which is that of falling log-probabilities, none twice."""
    assert [path for _, path in found] == [path for _, path in expected]
    np.testing.assert_allclose([p for p, _ in found], [p for p, _ in expected], rtol=1e-5, atol=1e-5)
    assert len({path for _, path in found}) == len(found)
    assert [p for p, _ in found] == sorted((p for p, _ in found), reverse=True)


@pytest.mark.parametrize("max_steps", [1, 4])
@pytest.mark.parametrize("method", EXACT)
def test_all_routes_of_a_small_graph(square: Split, method: Method, max_steps: int):
    """k beyond the number of routes: all of them, 2^0 + ... + 2^(n - 1) that stop and 2^n that are cut."""
    follower = agent_toy.tiny_follower(square)
    candidates = find_candidates(Ensemble([follower]), Eyes(), square, RouteSearch(method, ALL), max_steps)
    assert candidates.counts().tolist() == [2 ** (max_steps + 1) - 1] * 3
    assert candidates.cut == 0
    for episode in range(3):
        expected = brute_force(follower, Eyes(), square, episode, max_steps)
        assert sum(math.exp(p) for p, _ in expected) == pytest.approx(1.0, abs=1e-5)
        assert_same(ranked(candidates, episode), expected)


@pytest.mark.parametrize("feature", [0, 5])
@pytest.mark.parametrize("method", EXACT)
def test_all_routes_in_real_buildings(few: Split, method: Method, feature: int):
    follower = agent_toy.tiny_follower(few, feature, dropout=0.4)
    eyes = agent_toy.random_eyes(few.world, feature) if feature else Eyes()
    candidates = find_candidates(Ensemble([follower]), eyes, few, RouteSearch(method, ALL), 2, batch=3)
    for episode in range(4):
        assert_same(ranked(candidates, episode), brute_force(follower, eyes, few, episode, 2))


@pytest.mark.parametrize("k", [1, 3, 8])
def test_best_first_finds_the_k_likeliest(few: Split, k: int):
    follower = agent_toy.tiny_follower(few)
    candidates = find_candidates(Ensemble([follower]), Eyes(), few, RouteSearch("best-first", k), 3)
    assert candidates.counts().tolist() == [k] * 4
    for episode in range(4):
        assert_same(ranked(candidates, episode), brute_force(follower, Eyes(), few, episode, 3)[:k])


def test_a_narrow_beam_may_miss_what_best_first_finds(few: Split):
    """Both give the true log-probabilities of their routes; the beam's k-th is at most as likely as the exact k-th."""
    follower = agent_toy.tiny_follower(few, seed=3)
    narrow, exact = (find_candidates(Ensemble([follower]), Eyes(), few, RouteSearch(m, 3), 4) for m in EXACT)
    assert narrow.counts().tolist() == exact.counts().tolist() == [3] * 4
    assert (narrow.log_prob <= exact.log_prob + 1e-5).all()
    assert (narrow.log_prob < exact.log_prob - 1e-3).any()


def state_factored(follower: Follower, eyes: Eyes, split: Split, episode: int, max_steps: int) -> Ranked:
    """Dijkstra's search over states (viewpoint, action), after R2R-EnvDrop, one state at a time in plain Python."""
    decoder, found = follower.eval().fold(), list[tuple[float, tuple[int, ...]]]()
    index = torch.tensor([episode])
    start = dynamics.begin(split.tables, 0 * index, 0 * index, index)
    memory = follower.read(split.ids[index], split.lengths[index])
    best: dict[tuple[int, int], tuple[float, NavState, Recurrent, tuple[int, ...]]] = {
        (-1, -1): (0.0, start, memory, (int(start.viewpoint),))
    }
    taken: set[tuple[int, int]] = set()
    while waiting := [key for key in best if key not in taken]:
        key = max(waiting, key=lambda key: best[key][0])
        taken.add(key)
        log_prob, state, recurrent, path = best[key]
        if bool(state.ended) or len(path) - 1 == max_steps:
            found.append((log_prob, path))
            continue
        logits, _, after = decoder.step(recurrent, eyes(dynamics.observe(split.tables, state)))
        for action in range(int(split.tables.count[path[-1]]) + 1):
            joint = log_prob + float(logits.log_softmax(1)[0, action])
            moved, _, stopped, _ = dynamics.move(split.tables, state, torch.tensor([action]), 99)
            if (path[-1], action) not in best or joint > best[path[-1], action][0]:
                longer = path if bool(stopped) else (*path, int(moved.viewpoint))
                best[path[-1], action] = (joint, moved, after, longer)
    return found


@pytest.mark.parametrize("k", [1, 4, ALL])
def test_dijkstra_keeps_one_route_per_state(few: Split, k: int):
    follower = agent_toy.tiny_follower(few, seed=1)
    candidates = find_candidates(Ensemble([follower]), Eyes(), few, RouteSearch("dijkstra", k), 3)
    for episode in range(4):
        with torch.no_grad():
            expected = state_factored(follower, Eyes(), few, episode, 3)
        assert_same(ranked(candidates, episode), expected[:k])
        every = {path: p for p, path in brute_force(follower, Eyes(), few, episode, 3)}
        for log_prob, path in ranked(candidates, episode):
            assert log_prob == pytest.approx(every[path], abs=1e-5)


def test_dijkstra_reaches_every_viewpoint_of_a_small_graph(square: Split):
    """One stop at each of the four viewpoints, none at the one that is excluded."""
    search = RouteSearch("dijkstra", ALL)
    candidates = find_candidates(Ensemble([agent_toy.tiny_follower(square)]), Eyes(), square, search, 35)
    for episode in range(3):
        ends = [path[-1] for _, path in ranked(candidates, episode)]
        assert sorted(ends) == sorted(square.world.row("square", v) for v in "abcd")


@pytest.mark.parametrize("method", METHODS)
def test_batches_change_nothing(small_split: Split, method: Method):
    follower, told = agent_toy.tiny_follower(small_split, dropout=0.5).train(), list[int]()
    ensemble, search = Ensemble([follower]).train(), RouteSearch(method, 5)
    one = find_candidates(ensemble, Eyes(), small_split, search, 6, batch=48, done=told.append)
    other = find_candidates(ensemble, Eyes(), small_split, search, 6, batch=7, done=told.append)
    assert follower.training
    assert sum(told) == 2 * 48
    assert one.visited == other.visited
    for name in ("episode", "viewpoints", "actions"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert [one.path(c) for c in range(len(one))] == [other.path(c) for c in range(len(other))]
    np.testing.assert_allclose(one.log_prob, other.log_prob, atol=1e-5)


@pytest.mark.parametrize("method", EXACT)
def test_one_candidate_of_a_beam_of_one_is_the_greedy_route(small_split: Split, method: Method):
    follower = agent_toy.tiny_follower(small_split)
    ensemble = Ensemble([follower])
    greedy = follow(follower, Eyes(), small_split, 8)
    candidates = find_candidates(ensemble, Eyes(), small_split, RouteSearch(method, 1), 8)
    found = candidates.predictions(candidates.best(candidates.log_prob), small_split.world)
    assert candidates.actions.tolist() == [min(len(route), 8) for route in found.values()]
    assert len(set(candidates.actions.tolist())) > 2
    if method == "beam":
        assert found == greedy
    else:
        differ = [i for i in greedy if found[i] != greedy[i]]
        assert 0 < len(differ) < 48  # the likeliest route does not begin with the likeliest action everywhere
    errors = candidates.error_m(small_split.world)
    _, per_item = score(found, small_split.world)
    assert errors.tolist() == pytest.approx([item["nav_error"] for item in per_item.values()])


def test_the_walk_of_a_search(square: Split):
    """Every decision that was asked for, in order: here those of the five prefixes of at most one move."""
    follower = agent_toy.tiny_follower(square)
    for method in METHODS:
        candidates = find_candidates(Ensemble([follower]), Eyes(), square, RouteSearch(method, ALL), 2)
        start = square.world.row("square", "a")
        assert candidates.visited[0][0] == start
        neighbours = {square.world.row("square", v) for v in "bd"}
        assert set(candidates.visited[0][1:]) == neighbours
        assert len(candidates.visited[0]) == 3


def test_a_search_that_gives_up_says_so(few: Split):
    """Three prefixes: the start and two more; their stops are candidates, and all that the search can promise."""
    ensemble = Ensemble([agent_toy.tiny_follower(few)])
    candidates = find_candidates(ensemble, Eyes(), few, RouteSearch("best-first", ALL, max_expansions=3), 35)
    assert candidates.cut == 4
    assert candidates.counts().tolist() == [3] * 4
    for episode in range(4):
        found = ranked(candidates, episode)
        assert [p for p, _ in found] == sorted((p for p, _ in found), reverse=True)
        assert {path[-1] for _, path in found} == set(candidates.visited[episode])


@pytest.mark.parametrize(("field", "value"), [("k", 0), ("k", -3), ("max_expansions", 0)])
def test_numbers_that_cannot_be(field: str, value: int):
    with pytest.raises(ValueError, match=rf"{field} is {value}: expected 1 or more"):
        RouteSearch("beam", **{field: value})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_a_device_finds_the_routes_of_the_cpu(small_split: Split, method: Method):
    ensemble, search = Ensemble([agent_toy.tiny_follower(small_split)]), RouteSearch(method, 5)
    here = find_candidates(ensemble, Eyes(), small_split, search, 6)
    there = find_candidates(ensemble.cuda(), Eyes().cuda(), agent_toy.to_device(small_split, "cuda"), search, 6)
    assert [here.path(c) for c in range(len(here))] == [there.path(c) for c in range(len(there))]
    np.testing.assert_allclose(here.log_prob, there.log_prob, atol=1e-3)

"""What the follower makes of the layout around it."""

from __future__ import annotations

import math

import agent_toy
import numpy as np
import pytest
import torch
from torch import Tensor

from agent import train
from agent.config import FollowerConfig
from agent.data import Split, load_eyes
from agent.follower import Follower
from agent.layout import MEAN_EDGE_M, FoldedLayout, Layout, turn
from agent.objectives import FollowerObjective
from agent.rollout import Choice, rollout
from agent.sight import Eyes, angle_numbers
from envs import dynamics

EPISODES = torch.arange(12)


def heading(degrees: float) -> Tensor:
    return angle_numbers(torch.tensor([math.radians(degrees)]), torch.zeros(1))


@pytest.fixture
def eyes(small_split: Split) -> Eyes:
    return load_eyes("none", small_split.world, agent_toy.CPU)[0]


def make_follower(split: Split) -> Follower:
    return agent_toy.tiny_follower(split, layout=8)


@pytest.mark.parametrize(("before", "now", "degrees"), [(30, 120, 90), (350, 20, 30), (90, 30, -60)])
def test_turn(before: float, now: float, degrees: float) -> None:
    expected = torch.tensor([[math.sin(math.radians(degrees)), math.cos(math.radians(degrees))]])
    torch.testing.assert_close(turn(heading(before), heading(now)), expected, atol=1e-6, rtol=0)


def test_no_turn_at_the_start() -> None:
    assert turn(torch.zeros(1, 4), heading(77)).tolist() == [[0.0, 0.0]]


def test_eyes_know_the_lengths_of_the_edges(small_split: Split, eyes: Eyes) -> None:
    zeros = torch.zeros_like(EPISODES)
    state = dynamics.begin(small_split.tables, zeros, zeros, EPISODES)
    seen = eyes(dynamics.observe(small_split.tables, state)).length_m
    assert seen is not None
    world = small_split.world
    for row, viewpoint in enumerate(state.viewpoint.tolist()):
        count = world.candidates.count[viewpoint]
        scan = world.candidates.viewpoints[viewpoint][0]
        first = world.candidates.offset[scan]
        there = world.candidates.neighbour[viewpoint, :count] - first
        expected = world.geodesics[scan].distance_m[viewpoint - first, there]
        np.testing.assert_allclose(seen[row, :count], expected, rtol=1e-5)


def test_vectors_of_a_place() -> None:
    """Against the same written candidate by candidate; slots beyond the stop change nothing."""
    torch.manual_seed(0)
    layout = Layout(5, 7)
    angles, length_m = torch.randn(1, 4, 4), torch.tensor([[2.27, 4.54, 99.0]])
    mask = torch.tensor([[True, True, True, False]])  # two candidates and the stop
    angles[0, 2:] = 0
    back = torch.tensor([[False, True, True]])  # what stands in an empty slot does not count
    places = FoldedLayout(layout, static=False).look(angles, length_m, mask, back)
    candidates = [[*angles[0, 0].tolist(), 1.0, 0.0, 0.0], [*angles[0, 1].tolist(), 4.54 / MEAN_EDGE_M, 0.0, 1.0]]
    own = torch.relu(layout.candidate(torch.tensor([*candidates, [0.0] * 5 + [1.0, 0.0]])))
    most = own.max(0).values.expand(3, -1)
    torch.testing.assert_close(places.vectors[0, :3], torch.tanh(layout.among(torch.cat([own, most], 1))))
    torch.testing.assert_close(places.behind()[0], places.vectors[0, 1])
    query = torch.randn(1, 5)
    weights = (places.vectors[0, :3] @ query[0]).softmax(0)
    torch.testing.assert_close(places.seen(query)[0], weights @ places.vectors[0, :3])


@pytest.mark.parametrize("feature", [0, 6])
def test_static_and_deferred_are_equal(small_split: Split, eyes: Eyes, feature: int) -> None:
    """Losses and gradients of the two forms of the decoder (clip_core/deferred.py)."""
    follower = agent_toy.tiny_follower(small_split, feature, layout=8)
    if feature:
        seeing = agent_toy.random_eyes(small_split.world, feature)
        eyes = Eyes(seeing.table, seeing.store_row, eyes.edge_m)
    found = []
    for static in (False, True):
        follower.static = static
        recurrent = follower.read(small_split.ids[EPISODES], small_split.lengths[EPISODES])
        forced = Choice(torch.ones(len(EPISODES), dtype=torch.bool))
        walk = rollout(follower, eyes, small_split.tables, EPISODES, recurrent, forced, 8)
        own = walk.logits[walk.active].masked_fill(walk.logits[walk.active] == -torch.inf, 0)
        order = torch.argsort(walk.row[walk.active] * 100 + walk.step[walk.active])
        found.append((own[order], agent_toy.gradients(follower, (own[order] ** 2).sum())))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-4, atol=1e-4)
    scale = {name: g.abs().max().clamp(min=1) for name, g in found[0][1].items()}
    first, second = ({name: g / scale[name] for name, g in gradients.items()} for _, gradients in found)
    agent_toy.assert_close(second, first)
    assert first["decoder.layout.among.weight"].abs().max() > 0


def test_lengths_turns_and_the_way_back_count(small_split: Split, eyes: Eyes) -> None:
    follower = make_follower(small_split).eval()
    zeros = torch.zeros_like(EPISODES)
    sight = eyes(dynamics.observe(small_split.tables, dynamics.begin(small_split.tables, zeros, zeros, EPISODES)))
    assert sight.length_m is not None
    with torch.no_grad():
        start = follower.read(small_split.ids[EPISODES], small_split.lengths[EPISODES])
        one = follower.fold().step(start, sight)[0]
        far = follower.fold().step(start, sight._replace(length_m=3 * sight.length_m))[0]
        turned = follower.fold().step(start._replace(heading=heading(200).expand(len(EPISODES), 4)), sight)[0]
        came = start._replace(viewpoint=small_split.tables.neighbour[sight.viewpoint, 0].long())
        returned = follower.fold().step(came, sight)[0]
    used = sight.mask
    assert (one[used] - returned[used]).abs().max() > 1e-3
    assert (one[used] - far[used]).abs().max() > 1e-3
    assert (one[used] - turned[used]).abs().max() > 1e-3


def test_the_way_back_is_less_likely_once_the_follower_is_used(small_split: Split, eyes: Eyes) -> None:
    follower = make_follower(small_split)
    zeros = torch.zeros_like(EPISODES)
    sight = eyes(dynamics.observe(small_split.tables, dynamics.begin(small_split.tables, zeros, zeros, EPISODES)))
    came_from = small_split.tables.neighbour[sight.viewpoint, 0].long()

    def logits() -> Tensor:
        start = follower.read(small_split.ids[EPISODES], small_split.lengths[EPISODES])
        return follower.fold().step(start._replace(viewpoint=came_from), sight)[0]

    with torch.no_grad():
        follower.train()
        learning = logits()
        follower.eval()
        used = logits()
        follower.way_back_penalty = 0.7
        penalised = logits()
        follower.train()
        assert logits().equal(learning)
    torch.testing.assert_close(penalised[:, 0], used[:, 0] - 0.7)
    assert penalised[:, 1:].equal(used[:, 1:])


def test_mixed_feedback_forces_half(small_split: Split, eyes: Eyes) -> None:
    config = train.parse(["--recipe", "layout", "--data", "x", "--batch", "9"]).follower
    objective = FollowerObjective(make_follower(small_split), eyes, small_split, {}, config, 0)
    batch = next(objective.batches(0))
    assert batch.forced.tolist() == [True] * 5 + [False] * 4
    assert objective(batch)["weight"] == 9


def test_recipe_is_a_preset_that_flags_overlay() -> None:
    ours = train.parse(["--recipe", "layout", "--data", "x", "--lr", "0.001"])
    assert (ours.follower.layout, ours.follower.feedback, ours.follower.max_steps, ours.follower.lr) == (
        64,
        "mixed",
        15,
        0.001,
    )
    assert train.parse([]).follower.layout == 64
    assert train.parse(["--recipe", "envdrop"]).follower.layout == 0
    assert ours.follower.way_back_penalty == 0.5
    with pytest.raises(ValueError, match="a follower without a layout, which does not know the way back; expected"):
        FollowerConfig(way_back_penalty=0.5)
    with pytest.raises(ValueError, match=r"way_back_penalty is -1\.0: expected 0 or more"):
        FollowerConfig(layout=4, way_back_penalty=-1.0)
    assert train.parse(["--data", "x"]).follower.layout == 0
    assert train.parse(["--recipe", "layout", "--env", "r4r", "--data", "x"]).follower.max_steps == 35

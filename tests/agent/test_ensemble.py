"""Followers that decide together: the mean of their probabilities, and who may not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import agent_toy
import pytest
import torch

from agent.config import FollowerConfig
from agent.data import Split
from agent.ensemble import Ensemble, check_alike
from agent.evaluation import follow
from agent.loading import TrainedFollower
from agent.rollout import Choice, rollout
from agent.search import RouteSearch, find_candidates
from agent.sight import Eyes
from clip_core.tokenizer import WordTokenizer, build_vocabulary
from envs import dynamics


def test_probabilities_are_averaged_at_every_step(small_split: Split):
    """Members of different sizes along one route, each with a memory of its own."""
    followers = [agent_toy.tiny_follower(small_split, seed=s, hidden=h).eval() for s, h in ((0, 16), (1, 24), (2, 16))]
    ensemble, index = Ensemble(followers).eval(), torch.arange(5)
    state = dynamics.begin(small_split.tables, 0 * index, 0 * index, index)
    joint = ensemble.read(small_split.ids[:5], small_split.lengths[:5])
    own = [follower.read(small_split.ids[:5], small_split.lengths[:5]) for follower in followers]
    with torch.no_grad():
        for _ in range(3):
            sight = Eyes()(dynamics.observe(small_split.tables, state))
            logits, hidden, joint = ensemble.fold().step(joint, sight)
            steps = [follower.fold().step(memory, sight) for follower, memory in zip(followers, own, strict=True)]
            own = [after for _, _, after in steps]
            expected = torch.stack([scores.softmax(1) for scores, _, _ in steps]).mean(0)
            torch.testing.assert_close(logits.exp(), expected, rtol=1e-5, atol=1e-6)
            assert torch.equal(logits == -torch.inf, ~sight.mask)
            assert hidden.shape == (5, 16 + 24 + 16)
            state, _, _, _ = dynamics.move(small_split.tables, state, 0 * index, 99)


def test_one_follower_is_an_ensemble_of_one(small_split: Split):
    follower = agent_toy.tiny_follower(small_split)
    assert follow(Ensemble([follower]), Eyes(), small_split, 8) == follow(follower, Eyes(), small_split, 8)


def test_twins_decide_as_one_and_others_do_not(small_split: Split):
    one, other = (agent_toy.tiny_follower(small_split, seed=seed) for seed in (0, 1))
    search = RouteSearch("best-first", 3)

    def found(*followers: torch.nn.Module) -> list[list[int]]:
        candidates = find_candidates(Ensemble(followers), Eyes(), small_split, search, 6)
        return [candidates.path(c) for c in range(len(candidates))]

    assert found(one, one) == found(one)
    assert found(one, other) != found(one) != found(other)


def test_an_ensemble_walks_as_a_follower_does(small_split: Split):
    """In a rollout that makes its batch smaller, with all that a trajectory records."""
    ensemble = Ensemble([agent_toy.tiny_follower(small_split, seed=seed) for seed in (0, 1)]).eval()
    episodes = torch.arange(48)
    with torch.no_grad():
        start = ensemble.read(small_split.ids, small_split.lengths)
        choice = Choice(torch.zeros(48, dtype=torch.bool), greedy=True)
        trajectory = rollout(ensemble, Eyes(), small_split.tables, episodes, start, choice, 6, keep_open=True)
    assert torch.equal(trajectory.action, trajectory.logits.argmax(1))
    assert trajectory.hidden.shape[1] == 2 * 16
    assert len(trajectory.action) < 48 * trajectory.steps


def words(text: str) -> WordTokenizer:
    return WordTokenizer(build_vocabulary([text], 1))


def trained(split: Split) -> TrainedFollower:
    follower = agent_toy.tiny_follower(split)
    return TrainedFollower("follower", "r2r", follower, words("up up down"), FollowerConfig(), None, frozenset())


def test_unlike_followers_are_refused(small_split: Split):
    one = trained(small_split)
    names = [Path("runs/one"), Path("runs/other")]
    check_alike([one, replace(one, config=FollowerConfig(hidden=64, angle=4, lr=1.0), scans=frozenset("x"))], names)
    clip = {"model": "ViT-B-32", "pretrained": "openai"}
    more = words("up up down left")
    unlike = {
        "data sets differ: rxr and r2r": replace(one, env="rxr"),
        r"vocabularies differ: \d+ words \(1 not in both\) and \d+ words": replace(one, tokenizer=more),
        r"features differ: model ViT-B-32, pretrained openai and none \(blind\)": replace(one, origin=clip),
        "--candidate-order.* differ: graph and sweep": replace(one, config=FollowerConfig(candidate_order="graph")),
        "--elevation-base.* differ: view and horizon": replace(one, config=FollowerConfig(elevation_base="view")),
        "--max-words.* differ: 40 and 80": replace(one, config=FollowerConfig(max_words=40)),
        "--max-steps.* differ: 20 and 35": replace(one, config=FollowerConfig(max_steps=20)),
    }
    for message, other in unlike.items():
        with pytest.raises(ValueError, match=message) as caught:
            check_alike([one, one, other], [*names[:1], *names])
        assert str(caught.value).startswith("runs/other and runs/one cannot decide together")
    with pytest.raises(ValueError, match=r"vocabularies differ: \d+ words \(0 not in both\)"):
        check_alike([one, replace(one, tokenizer=words("down down up"))], names)

"""What the speaker thinks of candidates, against its plain forward pass; the choice of its weight, by hand."""

from __future__ import annotations

import agent_toy
import numpy as np
import pytest
import torch

from agent.candidates import Candidates
from agent.data import Split
from agent.ensemble import Ensemble
from agent.pragmatics import WEIGHTS, choose_weight, hear, weigh
from agent.routes import trace_routes
from agent.search import RouteSearch, find_candidates
from agent.sight import Eyes
from agent.speaker import Speaker, SpeakerSizes
from clip_core.blocks import padding_mask
from clip_core.lstm_decoder import Context, LSTMTextDecoder
from envs.metrics import SUCCESS_RADIUS_M

SIZES = {"word": 8, "hidden": 16, "angle": 12}


def test_texts_judged_in_many_contexts_as_one_by_one():
    """`judge` against `forward` with every text written out for each of its contexts."""
    torch.manual_seed(0)
    decoder = LSTMTextDecoder(30, 8, 16, dropout=0.5).eval()
    lengths, text = torch.tensor([5, 9, 2]), torch.tensor([0, 0, 1, 2, 1, 1, 0])
    ids = torch.randint(1, 30, (3, 11))
    context = Context(torch.randn(7, 6, 16), padding_mask(torch.tensor([6, 3, 1, 4, 6, 2, 5]), 6))
    with torch.no_grad():
        found = decoder.judge(ids, lengths, context, text)
        expected = decoder(ids[text], lengths[text], context).log_prob(7)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert len(set(found.tolist())) == 7


@pytest.mark.parametrize("feature", [0, 5])
def test_every_candidate_is_heard(small_split: Split, feature: int):
    """Mean log-probability per word, the end among them, of each episode's instruction on each of its candidates."""
    torch.manual_seed(1)
    speaker = Speaker(SpeakerSizes(agent_toy.words_of(small_split), feature, **SIZES)).train()
    follower = agent_toy.tiny_follower(small_split, feature)
    eyes = agent_toy.random_eyes(small_split.world, feature) if feature else Eyes()
    candidates = find_candidates(Ensemble([follower]), eyes, small_split, RouteSearch("best-first", 4), 6)
    told: list[int] = []
    heard = hear(speaker, eyes, small_split, candidates, batch=30, done=told.append)
    assert sum(told) == 48
    assert speaker.training
    speaker.eval()
    for c in range(0, len(candidates), 17):
        e = int(candidates.episode[c])
        start_view = int(small_split.world.tables.start_view[e])
        route = trace_routes(small_split.world, [candidates.path(c)], [start_view], agent_toy.CPU)
        with torch.no_grad():
            context = speaker.read(eyes, small_split.tables, route)
            reading = speaker(context, small_split.ids[[e]], small_split.lengths[[e]])
        expected = float(reading.log_prob(1)) / (int(small_split.lengths[e]) - 1)
        assert heard[c] == pytest.approx(expected, abs=1e-5)
    assert len(set(heard.round(9).tolist())) > len(heard) // 2


def test_a_word_for_each_side():
    """Two episodes; the follower likes the first candidate of each, the speaker the second; actions divide."""
    none = np.zeros((4, 1), np.int64)
    candidates = Candidates(
        episode=np.array([0, 0, 1, 1]),
        viewpoint=none,
        view=none,
        viewpoints=none[:, 0] + 1,
        actions=np.array([2, 4, 1, 3]),
        log_prob=np.array([-2.0, -4.4, -1.0, -6.0]),
        visited=[[0], [0]],
        cut=0,
    )
    heard = np.array([-3.0, -2.0, -3.0, -2.5])
    assert weigh(candidates, None, 0.7).tolist() == candidates.log_prob.tolist()
    np.testing.assert_allclose(weigh(candidates, heard, 0.0), [-1.0, -1.1, -1.0, -2.0])
    np.testing.assert_allclose(weigh(candidates, heard, 0.5), [-2.0, -1.55, -2.0, -2.25])
    assert weigh(candidates, heard, 1.0).tolist() == heard.tolist()
    chosen = [candidates.best(weigh(candidates, heard, w)).tolist() for w in (0.0, 0.5, 1.0)]
    assert chosen == [[0, 2], [1, 2], [1, 3]]


def test_the_likelier_of_equals():
    none = np.zeros((3, 1), np.int64)
    ranks = np.array([-1.0, -2.0, -3.0])
    candidates = Candidates(none[:, 0], none, none, none[:, 0], none[:, 0] + 1, ranks, [[0]], 0)
    assert candidates.best(np.array([0.0, 5.0, 5.0])).tolist() == [1]


def test_the_weight_with_the_most_successes(small_split: Split):
    """A speaker that knows the way: success rises with its weight, and the smallest weight with the most is chosen."""
    follower = agent_toy.tiny_follower(small_split)
    candidates = find_candidates(Ensemble([follower]), Eyes(), small_split, RouteSearch("dijkstra", 30), 8)
    error_m = candidates.error_m(small_split.world)
    choice = choose_weight(candidates, -error_m, small_split.world, "small")
    assert choice.split == "small"
    assert len(choice.success) == len(WEIGHTS) == 101
    of_first = error_m[candidates.best(candidates.log_prob / candidates.actions)] < SUCCESS_RADIUS_M
    of_best = error_m[candidates.best(-error_m)] < SUCCESS_RADIUS_M
    assert choice.success[0] == of_first.mean()
    assert choice.success[-1] == of_best.mean() == choice.success.max() > choice.success[0]
    at = WEIGHTS.tolist().index(choice.weight)
    assert (choice.success[:at] < choice.success[at]).all()

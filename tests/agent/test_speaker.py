"""The speaker against its published sizes and against the same computation written plainly; the routes it reads."""

from __future__ import annotations

import agent_toy
import numpy as np
import pytest
import torch
from plain_speaker import plain_greedy, plain_loss, read, walk
from torch.nn import functional as F

from agent.data import Split
from agent.routes import episode_routes, see_routes, trace_routes
from agent.sight import Eyes
from agent.speaker import Speaker, SpeakerSizes
from clip_core.decoder import Search, Symbols
from envs.navigation import NavEnv

FEATURE = 6
CPU = agent_toy.CPU
SYMBOLS = Symbols(begin=3, end=2, padding=0, never=(0, 1, 3))


def tiny_speaker(split: Split, feature: int = 0, dropout: float = 0.0, **sizes: int) -> Speaker:
    torch.manual_seed(0)
    given = {"word": 8, "hidden": 16, "angle": 128} | sizes
    made = SpeakerSizes(agent_toy.words_of(split), feature, **given, dropout=dropout, feature_dropout=dropout)
    speaker = Speaker(made)
    with torch.no_grad():
        for parameter in speaker.parameters():
            parameter.mul_(3.0)
    return speaker


def parts(split: Split, feature: int) -> tuple[Eyes, NavEnv]:
    """Eyes, and a scalar environment that shows the same; blind ones see features of size 0."""
    eyes = agent_toy.random_eyes(split.world, feature) if feature else Eyes()
    rows = len(split.world.candidates.viewpoints)
    table = np.zeros((rows, 36, 0), np.float32) if eyes.table is None else eyes.table.float().numpy()
    return eyes, NavEnv(world=split.world, features=table)


@pytest.mark.parametrize("feature", [0, FEATURE])
def test_loss_and_gradients_equal_the_plain_speaker(small_split: Split, feature: int):
    speaker, (eyes, env) = tiny_speaker(small_split, feature), parts(small_split, feature)
    episodes = torch.arange(0, 30, 3)
    ids, lengths = small_split.ids[episodes], small_split.lengths[episodes].clamp(max=12)
    routes = episode_routes(small_split.world, CPU)
    reading = speaker(speaker.read(eyes, small_split.tables, routes.rows(episodes)), ids, lengths)
    fast = F.cross_entropy(reading.logits, reading.target)
    slow = plain_loss(speaker, env, episodes.tolist(), ids, lengths)
    assert fast.item() == pytest.approx(slow.item(), rel=1e-5)
    assert len(reading.target) == int((lengths - 1).sum())
    expected = agent_toy.gradients(speaker, slow)
    found = agent_toy.gradients(speaker, fast)
    assert [name for name, g in expected.items() if not g.any()] == []
    scale = max(float(g.abs().max()) for g in expected.values())
    for name, g in expected.items():
        torch.testing.assert_close(found[name], g, rtol=1e-4, atol=1e-5 * scale, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("feature", [0, FEATURE])
def test_written_words_and_their_log_probabilities(small_split: Split, feature: int):
    """Greedy as the plain speaker's; what generation says of its words is what teacher forcing says of them."""
    speaker, (eyes, env) = tiny_speaker(small_split, feature).eval(), parts(small_split, feature)
    episodes = torch.arange(0, 48, 4)
    context = speaker.read(eyes, small_split.tables, episode_routes(small_split.world, CPU).rows(episodes))
    written = speaker.write(context, SYMBOLS, 13, Search())
    for ids, length, episode in zip(written.ids.tolist(), written.lengths.tolist(), episodes.tolist(), strict=True):
        plain = plain_greedy(speaker, env, episode, SYMBOLS.begin, SYMBOLS.end, SYMBOLS.never)
        assert ids[: length - 1] == plain[: length - 1]
    free = Symbols(begin=3, end=2, padding=0)
    for search in (Search("sample"), Search("beam", beam_width=3)):
        torch.manual_seed(0)
        found = speaker.write(context, free, 20, search)
        reading = speaker(context, found.ids, found.lengths)
        torch.testing.assert_close(reading.log_prob(len(episodes)), found.total, rtol=1e-4, atol=1e-4)


def test_sizes_are_those_published_for_envdrop():
    """992 words of R2R train, ResNet-152 features of 2048 numbers, every default of the released code."""
    shapes = {name: tuple(p.shape) for name, p in Speaker(SpeakerSizes(992, 2048)).named_parameters()}

    def lstm(name: str, size: int, hidden: int, sides: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
        return {
            f"{name}.{kind}_{part}_l0{side}": (4 * hidden, size if part == "ih" else hidden)[
                : 2 if kind == "weight" else 1
            ]
            for kind in ("weight", "bias")
            for part in ("ih", "hh")
            for side in sides
        }

    assert shapes == {
        **lstm("encoder.lstm", 2048 + 128, 256, ("", "_reverse")),
        "encoder.view_attention.linear_in.weight": (2048 + 128, 512),
        "encoder.view_attention.linear_out.weight": (512, 512 + 2048 + 128),
        **lstm("encoder.post_lstm", 512, 256, ("", "_reverse")),
        "decoder.embedding.weight": (992, 256),
        **lstm("decoder.lstm", 256, 512, ("",)),
        "decoder.attention.linear_in.weight": (512, 512),
        "decoder.attention.linear_out.weight": (512, 1024),
        "decoder.projection.weight": (992, 512),
        "decoder.projection.bias": (992,),
    }


def test_a_route_is_read_alike_in_any_company(small_split: Split):
    speaker = tiny_speaker(small_split, FEATURE).eval()
    eyes, env = parts(small_split, FEATURE)
    routes = episode_routes(small_split.world, CPU)
    assert len(set(routes.lengths.tolist())) > 1
    together = speaker.read(eyes, small_split.tables, routes)
    for i in (0, 7, 20):
        length = int(routes.lengths[i])
        alone = speaker.read(eyes, small_split.tables, routes.rows(torch.tensor([i])))
        torch.testing.assert_close(alone.vectors[0], together.vectors[i, :length])
        torch.testing.assert_close(alone.vectors[0], read(speaker, *walk(env, i)), rtol=1e-4, atol=1e-5)
        assert together.padding[i].tolist() == [t >= length for t in range(together.padding.shape[1])]


def test_dropout_touches_features_and_states_but_no_angle(small_split: Split):
    blind, eyes = tiny_speaker(small_split, dropout=0.0).train(), Eyes()
    routes = episode_routes(small_split.world, CPU)
    assert torch.equal(*(blind.read(eyes, small_split.tables, routes).vectors for _ in range(2)))
    blind.encoder.drop_feature = type(blind.encoder.drop_feature)(0.5)
    assert torch.equal(*(blind.read(eyes, small_split.tables, routes).vectors for _ in range(2)))
    seeing = tiny_speaker(small_split, FEATURE).train()
    seeing.encoder.drop_feature = type(seeing.encoder.drop_feature)(0.5)
    eyes = agent_toy.random_eyes(small_split.world, FEATURE)
    assert not torch.equal(*(seeing.read(eyes, small_split.tables, routes).vectors for _ in range(2)))
    seeing.eval()
    assert torch.equal(*(seeing.read(eyes, small_split.tables, routes).vectors for _ in range(2)))


def test_routes_hold_what_a_walker_meets(small_split: Split):
    """Against the scalar environment: rows, views faced, edges taken."""
    routes, env = episode_routes(small_split.world, CPU), NavEnv(world=small_split.world)
    for i, episode in enumerate(small_split.world.episodes):
        observation, _ = env.reset(options={"episode": i})
        assert routes.lengths[i] == len(episode.path)
        for t, viewpoint in enumerate(episode.path):
            assert routes.viewpoint[i, t] == observation["viewpoint"] == small_split.world.row(episode.scan, viewpoint)
            assert routes.view[i, t] == observation["view"]
            observation, _, ended, _, _ = env.step(int(routes.slot[i, t]))
            assert ended == (t == len(episode.path) - 1)


def test_a_viewpoint_repeated_in_a_row_counts_once(small_split: Split):
    world, episode = small_split.world, small_split.world.episodes[0]
    rows = [world.row(episode.scan, v) for v in episode.path]
    plain = trace_routes(world, [rows], [12], CPU)
    stuttering = trace_routes(world, [[row for row in rows for _ in range(2)]], [12], CPU)
    for name in ("viewpoint", "view", "slot", "lengths"):
        assert torch.equal(getattr(plain, name), getattr(stuttering, name))


def test_the_stop_has_no_feature(small_split: Split):
    routes = episode_routes(small_split.world, CPU)
    sight, pack = see_routes(agent_toy.random_eyes(small_split.world, FEATURE), small_split.tables, routes)
    is_last = pack.step == routes.lengths[pack.text] - 1
    assert sight.candidates is not None
    assert not sight.candidates[is_last].any()
    assert not sight.candidate_angles[is_last].any()
    assert sight.candidates[~is_last, 0].any(1).all()


def test_a_route_that_leaves_the_graph(small_split: Split):
    world = small_split.world
    episode = next(e for e in world.episodes if len(e.path) > 4)
    rows = [world.row(episode.scan, v) for v in episode.path]
    with pytest.raises(
        ValueError, match=f"step 1 of route 1 goes from {episode.path[1]}.*no such edge.*expected a route"
    ):
        trace_routes(world, [rows, [*rows[:2], rows[4]]], [12, 12], CPU)
    with pytest.raises(ValueError, match="expected the start at least"):
        trace_routes(world, [rows, []], [12, 12], CPU)

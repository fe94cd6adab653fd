"""The follower against its published sizes, and against the same computation written plainly."""

from __future__ import annotations

import agent_toy
import pytest
import torch
from torch import Tensor

from agent.data import Split
from agent.follower import Follower, FollowerSizes, Sight
from agent.sight import Eyes
from envs import dynamics

ANGLE, FEATURE = 128, 6


def plain_step(
    w: dict[str, Tensor], state: tuple[Tensor, Tensor], sight: Sight, context: Tensor, padding: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """R2R-EnvDrop's decoder on inputs with the angle numbers repeated, as its paper and its sizes describe it."""

    def tiled(angles: Tensor, visual: Tensor | None = None) -> Tensor:
        repeated = angles.repeat(*[1] * (angles.ndim - 1), ANGLE // 4)
        return repeated if visual is None else torch.cat([visual, repeated], -1)

    def attend(query: Tensor, memory: Tensor, hidden_from: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logits = (memory * query[:, None]).sum(2)
        if hidden_from is not None:
            logits = torch.where(hidden_from, -torch.inf, logits)
        return logits, (logits.softmax(1)[:, :, None] * memory).sum(1)

    tilde, cell = state
    action = torch.tanh(tiled(sight.heading) @ w["decoder.action.weight"].T + w["decoder.action.bias"])
    views = tiled(sight.view_angles, sight.views)
    _, seen = attend(tilde @ w["decoder.view_attention.linear_in.weight"].T, views)
    inputs = torch.cat([action, seen], 1)
    gates = inputs @ w["decoder.lstm.weight_ih"].T + w["decoder.lstm.bias_ih"]
    gates = gates + tilde @ w["decoder.lstm.weight_hh"].T + w["decoder.lstm.bias_hh"]
    size = cell.shape[1]
    i, f, g, o = (gates[:, k * size : (k + 1) * size] for k in range(4))
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    hidden = o.sigmoid() * cell.tanh()
    _, read = attend(hidden @ w["decoder.text_attention.linear_in.weight"].T, context, padding)
    tilde = torch.tanh(torch.cat([read, hidden], 1) @ w["decoder.text_attention.linear_out.weight"].T)
    query = tilde @ w["decoder.candidate_attention.linear_in.weight"].T
    logits, _ = attend(query, tiled(sight.candidate_angles, sight.candidates))
    return logits, hidden, (tilde, cell)


def plain_read(w: dict[str, Tensor], ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The encoder, one text and one word at a time: context, padding, first tilde state, first cell."""
    size = w["encoder.lstm.weight_hh_l0"].shape[1]
    contexts, hiddens, cells = [], [], []
    for text, length in zip(ids, lengths.tolist(), strict=True):
        words = w["encoder.embedding.weight"][text[:length]]
        ends, outputs = [], []
        for suffix, order in (("l0", range(length)), ("l0_reverse", range(length - 1, -1, -1))):
            h, c = words.new_zeros(size), words.new_zeros(size)
            states: dict[int, Tensor] = {}
            for t in order:
                gates = w[f"encoder.lstm.weight_ih_{suffix}"] @ words[t] + w[f"encoder.lstm.bias_ih_{suffix}"]
                gates = gates + w[f"encoder.lstm.weight_hh_{suffix}"] @ h + w[f"encoder.lstm.bias_hh_{suffix}"]
                i, f, g, o = gates.chunk(4)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                states[t] = h
            outputs.append(torch.stack([states[t] for t in range(length)]))
            ends.append((h, c))
        contexts.append(torch.cat(outputs, 1))
        (forward_h, forward_c), (backward_h, backward_c) = ends
        hiddens.append(torch.cat([backward_h, forward_h]))
        cells.append(torch.cat([backward_c, forward_c]))
    context = torch.nn.utils.rnn.pad_sequence(contexts, batch_first=True)
    padding = torch.arange(context.shape[1])[None] >= lengths[:, None]
    start = torch.tanh(torch.stack(hiddens) @ w["encoder.to_decoder.weight"].T + w["encoder.to_decoder.bias"])
    return context, padding, start, torch.stack(cells)


def sights(split: Split, eyes: Eyes, episodes: Tensor) -> list[Sight]:
    """What is seen at the start and after the first candidate."""
    zeros = torch.zeros_like(episodes)
    state = dynamics.begin(split.tables, zeros, zeros, episodes)
    moved, *_ = dynamics.move(split.tables, state, zeros, 99)
    return [eyes(dynamics.observe(split.tables, s)) for s in (state, moved)]


@pytest.mark.parametrize("feature", [0, FEATURE])
def test_folded_steps_equal_the_tiled_computation(small_split: Split, feature: int):
    follower = agent_toy.tiny_follower(small_split, feature, angle=ANGLE)
    eyes = agent_toy.random_eyes(small_split.world, feature) if feature else Eyes()
    episodes = torch.arange(0, 30, 3)
    ids, lengths = small_split.ids[episodes], small_split.lengths[episodes]
    seen = sights(small_split, eyes, episodes)

    recurrent, decoder, total = follower.read(ids, lengths), follower.fold(), torch.zeros(())
    w = {name: p.detach().clone().requires_grad_() for name, p in follower.named_parameters()}
    context, padding, *plain_state = plain_read(w, ids, lengths)
    plain_total, state = torch.zeros(()), (plain_state[0], plain_state[1])
    torch.manual_seed(7)
    for sight in seen:
        logits, hidden, recurrent = decoder.step(recurrent, sight)
        plain_logits, plain_hidden, state = plain_step(w, state, sight, context, padding)
        assert torch.equal(torch.isfinite(logits), sight.mask)
        some = torch.where(sight.mask, logits, 0.0), hidden, recurrent.tilde, recurrent.cell
        plain = torch.where(sight.mask, plain_logits, 0.0), plain_hidden, *state
        for mine, theirs in zip(some, plain, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)
            weight = torch.randn_like(mine)
            total, plain_total = total + (mine * weight).sum(), plain_total + (theirs * weight).sum()
    found = agent_toy.gradients(follower, total)
    plain_total.backward()
    used = {name: p.grad for name, p in w.items() if p.grad is not None}
    assert {name for name in w if not name.startswith("critic.")} == used.keys()
    scale = max(float(g.abs().max()) for g in used.values())
    assert scale > 1
    for name, expected in used.items():
        torch.testing.assert_close(
            found[name], expected, rtol=1e-4, atol=1e-5 * scale, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_sizes_are_those_published_for_envdrop():
    """992 words of R2R train, ResNet-152 features of 2048 numbers, every default of the released code."""
    shapes = {name: tuple(p.shape) for name, p in Follower(FollowerSizes(992, 2048)).named_parameters()}
    lstm = {
        f"encoder.lstm.{kind}_{part}_l0{side}": (4 * 256, 256) if kind == "weight" else (4 * 256,)
        for kind in ("weight", "bias")
        for part in ("ih", "hh")
        for side in ("", "_reverse")
    }
    size = 2048 + 128
    assert shapes == lstm | {
        "encoder.embedding.weight": (992, 256),
        "encoder.to_decoder.weight": (512, 512),
        "encoder.to_decoder.bias": (512,),
        "decoder.action.weight": (64, 128),
        "decoder.action.bias": (64,),
        "decoder.lstm.weight_ih": (4 * 512, 64 + size),
        "decoder.lstm.weight_hh": (4 * 512, 512),
        "decoder.lstm.bias_ih": (4 * 512,),
        "decoder.lstm.bias_hh": (4 * 512,),
        "decoder.view_attention.linear_in.weight": (size, 512),
        "decoder.text_attention.linear_in.weight": (512, 512),
        "decoder.text_attention.linear_out.weight": (512, 1024),
        "decoder.candidate_attention.linear_in.weight": (size, 512),
        "critic.0.weight": (512, 512),
        "critic.0.bias": (512,),
        "critic.3.weight": (1, 512),
        "critic.3.bias": (1,),
    }


def test_feature_dropout_touches_visual_features_alone(small_split: Split):
    follower = agent_toy.tiny_follower(small_split, FEATURE)
    follower.drop_feature = type(follower.drop_feature)(0.5)
    follower.train()
    episodes = torch.arange(20)
    recurrent = follower.read(small_split.ids[episodes], small_split.lengths[episodes])
    sight = sights(small_split, agent_toy.random_eyes(small_split.world, FEATURE), episodes)[0]
    dark = sight._replace(views=torch.zeros_like(sight.views), candidates=torch.zeros_like(sight.candidates))

    def logits(seen: Sight) -> Tensor:
        return follower.fold().step(recurrent, seen)[0]

    assert torch.equal(logits(dark), logits(dark))
    assert not torch.equal(logits(sight), logits(sight))
    follower.eval()
    assert torch.equal(logits(sight), logits(sight))


def test_dropout_keeps_the_mean(small_split: Split):
    follower = agent_toy.tiny_follower(small_split, dropout=0.3)
    dropped = follower.drop(torch.ones(400, 500))
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.7], rel=1e-4)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert torch.equal(follower.eval().drop(torch.ones(3)), torch.ones(3))


def test_blind_follower_holds_no_visual_table(small_split: Split):
    eyes, follower = Eyes(), agent_toy.tiny_follower(small_split)
    sight = sights(small_split, eyes, torch.arange(4))[0]
    assert sight.views is None
    assert sight.candidates is None
    assert [tuple(b.shape) for b in eyes.buffers()] == [(36, 36, 4)]
    assert follower.decoder.lstm.weight_ih.shape[1] == 4 + 12
    assert eyes.state_dict() == {}


def test_stop_scores_zero_and_what_does_not_exist_nothing(small_split: Split):
    follower = agent_toy.tiny_follower(small_split, FEATURE)
    episodes = torch.arange(30)
    recurrent = follower.read(small_split.ids[episodes], small_split.lengths[episodes])
    sight = sights(small_split, agent_toy.random_eyes(small_split.world, FEATURE), episodes)[0]
    logits, *_ = follower.fold().step(recurrent, sight)
    count = sight.mask.sum(1) - 1
    assert torch.equal(logits.gather(1, count[:, None]), torch.zeros(30, 1))
    assert (logits[~sight.mask] == -torch.inf).all()
    assert (logits[sight.mask].isfinite()).all()
    assert len(count.unique()) > 2

"""Rollouts on real buildings: the teacher's way, the step limit, the smaller batch of a CPU."""

from __future__ import annotations

import agent_toy
import pytest
import torch

from agent import rollout as rollout_module
from agent.data import Split
from agent.evaluation import poses, shortest_policy
from agent.follower import Follower
from agent.losses import actor_critic_loss, imitation_loss
from agent.rollout import Choice, Trajectory, rollout
from agent.sight import Eyes

FEATURE = 5


def walk(follower: Follower, split: Split, choice: Choice, max_steps: int, keep_open: bool = False) -> Trajectory:
    device, feature = split.ids.device, follower.sizes.feature
    episodes = torch.arange(len(split.world.episodes), device=device)
    eyes = (agent_toy.random_eyes(split.world, feature) if feature else Eyes()).to(device)
    recurrent = follower.read(split.ids, split.lengths)
    return rollout(follower, eyes, split.tables, episodes, recurrent, choice, max_steps, keep_open)


def forced(split: Split, share: float = 1.0) -> torch.Tensor:
    count = len(split.world.episodes)
    return torch.arange(count) < share * count


def test_teacher_forcing_walks_the_shortest_path(small_split: Split):
    trajectory = walk(agent_toy.tiny_follower(small_split), small_split, Choice(forced(small_split)), 35)
    found = poses(trajectory, range(48), small_split.world)
    expected = shortest_policy(small_split.world, 0)
    ids = [e.instr_id for e in small_split.world.episodes]
    assert [[p[0] for p in found[i]] for i in ids] == [[p[0] for p in expected[i]] for i in ids]
    assert [[p[0] for p in found[e.instr_id]] for e in small_split.world.episodes] == [
        list(e.path) for e in small_split.world.episodes
    ]
    assert trajectory.ended.all()
    assert torch.equal(trajectory.action[trajectory.active], trajectory.teacher[trajectory.active])
    assert trajectory.steps == max(len(e.path) for e in small_split.world.episodes)  # the stop is an action
    assert int(trajectory.active.sum()) == sum(len(e.path) for e in small_split.world.episodes)
    assert len(trajectory.open_row) == 0


@pytest.mark.parametrize("limit", [1, 3])
def test_step_limit(small_split: Split, limit: int):
    trajectory = walk(agent_toy.tiny_follower(small_split), small_split, Choice(forced(small_split)), limit, True)
    assert trajectory.steps == limit
    assert trajectory.viewpoint.shape == (limit + 1, 48)
    lengths = torch.tensor([len(e.path) for e in small_split.world.episodes])
    assert torch.equal(trajectory.ended, lengths <= limit)
    assert sorted(trajectory.open_row.tolist()) == torch.nonzero(lengths > limit).squeeze(1).tolist()
    assert len(trajectory.open_hidden) == len(trajectory.open_row)


def test_greedy_follows_the_largest_logit_and_sampling_the_policy(small_split: Split):
    follower = agent_toy.tiny_follower(small_split, FEATURE)
    free = forced(small_split, 0.0)
    trajectory = walk(follower, small_split, Choice(free, greedy=True), 6)
    assert torch.equal(trajectory.action, trajectory.logits.argmax(1))
    first = torch.nonzero(trajectory.step == 0).squeeze(1)
    row = int(first[trajectory.logits[first].softmax(1).max(1).values.argmin()])  # the least certain of all
    probability = trajectory.logits[row].softmax(0).detach()
    torch.manual_seed(0)
    draws = torch.stack(
        [Choice(free)(trajectory.logits[row : row + 1], trajectory.teacher[:1], torch.tensor([0])) for _ in range(3000)]
    )
    share = torch.bincount(draws.flatten(), minlength=len(probability)) / 3000
    torch.testing.assert_close(share, probability, atol=0.04, rtol=0)


@pytest.mark.parametrize("feature", [0, FEATURE])
def test_a_batch_made_smaller_gives_the_same_losses_and_gradients(
    small_split: Split, feature: int, monkeypatch: pytest.MonkeyPatch
):
    follower = agent_toy.tiny_follower(small_split, feature)
    half = forced(small_split, 0.5)

    def losses_and_gradients() -> tuple[int, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        trajectory = walk(follower, small_split, Choice(half, greedy=True), 8, keep_open=True)
        values = follower.critic(trajectory.hidden).squeeze(1)
        open_values = follower.critic(trajectory.open_hidden).squeeze(1)
        imitation = imitation_loss(trajectory, half)
        policy = actor_critic_loss(trajectory, values, open_values, ~half, 0.9, 0.01)
        found = {"imitation": imitation.sum, "policy": policy.sum}
        weights = {"imitation": imitation.weight.float(), "policy": policy.weight.float()}
        gradients = agent_toy.gradients(follower, imitation.sum / imitation.weight + policy.sum / policy.weight)
        return len(trajectory.action), {k: v.detach() for k, v in found.items()} | weights, gradients

    small, losses, gradients = losses_and_gradients()
    monkeypatch.setattr(rollout_module, "KEEP_SHARE", 0.0)
    whole, whole_losses, whole_gradients = losses_and_gradients()
    assert small < whole == 48 * 8
    agent_toy.assert_close(losses, whole_losses)
    agent_toy.assert_close(gradients, whole_gradients, 2e-5)
    assert max(float(g.abs().max()) for g in whole_gradients.values()) > 1e-2


def test_ended_episodes_are_masked_where_the_batch_keeps_its_size(small_split: Split, monkeypatch: pytest.MonkeyPatch):
    follower, choice = agent_toy.tiny_follower(small_split), Choice(forced(small_split))
    one = walk(follower, small_split, choice, 35)
    monkeypatch.setattr(rollout_module, "KEEP_SHARE", 0.0)
    other = walk(follower, small_split, choice, 35)
    kept, used = one.active, other.active
    assert int(kept.sum()) == int(used.sum()) < len(used)
    assert torch.equal(one.action[kept], other.action[used])
    assert torch.equal(one.row[kept], other.row[used])
    assert (other.reward[~used] == 0).all()
    torch.testing.assert_close(one.logits[kept], other.logits[used], rtol=1e-5, atol=1e-5)
    assert torch.equal(one.viewpoint, other.viewpoint)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_takes_the_decisions_of_the_cpu(small_split: Split):
    follower, half = agent_toy.tiny_follower(small_split, FEATURE), forced(small_split, 0.5)
    here = walk(follower, small_split, Choice(half, greedy=True), 10, keep_open=True)
    there = walk(follower.cuda(), agent_toy.to_device(small_split, "cuda"), Choice(half.cuda(), greedy=True), 10, True)
    kept, used = here.active, there.active.cpu()
    assert torch.equal(here.action[kept], there.action.cpu()[used])
    torch.testing.assert_close(here.logits[kept], there.logits.cpu()[used], rtol=1e-3, atol=1e-3)
    assert torch.equal(here.ended, there.ended.cpu())
    torch.testing.assert_close(here.open_hidden, there.open_hidden.cpu(), rtol=1e-3, atol=1e-3)

"""Losses against R2R-EnvDrop's computation, written one episode and one step at a time."""

from __future__ import annotations

from collections.abc import Callable

import agent_toy
import pytest
import torch
from torch import Tensor

from agent.data import Split
from agent.losses import actor_critic_loss, discounted_returns, imitation_loss
from agent.rollout import Choice, Trajectory, rollout
from agent.sight import Eyes

GAMMA, ENTROPY = 0.9, 0.01
FORCED = torch.arange(48) % 2 == 0


@pytest.fixture
def walked(small_split: Split) -> Callable[[], tuple[torch.nn.Module, Trajectory]]:
    """A follower and its sampled walk of at most 5 steps, half of the episodes on the teacher's way."""

    def walk() -> tuple[torch.nn.Module, Trajectory]:
        follower = agent_toy.tiny_follower(small_split)
        torch.manual_seed(3)
        recurrent = follower.read(small_split.ids, small_split.lengths)
        episodes = torch.arange(48)
        return follower, rollout(
            follower, Eyes(), small_split.tables, episodes, recurrent, Choice(FORCED), 5, keep_open=True
        )

    return walk


def decisions_of(trajectory: Trajectory, episode: int) -> list[int]:
    """The active decisions of an episode, in the order of its steps."""
    mine = [n for n in range(len(trajectory.row)) if trajectory.row[n] == episode and trajectory.active[n]]
    return sorted(mine, key=lambda n: int(trajectory.step[n]))


def reward_of(split: Split, trajectory: Trajectory, episode: int, step: int, stopped: bool) -> float:
    """From the distances of the building, not from the environment."""
    world, e = split.world, split.world.episodes[episode]
    scene, distance_m = world.scenes[e.scan], world.geodesics[e.scan].distance_m
    to_goal = [
        distance_m[scene.row[world.candidates.viewpoints[int(trajectory.viewpoint[t, episode])][1]], scene.row[e.goal]]
        for t in (step, step + 1)
    ]
    if stopped:
        return 2.0 if to_goal[1] < 3 else -2.0
    return 1.0 if to_goal[1] < to_goal[0] else -1.0


def plain_losses(split: Split, trajectory: Trajectory, critic: torch.nn.Module) -> tuple[Tensor, Tensor]:
    """Imitation of the forced episodes / their number; A2C of the others / the number of their decisions."""
    imitation, policy, decisions = torch.zeros(()), torch.zeros(()), 0
    for episode in range(trajectory.batch):
        mine = decisions_of(trajectory, episode)
        stopped = bool(trajectory.ended[episode])
        later = 0.0
        if not stopped:
            (place,) = torch.nonzero(trajectory.open_row == episode).flatten().tolist()
            later = critic(trajectory.open_hidden[place])[0].item()
        for n in reversed(mine):
            step = int(trajectory.step[n])
            allowed = trajectory.logits[n].isfinite()
            log_p = trajectory.logits[n] - trajectory.logits[n][allowed].exp().sum().log()
            if FORCED[episode]:
                imitation = imitation - log_p[trajectory.teacher[n]]
                continue
            later = GAMMA * later + reward_of(split, trajectory, episode, step, stopped and n == mine[-1])
            value = critic(trajectory.hidden[n])[0]
            entropy = -(log_p[allowed].exp() * log_p[allowed]).sum()
            policy = policy - log_p[trajectory.action[n]] * (later - value.item())
            policy = policy + 0.5 * (later - value) ** 2 - ENTROPY * entropy
            decisions += 1
    return imitation / int(FORCED.sum()), policy / decisions


def test_losses_and_gradients_equal_the_plain_loop(small_split: Split, walked: Callable):
    follower, trajectory = walked()
    free_open = [row for row in trajectory.open_row.tolist() if not FORCED[row]]
    assert 3 < len(free_open) < 24  # some ran out of steps, some stopped
    value = follower.critic(trajectory.hidden).squeeze(1)
    open_value = follower.critic(trajectory.open_hidden).squeeze(1)
    imitation = imitation_loss(trajectory, FORCED)
    policy = actor_critic_loss(trajectory, value, open_value, ~FORCED, GAMMA, ENTROPY)
    found = imitation.sum / imitation.weight, policy.sum / policy.weight
    gradients = agent_toy.gradients(follower, found[0] + found[1])

    other, trajectory = walked()
    plain = plain_losses(small_split, trajectory, other.critic)
    assert [x.item() for x in found] == pytest.approx([x.item() for x in plain], rel=1e-5)
    agent_toy.assert_close(gradients, agent_toy.gradients(other, plain[0] + plain[1]), 2e-5)
    assert float(gradients["critic.3.bias"].abs()) > 1e-2


def test_the_bootstrap_has_no_gradient_and_changes_open_episodes_only(walked: Callable):
    _, trajectory = walked()
    nothing = discounted_returns(trajectory, torch.zeros(len(trajectory.open_row)), GAMMA)
    ten = discounted_returns(trajectory, torch.full((len(trajectory.open_row),), 10.0), GAMMA)
    left = 5 - trajectory.step.float()
    expected = torch.where(trajectory.ended[trajectory.row], 0.0, 10 * GAMMA**left)
    torch.testing.assert_close(ten - nothing, expected)


@pytest.mark.parametrize("kind", ["imitation", "a2c"])
def test_nothing_to_learn_is_zero_and_not_undefined(walked: Callable, kind: str):
    follower, trajectory = walked()
    nobody = torch.zeros(48, dtype=torch.bool)
    if kind == "imitation":
        loss = imitation_loss(trajectory, nobody)
    else:
        value, bootstrap = follower.critic(trajectory.hidden).squeeze(1), torch.zeros(len(trajectory.open_row))
        loss = actor_critic_loss(trajectory, value, bootstrap, nobody, GAMMA, ENTROPY)
    assert (loss.sum.item(), loss.weight.item()) == (0.0, 0.0)
    assert all((g == 0).all() for g in agent_toy.gradients(follower, loss.sum).values())

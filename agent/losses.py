"""Losses of the follower as pure functions of a trajectory; sums with the weight that normalises them.

Legend: B episodes, T steps, N decisions, K candidates + 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from agent.rollout import Trajectory


class Loss(NamedTuple):
    """A sum [] and the weight [] to divide it by."""

    sum: Tensor
    weight: Tensor


def imitation_loss(trajectory: Trajectory, rows_B: Tensor) -> Loss:
    """Cross-entropy with the teacher's action over the active decisions of the chosen rows [B] bool, summed over
    steps, divided by the number of episodes (R2R-EnvDrop: `ml_loss / batch_size`)."""
    used = trajectory.active & rows_B.index_select(0, trajectory.row)
    loss = F.cross_entropy(trajectory.logits.float(), trajectory.teacher, reduction="none")
    return Loss(torch.where(used, loss, 0.0).sum(), rows_B.sum())


def actor_critic_loss(
    trajectory: Trajectory, value_N: Tensor, open_value_M: Tensor, rows_B: Tensor, gamma: float, entropy_weight: float
) -> Loss:
    """A2C of R2R-EnvDrop over the active decisions of the chosen rows: -log p * advantage + 0.5 * (return - value)^2
    - entropy_weight * entropy, divided by the number of decisions (`--normalize total`).

    value_N: the critic's value of every decision, open_value_M: of the state after the last step of episodes that ran
    out of steps, which their returns are bootstrapped from (zero for all others).
    """
    used = (trajectory.active & rows_B.index_select(0, trajectory.row)).float()
    return_N = discounted_returns(trajectory, open_value_M.detach(), gamma)
    log_prob_NK = F.log_softmax(trajectory.logits.float(), 1)
    chosen_N = log_prob_NK.gather(1, trajectory.action[:, None]).squeeze(1)
    entropy_N = -(log_prob_NK.exp() * log_prob_NK.clamp(min=torch.finfo(torch.float32).min)).sum(1)
    advantage_N = return_N - value_N
    loss_N = -chosen_N * advantage_N.detach() + 0.5 * advantage_N**2 - entropy_weight * entropy_N
    # Slots of ended episodes may hold an action outside the mask (log p = -inf): they are left out, not multiplied.
    return Loss(torch.where(used.bool(), loss_N, 0.0).sum(), used.sum())


def discounted_returns(trajectory: Trajectory, open_value_M: Tensor, gamma: float) -> Tensor:
    """[N] sum of discounted rewards from each decision on, and of the value after the last step where the episode did
    not end."""
    shape = (trajectory.steps, trajectory.batch)
    reward_TB = trajectory.reward.new_zeros(shape)
    reward_TB[trajectory.step, trajectory.row] = trajectory.reward
    open_row = trajectory.open_row
    is_open = ~trajectory.ended.index_select(0, open_row)
    value_M = torch.where(is_open, open_value_M.to(trajectory.reward.dtype), 0.0)
    later_B = trajectory.reward.new_zeros(trajectory.batch).index_copy(0, open_row, value_M)
    return_TB = torch.empty_like(reward_TB)
    for step in reversed(range(trajectory.steps)):
        later_B = reward_TB[step] + gamma * later_B
        return_TB[step] = later_B
    return return_TB[trajectory.step, trajectory.row]

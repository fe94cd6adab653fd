"""The follower written plainly, in the manner of the original program: the specification of the fast path.

One scalar environment per episode, features stacked sample by sample, angles tiled to their full size, torch's own
packed LSTM and autograd, every episode computed in every step until all have ended. `plain_losses` must give the
losses and gradients of `agent.objectives` for the same actions; the benchmark measures both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent.follower import Follower
from clip_core.blocks import padding_mask
from envs.navigation import NavEnv
from envs.teacher import teacher_action

Act = Callable[[int, Tensor, Tensor], Tensor]
"""step, logits [B, K], teacher's actions [B] -> actions [B]."""


def plain_losses(
    follower: Follower, envs: Sequence[NavEnv], episodes: Sequence[int], ids: Tensor, lengths: Tensor, act: Act,
    max_steps: int = 35, gamma: float = 0.9, entropy_weight: float = 0.01,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Imitation loss / number of episodes, and A2C loss / number of decisions, of one batch walked by `act`."""
    batch = len(envs)
    context, padding, tilde, cell = read(follower, ids, lengths)
    observations = [env.reset(options={"episode": e})[0] for env, e in zip(envs, episodes, strict=True)]
    ended = np.zeros(batch, bool)
    imitation: Tensor = torch.zeros(())
    rewards, masks, log_probs, entropies, hiddens = [], [], [], [], []
    for step in range(max_steps):
        logits, hidden, cell, tilde = decide(follower, observations, context, padding, tilde, cell)
        teacher = torch.tensor([_teacher(env) for env in envs])
        target = torch.where(torch.from_numpy(ended), -100, teacher)
        imitation = imitation + F.cross_entropy(logits, target, ignore_index=-100, reduction="sum")
        action = act(step, logits, teacher)
        distribution = torch.distributions.Categorical(logits=logits)
        log_probs.append(distribution.log_prob(action))
        entropies.append(distribution.entropy())
        hiddens.append(hidden)
        masks.append(torch.from_numpy(~ended).float())
        reward = np.zeros(batch, np.float32)
        for i, env in enumerate(envs):
            if not ended[i]:
                observations[i], reward[i], ended[i], _, _ = env.step(int(action[i]))
        rewards.append(torch.from_numpy(reward))
        if ended.all():
            break
    _, last, _, _ = decide(follower, observations, context, padding, tilde, cell)
    returns = torch.where(torch.from_numpy(ended), 0.0, follower.critic(last).squeeze(1).detach())
    actor_critic = torch.zeros(())
    for t in reversed(range(len(rewards))):
        returns = rewards[t] + gamma * returns
        advantage = returns - follower.critic(hiddens[t]).squeeze(1)
        loss = -log_probs[t] * advantage.detach() + 0.5 * advantage**2 - entropy_weight * entropies[t]
        actor_critic = actor_critic + torch.where(masks[t] > 0, loss, 0.0).sum()
    return imitation / batch, actor_critic / torch.stack(masks).sum()


def read(follower: Follower, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Context, its padding, first decoder state and cell, by torch's packed LSTM."""
    encoder = follower.encoder
    embedded = encoder.drop(encoder.embedding(ids[:, : int(lengths.max())]))
    packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths, batch_first=True, enforce_sorted=False)
    output, (h, c) = encoder.lstm(packed)
    context, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
    start = torch.tanh(encoder.to_decoder(torch.cat([h[1], h[0]], 1)))
    return encoder.drop(context), padding_mask(lengths, context.shape[1]), start, torch.cat([c[1], c[0]], 1)


def decide(
    follower: Follower, observations: Sequence[dict], context: Tensor, padding: Tensor, tilde: Tensor, cell: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Masked logits, hidden state, cell and tilde state of one step."""
    parts, drop = follower.decoder, follower.drop
    views = _dropped(follower, np.stack([o["features"] for o in observations]))
    candidates = _dropped(follower, np.stack([o["candidate_features"] for o in observations]))
    headings = torch.from_numpy(np.stack([_own_direction(o["view"], follower.sizes.angle) for o in observations]))
    mask = torch.from_numpy(np.stack([o["action_mask"] for o in observations])).bool()
    action = drop(torch.tanh(parts.action(headings)))
    seen, _ = parts.view_attention.attend(drop(tilde), views)
    hidden, cell = parts.lstm(torch.cat([action, seen], 1), (tilde, cell))
    tilde, _ = parts.text_attention(drop(hidden), context, padding)
    query = parts.candidate_attention.linear_in(drop(tilde))
    logits = torch.bmm(candidates, query[:, :, None]).squeeze(2)
    return logits.masked_fill(~mask, -torch.inf), hidden, cell, tilde


def _dropped(follower: Follower, features: np.ndarray) -> Tensor:
    """Feature dropout on the visual part alone."""
    tensor, size = torch.from_numpy(features), follower.sizes.feature
    return torch.cat([follower.drop_feature(tensor[..., :size]), tensor[..., size:]], -1)


def _own_direction(view: int, size: int) -> np.ndarray:
    heading, elevation = view % 12 * np.pi / 6, (view // 12 - 1) * np.pi / 6
    return np.tile([np.sin(heading), np.cos(heading), np.sin(elevation), np.cos(elevation)], size // 4).astype(
        np.float32
    )


def _teacher(env: NavEnv) -> int:
    row = env.world.candidates.offset[env.scene.scan] + env.viewpoint
    return int(teacher_action(env.world.tables, np.array([env.episode_index]), np.array([row]))[0])

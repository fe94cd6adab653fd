"""The fast path (folded angles, packed LSTM, deferred gradients, shrinking batch) equals the plain one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plain_follower import plain_losses

from agent.config import FollowerConfig
from agent.data import Split
from agent.follower import Follower, FollowerSizes
from agent.losses import actor_critic_loss, imitation_loss
from agent.rollout import Choice, rollout
from agent.sight import Eyes
from clip_core.tokenizer import WordTokenizer, build_vocabulary
from envs.navigation import NavEnv
from envs.tables import World

SIZE, EPISODES, STEPS = 8, 12, 9


def _parts(world: World, features: np.ndarray) -> tuple[Follower, Eyes, Split]:
    torch.manual_seed(3)
    texts = [e.instruction for e in world.episodes]
    tokenizer = WordTokenizer(build_vocabulary(texts))
    ids, lengths = (torch.from_numpy(a) for a in tokenizer.encode_batch(texts))
    sizes = FollowerSizes(
        words=len(tokenizer), feature=features.shape[2], hidden=32, word=16, dropout=0, feature_dropout=0
    )
    eyes = Eyes(torch.from_numpy(features), torch.arange(len(features)))
    return Follower(sizes), eyes, Split("x", world, world.tables.convert(torch.tensor), ids, lengths)


@pytest.mark.parametrize("forced", [True, False], ids=["teacher", "sampled"])
def test_losses_and_gradients_equal_the_plain_follower(world_val_seen: World, forced: bool) -> None:
    rows = len(world_val_seen.candidates.viewpoints)
    features = np.random.default_rng(0).normal(size=(rows, 36, SIZE)).astype(np.float32)
    follower, eyes, split = _parts(world_val_seen, features)
    episodes = torch.arange(0, 10 * EPISODES, 10)
    all_rows = torch.ones(EPISODES, dtype=torch.bool)
    choice = Choice(all_rows if forced else ~all_rows)
    memory = follower.read(split.ids[episodes], split.lengths[episodes])
    config = FollowerConfig()
    walked = rollout(follower, eyes, split.tables, episodes, memory, choice, STEPS, keep_open=True)
    imitation = imitation_loss(walked, all_rows)
    value, open_value = (follower.critic(h).squeeze(1) for h in (walked.hidden, walked.open_hidden))
    a2c = actor_critic_loss(walked, value, open_value, all_rows, config.gamma, config.entropy_weight)
    ours = (imitation.sum / imitation.weight, a2c.sum / a2c.weight)

    taken = torch.full((walked.steps, EPISODES), 99)
    taken[walked.step, walked.row] = walked.action
    envs = [NavEnv(world=world_val_seen, features=features) for _ in range(EPISODES)]

    def act(step: int, logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        # Ended episodes have left our batch; what they do does not count, but it must be a possible action.
        stop = torch.isfinite(logits).sum(1) - 1
        return torch.where(taken[step] == 99, stop, taken[step])

    plain = plain_losses(follower, envs, episodes.tolist(), split.ids[episodes], split.lengths[episodes], act, STEPS)
    for fast, slow in zip(ours, plain, strict=True):
        assert fast.item() == pytest.approx(slow.item(), rel=1e-5)
        parameters = [p for p in follower.parameters() if p.requires_grad]
        fast_gradients = torch.autograd.grad(fast, parameters, retain_graph=True, allow_unused=True)
        slow_gradients = torch.autograd.grad(slow, parameters, retain_graph=True, allow_unused=True)
        for (name, _), a, b in zip(follower.named_parameters(), fast_gradients, slow_gradients, strict=True):
            assert (a is None) == (b is None), name
            if a is not None:
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")

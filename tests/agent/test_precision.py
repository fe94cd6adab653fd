"""Follower and speaker under bf16 autocast: losses near those of fp32, weights and optimizer state in fp32."""

from __future__ import annotations

from collections.abc import Mapping

import agent_toy
import pytest
import torch
from torch import Tensor

from agent.config import FollowerConfig
from agent.data import Split
from agent.objectives import FollowerObjective
from agent.rollout import Stepper
from agent.speaker import Speaker, SpeakerSizes
from agent.speaker_config import SpeakerConfig
from agent.speaker_objective import SpeakerObjective
from clip_core.optim import build_optimizer
from clip_core.runtime import Runtime
from clip_core.tokenizer import WordTokenizer, build_vocabulary
from clip_core.trainer import Objective

FEATURE = 6
FP32, BF16 = (Runtime(agent_toy.CPU, dtype) for dtype in (torch.float32, torch.bfloat16))


def follower(split: Split, static: bool) -> FollowerObjective:
    eyes, config = (
        agent_toy.random_eyes(split.world, FEATURE),
        FollowerConfig(batch=8, max_steps=6, objective="imitation"),
    )
    objective = FollowerObjective(agent_toy.tiny_follower(split, FEATURE), eyes, split, {}, config, seed=0)
    if static:
        objective.follower.static, objective.stepper = True, Stepper()
    return objective


def speaker(split: Split, static: bool) -> SpeakerObjective:
    torch.manual_seed(0)
    tokenizer = WordTokenizer(build_vocabulary((e.instruction for e in split.world.episodes), 1))
    sizes = SpeakerSizes(agent_toy.words_of(split), FEATURE, word=8, hidden=16, dropout=0.0, feature_dropout=0.0)
    eyes = agent_toy.random_eyes(split.world, FEATURE)
    return SpeakerObjective(Speaker(sizes), eyes, split, {}, tokenizer, SpeakerConfig(batch=8), seed=0)


def mean(result: Mapping) -> Tensor:
    return result["loss"] / result["weight"]


@pytest.mark.parametrize(("make", "static"), [(follower, False), (follower, True), (speaker, False)])
def test_a_step_in_bf16(small_split: Split, make: type[Objective], static: bool) -> None:
    objective = make(small_split, static)  # type: ignore[call-arg,arg-type]
    optimizer = build_optimizer("adam", objective.parameter_groups())
    batch = next(objective.batches(0))
    plain = mean(objective(batch)).item()
    with BF16.autocast():
        loss = mean(objective(batch))
    assert loss.dtype == torch.float32
    assert loss.item() != plain  # products did run in bf16
    assert loss.item() == pytest.approx(plain, rel=0.05)
    loss.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in optimizer.param_groups[0]["params"])
    optimizer.step()
    state = [value for slot in optimizer.state.values() for value in slot.values()]
    assert {value.dtype for value in state} == {torch.float32}
    with FP32.autocast():
        assert mean(objective(batch)).item() < plain

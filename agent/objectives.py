"""What the trainer minimises for the follower: imitation, or imitation with A2C.

Legend: B episodes of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agent.config import FollowerConfig
from agent.data import Split
from agent.evaluation import follow, score
from agent.follower import Follower
from agent.losses import actor_critic_loss, imitation_loss
from agent.rollout import Choice, Stepper, Trajectory, rollout
from agent.sight import Eyes
from clip_core.deferred import is_static
from clip_core.optim import parameter_groups
from clip_core.shuffling import shuffled_batches
from clip_core.trainer import Objective
from envs.dynamics import STOP_REWARD

FIDELITY = ("ndtw", "sdtw")
"""Metrics of how a route was followed; where they choose the best checkpoint, the screen shows them first."""


class Batch(NamedTuple):
    """Episodes [B] int64 (CPU) of a split, which of them walk the teacher's actions [B] bool (CPU), and of a generated
    batch (agent/augment.py) its position in the run, None where people wrote the instructions."""

    episodes: Tensor
    forced: Tensor
    generated: int | None = None


class FollowerObjective(Objective):
    """Follower, what it sees and the splits it learns and is judged on. One batch holds the episodes of both losses,
    so that one encoder pass and one rollout serve them."""

    headline: Sequence[str] = ("nav_error", "success", "spl", "ndtw")

    def __init__(
        self,
        follower: Follower,
        eyes: Eyes,
        train: Split,
        judged: Mapping[str, Split],
        config: FollowerConfig,
        seed: int,
        rank: int = 0,
        world: int = 1,
        best_by: str = "success",
    ) -> None:
        super().__init__()
        self.follower, self.eyes = follower, eyes
        self.stepper: Stepper | None = None
        self.train_split, self.judged, self.config = train, judged, config
        self.seed, self.rank, self.world = seed, rank, world
        self.best_metric = f"{list(judged)[-1]}/{best_by}" if judged else None
        if best_by in FIDELITY:
            self.headline = (*FIDELITY, "success", "spl")
        if config.objective == "imitation":
            follower.critic.requires_grad_(False)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """A rollout and its losses."""
        split = self.train_split
        ids = split.ids[batch.episodes.to(split.ids.device)]
        return self.learn(batch, split, ids, split.lengths[batch.episodes], self.eyes, self.config.imitation_weight)

    def learn(
        self, batch: Batch, split: Split, ids_BL: Tensor, lengths_B: Tensor, eyes: Eyes, imitation_weight: float
    ) -> dict[str, Any]:
        """What `forward` returns, for episodes of any split with any instructions: ids [B, L] on the device, lengths
        [B] on the CPU. `imitation_weight` counts beside A2C alone."""
        config, device = self.config, split.ids.device
        episodes, forced = batch.episodes.to(device), batch.forced.to(device)
        recurrent = self.follower.read(ids_BL, lengths_B)
        actor_critic = config.objective == "a2c"
        trajectory = rollout(
            self.follower,
            eyes,
            split.tables,
            episodes,
            recurrent,
            Choice(forced),
            config.max_steps,
            keep_open=actor_critic,
            teacher=config.teacher,
            stepper=self.stepper,
        )
        if not actor_critic:
            loss = imitation_loss(trajectory, torch.ones_like(forced))
            return {"loss": loss.sum, "weight": loss.weight, **_report(trajectory, torch.ones_like(forced))}
        imitation = imitation_loss(trajectory, forced)
        value, open_value = self.follower.critic(trajectory.hidden).squeeze(1), self._value(trajectory.open_hidden)
        policy = actor_critic_loss(trajectory, value.float(), open_value, ~forced, config.gamma, config.entropy_weight)
        return {
            "loss": {"imitation": imitation.sum * imitation_weight, "a2c": policy.sum},
            "weight": {"imitation": imitation.weight, "a2c": policy.weight},
            **_report(trajectory, ~forced),
        }

    def _value(self, hidden: Tensor) -> Tensor:
        with torch.no_grad():
            return self.follower.critic(hidden).squeeze(1).float()

    def batches(self, start: int) -> Iterator[Batch]:
        """Shuffled epochs one after the other; see `shuffled_batches`."""
        return self.batches_of(self.train_split, self.seed, start)

    def batches_of(self, split: Split, seed: int, start: int) -> Iterator[Batch]:
        """The batches of a split from the start-th on."""
        both = self.config.objective == "a2c"
        size = self.config.batch * (2 if both else 1)
        forced = torch.zeros(size, dtype=torch.bool)
        if both:
            forced[: self.config.batch] = True
        elif self.config.feedback != "student":
            forced[: size if self.config.feedback == "teacher" else (size + 1) // 2] = True
        n = len(split.world.episodes)
        for episodes in shuffled_batches(n, size, seed, start, self.rank, self.world):
            yield Batch(episodes, forced)

    def evaluate(self) -> dict[str, float]:
        """Greedy routes on every judged split."""
        metrics: dict[str, float] = {}
        for name, split in self.judged.items():
            means, _ = score(follow(self.follower, self.eyes, split, self.config.max_steps), split.world)
            metrics |= {f"{name}/{key}": value for key, value in means.items()}
        return metrics

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Encoder and decoder clipped separately, the critic not (R2R-EnvDrop)."""
        follower, lr, clip = self.follower, self.config.lr, self.config.clip
        groups = [
            *parameter_groups(follower.encoder, "encoder", lr, clip=clip),
            *parameter_groups(follower.decoder, "decoder", lr, clip=clip),
        ]
        if self.config.objective == "a2c":
            groups += parameter_groups(follower.critic, "critic", lr, clip=None)
        return groups

    def compiled_modules(self) -> list[torch.nn.Module]:
        """On a device the step of a rollout. On a CPU none: there the batch becomes smaller from step to step."""
        if not is_static(self.train_split.ids.device):
            return []
        self.stepper = Stepper()
        return [self.stepper]


def _report(trajectory: Trajectory, rows: Tensor) -> dict[str, Tensor]:
    """For the log, over the chosen rows [B] bool: decisions per episode and the share that stopped at the goal."""
    used = trajectory.active & rows[trajectory.row]
    reached = used & (trajectory.reward == STOP_REWARD)
    return {"steps_per_episode": used.sum() / rows.sum(), "reached": reached.sum() / rows.sum()}

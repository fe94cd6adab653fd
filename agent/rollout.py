"""Policy and environment alternate: the only place where they do. Returns a `Trajectory`.

Legend: B episodes, T steps, N decisions of all steps, K candidates + 1, H hidden, M episodes without a stop.

On a CPU, episodes that have ended leave the batch: their steps count in no loss, so the result is the same for less
work. On a device, and where a `Stepper` is given, the batch keeps its size, the steps of ended episodes are masked, and
nothing in a step waits for the device.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent.policy import FoldedPolicy, Policy, PolicyState
from agent.sight import Eyes
from clip_core.blocks import draw
from envs import dynamics
from envs.dynamics import NavState
from envs.tables import NavTables
from envs.teacher import Teacher, teach

KEEP_SHARE = 0.8
"""A batch on the CPU is made smaller when fewer than this share of its episodes are still under way."""

EXIT_CHECK_STEPS = 4
"""On a device, how often the host asks whether every episode has ended (each time a sync)."""


@dataclass(frozen=True)
class Trajectory:
    """All decisions of a rollout, step after step.

    step, row (the episode's place in the batch), action, teacher [N] int64; logits [N, K]; hidden [N, H]; reward [N];
    active [N] bool, False where the episode had ended before. viewpoint, view [T + 1, B]: where each episode was.
    ended [B] bool: it stopped by itself. open_hidden [M, H], open_row [M]: the decoder state after the last step of
    the episodes that did not (empty unless asked for; on a device of all episodes, those that ended among them).
    """

    step: Tensor
    row: Tensor
    action: Tensor
    teacher: Tensor
    logits: Tensor
    hidden: Tensor
    reward: Tensor
    active: Tensor
    viewpoint: Tensor
    view: Tensor
    ended: Tensor
    open_hidden: Tensor
    open_row: Tensor

    @property
    def steps(self) -> int:
        """T."""
        return len(self.viewpoint) - 1

    @property
    def batch(self) -> int:
        """B."""
        return self.viewpoint.shape[1]


@dataclass(frozen=True)
class Choice:
    """How actions are chosen: the teacher's in the rows where `forced` [B] holds, elsewhere sampled from the policy, or
    its best when `greedy`."""

    forced: Tensor
    greedy: bool = False

    def __call__(self, logits: Tensor, teacher: Tensor, rows: Tensor) -> Tensor:
        """[n] actions."""
        if self.greedy:
            own = logits.argmax(1)
        else:
            own = draw(F.softmax(logits.detach().float(), 1))
        return torch.where(self.forced.index_select(0, rows), teacher, own)


class Walk(NamedTuple):
    """What goes from step to step. rows [n]: the places in the batch of the episodes still in it; reached [n]: how far
    each is along its route (`envs.teacher.teach`)."""

    rows: Tensor
    state: NavState
    recurrent: PolicyState
    reached: Tensor

    def keep(self, index: Tensor) -> Walk:
        """Some of the rows."""
        state = NavState(*(a.index_select(0, index) for a in self.state))
        rows, reached = self.rows.index_select(0, index), self.reached.index_select(0, index)
        return Walk(rows, state, self.recurrent.rows(index), reached)


class Decision(NamedTuple):
    """One step of every row [n]; see `Trajectory`."""

    action: Tensor
    teacher: Tensor
    logits: Tensor
    hidden: Tensor
    reward: Tensor
    active: Tensor


class Stepper(nn.Module):
    """One step of all episodes, from what they see to where they went: what torch.compile takes as a whole.

    It reads tensors alone and asks nothing of their values, so it can be compiled without a break. Not for a CPU:
    torch 2.15's compiler then wrote other values over the logits (docs/log.md).
    """

    def compile(self, *args: Any, **options: Any) -> None:
        """`nn.Module.compile` into one graph for the shapes of the first batch, which all later ones have."""
        for harmless in ("Dynamo detected a call to a `functools.lru_cache`", "The .grad attribute of a Tensor that"):
            warnings.filterwarnings("ignore", message=harmless)
        super().compile(*args, **({"fullgraph": True, "dynamic": False} | options))

    def forward(
        self, decoder: FoldedPolicy[Any], eyes: Eyes, tables: NavTables, choice: Choice, teacher: Teacher, walk: Walk
    ) -> tuple[Walk, Decision]:
        """The walk after the step, and what was decided."""
        rows, state, recurrent, reached = walk
        logits, hidden, recurrent = decoder.step(recurrent, eyes(dynamics.observe(tables, state)))
        taught, reached = teach(teacher, tables, state.episode, state.viewpoint, reached)
        action = choice(logits, taught, rows)
        # The loop itself ends at max_steps, so that `ended` means a stop and nothing else.
        after, reward, _, _ = dynamics.move(tables, state, action, sys.maxsize)
        decision = Decision(action, taught, logits, hidden, reward, ~state.ended)
        return Walk(rows, after, recurrent, reached), decision


def rollout(
    follower: Policy[Any],
    eyes: Eyes,
    tables: NavTables,
    episodes: Tensor,
    recurrent: PolicyState,
    choice: Choice,
    max_steps: int,
    keep_open: bool = False,
    teacher: Teacher = "shortest",
    stepper: Stepper | None = None,
) -> Trajectory:
    """Walk the given episodes [B], their instructions read into `recurrent`, until all have stopped or `max_steps` are
    done. `keep_open` adds the decoder state after the last step of those that did not stop, to bootstrap from;
    `teacher`: whose actions are recorded, and walked where forced; `stepper`: a compiled one, say, which makes a CPU
    walk as a device does."""
    compact = stepper is None and episodes.device.type == "cpu"
    advance, decoder = stepper or Stepper(), follower.fold()
    zeros = torch.zeros_like(episodes)
    rows = torch.arange(len(episodes), device=episodes.device)
    walk = Walk(rows, dynamics.begin(tables, zeros, zeros, episodes), recurrent, zeros)
    record = _Record(walk.state)
    for step in range(max_steps):
        rows = walk.rows
        walk, decision = advance(decoder, eyes, tables, choice, teacher, walk)
        record.add(rows, walk.state, decision)
        if compact:
            alive = torch.nonzero(~walk.state.ended).squeeze(1)
            if len(alive) == 0:
                break
            if len(alive) < KEEP_SHARE * len(rows):
                walk = walk.keep(alive)
        elif step % EXIT_CHECK_STEPS == EXIT_CHECK_STEPS - 1 and bool(walk.state.ended.all()):  # on a device: a sync
            break
    open_hidden, open_row = decision.hidden[:0], walk.rows[:0]
    if keep_open:
        if compact:
            walk = walk.keep(torch.nonzero(~walk.state.ended).squeeze(1))
        if len(walk.rows):
            _, open_hidden, _ = decoder.step(walk.recurrent, eyes(dynamics.observe(tables, walk.state)))
            open_row = walk.rows
    return record.trajectory(open_hidden, open_row)


class _Record:
    """Collects the columns of a trajectory."""

    def __init__(self, state: NavState) -> None:
        self.decisions: list[Decision] = []
        self.rows: list[Tensor] = []
        self.viewpoint, self.view, self.ended = [state.viewpoint], [state.view], state.ended

    def add(self, rows: Tensor, state: NavState, decision: Decision) -> None:
        """One step: the decisions of `rows` and where they led."""
        self.decisions.append(decision)
        self.rows.append(rows)
        self.viewpoint.append(self.viewpoint[-1].index_copy(0, rows, state.viewpoint))
        self.view.append(self.view[-1].index_copy(0, rows, state.view))
        self.ended = self.ended.index_copy(0, rows, state.ended)

    def trajectory(self, open_hidden: Tensor, open_row: Tensor) -> Trajectory:
        columns = Decision(*(torch.cat(values) for values in zip(*self.decisions, strict=True)))
        steps = torch.cat([torch.full_like(rows, step) for step, rows in enumerate(self.rows)])
        return Trajectory(
            step=steps,
            row=torch.cat(self.rows),
            **columns._asdict(),
            viewpoint=torch.stack(self.viewpoint),
            view=torch.stack(self.view),
            ended=self.ended,
            open_hidden=open_hidden,
            open_row=open_row,
        )

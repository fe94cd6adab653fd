"""Policy and environment alternate: the only place where they do. Returns a `Trajectory`.

Legend: B episodes, T steps, N decisions of all steps, K candidates + 1, H hidden, M episodes without a stop.

On a CPU, episodes that have ended leave the batch: their steps count in no loss, so the result is the same for less
work. On a device the batch keeps its size and the steps of ended episodes are masked.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from agent.follower import Follower, Recurrent
from agent.sight import Eyes
from envs import dynamics
from envs.dynamics import NavState
from envs.tables import NavTables
from envs.teacher import teacher_action

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
    the episodes that did not (empty unless asked for).
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
            own = torch.multinomial(F.softmax(logits.detach().float(), 1), 1).squeeze(1)
        return torch.where(self.forced.index_select(0, rows), teacher, own)


def rollout(
    follower: Follower,
    eyes: Eyes,
    tables: NavTables,
    episodes: Tensor,
    recurrent: Recurrent,
    choice: Choice,
    max_steps: int,
    keep_open: bool = False,
) -> Trajectory:
    """Walk the given episodes [B], their instructions read into `recurrent`, until all have stopped or `max_steps` are
    done. `keep_open` adds the decoder state after the last step of those that did not stop, to bootstrap from."""
    compact = episodes.device.type == "cpu"
    decoder = follower.fold()
    zeros = torch.zeros_like(episodes)
    state = dynamics.begin(tables, zeros, zeros, episodes)
    rows = torch.arange(len(episodes), device=episodes.device)
    record = _Record(state)
    for step in range(max_steps):
        logits, hidden, recurrent = decoder.step(recurrent, eyes(dynamics.observe(tables, state)))
        teacher = teacher_action(tables, state.episode, state.viewpoint)
        action = choice(logits, teacher, rows)
        active = ~state.ended
        # The loop itself ends at max_steps, so that `ended` means a stop and nothing else.
        state, reward, _, _ = dynamics.move(tables, state, action, sys.maxsize)
        record.add(rows, state, action, teacher, logits, hidden, reward, active)
        if compact or step % EXIT_CHECK_STEPS == EXIT_CHECK_STEPS - 1:
            alive = torch.nonzero(~state.ended).squeeze(1)  # on a device: a sync
            if len(alive) == 0:
                break
            if compact and len(alive) < KEEP_SHARE * len(rows):
                rows, state, recurrent = _keep(alive, rows, state, recurrent)
    open_hidden, open_row = hidden[:0], rows[:0]
    if keep_open:
        alive = torch.nonzero(~state.ended).squeeze(1)
        if len(alive):
            open_row, state, recurrent = _keep(alive, rows, state, recurrent)
            _, open_hidden, _ = decoder.step(recurrent, eyes(dynamics.observe(tables, state)))
    return record.trajectory(open_hidden, open_row)


def _keep(index: Tensor, rows: Tensor, state: NavState, recurrent: Recurrent) -> tuple[Tensor, NavState, Recurrent]:
    """Some rows of the batch."""
    state = NavState(*(a.index_select(0, index) for a in state))
    return rows.index_select(0, index), state, recurrent.rows(index)


class _Record:
    """Collects the columns of a trajectory."""

    NAMES = ("action", "teacher", "logits", "hidden", "reward", "active")

    def __init__(self, state: NavState) -> None:
        self.columns: dict[str, list[Tensor]] = {name: [] for name in (*self.NAMES, "row", "step")}
        self.viewpoint, self.view, self.ended = [state.viewpoint], [state.view], state.ended

    def add(self, rows: Tensor, state: NavState, *values: Tensor) -> None:
        """One step: the decisions of `rows` and where they led."""
        step = len(self.viewpoint) - 1
        for name, value in zip(self.NAMES, values, strict=True):
            self.columns[name].append(value)
        self.columns["row"].append(rows)
        self.columns["step"].append(torch.full_like(rows, step))
        self.viewpoint.append(self.viewpoint[-1].index_copy(0, rows, state.viewpoint))
        self.view.append(self.view[-1].index_copy(0, rows, state.view))
        self.ended = self.ended.index_copy(0, rows, state.ended)

    def trajectory(self, open_hidden: Tensor, open_row: Tensor) -> Trajectory:
        columns = {name: torch.cat(values) for name, values in self.columns.items()}
        return Trajectory(
            **columns,
            viewpoint=torch.stack(self.viewpoint),
            view=torch.stack(self.view),
            ended=self.ended,
            open_hidden=open_hidden,
            open_row=open_row,
        )

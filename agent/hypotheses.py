"""Many hypotheses of one instruction, whose decisions are made in one batch and share what was read of it.

Legend: B episodes, W hypotheses of each, n those that decide now, L tokens, K candidates + 1, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from agent.ensemble import Ensemble, Joint
from agent.follower import Recurrent
from agent.sight import Eyes
from clip_core.deferred import AttentionMemory, PlainMemory
from envs.dynamics import NavState, observe
from envs.tables import NavTables

CARRIED = [name for name in Recurrent._fields if name != "memory"]
"""What differs between the hypotheses of an instruction."""


class Decider:
    """An ensemble before the episodes [B] of `start`, asked for decisions of any of their hypotheses.

    What a hypothesis remembers are vectors, [n, ...] each: of every member all of its `Recurrent` but the memory.
    """

    def __init__(self, ensemble: Ensemble, eyes: Eyes, tables: NavTables, start: Joint) -> None:
        self.decoder, self.eyes, self.tables, self.start = ensemble.fold(), eyes, tables, start

    def first_vectors(self) -> list[Tensor]:
        """[B, ...] of each: before the first decision."""
        return _vectors(self.start)

    def decide(
        self, state: NavState, vectors: Sequence[Tensor], slot: Tensor, width: int
    ) -> tuple[Tensor, list[Tensor]]:
        """Log-probabilities [n, K] of the actions (-inf outside the mask), and the vectors after the decision.

        slot [n] int64, all different: hypothesis i belongs to episode slot[i] // width.
        """
        left = iter(vectors)
        members = tuple(
            member._replace(**{name: next(left) for name in CARRIED}, memory=SharedMemory(member.memory, slot, width))
            for member in self.start.members
        )
        log_prob, _, after = self.decoder.step(Joint(members), self.eyes(observe(self.tables, state)))
        # Under autocast some come back in bfloat16; the searches keep all of them as they were at the start.
        return log_prob, [new.to(old.dtype) for new, old in zip(_vectors(after), vectors, strict=True)]

    def keep(self, rows: Tensor) -> None:
        """Some of the episodes alone."""
        self.start = self.start.rows(rows)


def _vectors(state: Joint) -> list[Tensor]:
    return [getattr(member, name) for member in state.members for name in CARRIED]


class SharedMemory(AttentionMemory):
    """The memory of B texts for up to `width` rows of each, none of it copied; without gradients.

    slot [n] int64, all different: row i belongs to text slot[i] // width.
    """

    def __init__(self, memory: AttentionMemory | PlainMemory, slot: Tensor, width: int) -> None:
        self.context, self.padding = memory.context, memory.padding
        self.slot, self.width = slot, width

    def rows(self, index: Tensor) -> SharedMemory:
        """The same for some of the rows."""
        return SharedMemory(self, self.slot.index_select(0, index), self.width)

    def attend(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """query [n, H] -> the weighted context [n, H] and the weights [n, L]."""
        context = self.context
        table = query.new_zeros(len(context) * self.width, query.shape[1]).index_copy(0, self.slot, query)
        logits = torch.bmm(table.unflatten(0, (len(context), self.width)).to(context.dtype), context.transpose(1, 2))
        weights = F.softmax(logits.masked_fill(self.padding[:, None], -torch.inf), 2, dtype=torch.float32)
        read = torch.bmm(weights.to(context.dtype), context)
        return read.flatten(0, 1).index_select(0, self.slot), weights.flatten(0, 1).index_select(0, self.slot)

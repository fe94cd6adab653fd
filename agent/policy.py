"""What a rollout or a search asks of a model that follows instructions.

Legend: B episodes, L tokens, K candidates + 1, H hidden.
"""

from __future__ import annotations

from typing import Protocol, Self, TypeVar

from torch import Tensor

from agent.follower import Sight


class PolicyState(Protocol):
    """What a model carries from decision to decision."""

    def rows(self, index: Tensor) -> Self:
        """The same for some rows of the batch."""
        ...


S = TypeVar("S", bound=PolicyState)
State = TypeVar("State")


class FoldedPolicy(Protocol[State]):
    """The model for one forward pass."""

    def step(self, state: State, sight: Sight) -> tuple[Tensor, Tensor, State]:
        """One decision: logits [B, K] (-inf outside the mask), the hidden state [B, H], and the next state."""
        ...


class Policy(Protocol[State]):
    """A follower, or several that decide together."""

    training: bool

    def train(self, mode: bool = True) -> object:
        """Training mode on or off."""
        ...

    def eval(self) -> object:
        """Training mode off."""
        ...

    def read(self, ids_BL: Tensor, lengths_B: Tensor) -> State:
        """The state before the first decision; lengths on the CPU."""
        ...

    def fold(self) -> FoldedPolicy[State]:
        """What decides, for one forward pass."""
        ...

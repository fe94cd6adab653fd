"""Several followers that decide together, as if they were one.

Legend: B rows, L tokens, K candidates + 1, H hidden.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agent.follower import Folded, Follower, Recurrent, Sight
from agent.loading import TrainedFollower, described


class Joint(NamedTuple):
    """What every member carries from decision to decision."""

    members: tuple[Recurrent, ...]

    def rows(self, index: Tensor) -> Joint:
        """The same for some rows of the batch."""
        return Joint(tuple(member.rows(index) for member in self.members))


class Ensemble(nn.Module):
    """Followers whose action probabilities are averaged at every step; has the interface of one (`policy.Policy`).

    The mean of probabilities is what sequence models are joined by (fairseq's `EnsembleModel`): the ensemble's
    distribution is a mixture, so its logits are log-probabilities. Members may differ in size.
    """

    def __init__(self, followers: Sequence[Follower]) -> None:
        super().__init__()
        self.followers = nn.ModuleList(followers)

    def read(self, ids_BL: Tensor, lengths_B: Tensor) -> Joint:
        """The instructions as every member reads them."""
        return Joint(tuple(follower.read(ids_BL, lengths_B) for follower in self._members()))

    def fold(self) -> FoldedEnsemble:
        """The members for one forward pass."""
        return FoldedEnsemble([follower.fold() for follower in self._members()])

    def _members(self) -> list[Follower]:
        return [follower for follower in self.followers if isinstance(follower, Follower)]


class FoldedEnsemble:
    """See `Ensemble.fold`."""

    def __init__(self, members: Sequence[Folded]) -> None:
        self.members = members

    def step(self, state: Joint, sight: Sight) -> tuple[Tensor, Tensor, Joint]:
        """One decision: log-probabilities [B, K] (-inf outside the mask), the hidden states of the members side by side
        [B, sum of H], and the next state."""
        steps = [member.step(own, sight) for member, own in zip(self.members, state.members, strict=True)]
        log_probs = torch.stack([F.log_softmax(logits.float(), 1) for logits, _, _ in steps])
        mean = (torch.logsumexp(log_probs, 0) - math.log(len(steps))).clamp(max=0.0)
        return mean, torch.cat([hidden for _, hidden, _ in steps], 1), Joint(tuple(next_ for _, _, next_ in steps))


def check_alike(members: Sequence[TrainedFollower], names: Sequence[Path]) -> None:
    """ValueError, which names the difference, for followers that do not read the same words, see the same, or were
    made for the same data set. `names`: their checkpoints."""
    first, *others = members
    for other, name in zip(others, names[1:], strict=True):
        for what, one, two in _compared(first, other):
            if one != two:
                raise ValueError(
                    f"{name} and {names[0]} cannot decide together, their {what} differ: {two} and {one}; "
                    "expected followers of one data set with equal words, features and angles: evaluate them alone, "
                    "or train them alike"
                )


def _compared(one: TrainedFollower, two: TrainedFollower) -> list[tuple[str, object, object]]:
    """What must be equal, described: (what, of the one, of the other)."""
    words, others = one.tokenizer.vocabulary, two.tokenizer.vocabulary
    unlike = len(set(words) ^ set(others))
    sizes = [f"{len(words):,} words", f"{len(others):,} words ({unlike:,} not in both)"]
    rows: list[tuple[str, object, object]] = [
        ("data sets", one.env, two.env),
        ("vocabularies", sizes[0], sizes[0] if words == others else sizes[1]),
        ("features", described(one.origin), described(two.origin)),
    ]
    settings = {
        "longest instructions in tokens (--max-words)": "max_words",
        "orders of candidates (--candidate-order)": "candidate_order",
        "elevation angles (--elevation-base)": "elevation_base",
        "most actions of an episode (--max-steps)": "max_steps",
    }
    return rows + [(what, getattr(one.config, name), getattr(two.config, name)) for what, name in settings.items()]

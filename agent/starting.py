"""A run that starts from the weights of a trained follower instead of random ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from agent.follower import Follower
from agent.loading import check_unseen, described, load_trained
from agent.run_parts import Parts

DROPOUTS = ("dropout", "feature_dropout")
"""Sizes that another run may have otherwise: no weight depends on them."""


def start_from(run: Path, follower: Follower, parts: Parts, pre_explore: bool = False) -> None:
    """Give the follower the weights of a run (its best checkpoint) or of a checkpoint file; nothing else of that run:
    neither its optimizer nor its step.

    Raises ValueError for other sizes, words or features, for a run in a building that is judged as unseen, and without
    `pre_explore` for one that has explored unseen buildings.
    """
    trained = load_trained(run, parts.train.ids.device)
    known, words = trained.tokenizer.vocabulary, parts.tokenizer.vocabulary
    if known != words:
        raise ValueError(
            f"--start-from {run} knows {len(known)} words, this run {len(words)}, and they differ; expected the same: "
            f"give --vocabulary {run}/vocab.txt (or its subwords.json with --tokenizer subwords)"
        )
    if trained.origin != parts.origin:
        raise ValueError(
            f"--start-from {run} was trained with the features {described(trained.origin)}, this run has "
            f"{described(parts.origin)}; expected the same --features"
        )
    found, expected = dataclasses.asdict(trained.model.sizes), dataclasses.asdict(follower.sizes)
    wrong = [name for name in expected if name not in DROPOUTS and found[name] != expected[name]]
    if wrong:
        pairs = ", ".join(f"{name} {found[name]} instead of {expected[name]}" for name in wrong)
        raise ValueError(f"--start-from {run} has {pairs}; expected a follower of the sizes of this run")
    if trained.explored and not pre_explore:
        raise ValueError(
            f"--start-from {run} has explored {len(trained.explored)} unseen buildings (--pre-explore); expected a "
            "follower that has not, or --pre-explore here too, so that the checkpoints say so"
        )
    for name, split in parts.judged.items():
        check_unseen(trained, name, split.world)
    follower.load_state_dict(trained.model.state_dict())

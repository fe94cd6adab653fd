"""The configuration of back-translation: where generated routes and instructions come from, how they are learned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from clip_core.decoder import Search


@dataclass(frozen=True)
class AugmentConfig:
    """Back-translation with environmental dropout (arXiv 1904.04195): every second batch holds new routes with
    instructions that a speaker wrote. Off without --augment-speaker and --augment-routes."""

    speaker: Annotated[Path | None, tyro.conf.arg(name="augment-speaker")] = None
    """Learn from new routes too, every second batch; this speaker writes their instructions, batch by batch. A run
    folder of `agent.train --train speaker`, with the words and the features of the follower."""
    routes: Annotated[Path | None, tyro.conf.arg(name="augment-routes")] = None
    """A file of routes in R2R's format, in the buildings of train. With --augment-speaker its instructions are ignored
    (R2R-EnvDrop's aug_paths.json); without, they are what is learned (`python -m agent.speak --sample-routes` writes
    such a file once). Default: routes are sampled."""
    count: Annotated[int, tyro.conf.arg(name="augment-count")] = 20_000
    """Routes to sample from the graphs of the buildings of train, with the statistics of its routes."""
    weight: Annotated[float, tyro.conf.arg(name="augment-weight")] = 0.6
    """Weight of the imitation loss beside A2C in generated batches; --imitation-weight is that of the others."""
    search: Annotated[Literal["greedy", "sample"], tyro.conf.arg(name="augment-search")] = "greedy"
    """How the speaker writes: the likeliest words (R2R-EnvDrop), or drawn, so that a route is told anew each time."""
    temperature: Annotated[float, tyro.conf.arg(name="augment-temperature")] = 1.0
    """With --augment-search sample: below 1 bolder towards the likeliest words, above 1 more varied."""
    env_dropout: float = 0.4
    """Share of the feature channels that a generated batch is without, for speaker and follower alike, in place of the
    follower's --feature-dropout; 0: that instead."""
    pre_explore: bool = False
    """Sample the routes in the buildings of the unseen splits INSTEAD: what the field calls pre-exploration. Their
    graphs are walked, no human instruction of them is read. A result with it is not one on unseen buildings."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"augment_count is {self.count}: expected 1 or more")
        if not 0 <= self.env_dropout < 1:
            raise ValueError(f"env_dropout is {self.env_dropout}: expected 0 or more and less than 1")
        if self.weight < 0:
            raise ValueError(f"augment_weight is {self.weight}: expected 0 or more")
        if self.pre_explore and not self.active:
            raise ValueError("pre_explore goes with back-translation: name a speaker with --augment-speaker RUN")
        self.how()

    @property
    def active(self) -> bool:
        """Whether there are generated batches."""
        return self.speaker is not None or self.routes is not None

    def how(self) -> Search:
        """The search that the flags describe."""
        return Search(self.search, self.temperature)

"""Back-translation with environmental dropout: every second batch holds new routes that a speaker tells about.

Legend: B episodes of a batch, L tokens, D visual feature.

Tan, Yu, Bansal 2019 (arXiv 1904.04195) and their code (R2R-EnvDrop's `agent.py`: `rollout(speaker=...)`, `train.py`),
which is followed in this:

- One mask of feature channels per batch, scaled up by 1 / (1 - p), shared by all views and candidates of all its
  episodes: as if other objects stood in the buildings. The speaker reads the routes under it, in eval mode otherwise;
  the follower walks under it, and its own dropout of features is off then (`already_dropfeat`). Angles stay.
- Imitation counts 0.2 beside A2C in batches of people's instructions, 0.6 in generated ones. Imitation alone stays as
  it is in both.
- The speaker writes the likeliest words and stays as it was trained.

Their run/bt_envdrop.bash adds the gradients of one batch of each kind before an update; `--accumulate 2` does that here
(it averages where they add, which RMSprop does not notice). Without, updates alternate. They draw a mask for the batch
of imitation and another for that of A2C; here both are one batch, which has one mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agent.augment_config import AugmentConfig
from agent.config import FollowerConfig
from agent.data import Split
from agent.follower import Follower
from agent.objectives import Batch, FollowerObjective
from agent.routes import Routes
from agent.sight import Eyes
from agent.speaker import Speaker
from clip_core.decoder import Search, Symbols
from clip_core.tokenizer import Tokenizer

GENERATED_SEED = 2**31
"""Added to the seed of the run for the order of the generated batches."""


@dataclass(frozen=True, eq=False)
class Author:
    """A frozen speaker with the routes of a split, which it writes about. unwritten: ids that it never writes."""

    speaker: Speaker
    routes: Routes
    tokenizer: Tokenizer
    search: Search
    unwritten: tuple[int, ...] = ()

    @torch.no_grad()
    def write(self, eyes: Eyes, split: Split, episodes: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Instructions for some episodes [B] (CPU) of the split: ids [B, L] on its device, lengths [B] on the CPU, as
        `Tokenizer.encode_batch` gives them. `seed`: of the words drawn, where they are."""
        device, room = split.ids.device, self.tokenizer.max_length
        generator = torch.Generator(device).manual_seed(seed)
        context = self.speaker.read(eyes, split.tables, self.routes.rows(episodes))
        symbols = Symbols.of(self.tokenizer)
        symbols = replace(symbols, never=(*symbols.never, *self.unwritten))
        written = self.speaker.write(context, symbols, room, self.search, generator)
        ids = nn.functional.pad(written.ids, (0, room - written.ids.shape[1]), value=self.tokenizer.pad_id)
        return ids, written.lengths.cpu()  # on a device: a sync


class BackTranslation(FollowerObjective):
    """The follower's objective with a generated batch after each batch of people's instructions.

    `generated`: the routes to draw from; with an `author` (in eval mode) its instructions count, without one those that
    the split has. What a batch holds, its mask and its words are a pure function of seed and position, the mask the
    same on all ranks.
    """

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
        *,
        generated: Split,
        author: Author | None,
        augment: AugmentConfig,
    ) -> None:
        super().__init__(follower, eyes, train, judged, config, seed, rank, world, best_by)
        self.generated, self.author, self.augment = generated, author, augment
        # One object for the masks of all batches: a compiled step would be compiled anew for another.
        self.masked_eyes = eyes.masked(torch.ones(follower.sizes.feature, device=generated.ids.device))

    def batches(self, start: int) -> Iterator[Batch]:
        """Alternately a batch of train and a generated one, each kind in shuffled epochs of its own."""
        real = super().batches((start + 1) // 2)
        generated = self.batches_of(self.generated, self.seed + GENERATED_SEED, start // 2)
        position = start
        while True:
            yield next(generated)._replace(generated=position) if position % 2 else next(real)
            position += 1

    def forward(self, batch: Batch) -> dict[str, Any]:
        """A rollout and its losses; of a generated batch the report has names of its own."""
        if batch.generated is None:
            return super().forward(batch)
        split, eyes, own_dropout = self.generated, self.eyes, True
        if self.follower.sizes.feature and self.augment.env_dropout:
            size, share = self.follower.sizes.feature, self.augment.env_dropout
            mask = channel_mask(size, share, np.random.default_rng((self.seed, batch.generated)))
            self.masked_eyes.channels = mask.to(split.ids.device)
            eyes, own_dropout = self.masked_eyes, False
        if self.author is None:
            ids, lengths = split.ids[batch.episodes.to(split.ids.device)], split.lengths[batch.episodes]
        else:
            seed = int(np.random.default_rng((self.seed, batch.generated, self.rank)).integers(2**62))
            ids, lengths = self.author.write(eyes, split, batch.episodes, seed)
        with feature_dropout(self.follower, own_dropout):
            answer = self.learn(batch, split, ids, lengths, eyes, self.augment.weight)
        losses = ("loss", "weight")
        report = {f"generated_{name}": value for name, value in answer.items() if name not in losses}
        return {name: answer[name] for name in losses} | report | {"generated_words": lengths.double().mean() - 2}


def channel_mask(size: int, share: float, rng: np.random.Generator) -> Tensor:
    """[D] float32: 0 for a share of the channels on average, 1 / (1 - share) for the others."""
    return torch.from_numpy((rng.random(size) >= share) / np.float64(1 - share)).float()


@contextmanager
def feature_dropout(follower: Follower, on: bool) -> Iterator[None]:
    """The follower with its dropout of features as it is, or off in the body."""
    before = follower.drop_feature.training
    follower.drop_feature.train(before and on)
    try:
        yield
    finally:
        follower.drop_feature.train(before)

"""What every training run loads: splits, tokenizer, what the agent sees with."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from torch import nn

from agent.config import NO_FEATURES, FollowerConfig, LrDecay, RunConfig
from agent.data import Split, load_eyes, load_splits, load_worlds
from agent.sight import Eyes
from agent.speaker_config import SpeakerConfig
from clip_core.optim import Schedule, constant, warmup_cosine
from clip_core.reading import make_tokenizer
from clip_core.runtime import Runtime
from clip_core.tokenizer import Tokenizer
from envs.episodes import existing_splits

LAST_RATE = 0.02
"""Of the learning rate, at the last step of --lr-decay cosine."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Train split, judged splits by name, tokenizer, eyes with their visual feature size, and where the features come
    from (None when blind)."""

    train: Split
    judged: dict[str, Split]
    tokenizer: Tokenizer
    eyes: Eyes
    feature: int
    origin: dict[str, Any] | None

    @property
    def scans(self) -> list[str]:
        """The buildings of the train split."""
        return sorted({e.scan for e in self.train.world.episodes})

    def sizes(self, model: FollowerConfig | SpeakerConfig) -> dict[str, Any]:
        """What the sizes of a follower and of a speaker have in common."""
        chosen = {name: getattr(model, name) for name in ("word", "hidden", "angle", "dropout", "feature_dropout")}
        return {"words": len(self.tokenizer), "feature": self.feature, **chosen}


def load_parts(config: RunConfig, model: FollowerConfig | SpeakerConfig, runtime: Runtime, **options: str) -> Parts:
    """Everything that a run reads, on its device; `data` and `features` of the config are set. options: those of
    `build_world`."""
    assert config.data is not None
    assert config.features is not None
    judged = existing_splits(config.data, config.env, config.eval_splits)
    names = ["train", *judged]
    worlds = load_worlds(config.data, config.connectivity, config.env, names, languages=config.languages, **options)
    texts = (e.instruction for e in worlds["train"].episodes)
    tokenizer = make_tokenizer(
        config.tokenizer, config.vocabulary, texts, model.min_word_count, config.subwords, model.max_words
    )
    splits = load_splits(worlds, tokenizer, runtime.device)
    eyes, feature, origin = load_eyes(config.features, worlds["train"], runtime.device)
    train = splits.pop("train")
    # As a checkpoint gives it back, to be compared with what another run saw.
    return Parts(train, splits, tokenizer, eyes, feature, json.loads(json.dumps(origin)))


def learning_rate(decay: LrDecay, steps: int) -> Schedule:
    """How the learning rate goes in a run of so many steps."""
    return warmup_cosine(steps, floor=LAST_RATE) if decay == "cosine" else constant()


def describe(console: Console, config: RunConfig, parts: Parts, model: nn.Module, steps: int, runtime: Runtime) -> None:
    """One look at what is about to run."""
    parameters = sum(p.numel() for p in model.parameters())
    eyes = (
        "blind (no image features: route geometry and language alone)"
        if config.features == NO_FEATURES
        else escape(str(config.features))
    )
    console.print(
        f"[bold]{config.train}[/] on {config.env}: {len(parts.train.world.episodes):,} instructions in "
        f"{len(parts.scans)} buildings, "
        f"evaluated on {', '.join(parts.judged) or 'nothing (no such split in the data folder)'}\n"
        f"features: {eyes}; {parameters / 1e6:.1f} M parameters on {runtime.device}, {steps:,} steps, "
        f"run folder {escape(str(config.out))}",
        highlight=False,
    )

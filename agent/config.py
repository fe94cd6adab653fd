"""The agent's configuration: one frozen record, a preset per data set; the command line overlays it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from clip_core.trainer import TrainerConfig
from envs.navigation import MAX_STEPS


@dataclass(frozen=True)
class FollowerConfig:
    """The follower and how it learns; defaults are those published for R2R-EnvDrop (arXiv 1904.04195 and its code)."""

    objective: Literal["a2c", "imitation"] = "a2c"
    """a2c: imitation (teacher forcing) and A2C on sampled routes in one update; imitation: imitation alone."""
    feedback: Literal["teacher", "student"] = "teacher"
    """With --objective imitation: walk the teacher's actions, or sample own ones and learn the teacher's beside them."""
    batch: int = 64
    """Episodes per update of each kind: with a2c as many for imitation and as many for sampled routes."""
    max_steps: int = MAX_STEPS
    """Most actions of an episode."""
    lr: float = 1e-4
    """Learning rate of RMSprop."""
    clip: float = 40.0
    """Largest gradient norm of the encoder, and of the decoder; the critic is not clipped."""
    imitation_weight: float = 0.2
    """Weight of the imitation loss beside A2C."""
    gamma: float = 0.9
    """Discount of rewards per step."""
    entropy_weight: float = 0.01
    """Weight of the entropy bonus of A2C."""
    hidden: int = 512
    """Size of the decoder's state; the bidirectional encoder has half of it per direction."""
    word: int = 256
    """Size of a word embedding."""
    dropout: float = 0.5
    """Dropout of states and words."""
    feature_dropout: float = 0.3
    """Dropout of visual features (not of angles)."""
    angle: int = 128
    """Size of the angle feature: 128 (R2R-EnvDrop: four numbers 32 times) or 4 (VLN-DUET)."""
    candidate_order: Literal["sweep", "graph"] = "sweep"
    """Order of the candidates: of the originals' sweep over 36 views, or of the connectivity file."""
    elevation_base: Literal["horizon", "view"] = "horizon"
    """Candidate elevations from the horizon (R2R-EnvDrop) or from the agent's view (VLN-DUET)."""
    min_word_count: int = 5
    """Words of train that occur less often become <UNK>."""
    max_words: int = 80
    """Longest instruction in tokens, begin and end included."""


@dataclass(frozen=True)
class TrainConfig:
    """Train an instruction follower and evaluate it on buildings that it has not seen.

    Example: python -m agent.train --env r2r --data R2R --connectivity CONNECTIVITY --features none --out runs/blind

    Writes into --out: log.jsonl, curves.png, last and best checkpoint, routes.png (sample routes), vocab.txt.
    A killed run goes on with the same command and --resume.
    """

    env: Literal["r2r"] = "r2r"
    """Data set; chooses the defaults of everything below."""
    data: Path | None = None
    """Folder of R2R_train.json and its other splits (docs/data.md). Default: what CLIPNAV_DATA names."""
    connectivity: Path | None = None
    """Folder of the navigation graphs. Default: connectivity/ in the data folder or beside it."""
    features: str = "none"
    """Feature store (a folder made by `python -m precompute`), or none: a blind agent of route geometry and language."""
    out: Path = Path("runs/follower")
    """Run folder."""
    resume: bool = False
    """Go on with the run in --out."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    eval_splits: tuple[str, ...] = ("val_seen", "val_unseen")
    """Splits to evaluate on; those that the data folder lacks are left out. The best checkpoint is that with the highest
    success on the last of them, as the field chooses it."""
    follower: Annotated[FollowerConfig, tyro.conf.arg(name="")] = field(default_factory=FollowerConfig)
    trainer: Annotated[TrainerConfig, tyro.conf.arg(name="")] = field(default_factory=TrainerConfig)


def r2r() -> TrainConfig:
    """Room-to-Room, as R2R-EnvDrop trains on it, for as long as two CPU cores allow in a working day."""
    return TrainConfig(env="r2r", trainer=TrainerConfig(steps=20_000, eval_every=500, save_every=250))


PRESETS = {"r2r": r2r}

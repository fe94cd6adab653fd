"""The agent's configuration: one frozen record, a preset per data set; the command line overlays it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from clip_core.runtime import Precision
from clip_core.trainer import TrainerConfig
from envs.metrics import SplBy
from envs.navigation import MAX_STEPS

NO_FEATURES = "none"
"""The feature store of a blind agent."""


@dataclass(frozen=True)
class FollowerConfig:
    """The follower and how it learns; defaults are those published for R2R-EnvDrop (arXiv 1904.04195 and its code)."""

    objective: Literal["a2c", "imitation"] = "a2c"
    """a2c: imitation (teacher forcing) and A2C on sampled routes in one update; imitation: imitation alone."""
    feedback: Literal["teacher", "student"] = "teacher"
    """With --objective imitation: walk the teacher's actions, or sample own ones and learn the teacher's beside."""
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

    def __post_init__(self) -> None:
        whole = {"batch": 1, "max_steps": 1, "hidden": 2, "word": 1, "angle": 4, "min_word_count": 1, "max_words": 2}
        for name, least in whole.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: expected {least} or more")
        for name, divisor, why in (("hidden", 2, "two directions"), ("angle", 4, "four numbers of an angle, repeated")):
            if getattr(self, name) % divisor:
                raise ValueError(f"{name} is {getattr(self, name)}: expected a multiple of {divisor} ({why})")
        for name in ("dropout", "feature_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected 0 or more and less than 1")
        if self.objective == "a2c" and self.feedback != "teacher":
            raise ValueError(
                f"feedback is {self.feedback!r} with the objective a2c: it goes with --objective imitation"
            )


@dataclass(frozen=True)
class TrainConfig:
    """Train an instruction follower and evaluate it on buildings that it has not seen.

    Example: python -m agent.train --env r2r --data R2R --connectivity CONNECTIVITY --features none --out runs/blind

    Writes into --out: log.jsonl, curves.png, last and best checkpoint, routes_SPLIT.png (sample routes), vocab.txt.
    A killed run goes on with the same command and --resume.
    """

    env: Literal["r2r"] = "r2r"
    """Data set; chooses the defaults of everything below."""
    data: Path | None = None
    """Folder of R2R_train.json and its other splits (docs/data.md). Default: what CLIPNAV_DATA names."""
    connectivity: Path | None = None
    """Folder of the navigation graphs. Default: connectivity/ in the data folder or beside it."""
    features: str = NO_FEATURES
    """Feature store (a folder of `python -m precompute`), or none: a blind agent of route geometry and language."""
    vocabulary: Path | None = None
    """Words of the tokenizer, one a line, as R2R-EnvDrop's train_vocab.txt. Default: counted in the train split."""
    out: Path = Path("runs/follower")
    """Run folder."""
    resume: bool = False
    """Go on with the run in --out."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    eval_splits: tuple[str, ...] = ("val_seen", "val_unseen")
    """Splits to evaluate on; those that the data folder lacks are left out. The best checkpoint is that with the
    highest success on the last of them, as the field chooses it."""
    follower: Annotated[FollowerConfig, tyro.conf.arg(name="")] = field(default_factory=FollowerConfig)
    trainer: Annotated[TrainerConfig, tyro.conf.arg(name="")] = field(default_factory=TrainerConfig)


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a trained follower, one of the field's simple policies, or a file of predictions on a split.

    Example: python -m agent.evaluate --data R2R --connectivity CONNECTIVITY --split val_unseen --checkpoint runs/blind

    Give exactly one of --checkpoint, --policy, --predictions. Prints metrics in metres and percent; --json keeps metres
    and fractions. A test split has no goals: it can be written with --submission, or checked with --predictions.
    """

    env: Literal["r2r"] = "r2r"
    """Data set."""
    data: Path | None = None
    """Folder of R2R_{split}.json (docs/data.md). Default: what CLIPNAV_DATA names."""
    connectivity: Path | None = None
    """Folder of the navigation graphs. Default: connectivity/ in the data folder or beside it."""
    split: str = "val_unseen"
    """Split to evaluate on."""
    checkpoint: Path | None = None
    """A run folder of agent.train (its best checkpoint), or one checkpoint file."""
    policy: Literal["shortest", "random", "stop"] | None = None
    """shortest: the shortest path to the goal; random: a random heading, then five moves forward; stop: stay."""
    predictions: Path | None = None
    """A predictions file in the format of EvalAI's R2R challenge, .json or .json.gz; checked before it is scored."""
    features: str = NO_FEATURES
    """With --checkpoint: the feature store that the agent sees with; it must be as the one of its training."""
    json: Path | None = None
    """Write the metrics, overall and of every instruction, to this file."""
    submission: Path | None = None
    """Write the routes to this file in the format of EvalAI's R2R challenge, and check it."""
    routes: Path | None = None
    """Draw some routes, drawn at random by --seed, from above into this PNG."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "fp32"
    """bf16: matrix products in bfloat16 (autocast)."""
    seed: int = 0
    """Seed of --policy random and of the choice of --routes."""
    seeds: int = 1
    """With --policy random: mean over so many seeds, from --seed on."""
    spl_by: SplBy = "shortest"
    """Denominator of SPL: the shortest distance (R2R's evaluator) or the length of the reference route (HAMT, DUET);
    on R2R they are equal."""
    keep_repeats: bool = False
    """Count a turn on the spot as a step, as the public evaluators do (changes steps, nDTW, SDTW)."""


def r2r() -> TrainConfig:
    """Room-to-Room, as R2R-EnvDrop trains on it, for as long as two CPU cores allow in a working day."""
    return TrainConfig(env="r2r", trainer=TrainerConfig(steps=20_000, eval_every=500, save_every=250))


PRESETS = {"r2r": r2r}

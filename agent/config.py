"""The agent's configuration: one frozen record, a preset per data set; the command line overlays it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agent.reading import TokenizerKind
from clip_core.runtime import Precision
from clip_core.subword_tokenizer import SIZE
from clip_core.trainer import TrainerConfig
from envs.metrics import SplBy
from envs.navigation import MAX_STEPS

NO_FEATURES = "none"
"""The feature store of a blind agent."""
DataSet = Literal["r2r", "r4r", "rxr"]
BestBy = Literal["success", "spl", "ndtw", "sdtw"]


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
        check_sizes(self, whole)
        if self.objective == "a2c" and self.feedback != "teacher":
            raise ValueError(
                f"feedback is {self.feedback!r} with the objective a2c: it goes with --objective imitation"
            )


def check_sizes(config: object, least: Mapping[str, int]) -> None:
    """ValueError for a number that a follower or a speaker cannot have. `least`: field -> its smallest value."""
    for name, value in least.items():
        if getattr(config, name) < value:
            raise ValueError(f"{name} is {getattr(config, name)}: expected {value} or more")
    for name, divisor, why in (("hidden", 2, "two directions"), ("angle", 4, "four numbers of an angle, repeated")):
        if getattr(config, name) % divisor:
            raise ValueError(f"{name} is {getattr(config, name)}: expected a multiple of {divisor} ({why})")
    for name in ("dropout", "feature_dropout"):
        if not 0 <= getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}: expected 0 or more and less than 1")


@dataclass(frozen=True)
class RunConfig:
    """What every training run needs, whatever it trains."""

    train: Literal["follower", "speaker"] = "follower"
    """What to train: follower (an instruction becomes a route) or speaker (a route becomes an instruction); chooses
    which flags there are (--train speaker --help)."""
    env: DataSet = "r2r"
    """Data set; chooses the defaults of everything below. r4r: longer routes, made by `python -m envs.r4r`; rxr: three
    languages."""
    data: Path | None = None
    """Folder of R2R_train.json (R4R_train.json, rxr_train_guide.jsonl.gz) and its other splits (docs/data.md). Default:
    the built-in procedural houses, made on first use."""
    connectivity: Path | None = None
    """Folder of the navigation graphs. Default: connectivity/ in the data folder or beside it."""
    features: str | None = None
    """Feature store (a folder of `python -m precompute`), or none: a blind agent of route geometry and language.
    Default: none with --data, what the embedded CLIP sees in the built-in houses."""
    vocabulary: Path | None = None
    """Words of the tokenizer, one a line, as R2R-EnvDrop's train_vocab.txt; with --tokenizer subwords the subwords.json
    of another run. Default: from the train split."""
    tokenizer: TokenizerKind = "words"
    """words: lower-case words as R2R-EnvDrop splits them; subwords: pieces of words, for Hindi and Telugu too."""
    subwords: int = SIZE
    """With --tokenizer subwords: pieces in the vocabulary."""
    languages: tuple[str, ...] = ()
    """Of RxR: learn and judge in these alone (en, hi, te, or a tag like en-US). Default: all."""
    out: Path = Path("runs/follower")
    """Run folder."""
    resume: bool = False
    """Go on with the run in --out."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    eval_splits: tuple[str, ...] = ("val_seen", "val_unseen")
    """Splits to evaluate on; those that the data folder lacks are left out. The best checkpoint is that with the
    highest --best-by (of a speaker: BLEU-4) on the last of them, as the field chooses it."""


@dataclass(frozen=True)
class TrainConfig(RunConfig):
    """Train an instruction follower and evaluate it on buildings that it has not seen.

    For example:

      python -m agent.train --env r2r --out runs/houses
      python -m agent.train --env r2r --data R2R --connectivity CONNECTIVITY --features none --out runs/blind

    The first trains in built-in procedural houses, with a smaller follower and more haste than on real buildings.
    Writes into --out: log.jsonl, curves.png, last and best checkpoint, table.json (the metrics beside those of simple
    policies), routes_SPLIT.png (sample routes), vocab.txt or subwords.json.
    A killed run goes on with the same command and --resume.
    """

    best_by: BestBy = "success"
    """Metric that chooses the best checkpoint, on the last of --eval-splits; on r4r and rxr ndtw, since there the route
    counts, not the goal alone."""
    blind_twin: bool = False
    """Then train the same follower blind into OUT/blind, and put it into the table: what is seeing worth?"""
    follower: Annotated[FollowerConfig, tyro.conf.arg(name="")] = field(default_factory=FollowerConfig)
    trainer: Annotated[TrainerConfig, tyro.conf.arg(name="")] = field(default_factory=TrainerConfig)


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a trained follower, one of the field's simple policies, or a file of predictions on a split.

    Example: python -m agent.evaluate --data R2R --connectivity CONNECTIVITY --split val_unseen --checkpoint runs/blind

    Give exactly one of --checkpoint, --policy, --predictions. Prints metrics in metres and percent; --json keeps metres
    and fractions. A test split has no goals: it can be written with --submission, or checked with --predictions.
    """

    env: DataSet = "r2r"
    """Data set."""
    data: Path | None = None
    """Folder of R2R_{split}.json (docs/data.md). Default: the built-in procedural houses, made on first use."""
    connectivity: Path | None = None
    """Folder of the navigation graphs. Default: connectivity/ in the data folder or beside it."""
    split: str = "val_unseen"
    """Split to evaluate on."""
    languages: tuple[str, ...] = ()
    """Of RxR: instructions in these alone (en, hi, te, or a tag like en-US). Default: all."""
    checkpoint: Path | None = None
    """A run folder of agent.train (its best checkpoint), or one checkpoint file."""
    policy: Literal["shortest", "random", "stop"] | None = None
    """shortest: the shortest path to the goal; random: a random heading, then five moves forward; stop: stay."""
    predictions: Path | None = None
    """A predictions file in the format of EvalAI's R2R challenge, .json or .json.gz; checked before it is scored."""
    features: str | None = None
    """With --checkpoint: the feature store that the agent sees with; it must be as the one of its training. Default:
    in the built-in houses that of the embedded CLIP for an agent that sees; else none."""
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


def r4r() -> TrainConfig:
    """Room-for-Room: R2R's settings, with room for instructions of twice the length (one in a thousand is cut)."""
    return replace(r2r(), env="r4r", best_by="ndtw", follower=FollowerConfig(max_words=160))


def rxr() -> TrainConfig:
    """Room-across-Room as CLIP-ViL trains on it (its run/agent_rxr_clip_vit_en.bash), in all languages at once."""
    return replace(
        r2r(),
        env="rxr",
        best_by="ndtw",
        tokenizer="subwords",
        follower=FollowerConfig(max_words=160, imitation_weight=0.4),
    )


def houses() -> TrainConfig:
    """The built-in houses: a small follower that has learned something after some minutes on two CPU cores."""
    return TrainConfig(
        env="r2r",
        out=Path("runs/houses"),
        blind_twin=True,
        follower=FollowerConfig(
            objective="imitation",
            hidden=256,
            word=128,
            lr=5e-4,
            dropout=0.2,
            feature_dropout=0.1,
            min_word_count=1,
        ),
        trainer=TrainerConfig(steps=1500, eval_every=250, save_every=250),
    )


PRESETS = {"r2r": r2r, "r4r": r4r, "rxr": rxr}
"""By --env, where --data names a folder."""
BUILT_IN = {"r2r": houses}
"""By --env, without --data."""

"""The agent's configuration: one frozen record, a preset per data set; the command line overlays it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agent.augment_config import AugmentConfig
from clip_core.reading import TokenizerKind
from clip_core.subword_tokenizer import SIZE
from clip_core.trainer import TrainerConfig
from envs.navigation import MAX_STEPS
from envs.teacher import Teacher

NO_FEATURES = "none"
"""The feature store of a blind agent."""
DataSet = Literal["r2r", "r4r", "rxr"]
BestBy = Literal["success", "spl", "ndtw", "sdtw"]
Recipe = Literal["envdrop", "layout"]
LrDecay = Literal["none", "cosine"]


@dataclass(frozen=True)
class FollowerConfig:
    """The follower and how it learns; defaults are those published for R2R-EnvDrop (arXiv 1904.04195 and its code)."""

    objective: Literal["a2c", "imitation"] = "a2c"
    """a2c: imitation (teacher forcing) and A2C on sampled routes in one update; imitation: imitation alone."""
    feedback: Literal["teacher", "student", "mixed"] = "teacher"
    """With --objective imitation: walk the teacher's actions; or sample own ones and learn the teacher's beside; or
    half of the batch in either way (as DAgger and VLN-DUET: it learns to come back from its own mistakes)."""
    teacher: Teacher = "shortest"
    """shortest: the shortest path to the goal, as R2R-EnvDrop; route: the annotated route and, off it, the shortest way
    back to where it was left. The default of r4r and rxr is route: there the shortest path is not what the instruction
    says (R4R was made to show that; HAMT and DUET teach its routes, too). On R2R both are the same along the route."""
    batch: int = 64
    """Episodes per update of each kind: with a2c as many for imitation and as many for sampled routes."""
    max_steps: int = MAX_STEPS
    """Most actions of an episode."""
    lr: float = 1e-4
    """Learning rate of RMSprop."""
    lr_decay: LrDecay = "none"
    """cosine: the learning rate falls in half a cosine to a fiftieth at the last step."""
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
    layout: int = 0
    """Size of the layout vectors: what the follower makes of all ways around it and of their lengths (agent/layout.py).
    0: none, as R2R-EnvDrop."""
    way_back_penalty: float = 0.0
    """With --layout: what is taken off the logit of the way back when the follower is judged or used, not while it
    learns: half of its training walks are drawn and go astray, so it learns to turn more often than its best walks
    need (docs/results.md)."""
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
        whole = {
            "layout": 0,
            "batch": 1,
            "max_steps": 1,
            "hidden": 2,
            "word": 1,
            "angle": 4,
            "min_word_count": 1,
            "max_words": 2,
        }
        check_sizes(self, whole)
        check_way_back_penalty(self.way_back_penalty, self.layout)
        if self.objective == "a2c" and self.feedback != "teacher":
            raise ValueError(
                f"feedback is {self.feedback!r} with the objective a2c, which walks the teacher's actions and samples "
                "of its own: it goes with --objective imitation, a2c with --recipe envdrop"
            )


def check_way_back_penalty(penalty: float, layout: int) -> None:
    """ValueError for a penalty that cannot be: a reward, or one for a follower that does not know the way back."""
    if penalty < 0:
        raise ValueError(f"way_back_penalty is {penalty}: expected 0 or more")
    if penalty and not layout:
        raise ValueError(
            f"way_back_penalty is {penalty} for a follower without a layout, which does not know the way back; "
            "expected --layout 64 or --recipe layout in training"
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

    recipe: Recipe = "envdrop"
    """Chooses defaults below. envdrop: the follower of R2R-EnvDrop as published. layout: ours, better in a tenth of the
    time (docs/results.md): --objective imitation --feedback mixed --layout 64, a higher, falling learning rate, less
    dropout, at most 15 actions on R2R. Default: envdrop, without --data layout."""
    best_by: BestBy = "success"
    """Metric that chooses the best checkpoint, on the last of --eval-splits; on r4r and rxr ndtw, since there the route
    counts, not the goal alone."""
    blind_twin: bool = False
    """Then train the same follower blind into OUT/blind, and put it into the table: what is seeing worth?"""
    start_from: Path | None = None
    """Start from the weights of this run (its best checkpoint) or checkpoint file, of a follower of the same sizes,
    words and features, as R2R-EnvDrop's back-translation starts from a trained agent."""
    follower: Annotated[FollowerConfig, tyro.conf.arg(name="")] = field(default_factory=FollowerConfig)
    augment: Annotated[AugmentConfig, tyro.conf.arg(name="")] = field(default_factory=AugmentConfig)
    trainer: Annotated[TrainerConfig, tyro.conf.arg(name="")] = field(default_factory=TrainerConfig)


def r2r() -> TrainConfig:
    """Room-to-Room, as R2R-EnvDrop trains on it, for as long as two CPU cores allow in a working day."""
    return TrainConfig(env="r2r", trainer=TrainerConfig(steps=20_000, eval_every=500, save_every=250))


def r4r() -> TrainConfig:
    """Room-for-Room: R2R's settings, its routes taught, with room for instructions of twice the length (one in a
    thousand is cut)."""
    return replace(r2r(), env="r4r", best_by="ndtw", follower=FollowerConfig(teacher="route", max_words=160))


def rxr() -> TrainConfig:
    """Room-across-Room as CLIP-ViL trains on it (its run/agent_rxr_clip_vit_en.bash), in all languages at once, and
    with the annotated routes as the teacher, as HAMT: CLIP-ViL's rxr_src teaches the shortest paths."""
    return replace(
        r2r(),
        env="rxr",
        best_by="ndtw",
        tokenizer="subwords",
        follower=FollowerConfig(teacher="route", max_words=160, imitation_weight=0.4),
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


def by_layout(preset: TrainConfig) -> TrainConfig:
    """The recipe `layout` over a preset."""
    follower = replace(
        preset.follower,
        objective="imitation",
        feedback="mixed",
        layout=64,
        way_back_penalty=0.5,
        lr=4e-4,
        lr_decay="cosine",
        dropout=min(0.3, preset.follower.dropout),
        max_steps=15 if preset.env == "r2r" else preset.follower.max_steps,
    )
    steps = min(preset.trainer.steps, 2500)
    trainer = replace(preset.trainer, steps=steps, eval_every=250, save_every=250)
    return replace(preset, recipe="layout", follower=follower, trainer=trainer)


PRESETS = {"r2r": r2r, "r4r": r4r, "rxr": rxr}
"""By --env, where --data names a folder."""
BUILT_IN = {"r2r": houses}
"""By --env, without --data."""

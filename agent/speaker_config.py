"""The speaker's configuration: how it is trained, how it speaks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from agent.config import DataSet, LrDecay, RunConfig, check_sizes
from clip_core.decoder import Search
from clip_core.runtime import Precision
from clip_core.trainer import TrainerConfig


@dataclass(frozen=True)
class SpeakerConfig:
    """The speaker and how it learns; defaults are those published for R2R-EnvDrop (arXiv 1904.04195 and its code)."""

    batch: int = 64
    """Instructions per update."""
    lr: float = 1e-4
    """Learning rate of Adam."""
    lr_decay: LrDecay = "none"
    """cosine: the learning rate falls in half a cosine to a fiftieth at the last step."""
    clip: float = 40.0
    """Largest gradient norm of the encoder, and of the decoder."""
    hidden: int = 512
    """Size of the states; the bidirectional LSTMs have half of it per direction."""
    word: int = 256
    """Size of a word embedding."""
    dropout: float = 0.6
    """Dropout of states and words."""
    feature_dropout: float = 0.3
    """Dropout of visual features (not of angles)."""
    angle: int = 128
    """Size of the angle feature: 128 (R2R-EnvDrop: four numbers 32 times) or 4 (VLN-DUET)."""
    elevation_base: Literal["horizon", "view"] = "horizon"
    """Candidate elevations from the horizon (R2R-EnvDrop) or from the agent's view (VLN-DUET)."""
    min_word_count: int = 5
    """Words of train that occur less often become <UNK>, which is never written."""
    max_words: int = 80
    """Longest instruction in tokens, begin and end included."""

    def __post_init__(self) -> None:
        check_sizes(self, {"batch": 1, "hidden": 2, "word": 1, "angle": 4, "min_word_count": 1, "max_words": 2})


@dataclass(frozen=True)
class TrainSpeakerConfig(RunConfig):
    """Train a speaker, which writes an instruction for a route, and judge it in buildings that it has not seen.

    For example:

      python -m agent.train --env r2r --train speaker --out runs/speaker
      python -m agent.train --train speaker --data R2R --connectivity CONNECTIVITY --features none

    Writes into --out: log.jsonl, curves.png, last and best checkpoint, vocab.txt, and of the last weights: table.json
    (loss, word accuracy, BLEU-4, CIDEr beside nearest-route retrieval), spoken_SPLIT.json (instructions in R2R's
    format), spoken_SPLIT.png (some of them under their routes). Of RxR's languages each is written and judged for
    itself, the best checkpoint is that of their mean; --languages hi trains a speaker of one. A killed run goes on with
    the same command and --resume.
    """

    train: Literal["follower", "speaker"] = "speaker"
    """What to train: follower (an instruction becomes a route) or speaker (a route becomes an instruction); chooses
    which flags there are."""
    out: Path = Path("runs/speaker")
    """Run folder."""
    speaker: Annotated[SpeakerConfig, tyro.conf.arg(name="")] = field(default_factory=SpeakerConfig)
    trainer: Annotated[TrainerConfig, tyro.conf.arg(name="")] = field(default_factory=TrainerConfig)


@dataclass(frozen=True)
class SpeakConfig:
    """Write instructions for the routes of a split with a trained speaker, and score them.

    Example: python -m agent.speak --checkpoint runs/speaker --split val_unseen --out spoken.json --pictures routes.png

    The file has R2R's format: scan, path_id, path, heading, distance, instructions. Scores compare the instructions
    with those of the split, beside what the nearest route of train was given.
    """

    checkpoint: Path
    """A run folder of `agent.train --train speaker` (its best checkpoint), or one checkpoint file."""
    out: Path | None = None
    """Write the instructions to this file in R2R's format."""
    pictures: Path | None = None
    """Draw some routes, chosen at random by --seed, from above with their instructions into this PNG."""
    env: DataSet = "r2r"
    """Data set."""
    data: Path | None = None
    """Folder of R2R_{split}.json (docs/data.md). Default: the built-in procedural houses, made on first use."""
    connectivity: Path | None = None
    """Folder of the navigation graphs. Default: connectivity/ in the data folder or beside it."""
    split: str = "val_unseen"
    """Split whose routes are spoken about."""
    sample_routes: int = 0
    """Speak about so many new routes instead, sampled by --seed in the buildings of train with the statistics of its
    routes, and write them to --out: what `agent.train --augment-routes` reads."""
    languages: tuple[str, ...] = ()
    """Of RxR: the language to write in and to compare with (en, hi or te): a speaker writes in one at a time. Pieces of
    words with letters of another script are not written."""
    features: str | None = None
    """The feature store that the speaker sees with; it must be as the one of its training. Default: in the built-in
    houses that of the embedded CLIP for a speaker that sees; else none."""
    search: Literal["greedy", "sample", "beam"] = "greedy"
    """greedy: the likeliest word at each place; sample: drawn from the model; beam: the likeliest text."""
    temperature: float = 1.0
    """With --search sample: below 1 bolder towards the likeliest words, above 1 more varied."""
    beam_width: int = 5
    """With --search beam: texts kept at each place."""
    length_power: float = 0.0
    """With --search beam: log-probabilities are divided by the length to this power; 0 prefers short instructions."""
    instructions: int = 1
    """With --search sample or beam: different instructions for each route (of a beam the best; fewer where there are no
    more). Scores and pictures are of the first."""
    samples: int = 10
    """Routes in --pictures."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "fp32"
    """bf16: matrix products in bfloat16 (autocast)."""
    seed: int = 0
    """Seed of --search sample and of the choice of --pictures."""

    def how(self) -> Search:
        """The search that the flags describe."""
        return Search(self.search, self.temperature, self.beam_width, self.length_power)


def r2r() -> TrainSpeakerConfig:
    """Room-to-Room, as R2R-EnvDrop trains on it, for as long as two CPU cores allow in a working day."""
    return TrainSpeakerConfig(trainer=TrainerConfig(steps=20_000, eval_every=1000, save_every=500))


def r4r() -> TrainSpeakerConfig:
    """Room-for-Room: R2R's settings, with room for instructions of twice the length."""
    return replace(r2r(), env="r4r", speaker=SpeakerConfig(max_words=160))


def rxr() -> TrainSpeakerConfig:
    """Room-across-Room: a speaker of three languages at once, which writes pieces of words. One of a single language
    (--languages hi) shares its capacity with no other."""
    return replace(r2r(), env="rxr", tokenizer="subwords", speaker=SpeakerConfig(max_words=160))


def houses() -> TrainSpeakerConfig:
    """The built-in houses: a small speaker that has learned something after some minutes on two CPU cores."""
    return TrainSpeakerConfig(
        out=Path("runs/houses_speaker"),
        speaker=SpeakerConfig(hidden=256, word=128, lr=1e-3, lr_decay="cosine", dropout=0.3, min_word_count=1),
        trainer=TrainerConfig(steps=4000, eval_every=500, save_every=500),
    )


PRESETS = {"r2r": r2r, "r4r": r4r, "rxr": rxr}
"""By --env, where --data names a folder."""
BUILT_IN = {"r2r": houses}
"""By --env, without --data."""

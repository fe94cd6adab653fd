"""Settings of captioning: how it is trained, used; a preset for each recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from clip_core.decoder import Search
from clip_core.optim import Schedule
from clip_core.trainer import TrainerConfig
from vl_tasks.captioner import CaptionerConfig
from vl_tasks.coco_files import TRAIN_PARTS
from vl_tasks.self_critical import SelfCriticalConfig
from vl_tasks.task import AskConfig, OptimConfig, TaskConfig, TextConfig, UseConfig, choose_recipe

Recipe = Literal["houses", "coco"]
EPOCH = 113_287 // 10
"""Updates over Karpathy's train and restval in batches of 10 images."""


@dataclass(frozen=True)
class TrainCaptioning(TaskConfig):
    """Train a transformer to caption images: by cross-entropy, then self-critically, by CIDEr-D of its own captions.

    For example:

      python -m vl_tasks captioning train --out runs/captioning
      python -m vl_tasks captioning train --encoder-weights random --out runs/captioning_random
      python -m vl_tasks captioning train --data COCO --features features/rn50x4-448 --out runs/coco
      python -m vl_tasks captioning train --data COCO --features features/rn50x4-448 --start-from runs/coco
        --self-critical-from 0 --steps 100000 --self-critical-lr 1e-5 --out runs/coco_again

    The first learns in the built-in procedural houses, on grids of the embedded CLIP, both phases in one command; the
    second on grids of the same encoder untrained. Real data: a folder with Karpathy's dataset_coco.json or COCO's
    captions_*.json (docs/data.md), and a store of grids (python -m precompute images), or --images FOLDER with
    --encoder. The last repeats the second phase from another run's weights. Writes into --out: log.jsonl, curves.png,
    checkpoints, report.html (look at it), results_SPLIT.json (COCO's format), table.json, vocab.txt.
    """

    recipe: Recipe = "coco"
    """Chooses the defaults of everything else: coco (as CLIP-ViL trains on COCO), houses (small, for the built-in
    houses on two CPU cores). Default: coco, without --data houses."""
    out: Path = Path("runs/captioning")
    """Run folder."""
    train_splits: tuple[str, ...] = TRAIN_PARTS
    """Splits to learn from: parts of Karpathy's file, or e.g. train2014 for COCO's captions_train2014.json."""
    eval_splits: tuple[str, ...] = ("val",)
    """Splits to judge on; the best checkpoint is that with the highest CIDEr of greedy captions on the last one."""
    final_splits: tuple[str, ...] = ("test",)
    """Splits to judge on once, at the end, with the best checkpoint; those that are not there are passed over."""
    captions_each: int = 5
    """Captions of an image that are learned at a time; of an image with fewer, some twice."""
    longest: int = 20
    """Words of a written caption at most."""
    beam_width: int = 5
    """Beam of the captions at the end."""
    retrieval: bool = True
    """Judge a baseline beside: what is said of the training image with the most similar features. It needs features in
    stores; encoders that see the image files while the task runs would have to see all of them once more."""
    start_from: Path | None = None
    """A run folder or checkpoint to take weights, vocabulary and the model's settings from."""
    model: Annotated[CaptionerConfig, tyro.conf.arg(name="")] = field(default_factory=CaptionerConfig)
    self_critical: Annotated[SelfCriticalConfig, tyro.conf.arg(name="")] = field(default_factory=SelfCriticalConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("captions_each", 1), ("longest", 2), ("beam_width", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {least} or more")
        if not self.train_splits:
            raise ValueError("--train-splits is empty; expected one or more, e.g. train restval")

    @property
    def first_phase(self) -> int:
        """Updates by cross-entropy."""
        start = self.self_critical.self_critical_from
        return self.trainer.steps if start is None else min(start, self.trainer.steps)

    def schedule(self) -> Schedule:
        """Of the learning rate: that of --schedule over the first phase, then --self-critical-lr."""
        first, steps = self.optim.schedules(max(1, self.first_phase)), self.first_phase
        second = self.self_critical.self_critical_lr / self.optim.lr
        return lambda step: first(step) if step < steps else second


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """How captions are written."""

    search: Literal["greedy", "sample", "beam"] = "beam"
    """greedy: the likeliest word at each place; sample: drawn from the model; beam: the likeliest caption."""
    beam_width: int = 5
    """With --search beam: texts kept at each place."""
    temperature: float = 1.0
    """With --search sample: below 1 bolder towards the likeliest words."""
    length_power: float = 0.0
    """With --search beam: log-probabilities are divided by the length to this power; 0 prefers short captions."""
    seed: int = 0
    """Seed of --search sample."""

    def how(self) -> Search:
        """The search that the flags describe."""
        return Search(self.search, self.temperature, self.beam_width, self.length_power)


@dataclass(frozen=True, kw_only=True)
class PredictCaptions(UseConfig):
    """Caption the images of a split, into the file that the COCO evaluation server takes.

    Example: python -m vl_tasks captioning predict --checkpoint runs/coco --data COCO --split test2014 --features STORE
    --out captions_test2014_clipnav_results.json

    The split may lack captions: image_info_test2014.json is enough.
    """

    checkpoint: Path
    """A run folder (its best checkpoint), or one checkpoint file."""
    split: str = "test"
    """Split whose images are captioned."""
    out: Path = Path("captions.json")
    """File to write."""
    writing: Annotated[SearchConfig, tyro.conf.arg(name="")] = field(default_factory=SearchConfig)


@dataclass(frozen=True, kw_only=True)
class EvalCaptions(UseConfig):
    """Score a trained model, or a results file from anywhere, as the COCO evaluation does.

    Examples:

      python -m vl_tasks captioning eval --checkpoint runs/captioning
      python -m vl_tasks captioning eval --results captions.json --data COCO --split test --meteor

    BLEU, ROUGE-L and CIDEr are ClipNav's own, equal to pycocoevalcap's; METEOR and SPICE are pycocoevalcap's, which
    needs Java (pip install "clipnav[coco]"). What cannot run is left out with a line that says why.
    """

    checkpoint: Path | None = None
    """A run folder (its best checkpoint), or one checkpoint file."""
    results: Path | None = None
    """A results file: [{"image_id": 42, "caption": "a cat"}, ...], one for each image."""
    split: str = "test"
    """Split to score on."""
    meteor: bool = False
    """METEOR too."""
    spice: bool = False
    """SPICE too. It downloads 385 MB at its first use, and runs on Java 8 only."""
    json: Path | None = None
    """Write the scores, of the corpus and of every image, to this file."""
    writing: Annotated[SearchConfig, tyro.conf.arg(name="")] = field(default_factory=SearchConfig)

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.results is None):
            raise ValueError("expected exactly one of --checkpoint RUN and --results FILE")


@dataclass(frozen=True, kw_only=True)
class AskCaption(AskConfig):
    """Caption an image file with a trained model.

    Example: python -m vl_tasks captioning ask --checkpoint runs/captioning --image picture.jpg

    Prints the likeliest captions, and writes a sheet of the image with what the model looked at at each word.
    """

    top: int = 3
    """Captions to print."""
    beam_width: int = 5
    """Texts kept at each place while it searches; at least --top."""

    def __post_init__(self) -> None:
        if not 1 <= self.top <= self.beam_width:
            raise ValueError(f"top is {self.top} with a beam of {self.beam_width}; expected 1 to the beam's width")


def coco() -> TrainCaptioning:
    """COCO as CLIP-ViL trains on it (`configs/phrase1`, `phrase2`): 15 epochs of cross-entropy, 25 of self-critical
    training. Departures: gradients are clipped by their norm, not each number at 0.1; Adam goes on with its moments."""
    return TrainCaptioning(
        batch=10,
        text=TextConfig(min_word_count=6, max_words=18),
        optim=OptimConfig(optimizer="adam", lr=(512 * 20_000) ** -0.5, schedule="inverse_sqrt", warmup=20_000),
        trainer=TrainerConfig(steps=40 * EPOCH, clip_norm=1.0, eval_every=3000, save_every=1000, log_every=50),
        self_critical=SelfCriticalConfig(self_critical_from=15 * EPOCH),
    )


def houses() -> TrainCaptioning:
    """The built-in houses: a small captioner; both phases take twenty minutes on one CPU core."""
    return TrainCaptioning(
        recipe="houses",
        batch=32,
        text=TextConfig(min_word_count=2, max_words=24),
        longest=22,
        model=CaptionerConfig(
            hidden=128,
            layers=2,
            heads=4,
            inner=512,
            dropout=0.1,
            input_dropout=0.1,
            grid_positions="learned",
            feature_norm=True,
        ),
        optim=OptimConfig(lr=1e-3, weight_decay=0.02, warmup=200, eps=1e-8),
        trainer=TrainerConfig(steps=2400, clip_norm=1.0, eval_every=200, save_every=200, log_every=25),
        self_critical=SelfCriticalConfig(self_critical_from=1600, self_critical_lr=1e-4, baseline="others"),
    )


RECIPES = {"coco": coco, "houses": houses}


def captioning_preset(arguments: Sequence[str]) -> TrainCaptioning:
    """The recipe that --recipe names; without it, and without --data, that of the built-in houses."""
    return choose_recipe(arguments, RECIPES, "coco")

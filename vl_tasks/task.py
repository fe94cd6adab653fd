"""What all tasks share of a run: settings, batches, optimizers."""

from __future__ import annotations

import argparse
import shlex
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import torch
import tyro
from torch import Tensor, nn
from torch.optim import Optimizer

from clip_core.optim import (
    Schedule,
    build_optimizer,
    constant,
    inverse_sqrt,
    parameter_groups,
    step_decay,
    warmup_cosine,
)
from clip_core.optim import warmup_linear as linear
from clip_core.progress import Progress
from clip_core.reading import TokenizerKind
from clip_core.runtime import Precision, Runtime
from clip_core.shuffling import shuffled_batches
from clip_core.subword_tokenizer import SIZE
from clip_core.trainer import Objective, TrainerConfig, fit
from vl_tasks.sources import VisionConfig
from vl_tasks.vision import Size, Vision

T = TypeVar("T")
S = TypeVar("S", bound=Sized)
"""A split of a task."""


@dataclass(frozen=True)
class TextConfig:
    """How texts are read."""

    tokenizer: TokenizerKind = "words"
    """words: lower-case words; subwords: pieces of words."""
    vocabulary: Path | None = None
    """Words, one a line, or the subwords.json of another run. Default: from the training texts."""
    min_word_count: int = 1
    """Words of the training texts that occur less often become <UNK>."""
    subwords: int = SIZE
    """With --tokenizer subwords: pieces in the vocabulary."""
    max_words: int = 16
    """Longest text in tokens, begin and end included; the rest is cut."""

    def __post_init__(self) -> None:
        if self.max_words < 3:
            raise ValueError(f"max_words is {self.max_words}; expected 3 or more: begin, a word, end")


@dataclass(frozen=True)
class OptimConfig:
    """How the weights move."""

    optimizer: Literal["adamw", "adam", "adamax"] = "adamw"
    """Optimizer of the task's own weights."""
    lr: float = 1e-4
    """Its learning rate."""
    weight_decay: float = 0.0
    """Its weight decay; vectors (biases, norms) have none."""
    beta2: float = 0.98
    """Its second moment's decay; the first moment's is 0.9."""
    eps: float = 1e-9
    """What it adds to the denominator."""
    schedule: Literal["cosine", "linear", "steps", "inverse_sqrt", "constant"] = "cosine"
    """After the warm-up: half a cosine or a line to 0 at --steps, times --decay at each of --milestones, the square
    root of warm-up / step, or nothing."""
    warmup: int = 0
    """Updates over which the learning rate rises from 0."""
    milestones: tuple[int, ...] = ()
    """With --schedule steps: updates at which the learning rate falls."""
    decay: float = 0.2
    """With --schedule steps: what it is multiplied with."""
    encoder_lr: float = 1e-3
    """With --train-encoder: learning rate of its SGD (CLIP-ViL: 1e-3 in fine-tuning, 3e-3 in pre-training)."""
    encoder_weight_decay: float = 4e-4
    """With --train-encoder: its weight decay (CLIP-ViL)."""
    encoder_clip: float | None = 1.0
    """With --train-encoder: largest gradient norm of the encoder, apart from --clip-norm of the rest."""

    def schedules(self, steps: int) -> Schedule:
        """Step -> multiplier of the learning rates."""
        if self.schedule == "cosine":
            return warmup_cosine(steps, min(self.warmup, steps))
        if self.schedule == "linear":
            return linear(steps, min(self.warmup, steps))
        if self.schedule == "inverse_sqrt":
            return inverse_sqrt(self.warmup)
        falling = step_decay(self.milestones, self.decay) if self.schedule == "steps" else constant()
        rising = linear(steps, min(self.warmup, steps), floor=1.0)
        return lambda step: rising(step) * falling(step)


@dataclass(frozen=True)
class TaskConfig:
    """What the training of every task needs."""

    data: Path | None = None
    """Folder of the data set's files (docs/data.md). Default: the built-in procedural houses, made on first use."""
    images: Path | None = None
    """Folder of the image files, with its folders. Default: images/ in the data folder, if it is there."""
    out: Path = Path("runs/task")
    """Run folder."""
    resume: bool = False
    """Go on with the run in --out."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    batch: int = 64
    """Items per update and process (times --accumulate)."""
    vision: Annotated[VisionConfig, tyro.conf.arg(name="")] = field(default_factory=VisionConfig)
    text: Annotated[TextConfig, tyro.conf.arg(name="")] = field(default_factory=TextConfig)
    optim: Annotated[OptimConfig, tyro.conf.arg(name="")] = field(default_factory=OptimConfig)
    trainer: Annotated[TrainerConfig, tyro.conf.arg(name="")] = field(default_factory=TrainerConfig)

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; expected 1 or more")


C = TypeVar("C", bound=TaskConfig)


def choose_recipe(arguments: Sequence[str], recipes: Mapping[str, Callable[[], C]], published: str) -> C:
    """The recipe that --recipe names; without it, and without --data, that of the built-in houses, else a published
    one. A name that is none is left to the command line, which tells of it."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--recipe")
    early.add_argument("--data")
    known = early.parse_known_args(list(arguments))[0]
    name = known.recipe or ("houses" if known.data is None else published)
    return recipes.get(name, recipes[published])()


@dataclass(frozen=True, kw_only=True)
class UseConfig:
    """What a trained model needs to see a split."""

    data: Path | None = None
    """Folder of the data set's files. Default: the built-in procedural houses."""
    images: Path | None = None
    """Folder of the image files. Default: images/ in the data folder, if it is there."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "fp32"
    """bf16: matrix products in bfloat16 (autocast)."""
    vision: Annotated[VisionConfig, tyro.conf.arg(name="")] = field(default_factory=VisionConfig)


@dataclass(frozen=True, kw_only=True)
class AskConfig:
    """What a trained model needs to see one image file."""

    checkpoint: Path
    """A run folder (its best checkpoint), or one checkpoint file."""
    image: Path
    """The image file."""
    overlay: Path | None = None
    """PNG to write, the image with what the model looked at. Default: attention.png in the run folder."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    encoder: str | None = None
    """The encoder that made the features, where it was local-dir:FOLDER."""
    encoder_weights: str | None = None
    """Its weights file, where they had no tag."""

    @property
    def overlay_file(self) -> Path:
        """Where the picture goes."""
        run = self.checkpoint if self.checkpoint.is_dir() else self.checkpoint.parent
        return self.overlay or run / "attention.png"


class TaskObjective(Objective, Generic[S]):
    """An objective over the items of a split: a task gives `headline`, `collate`, `forward`, `metrics`.

    Attributes: model, vision, train_split, judged. The first metric of the headline on the last judged split tells the
    best checkpoint.
    """

    headline: Sequence[str]

    def __init__(
        self,
        model: nn.Module,
        vision: Vision,
        train: S,
        judged: Mapping[str, S],
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """batch: items of a micro-batch of this rank."""
        super().__init__()
        self.model, self.vision = model, vision
        self.train_split, self.judged = train, dict(judged)
        self.best_metric = f"{list(judged)[-1]}/{self.headline[0]}" if judged else None
        self._order = len(train), batch, seed
        self._place = rank, world

    @abstractmethod
    def collate(self, numbers: Tensor) -> Any:
        """The batch of items [B] (int64, CPU), read on the host: a pure function of the numbers."""

    @abstractmethod
    def metrics(self, split: S) -> dict[str, float]:
        """What the model scores on a split whose truth is known, by name."""

    def evaluate(self) -> dict[str, float]:
        """The metrics of each judged split, as `split/name`."""
        found = {name: self.metrics(split) for name, split in self.judged.items()}
        return {f"{name}/{metric}": value for name, metrics in found.items() for metric, value in metrics.items()}

    def batches(self, start: int) -> Iterator[Any]:
        """Shuffled epochs one after the other; where images are files, the next batch is read ahead."""
        numbers = shuffled_batches(*self._order, start, *self._place)
        batches = (self.collate(some) for some in numbers)
        return ahead(batches) if self.vision.files else batches

    @contextmanager
    def judging(self) -> Iterator[None]:
        """Where the model is used, not trained: in evaluation mode, without gradients, back to its mode behind it."""
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.train(was_training)

    def compiled_modules(self) -> list[nn.Module]:
        """The model alone."""
        return [self.model]


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items of an endless iterator, the next one being made in a thread while the last one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as pool:
        waiting = pool.submit(next, items)
        while True:
            item = waiting.result()
            waiting = pool.submit(next, items)
            yield item


def sizes_words(sizes: Iterable[Size]) -> str:
    """What each source gives, e.g. "6 x 8 cells of 512 numbers"."""
    return ", ".join(f"{size.height} x {size.width} cells of {size.dim} numbers" for size in sizes)


def run_line(config: TaskConfig, name: str, objective: TaskObjective, runtime: Runtime) -> str:
    """What is about to be trained, on what, for how long, in a line. name: of the model, with what tells it apart."""
    seen = "nothing (blind)" if config.vision.blind else sizes_words(objective.vision.sizes)
    parameters = sum(p.numel() for p in objective.model.parameters())
    items = config.batch * config.trainer.accumulate * runtime.world
    return (
        f"{name}: {parameters / 1e6:.1f} M parameters on {runtime.device}, sees {seen}; {config.trainer.steps:,} steps "
        f"of {items}; run folder {shlex.quote(str(config.out))}"
    )


def build_optimizers(objective: TaskObjective, config: OptimConfig) -> dict[str, Optimizer]:
    """`task` over the model, and `encoder`, an SGD, over image towers that learn, which are clipped on their own."""
    groups = parameter_groups(objective.model, "task", config.lr, weight_decay=config.weight_decay)
    optimizers = {"task": build_optimizer(config.optimizer, groups, betas=(0.9, config.beta2), eps=config.eps)}
    tower = objective.vision.parameter_groups(
        config.encoder_lr, weight_decay=config.encoder_weight_decay, clip=config.encoder_clip
    )
    if tower:
        optimizers["encoder"] = build_optimizer("sgd", tower)
    return optimizers


def train_task(
    objective: TaskObjective,
    config: TaskConfig,
    record: Mapping[str, Any],
    runtime: Runtime,
    schedule: Schedule | None = None,
) -> Progress:
    """The trainer's `fit` with the optimizers of the config and its schedule (or another); `record` goes into every
    checkpoint."""
    optimizers = build_optimizers(objective, config.optim)
    schedules = dict.fromkeys(optimizers, schedule or config.optim.schedules(config.trainer.steps))
    return fit(objective, optimizers, schedules, config.trainer, runtime, config.out, dict(record), config.resume)

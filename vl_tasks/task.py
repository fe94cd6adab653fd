"""What all tasks share of a run: settings, batches, optimizers, the record in a checkpoint."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro
from torch import Tensor, nn
from torch.optim import Optimizer

from clip_core.checkpoint import LAST, find_checkpoint, load_model
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
from vl_tasks.vision import Vision

T = TypeVar("T")
BLIND_FOLDER = "blind"
"""Of a run folder: the run of its blind twin."""


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


def blind_twin(config: C) -> C:
    """The same run for a model that sees nothing, in a folder of its own, going on where it has begun."""
    folder = config.out / BLIND_FOLDER
    resume = config.resume and (folder / LAST).exists()
    return replace(config, vision=VisionConfig(blind=True), out=folder, resume=resume)


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


class TaskObjective(Objective):
    """An objective over numbered items: a task gives `model`, `collate`, `forward`, `evaluate`."""

    def __init__(
        self, model: nn.Module, vision: Vision, count: int, batch: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        """count: items to learn from; batch: of them in a micro-batch of this rank."""
        super().__init__()
        self.model, self.vision = model, vision
        self._order = count, batch, seed
        self._place = rank, world

    @abstractmethod
    def collate(self, numbers: Tensor) -> Any:
        """The batch of items [B] (int64, CPU), read on the host: a pure function of the numbers."""

    def batches(self, start: int) -> Iterator[Any]:
        """Shuffled epochs one after the other; where images are files, the next batch is read ahead."""
        numbers = shuffled_batches(*self._order, start, *self._place)
        batches = (self.collate(some) for some in numbers)
        return ahead(batches) if self.vision.files else batches

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


def load_record(checkpoint: Path, task: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of an objective, and the record of the run, which has `task`; of a run folder its best checkpoint.

    Raises ValueError for a checkpoint of something else (CheckpointError if it is missing or damaged).
    """
    state, record = load_model(checkpoint)
    found = record.get("task") or record.get("kind") or "something else"
    if found != task:
        raise ValueError(
            f"{find_checkpoint(checkpoint)} is of {found}; expected a run of python -m vl_tasks {task} train"
        )
    return state, record


def part_of(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries of a state dict below a name such as `model.`, the name taken off."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}

"""Settings of visual entailment: how it is trained, used; a preset for each recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from clip_core.trainer import TrainerConfig
from vl_tasks.one_stream import OneStreamConfig
from vl_tasks.task import AskConfig, OptimConfig, TaskConfig, TextConfig, UseConfig, choose_recipe

Recipe = Literal["houses", "bert_base"]
PAIRS = 529_527
"""Pairs of SNLI-VE train."""


@dataclass(frozen=True)
class TrainEntailment(TaskConfig):
    """Train a joint transformer to tell whether an image entails a hypothesis, contradicts it, or leaves it open.

    For example:

      python -m vl_tasks entailment train --out runs/entailment
      python -m vl_tasks entailment train --blind --out runs/entailment_blind
      python -m vl_tasks entailment train --data SNLI_VE --features features/rn50x4 --bert bert-base-uncased

    The first learns in the built-in procedural houses, on grids of the embedded CLIP, then once more blind: the second,
    hypothesis-only. Real data: a folder with the jsonl files of SNLI-VE (docs/data.md), and a store of grids, or
    --images FOLDER with --encoder. Writes into --out: log.jsonl, curves.png, checkpoints, report.html (look at it),
    table.json, predictions_SPLIT.jsonl, vocab.txt.
    """

    recipe: Recipe = "bert_base"
    """Chooses the defaults of everything else: bert_base (BERT-base; CLIP-ViL_p's fine-tuning on VQA, its settings for
    SNLI-VE are not published), houses (small, for the built-in houses on two CPU cores). Default: bert_base, without
    --data houses."""
    out: Path = Path("runs/entailment")
    """Run folder."""
    train_splits: tuple[str, ...] = ("train",)
    """Splits to learn from."""
    eval_splits: tuple[str, ...] = ("dev",)
    """Splits to judge on; the best checkpoint is that with the highest accuracy on the last one."""
    read_premise: bool = False
    """Read sentence1 too, the caption that the pair was made from. It tells what the image shows: a model that reads
    it need not look, and its accuracy does not compare with those published for SNLI-VE."""
    bert: Path | None = None
    """Folder of a BERT as save_pretrained writes it (config.json, weights, tokenizer), e.g. bert-base-uncased: start
    from its weights, read with its word pieces. Default: untrained weights. Nothing is downloaded."""
    blind_twin: bool = False
    """Then train the same model blind (hypothesis-only) into OUT/blind: what is seeing worth?"""
    model: Annotated[OneStreamConfig, tyro.conf.arg(name="")] = field(default_factory=OneStreamConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("train_splits", "eval_splits"):
            if not getattr(self, name):
                raise ValueError(f"--{name.replace('_', '-')} is empty; expected one or more, e.g. train, dev")
        if self.bert is not None and self.text.vocabulary is not None:
            raise ValueError("--bert brings its own word pieces: leave out --vocabulary")


@dataclass(frozen=True, kw_only=True)
class PredictEntailment(UseConfig):
    """Judge the pairs of a split, into a file of JSON lines.

    Example: python -m vl_tasks entailment predict --checkpoint runs/entailment --split dev --out predictions.jsonl
    """

    checkpoint: Path
    """A run folder (its best checkpoint), or one checkpoint file."""
    split: str = "dev"
    """Split whose hypotheses are judged."""
    out: Path = Path("predictions.jsonl")
    """File to write, a line for each pair: {"pairID": ..., "prediction": ..., "probabilities": {...}}."""


@dataclass(frozen=True, kw_only=True)
class EvalEntailment(UseConfig):
    """Score a trained model, or a file of predictions, by plain accuracy.

    Examples:

      python -m vl_tasks entailment eval --checkpoint runs/entailment
      python -m vl_tasks entailment eval --predictions predictions.jsonl --data SNLI_VE --split test
    """

    checkpoint: Path | None = None
    """A run folder (its best checkpoint), or one checkpoint file."""
    predictions: Path | None = None
    """A file as `predict` writes it."""
    split: str = "dev"
    """Split to score on."""
    json: Path | None = None
    """Write accuracies and confusion to this file."""

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.predictions is None):
            raise ValueError("expected exactly one of --checkpoint RUN and --predictions FILE")


@dataclass(frozen=True, kw_only=True)
class AskEntailment(AskConfig):
    """Judge a hypothesis about an image file.

    Example: python -m vl_tasks entailment ask --checkpoint runs/entailment --image picture.jpg --hypothesis "The sofa
    is red."

    Prints the probability of each class, and writes the image with the cells that spoke most for the likeliest, in red.
    """

    hypothesis: str
    """The hypothesis."""
    premise: str | None = None
    """For a model that was trained with --read-premise: a caption of the image."""

    def __post_init__(self) -> None:
        if not self.hypothesis.strip():
            raise ValueError("--hypothesis is empty; expected a sentence about the image")


def bert_base() -> TrainEntailment:
    """BERT-base as CLIP-ViL_p fine-tunes on VQA v2: 5 epochs of SNLI-VE in batches of 256."""
    steps = 5 * PAIRS // 256
    return TrainEntailment(
        text=TextConfig(max_words=20),
        optim=OptimConfig(
            lr=5e-5, weight_decay=0.01, beta2=0.999, eps=1e-6, schedule="linear", warmup=steps // 20, encoder_lr=1e-3
        ),
        trainer=TrainerConfig(steps=steps, accumulate=4, clip_norm=1.0, eval_every=1000, save_every=500, log_every=50),
    )


def houses() -> TrainEntailment:
    """The built-in houses: a small model that learns in some minutes on two CPU cores."""
    return TrainEntailment(
        recipe="houses",
        blind_twin=True,
        model=OneStreamConfig(
            hidden=128,
            layers=4,
            heads=4,
            inner=512,
            max_positions=64,
            dropout=0.1,
            attention_dropout=0.0,
            feature_norm=True,
        ),
        optim=OptimConfig(lr=5e-4, weight_decay=0.02, warmup=300, eps=1e-8),
        trainer=TrainerConfig(steps=3000, clip_norm=1.0, eval_every=500, save_every=500, log_every=25),
    )


RECIPES = {"bert_base": bert_base, "houses": houses}


def entailment_preset(arguments: Sequence[str]) -> TrainEntailment:
    """The recipe that --recipe names; without it, and without --data, that of the built-in houses."""
    return choose_recipe(arguments, RECIPES, "bert_base")

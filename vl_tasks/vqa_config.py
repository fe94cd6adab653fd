"""Settings of question answering: how it is trained, used; a preset for each recipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vl_tasks.task import AskConfig, TaskConfig, UseConfig
from vl_tasks.vqa_parts import VqaModelConfig

Recipe = Literal["houses", "houses_mcan", "mcan_small", "mcan_large", "movie_mcan", "pythia"]


@dataclass(frozen=True)
class TrainVqa(TaskConfig):
    """Train a model to answer questions about images, and score it by the official VQA accuracy.

    For example:

      python -m vl_tasks vqa train --out runs/vqa
      python -m vl_tasks vqa train --blind --out runs/vqa_blind
      python -m vl_tasks vqa train --data VQA --features features/rn50-600x1000 --out runs/mcan

    The first learns in the built-in procedural houses, with a small Pythia on grids of the embedded CLIP; the second
    without seeing. Real data: a folder with the files of VQA v2 (docs/data.md), and a store of grids (python -m
    precompute images), or --images FOLDER with --encoder. Writes into --out: log.jsonl, curves.png, checkpoints,
    report.html (look at it), results_SPLIT.json, answers.json, vocab.txt.
    """

    recipe: Recipe = "mcan_small"
    """Chooses the defaults of everything else. Published: mcan_small, mcan_large (openvqa), movie_mcan, pythia (MMF;
    what CLIP-ViL reports as MCAN and Pythia). Small, for the built-in houses on two CPU cores: houses (Pythia),
    houses_mcan.
    Default: mcan_small, without --data houses."""
    out: Path = Path("runs/vqa")
    """Run folder."""
    train_splits: tuple[str, ...] = ("train2014",)
    """Splits to learn from; train2014 val2014 for a file that goes to the test server."""
    eval_splits: tuple[str, ...] = ("val2014",)
    """Splits to judge on; the best checkpoint is that with the highest accuracy on the last one."""
    min_answer_count: int | None = None
    """An answer enters the vocabulary if it is the most common one of so many questions of train and val. Default: 9 on
    VQA v2 (3,129 answers), less on smaller data, in proportion."""
    any_number_of_answers: bool = False
    """Take questions with other than ten human answers."""
    word_vectors: Path | None = None
    """Text file of word vectors (GloVe), a word and --word numbers a line, to start the word embeddings from."""
    blind_twin: bool = False
    """Then train the same model blind into OUT/blind: what is seeing worth?"""
    model: Annotated[VqaModelConfig, tyro.conf.arg(name="")] = field(default_factory=VqaModelConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.train_splits:
            raise ValueError("--train-splits is empty; expected one or more, e.g. train2014")
        if self.min_answer_count is not None and self.min_answer_count < 1:
            raise ValueError(f"min_answer_count is {self.min_answer_count}; expected 1 or more")


@dataclass(frozen=True, kw_only=True)
class PredictVqa(UseConfig):
    """Answer the questions of a split, into the file that the evaluation server takes.

    Example: python -m vl_tasks vqa predict --checkpoint runs/mcan --data VQA --split test2015 --features STORE --out
    results.json
    """

    checkpoint: Path
    """A run folder (its best checkpoint), or one checkpoint file."""
    split: str | None = None
    """Split whose questions are answered. Default: val2014 (GQA: testdev)."""
    out: Path = Path("results.json")
    """File to write."""


@dataclass(frozen=True, kw_only=True)
class EvalVqa(UseConfig):
    """Score a trained model, or a results file from anywhere, by the official VQA accuracy.

    Examples:

      python -m vl_tasks vqa eval --checkpoint runs/vqa
      python -m vl_tasks vqa eval --results results.json --data VQA --split val2014
    """

    checkpoint: Path | None = None
    """A run folder (its best checkpoint), or one checkpoint file."""
    results: Path | None = None
    """A results file: [{"question_id": 7, "answer": "two"}, ...], one for each question."""
    split: str | None = None
    """Split to score on. Default: val2014 (GQA: testdev)."""
    json: Path | None = None
    """Write the accuracies, overall, by type, of every question, to this file."""
    any_number_of_answers: bool = False
    """Take questions with other than ten human answers."""

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.results is None):
            raise ValueError("expected exactly one of --checkpoint RUN and --results FILE")


@dataclass(frozen=True, kw_only=True)
class AskVqa(AskConfig):
    """Ask a trained model a question about an image file.

    Example: python -m vl_tasks vqa ask --checkpoint runs/vqa --image picture.jpg --question "What color is the sofa?"

    Prints the likeliest answers, and writes the image with what the model looked at, red where most.
    """

    question: str
    """The question."""
    top: int = 5
    """Answers to print."""

    def __post_init__(self) -> None:
        if self.top < 1:
            raise ValueError(f"top is {self.top}; expected 1 or more")
        if not self.question.strip():
            raise ValueError("--question is empty; expected a question")

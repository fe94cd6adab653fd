"""Command line of the vision-and-language tasks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import tyro
from rich.console import Console

from clip_core.log import print_error
from vl_tasks.analyse_config import Compare, GradCam, ZeroShot
from vl_tasks.captioning_config import AskCaption, EvalCaptions, PredictCaptions, TrainCaptioning, captioning_preset
from vl_tasks.captioning_run import train_captioning
from vl_tasks.captioning_use import ask_captions, eval_captions, predict_captions
from vl_tasks.compare import run_compare
from vl_tasks.entailment_config import (
    AskEntailment,
    EvalEntailment,
    PredictEntailment,
    TrainEntailment,
    entailment_preset,
)
from vl_tasks.entailment_run import train_entailment
from vl_tasks.entailment_use import ask_entailment, eval_entailment, predict_entailment
from vl_tasks.grad_cam import run_grad_cam
from vl_tasks.question_sets import GQA
from vl_tasks.vqa_config import AskVqa, EvalVqa, PredictVqa, TrainVqa
from vl_tasks.vqa_recipes import gqa_preset, vqa_preset
from vl_tasks.vqa_run import train_vqa
from vl_tasks.vqa_use import ask_vqa, eval_vqa, predict_vqa
from vl_tasks.zero_shot import run_zero_shot

PROGRAM = "python -m vl_tasks"
DESCRIPTION = f"""Vision-and-language tasks on CLIP. For example, from nothing, in procedural houses:

  {PROGRAM} vqa train --out runs/vqa
  {PROGRAM} vqa ask --checkpoint runs/vqa --image picture.jpg --question "What color is the sofa?"

Each has its own help: {PROGRAM} vqa train --help"""


@dataclass(frozen=True)
class Command:
    """What a verb's flags fill, what then runs, the preset that the flags overlay, chosen by some of them, and what the
    help says (None: the config's docstring)."""

    config: type
    run: Callable[[Any, Console], object]
    preset: Callable[[Sequence[str]], Any] | None = None
    help: str | None = None


GQA_HELP = {
    "train": f"""Train a model to answer the questions of GQA, and score it by equal answers.

For example:

  {PROGRAM} gqa train --data GQA --features features/rn50-600x1000 --out runs/gqa

Answers are learned as they are written (the field's list has 1,842). Needs the balanced questions of GQA
(docs/data.md), and a store of grids (python -m precompute images), or --images FOLDER with --encoder; all else is as in
{PROGRAM} vqa train --help""",
    "eval": f"""Score a trained model, or a predictions file from anywhere, by GQA's accuracy: equal answers, overall,
of binary and of open questions, by semantic type.

For example:

  {PROGRAM} gqa eval --checkpoint runs/gqa --data GQA --features features/rn50-600x1000
  {PROGRAM} gqa eval --results predictions.json --data GQA --split testdev

A predictions file is [{{"questionId": "7", "prediction": "two"}}, ...], one for each question.""",
    "predict": f"""Answer the questions of a split of GQA, into the file that its evaluation takes.

Example: {PROGRAM} gqa predict --checkpoint runs/gqa --data GQA --split testdev --features STORE --out predictions.json
""",
    "ask": f"""Ask a model that was trained on GQA a question about an image file.

Example: {PROGRAM} gqa ask --checkpoint runs/gqa --image picture.jpg --question "What is the man holding?"

Prints the likeliest answers, and writes the image with what the model looked at, red where most.""",
}


TASKS: Mapping[str, Mapping[str, Command]] = {
    "vqa": {
        "train": Command(TrainVqa, train_vqa, vqa_preset),
        "eval": Command(EvalVqa, eval_vqa),
        "predict": Command(PredictVqa, predict_vqa),
        "ask": Command(AskVqa, ask_vqa),
    },
    "gqa": {
        "train": Command(TrainVqa, partial(train_vqa, data_set=GQA), gqa_preset, GQA_HELP["train"]),
        "eval": Command(EvalVqa, partial(eval_vqa, data_set=GQA), None, GQA_HELP["eval"]),
        "predict": Command(PredictVqa, partial(predict_vqa, data_set=GQA), None, GQA_HELP["predict"]),
        "ask": Command(AskVqa, partial(ask_vqa, data_set=GQA), None, GQA_HELP["ask"]),
    },
    "captioning": {
        "train": Command(TrainCaptioning, train_captioning, captioning_preset),
        "eval": Command(EvalCaptions, eval_captions),
        "predict": Command(PredictCaptions, predict_captions),
        "ask": Command(AskCaption, ask_captions),
    },
    "entailment": {
        "train": Command(TrainEntailment, train_entailment, entailment_preset),
        "eval": Command(EvalEntailment, eval_entailment),
        "predict": Command(PredictEntailment, predict_entailment),
        "ask": Command(AskEntailment, ask_entailment),
    },
    "analyse": {
        "zero-shot": Command(ZeroShot, run_zero_shot),
        "grad-cam": Command(GradCam, run_grad_cam),
        "compare": Command(Compare, run_compare),
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command of the arguments; a fault of the user gives a message and exit code 2."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        task, verb, command = choose(arguments)
        preset = {} if command.preset is None else {"default": command.preset(arguments[2:])}
        config = tyro.cli(
            command.config,
            args=arguments[2:],
            prog=f"{PROGRAM} {task} {verb}",
            description=command.help,
            config=(tyro.conf.OmitArgPrefixes,),
            **preset,
        )
        command.run(config, Console())
    except ValueError as error:
        print_error(error)
        return 2
    return 0


def choose(arguments: Sequence[str]) -> tuple[str, str, Command]:
    """Task, verb, command of the first two words; prints the help where it is asked for.

    Raises ValueError for other words, SystemExit after the help.
    """
    words = [word for word in arguments[:2] if not word.startswith("-")]
    if len(words) < 2 and (not arguments or any(word in ("-h", "--help") for word in arguments)):
        chosen = {words[0]: TASKS[words[0]]} if words and words[0] in TASKS else TASKS
        lines = [f"  {PROGRAM} {task} {'|'.join(verbs)}" for task, verbs in chosen.items()]
        print(f"{DESCRIPTION}\n\n" + "\n".join(lines))
        raise SystemExit(0)
    if not words or words[0] not in TASKS:
        raise ValueError(f"found the task {' '.join(words[:1])!r}; expected one of {', '.join(TASKS)}")
    verbs = TASKS[words[0]]
    if len(words) < 2 or words[1] not in verbs:
        raise ValueError(f"found {' '.join(words[1:])!r} after {words[0]}; expected one of {', '.join(verbs)}")
    return words[0], words[1], verbs[words[1]]


if __name__ == "__main__":
    raise SystemExit(main())

"""Recipes of question answering, the published ones and small ones for the built-in houses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from clip_core.trainer import TrainerConfig
from vl_tasks.task import OptimConfig, choose_recipe
from vl_tasks.vqa_config import TrainVqa
from vl_tasks.vqa_parts import VqaModelConfig

EPOCH = 443_757 // 64
"""Updates over VQA v2 train in batches of 64."""


def mcan_small() -> TrainVqa:
    """MCAN-small as openvqa trains it: 13 epochs of train; the warm-up rises at every update instead of every epoch."""
    return TrainVqa(
        optim=OptimConfig(
            optimizer="adam",
            lr=1e-4,
            schedule="steps",
            warmup=3 * EPOCH,
            milestones=(10 * EPOCH, 12 * EPOCH),
            decay=0.2,
        ),
        trainer=TrainerConfig(steps=13 * EPOCH, eval_every=EPOCH, save_every=1000, log_every=50),
    )


def mcan_large() -> TrainVqa:
    """MCAN-large of openvqa: twice the width."""
    small = mcan_small()
    model = VqaModelConfig(hidden=1024, fused=2048)
    return replace(small, recipe="mcan_large", model=model, optim=replace(small.optim, lr=7e-5))


def movie_mcan() -> TrainVqa:
    """MoVie+MCAN as MMF and CLIP-ViL train it on VQA v2 (theirs adds Visual Genome's questions)."""
    optim = OptimConfig(lr=5e-5, schedule="steps", warmup=54_000, milestones=(180_000, 216_000), decay=0.2)
    return TrainVqa(
        recipe="movie_mcan",
        model=VqaModelConfig(model="movie_mcan", hidden=1024),
        optim=optim,
        trainer=TrainerConfig(steps=236_000, eval_every=10_000, save_every=1000, log_every=50),
    )


def pythia() -> TrainVqa:
    """Pythia v0.3 as MMF and CLIP-ViL train it."""
    return TrainVqa(
        recipe="pythia",
        batch=512,
        model=VqaModelConfig(model="pythia", hidden=1024, fused=5000, dropout=0.0),
        optim=OptimConfig(
            optimizer="adamax",
            lr=0.01,
            beta2=0.999,
            eps=1e-8,
            schedule="steps",
            warmup=1000,
            milestones=(15_000, 18_000, 20_000, 21_000),
            decay=0.1,
        ),
        trainer=TrainerConfig(steps=22_000, clip_norm=0.25, eval_every=1000, save_every=1000, log_every=50),
    )


SMALL = VqaModelConfig(
    hidden=128, layers=3, heads=4, word=64, pooling=128, fused=256, grid_positions="learned", feature_norm=True
)


def houses() -> TrainVqa:
    """The built-in houses: a small Pythia that answers most questions after some minutes on two CPU cores. Its product
    of question and image learns yes or no in a sixth of MCAN's time (docs/log.md)."""
    return TrainVqa(
        recipe="houses",
        blind_twin=True,
        model=replace(SMALL, model="pythia"),
        optim=OptimConfig(lr=1e-3, weight_decay=0.02, warmup=200, eps=1e-8),
        trainer=TrainerConfig(steps=5000, clip_norm=1.0, eval_every=500, save_every=500, log_every=25),
    )


def houses_mcan() -> TrainVqa:
    """The same with co-attention: better at counting, four times slower."""
    made = houses()
    optim, trainer = replace(made.optim, lr=5e-4), replace(made.trainer, steps=2500)
    return replace(made, recipe="houses_mcan", model=SMALL, optim=optim, trainer=trainer)


RECIPES = {
    "mcan_small": mcan_small,
    "mcan_large": mcan_large,
    "movie_mcan": movie_mcan,
    "pythia": pythia,
    "houses": houses,
    "houses_mcan": houses_mcan,
}


def vqa_preset(arguments: Sequence[str]) -> TrainVqa:
    """The recipe that --recipe names; without it, and without --data, that of the built-in houses."""
    return choose_recipe(arguments, RECIPES, "mcan_small")


def gqa_preset(arguments: Sequence[str]) -> TrainVqa:
    """The same for GQA: learned on train and val, judged on testdev, every answer in the vocabulary (1,842 of them)."""
    chosen = vqa_preset([*arguments, "--data", "GQA"])
    gqa = replace(chosen, out=Path("runs/gqa"), train_splits=("train", "val"), eval_splits=("testdev",))
    return replace(gqa, min_answer_count=1)

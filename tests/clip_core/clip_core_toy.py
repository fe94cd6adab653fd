"""A tiny real objective, and the command that trains it in a process of its own."""

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from clip_core.accumulation import accumulate_gradients, wrap
from clip_core.log import Meter
from clip_core.optim import build_optimizer, parameter_groups, warmup_cosine
from clip_core.progress import Progress
from clip_core.runtime import Runtime, start_runtime
from clip_core.trainer import Objective, TrainerConfig, fit

ROWS, BATCH = 96, 8


class Toy(Objective):
    """Classes and a regression of 6-d points; dropout and noise of all three generators if `noisy`."""

    best_metric = "val/success"

    def __init__(self, seed: int = 0, rank: int = 0, world: int = 1, noisy: bool = True, terms: int = 2) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Dropout(0.3 if noisy else 0.0))
        self.classes, self.value, self.rare = nn.Linear(16, 3), nn.Linear(16, 1), nn.Linear(16, 1)
        self.seed, self.rank, self.world, self.noisy, self.terms = seed, rank, world, noisy, terms
        generator = torch.Generator().manual_seed(7)
        self.register_buffer("x", torch.randn(ROWS, 6, generator=generator), persistent=False)
        self.y = (self.x[:, 0] > 0).long() + (self.x[:, 1] > 0.5).long()
        self.evaluations = 0
        self.break_at: dict[int, str] = {}  # batches consumed -> what goes wrong
        self.seen = 0
        self.delay_s = 0.0

    def batches(self, start: int) -> Iterator[tuple[int, Tensor]]:
        per_epoch = ROWS // (BATCH * self.world)
        position = start
        while True:
            epoch, index = divmod(position, per_epoch)
            order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1000 * self.seed + epoch))
            place = (index * self.world + self.rank) * BATCH
            yield position, order[place : place + BATCH]
            position += 1

    def forward(self, batch: tuple[int, Tensor]) -> dict[str, Any]:
        position, rows = batch
        time.sleep(self.delay_s)
        trouble = self.break_at.get(position, "")
        if trouble.startswith("signal"):
            os.kill(os.getpid(), int(trouble.split()[1]))
        if trouble == "raise":
            raise RuntimeError("broken on purpose")
        x, y = self.x[rows], self.y[rows]
        if self.noisy:
            x = x + 0.01 * random.random() + torch.from_numpy(0.01 * np.random.rand(*x.shape)).float()
        hidden = self.encoder(x)
        loss = nn.functional.cross_entropy(self.classes(hidden).float(), y, reduction="sum")
        if trouble == "nan":
            loss = loss * float("nan")
        accuracy = (self.classes(hidden).argmax(-1) == y).float().mean()
        if self.terms == 1:
            return {"loss": loss, "weight": len(rows), "accuracy": accuracy}
        chosen = x[:, 2] > 0.2  # another number of rows in each batch: another weight
        value = self.value(hidden[chosen]).float().squeeze(-1) - x[chosen, 3]
        second = (value**2).sum()
        if bool((rows == 5).any()):  # a parameter that most batches leave alone
            second = second + self.rare(hidden).float().sum() * 0.1
        weight = {"class": len(rows), "value": chosen.sum()}
        return {"loss": {"class": loss, "value": second}, "weight": weight, "accuracy": accuracy, "position": position}

    def evaluate(self) -> dict[str, float]:
        self.evaluations += 1
        random.random(), np.random.rand(), torch.rand(1)  # must not change the training after it
        prediction = self.classes(self.encoder(self.x)).argmax(-1)
        return {"val/success": float((prediction == self.y).float().mean()), "val/steps": float(self.training)}


def make(out: Path, *, optimizer: str = "rmsprop", **fields: Any) -> dict[str, Any]:
    """Keyword arguments of `fit` for the toy, everything seeded anew."""
    config = TrainerConfig(**({"steps": 24, "eval_every": 10, "save_every": 5, "log_every": 3} | fields))
    runtime = start_runtime("cpu", config.precision, config.seed)
    toy = Toy(config.seed, runtime.rank, runtime.world)
    groups = [
        *parameter_groups(toy.encoder, "encoder", 1e-2, clip=0.5),
        *parameter_groups(nn.ModuleList([toy.classes, toy.value, toy.rare]), "heads", 1e-2),
    ]
    return {
        "objective": toy,
        "optimizers": {"all": build_optimizer(optimizer, groups)},
        "schedules": {"all": warmup_cosine(60, 4)},
        "config": config,
        "runtime": runtime,
        "out": out,
        "run_config": {"model": {"width": 16}, "optimizer": optimizer, "steps": config.steps},
    }


def train(out: Path, resume: bool = False, **fields: Any) -> tuple[Toy, Progress]:
    """Make the toy anew and fit it."""
    parts = make(out, **fields)
    return parts["objective"], fit(**parts, resume=resume)


def rank_batches(rank: int, world: int, count: int) -> list[tuple[int, Tensor]]:
    """Batches of unequal sizes: batch i of `world` ranks is cut from one batch of a single process."""
    cuts = torch.randperm(ROWS, generator=torch.Generator().manual_seed(3)).split([11, 5, 8, 16, 3, 13, 9, 31])
    whole = [torch.cat([cuts[2 * i], cuts[2 * i + 1]]) for i in range(count)]
    return [(0, cuts[2 * i + rank]) for i in range(count)] if world == 2 else [(0, rows) for rows in whole]


def gradients(runtime: Runtime, terms: int, accumulate: int) -> dict[str, Tensor]:
    """The gradient of one update on fixed batches, and its losses."""
    torch.manual_seed(0)
    toy = Toy(0, runtime.rank, runtime.world, noisy=False, terms=terms)
    batches = iter(rank_batches(runtime.rank, runtime.world, accumulate))
    losses = accumulate_gradients(wrap(toy, runtime), batches, accumulate, runtime, Meter())
    grads = {name: p.grad for name, p in toy.named_parameters() if p.grad is not None}
    return grads | {name: runtime.sum(value.clone()) / runtime.world for name, value in losses.items()}


def two_ranks(out: Path) -> None:
    """What the test of torchrun asks for; at the end rank 1 breaks, and no rank may hang."""
    runtime = start_runtime("cpu")
    results = {}
    for terms, accumulate in ((1, 1), (2, 1), (1, 3), (2, 3)):
        for name, value in gradients(runtime, terms, accumulate).items():
            results[f"{terms}.{accumulate}.{name}"] = value.contiguous().clone()
    save_file(results, out / f"gradients{runtime.rank}.safetensors")
    fields = {"accumulate": 2, "log_every": 4, "save_every": 3, "optimizer": "adamw"}
    train(out / "whole", steps=8, **fields)
    train(out / "parts", steps=5, **fields)
    train(out / "parts", resume=True, steps=8, **fields)
    parts = make(out / "broken", **fields)
    if runtime.rank == 1:
        parts["objective"].break_at = {7: "raise"}
    fit(**parts)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--optimizer", default="rmsprop")
    parser.add_argument("--die-at-fsync", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--two-ranks", action="store_true")
    arguments = parser.parse_args()
    if arguments.two_ranks:
        two_ranks(arguments.out)
        return
    parts = make(arguments.out, optimizer=arguments.optimizer)
    parts["objective"].delay_s = arguments.delay_s
    if arguments.die_at_fsync:
        real, calls = os.fsync, []

        def fsync(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) == arguments.die_at_fsync:
                os.kill(os.getpid(), signal.SIGKILL)
            real(descriptor)

        os.fsync = fsync
    fit(**parts)


if __name__ == "__main__":
    sys.exit(main())

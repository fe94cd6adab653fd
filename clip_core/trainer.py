"""The training loop of every model here: `Objective` says what to learn, `fit` learns it."""

import dataclasses
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from clip_core.accumulation import accumulate_gradients, wrap
from clip_core.checkpoint import BEST, FREE_FIELDS, LAST, check_run_folder, told_when_disk_is_full
from clip_core.log import Clock, RunLog, merge
from clip_core.optim import clip_gradients, learning_rates, set_learning_rates
from clip_core.progress import Progress, Saver, check_finite
from clip_core.runtime import DTYPES, Precision, Runtime, StopSignals, resume_command, undisturbed_randomness


class Objective(nn.Module, ABC):
    """What to learn: a module that turns a batch into losses. `fit` knows nothing else of it; DDP wraps it.

    Its state dict holds all that must survive a restart besides optimizers and global random states; large constant
    tables belong in non-persistent buffers.
    """

    best_metric: str | None = None
    """Key of `evaluate` whose largest value marks the best checkpoint; None: keep no best."""
    headline: Sequence[str] | None = None
    """Last names of the metrics that the screen shows, in this order; None: all. The log has every one."""

    @abstractmethod
    def forward(self, batch: Any) -> dict[str, Any]:
        """One micro-batch: `{"loss": sum, "weight": number, **report}`.

        `loss` is a scalar SUM, `weight` its normaliser (items, steps); or both are dicts over the same term names, the
        same at each call. The update minimises the sum over terms of total loss / total weight. Every loss must depend
        on a parameter: multiply by 0 where there is nothing to learn. The report's scalars are averaged for the log.
        """

    @abstractmethod
    def batches(self, start: int) -> Iterator[Any]:
        """Endless batches of this rank from position `start` (batches consumed before), found without replay.

        Order and content are a pure function of seed, rank, position: never of the global generators.
        """

    def evaluate(self) -> dict[str, float]:
        """Metrics such as {"val_seen/success": 0.5}. Runs on rank 0 alone, in eval mode, without gradients."""
        return {}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for an optimizer: `params`, `name`, and if wished `lr`, `clip` (see `optim.clip_gradients`)."""
        return [{"params": [p for p in self.parameters() if p.requires_grad], "name": "all"}]

    def compiled_modules(self) -> list[nn.Module]:
        """Modules that torch.compile takes when asked: those with a long plain-tensor forward."""
        return [self]


@dataclass(frozen=True)
class TrainerConfig:
    """How to learn."""

    steps: int = 20_000
    """Updates of the weights in all."""
    accumulate: int = 1
    """Batches per update on each process; gradients are exact, as of one large batch."""
    clip_norm: float | None = None
    """Largest gradient norm over all parameters that bring no limit of their own; none: no clipping."""
    precision: Precision = "fp32"
    """bf16: matrix products in bfloat16 (autocast), weights and optimizer in fp32."""
    eval_every: int = 1_000
    """Steps between evaluations; 0: never."""
    save_every: int = 1_000
    """Steps between checkpoints, beside those at evaluations and at the end; 0: only those."""
    log_every: int = 10
    """Steps between lines of the log; each costs one wait for the device."""
    evaluate_first: bool = False
    """Evaluate before the first step: shows the untrained model, and faults of the evaluation early."""
    compile: bool = False
    """Compile the model with torch.compile (minutes at the start)."""
    tensorboard: bool = False
    """Write TensorBoard events beside log.jsonl."""
    seed: int = 0
    """Seed of all randomness of the run."""

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("accumulate", 1), ("log_every", 1), ("eval_every", 0), ("save_every", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: expected {least} or more")


def fit(
    objective: Objective,
    optimizers: Mapping[str, Optimizer],
    schedules: Mapping[str, Callable[[int], float]],
    config: TrainerConfig,
    runtime: Runtime,
    out: Path,
    run_config: dict[str, Any],
    resume: bool = False,
    free_fields: Collection[str] = FREE_FIELDS,
) -> Progress:
    """Train to `config.steps`; write checkpoints, log, curves into `out`.

    Args:
        objective: on `runtime.device`.
        optimizers: by name; together they own every trainable parameter.
        schedules: by optimizer name, step -> multiplier of the base learning rate; constant where absent.
        run_config: JSON-like config of the whole run, kept in each checkpoint for resuming and evaluation.
        resume: go on from the last checkpoint in `out`.
        free_fields: last names of config fields that may differ on resume.

    Returns:
        Where the run stands at its end.

    Raises:
        ValueError: parts that do not fit together; as subclasses
            CheckpointError: `out` holds a run already, or none to resume; its checkpoint is damaged or of another
            config; the disk is full. DivergedError: a loss or gradient is not finite.
        SystemExit: 130 or 143 after Ctrl-C or SIGTERM, when the checkpoint is written.
    """
    _check_parts(objective, optimizers, schedules, config, runtime)
    if runtime.is_main:
        check_run_folder(out, resume)
        out.mkdir(parents=True, exist_ok=True)
    runtime.largest(0)  # no rank reads before rank 0 has looked at the folder
    document = {"config": run_config, "trainer": dataclasses.asdict(config), "world": runtime.world}
    saver = Saver(objective, optimizers, runtime, out, json.loads(json.dumps(document, default=str)))
    state = saver.resume(free_fields) if resume else Progress()
    if not resume:
        saver.save(state, LAST)  # a run killed before its first checkpoint can resume too; a full disk shows now
    if config.compile:
        for module in objective.compiled_modules():
            module.compile()
    with (
        told_when_disk_is_full(out),
        StopSignals() as stop,
        RunLog(out, config.steps, state.step, runtime, config.tensorboard) as log,
    ):
        run = _Run(objective, optimizers, schedules, config, runtime, out, saver, state, log)
        _train(run, stop)
    return state


@dataclass
class _Run:
    """The parts of a run, connected."""

    objective: Objective
    optimizers: Mapping[str, Optimizer]
    schedules: Mapping[str, Callable[[int], float]]
    config: TrainerConfig
    runtime: Runtime
    out: Path
    saver: Saver
    state: Progress
    log: RunLog

    def due(self, every: int) -> bool:
        return every > 0 and (self.state.step % every == 0 or self.state.step == self.config.steps)


def _train(run: _Run, stop: StopSignals) -> None:
    """The loop. Host-device syncs on CUDA: where it says SYNC, nowhere else."""
    config, runtime, state, meter = run.config, run.runtime, run.state, run.saver.meter
    model = wrap(run.objective, runtime)
    if state.step == 0 and config.evaluate_first:
        _evaluate_and_save(run)
    batches = run.objective.batches(state.step * config.accumulate)
    run.objective.train()
    clock = Clock()
    while state.step < config.steps:
        set_learning_rates(run.optimizers, run.schedules, state.step)
        losses = accumulate_gradients(model, batches, config.accumulate, runtime, meter)
        norms = clip_gradients(run.optimizers, config.clip_norm)
        meter.add(losses | norms)
        if runtime.device.type == "cpu":  # costs nothing there; on CUDA the next SYNC looks
            check_finite({name: float(value) for name, value in (losses | norms).items()}, state.step + 1, run.out)
        for optimizer in run.optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        state.step += 1
        clock.steps += 1
        run.log.advance(state.step)
        stopping = runtime.largest(stop.received)  # between the hosts: no device waits

        if run.due(config.log_every):
            means = merge(runtime.gather(meter.fetch()))  # SYNC
            check_finite(means, state.step, run.out)
            meter.clear()
            seconds, seconds_per_step = clock.lap()
            state.train_seconds += seconds
            rates = learning_rates(run.optimizers)
            run.log.train(state.step, {**means, **rates, "train_seconds": state.train_seconds}, seconds_per_step)
        if run.due(config.eval_every):
            with clock.paused():
                _evaluate_and_save(run)  # SYNC
        elif stopping or run.due(config.save_every) or state.step == config.steps:
            with clock.paused():
                run.saver.save(state, LAST)  # SYNC
        if stopping:
            run.log.draw()
            run.log.say(f"stopped after step {state.step}; to go on:\n  {resume_command(runtime.world)}")
            raise SystemExit(128 + stopping)
    run.log.draw()


def _evaluate_and_save(run: _Run) -> None:
    """Evaluate on rank 0 while the others wait in the collective below; save, also as best if it is."""
    better = run.runtime.is_main and _evaluate(run)
    better = bool(run.runtime.largest(int(better)))
    run.saver.save(run.state, *([BEST, LAST] if better else [LAST]))
    run.log.draw(at_once=False)


def _evaluate(run: _Run) -> bool:
    """True if the metrics are the best so far. The training after it does not notice that it happened."""
    objective, state, start = run.objective, run.state, time.perf_counter()
    objective.eval()
    with undisturbed_randomness(run.runtime.device), torch.no_grad(), run.runtime.autocast():
        state.metrics = {name: float(value) for name, value in objective.evaluate().items()}
    objective.train()
    run.log.evaluation(state.step, state.metrics, time.perf_counter() - start, objective.headline)
    key = objective.best_metric
    if key is None:
        return False
    if key not in state.metrics:
        raise ValueError(f"best_metric is {key!r}, but evaluate() gave {sorted(state.metrics)}: expected it among them")
    value = state.metrics[key]
    if not math.isfinite(value) or (state.best is not None and value <= state.best):
        return False
    state.best, state.best_step = value, state.step
    return True


def _check_parts(
    objective: Objective,
    optimizers: Mapping[str, Optimizer],
    schedules: Mapping[str, Callable[[int], float]],
    config: TrainerConfig,
    runtime: Runtime,
) -> None:
    """Faults of composition, found before anything runs."""
    if DTYPES[config.precision] != runtime.dtype or config.seed != runtime.seed:
        raise ValueError(
            f"runtime has {runtime.dtype} and seed {runtime.seed}, the config {config.precision} and {config.seed}: "
            "call start_runtime(device, config.precision, config.seed)"
        )
    if unknown := set(schedules) - set(optimizers):
        raise ValueError(f"schedules for {sorted(unknown)}, but the optimizers are {sorted(optimizers)}")
    owned = {id(p) for o in optimizers.values() for group in o.param_groups for p in group["params"]}
    lost = [name for name, p in objective.named_parameters() if p.requires_grad and id(p) not in owned]
    if lost:
        raise ValueError(
            f"no optimizer owns {', '.join(lost[:5])} ({len(lost)} in all): add them, or requires_grad_(False)"
        )
    for name, parameter in objective.named_parameters():
        if parameter.device.type != runtime.device.type:
            raise ValueError(f"parameter {name} is on {parameter.device}, the run on {runtime.device}: move it before")

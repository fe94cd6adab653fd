"""One IL + A2C iteration of the follower at batch 64, against the plain follower and the floor; on a GPU where one is.

The plain follower (tests/agent/plain_follower.py) works as the original program does: one scalar environment per
episode, every episode computed in all 35 steps, torch's packed LSTM, autograd's own weight gradients.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from agent.config import FollowerConfig
from agent.data import Split, load_splits, load_worlds
from agent.follower import Follower, FollowerSizes
from agent.objectives import Batch, FollowerObjective
from agent.sight import Eyes
from clip_core.memory import keep_large_blocks
from clip_core.optim import build_optimizer, clip_gradients
from clip_core.runtime import Precision, start_runtime
from clip_core.tokenizer import WordTokenizer, build_vocabulary
from envs.navigation import NavEnv
from envs.tables import World

SIZE, WARM_UP, REPEATS, PLAIN_REPEATS = 512, 10, 30, 3
ORIGINAL_S = 2.9
"""R2R-EnvDrop's code over the first 100 iterations, blind inputs of 512-d, on such a machine (DESIGN.md)."""

GPU_TARGET_MS = 30
"""An iteration on one H200 (DESIGN.md)."""
COMPILERS: dict[str, dict | None] = {"eager": None, "compiled": {}, "CUDA graphs": {"mode": "reduce-overhead"}}
"""How the step of a rollout runs: options of torch.compile, None without it."""


def run() -> list[dict]:
    """Medians of an iteration (forward, backward, clip, update), with real R2R train episodes and random features."""
    keep_large_blocks()
    torch.manual_seed(0)
    worlds = load_worlds(Path(os.environ["CLIPNAV_DATA"]) / "r2r", None, "r2r", ["train"])
    tokenizer = WordTokenizer(build_vocabulary(e.instruction for e in worlds["train"].episodes))
    split = load_splits(worlds, tokenizer, torch.device("cpu"))["train"]
    rows = len(split.world.candidates.viewpoints)
    features = torch.randn(rows, 36, SIZE, dtype=torch.float16)
    rate = _matmul_rate()
    fast, seen = _measure_fast(split, Eyes(features, torch.arange(rows)), len(tokenizer))
    rounded, _ = _measure_fast(split, Eyes(features, torch.arange(rows)), len(tokenizer), "bf16")
    blind, _ = _measure_fast(split, Eyes(), len(tokenizer))
    plain = _measure_plain(split, features, len(tokenizer))
    on_gpu = _measure_gpu(worlds, tokenizer, features) if torch.cuda.is_available() else []
    floor = _operations(seen) / rate
    note = f"{seen['decisions']:.0f} decisions, {seen['tokens']:.0f} tokens; {rate / 1e9:.0f} GFLOP/s matmul"
    common = {"unit": "s", "lower_is_better": True}
    return [
        {
            "name": "IL + A2C iteration, 512-d features, fp32",
            "value": fast,
            "reference": "plain follower, same run",
            "reference_value": plain,
            "floor": f"{floor:.3f} s: {note}",
            **common,
        },
        {
            "name": "the same against R2R-EnvDrop's own code",
            "value": fast,
            "reference": "R2R-EnvDrop (DESIGN.md)",
            "reference_value": ORIGINAL_S,
            **common,
        },
        {
            "name": "IL + A2C iteration, blind, fp32",
            "value": blind,
            "reference": "R2R-EnvDrop (DESIGN.md)",
            "reference_value": ORIGINAL_S,
            **common,
        },
        {
            "name": "IL + A2C iteration, 512-d features, bf16",
            "value": rounded,
            "reference": "fp32, same run",
            "reference_value": fast,
            "floor": f"products at {_matmul_rate(torch.bfloat16) / 1e9:.0f} GFLOP/s",
            **common,
        },
        *on_gpu,
    ]


def _measure_gpu(worlds: dict[str, World], tokenizer: WordTokenizer, features: Tensor) -> list[dict]:
    """Milliseconds of the same iteration on a GPU, by precision and by how the step runs. The losses of a GPU and of a
    CPU are compared by tests/agent/test_static_rollout.py."""
    device, rows = torch.device("cuda"), []
    split = load_splits(worlds, tokenizer, device)["train"]
    eyes = Eyes(features, torch.arange(len(features))).to(device)
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    for precision in precisions:
        for name, options in COMPILERS.items():
            row = {"name": f"the same on {torch.cuda.get_device_name()}, {precision}, {name}", "unit": "ms"}
            try:
                seconds, _ = _measure_fast(split, eyes, len(tokenizer), precision, options)
            except Exception as error:  # the other ways still have something to say
                reference = f"did not run: {type(error).__name__}: {str(error)[:200]}"
                rows.append(row | {"value": float("nan"), "reference": reference})
                continue
            rows.append(row | {"value": 1e3 * seconds, "reference": "goal", "reference_value": GPU_TARGET_MS})
    return rows


def _measure_fast(
    split: Split, eyes: Eyes, words: int, precision: Precision = "fp32", compiler: dict | None = None
) -> tuple[float, dict[str, float]]:
    """Median seconds, and the mean number of decisions and tokens of an iteration."""
    feature = 0 if eyes.table is None else SIZE
    device = split.ids.device
    runtime = start_runtime(device.type, precision)
    follower = Follower(FollowerSizes(words=words, feature=feature)).to(device)
    objective = FollowerObjective(follower, eyes, split, {}, FollowerConfig(), seed=0)
    if compiler is not None:
        torch._dynamo.reset()
        for module in objective.compiled_modules():
            module.compile(**compiler)
    optimizer = build_optimizer("rmsprop", objective.parameter_groups())
    counts: dict[str, list[float]] = {"decisions": [], "tokens": []}
    hook = follower.critic.register_forward_pre_hook(lambda _, args: counts["decisions"].append(len(args[0])))
    batches = objective.batches(0)

    def iterate() -> None:
        batch: Batch = next(batches)
        counts["tokens"].append(float(split.lengths[batch.episodes].sum()))
        if device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        with runtime.autocast():
            result = objective(batch)
        loss = sum(result["loss"][k] / result["weight"][k] for k in result["loss"])
        _update(loss, optimizer)
        if device.type == "cuda":
            torch.cuda.synchronize()  # at the end of the clock

    seconds = _median(iterate, WARM_UP, REPEATS)
    hook.remove()
    return seconds, {
        "decisions": sum(counts["decisions"]) / len(counts["tokens"]),
        "tokens": statistics.mean(counts["tokens"]),
    }


def _measure_plain(split: Split, features: Tensor, words: int) -> float:
    """Median seconds of the plain follower: a teacher-forced batch for imitation, a sampled one for A2C."""
    plain = _load_plain()
    follower = Follower(FollowerSizes(words=words, feature=SIZE))
    optimizer = build_optimizer("rmsprop", [{"params": list(follower.parameters())}])
    batch = FollowerConfig().batch
    envs = [NavEnv(world=split.world, features=features.numpy()) for _ in range(batch)]
    order = np.random.default_rng(0).permutation(len(split.world.episodes))
    position = 0

    def walk(act: Callable[[int, Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        nonlocal position
        episodes = order[position : position + batch]
        position += batch
        index = torch.from_numpy(episodes)
        return plain.plain_losses(follower, envs, episodes.tolist(), split.ids[index], split.lengths[index], act)

    def iterate() -> None:
        imitation, _ = walk(lambda step, logits, teacher: teacher)
        _, actor_critic = walk(lambda step, logits, teacher: torch.distributions.Categorical(logits=logits).sample())
        _update(0.2 * imitation + actor_critic, optimizer)

    return _median(iterate, 1, PLAIN_REPEATS)


def _update(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    loss.backward()
    clip_gradients({"rmsprop": optimizer}, 40.0)
    optimizer.step()
    optimizer.zero_grad()


def _median(work: Callable[[], None], warm_up: int, repeats: int) -> float:
    for _ in range(warm_up):
        work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _matmul_rate(dtype: torch.dtype = torch.float32) -> float:
    """FLOP/s of a product of the decoder's shape."""
    x, w = torch.randn(128, 1216, dtype=dtype), torch.randn(2048, 1216, dtype=dtype)
    return 2 * x.numel() * len(w) / _median(lambda: torch.nn.functional.linear(x, w), 20, 100)


def _operations(seen: dict[str, float]) -> float:
    """Floating-point operations of an iteration: those of its matrix products, forward once and backward twice."""
    hidden, gates, word, action, size, text = 512, 2048, 256, 64, SIZE + 4, 40
    encoder = 2 * (word + hidden // 2) * (gates // 2)
    decoder = (
        (action + size + hidden) * gates  # LSTM
        + 2 * hidden * size  # queries of views and candidates
        + 2 * 36 * size  # attention over views
        + 2 * text * hidden  # attention over the instruction
        + hidden * hidden
        + 2 * hidden * hidden
        + hidden * hidden  # critic
    )
    return 3 * 2 * (seen["tokens"] * encoder + seen["decisions"] * decoder)


def _load_plain() -> ModuleType:
    """The specification beside the tests, which is no package."""
    path = Path(__file__).parents[1] / "agent" / "plain_follower.py"
    spec = importlib.util.spec_from_file_location("plain_follower", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

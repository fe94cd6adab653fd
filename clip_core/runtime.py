"""Where a process computes: device, dtype, seed, process group, chosen once by the command."""

import contextlib
import gc
import os
import random
import shlex
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist

from clip_core.memory import keep_large_blocks

Precision = Literal["fp32", "bf16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
# Rank 0 evaluates while the others wait, which may take long. A dead rank is noticed by torchrun, not by this limit.
COLLECTIVE_TIMEOUT = timedelta(hours=6)


@dataclass(frozen=True)
class Runtime:
    """The place of this process among all processes of the run. Use as a context manager to leave the group tidily."""

    device: torch.device
    dtype: torch.dtype = torch.float32
    rank: int = 0
    world: int = 1
    seed: int = 0

    @property
    def is_main(self) -> bool:
        """True on the one process that writes files, prints, evaluates."""
        return self.rank == 0

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision for a forward pass: bf16 autocast on CPU or CUDA, nothing for fp32."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum of `tensor` over all ranks, in place, on its own device: no host sync on CUDA."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def largest(self, value: int) -> int:
        """Largest `value` over all ranks. Travels over gloo between the hosts, so no device waits."""
        if self.world == 1:
            return value
        found = torch.tensor(value)
        dist.all_reduce(found, op=dist.ReduceOp.MAX)
        return int(found)

    def gather(self, value: Any) -> list[Any]:
        """The JSON-like `value` of every rank in order of rank, known to every rank."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def __enter__(self) -> "Runtime":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None):
        # After an error the other ranks may wait inside a collective: just die, torchrun then ends them.
        if error is None and self.world > 1:
            self.largest(0)  # leave together: rank 0 may still be drawing pictures
            gc.collect()  # DDP lies in a reference cycle, and its threads must end before the group they talk through
            dist.destroy_process_group()


def start_runtime(device: str = "auto", precision: Precision = "fp32", seed: int = 0) -> Runtime:
    """Choose the device, join torchrun's process group when there is one, seed python, numpy and torch.

    Args:
        device: "auto" (CUDA if present), "cpu", "cuda" or "cuda:N". Under torchrun each rank takes its own GPU.
        precision: "fp32" or "bf16" (autocast; weights stay fp32).
        seed: rank r is seeded with `seed + r`; rank 0 owns the initial weights, DDP hands them to the others.

    Raises:
        ValueError: unknown device or precision, CUDA asked for but absent, fewer GPUs than local ranks.
    """
    if precision not in DTYPES:
        raise ValueError(f"precision {precision!r} is unknown: expected one of {', '.join(DTYPES)}")
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = _choose_device(device, int(os.environ.get("LOCAL_RANK", 0)), world)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if world > 1 and not dist.is_initialized():
        # gloo carries the hosts' small talk also on CUDA, so that asking "did someone get a signal" syncs no device.
        backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=COLLECTIVE_TIMEOUT)
    keep_large_blocks()
    seed_everything(seed + rank)
    return Runtime(chosen, DTYPES[precision], rank, world, seed)


def _choose_device(device: str, local_rank: int, world: int) -> torch.device:
    available = torch.cuda.is_available()
    if device == "auto":
        device = "cuda" if available else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device {device!r} is unknown: expected auto, cpu, cuda or cuda:N") from None
    if chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"device {device!r} is not supported: expected auto, cpu, cuda or cuda:N")
    if chosen.type == "cpu":
        return torch.device("cpu")
    if not available:
        raise ValueError(f"device {device!r} was asked for, but torch sees no CUDA device: use --device cpu")
    index = local_rank if world > 1 else (chosen.index or 0)
    if index >= torch.cuda.device_count():
        raise ValueError(
            f"GPU {index} was asked for, but torch sees {torch.cuda.device_count()}: "
            "use another --device, or a smaller torchrun --nproc-per-node"
        )
    return torch.device("cuda", index)


def seed_everything(seed: int) -> None:
    """Seed the global generators of python, numpy and torch (CPU, CUDA)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, Any]:
    """State of the global generators as JSON values, exact. On CUDA this is a host sync."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": [*random.getstate()[:1], list(random.getstate()[1]), random.getstate()[2]],
        "numpy": [str(kind), np.asarray(keys).tolist(), int(position), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "cuda": torch.cuda.get_rng_state(device).numpy().tobytes().hex() if device.type == "cuda" else None,
    }


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Inverse of `random_state`. A CUDA state is ignored on the CPU, where it has no meaning."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    kind, numbers, *rest = state["numpy"]
    np.random.set_state((kind, np.array(numbers, dtype=np.uint32), *rest))
    torch.set_rng_state(_bytes_tensor(state["torch"]))
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(_bytes_tensor(state["cuda"]), device)


def _bytes_tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray.fromhex(text), dtype=torch.uint8).clone()


@contextlib.contextmanager
def undisturbed_randomness(device: torch.device) -> Iterator[None]:
    """Whatever the body draws from the global generators, the code after it sees them as they were."""
    state = random_state(device)
    try:
        yield
    finally:
        set_random_state(state, device)


class StopSignals:
    """Context in which SIGTERM and the first Ctrl-C are noted in `received` instead of ending the process."""

    def __init__(self) -> None:
        self.received = 0  # number of the last signal, 0 if none
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        with contextlib.suppress(ValueError):  # python forbids handlers outside the main thread: then there are none
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            raise KeyboardInterrupt  # the second Ctrl-C: the person means now
        self.received = number
        name = signal.Signals(number).name
        os.write(2, f"\n{name}: stopping after this step, with a checkpoint (Ctrl-C again: at once)\n".encode())


def resume_command(world: int) -> str:
    """The command line of this process with `--resume`, as a person would type it."""
    arguments = [word for word in sys.orig_argv[1:] if word != "-u"]
    start = [sys.orig_argv[0]] if world == 1 else ["torchrun", f"--nproc-per-node={world}"]
    return shlex.join([*start, *arguments, *([] if "--resume" in arguments else ["--resume"])])

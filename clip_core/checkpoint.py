"""Checkpoints: everything a run needs to go on, one safetensors file each, whole or absent.

A file holds the tensors `model/NAME` and `optimizer/NAME/INDEX/KEY`, plus one JSON document in its metadata: step,
random states, config, parameter groups. A SHA-256 over both is kept beside the document. Nothing is unpickled.
"""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

LAST, BEST = "last.safetensors", "best.safetensors"
FORMAT = "clipnav-checkpoint-1"
# What may differ between a checkpoint and the run that goes on from it: how long, how often, what is written.
FREE_FIELDS = frozenset(
    {"steps", "eval_every", "log_every", "save_every", "tensorboard", "evaluate_first", "resume", "out", "device"}
)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or used; the message says what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: CPU tensors by their full names, and the JSON document."""

    path: Path
    tensors: dict[str, Tensor]
    document: dict[str, Any]

    def model_state(self, prefix: str = "") -> dict[str, Tensor]:
        """The objective's state dict; with `prefix` ("follower.") only that part, the prefix taken off."""
        start = f"model/{prefix}"
        return {name[len(start) :]: tensor for name, tensor in self.tensors.items() if name.startswith(start)}


def save_checkpoint(
    path: Path, model: nn.Module, optimizers: Mapping[str, Optimizer], document: dict[str, Any]
) -> None:
    """Write the checkpoint under a temporary name, sync it to disk, rename it: `path` is never half a file.

    Copies from CUDA, hence a host sync.

    Raises:
        CheckpointError: the disk is full or refuses; what stood at `path` before is untouched.
    """
    tensors = {f"model/{name}": tensor for name, tensor in model.state_dict().items()}
    document = {"format": FORMAT, **document, "optimizers": {}}
    for name, optimizer in optimizers.items():
        state, document["optimizers"][name] = _flat_optimizer(name, optimizer)
        tensors |= state
    tensors = _own_storage(tensors)
    text = json.dumps(document, allow_nan=True)
    metadata = {"checkpoint": text, "sha256": _digest(text, tensors)}
    temporary = _temporary(path)
    try:
        save_file(tensors, temporary, metadata)
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        size_mb = (len(text) + sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())) / 1e6
        free_mb = shutil.disk_usage(path.parent).free / 1e6
        kept = f"{path.name} of before is whole" if path.exists() else "there was none before"
        raise CheckpointError(
            f"cannot write {path}: {error}. It needs {size_mb:.2f} MB beside the old one, the disk has "
            f"{free_mb:.2f} MB free; {kept}. Make room, then go on with --resume"
        ) from error


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a whole checkpoint to the CPU and verify it.

    Raises:
        CheckpointError: no such file, not a checkpoint of this project, cut or altered (checksum).
    """
    try:
        return _read_verified(path)
    except CheckpointError as error:
        if not path.is_file():
            raise
        raise CheckpointError(f"{error}. {_other_good(path)}") from error


def _read_verified(path: Path) -> Checkpoint:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}: expected a file written by training")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged, or no safetensors file: {error}") from error
    if "checkpoint" not in metadata or "sha256" not in metadata:
        raise CheckpointError(f"{path} holds no training state: expected a file written by training")
    found = _digest(metadata["checkpoint"], tensors)
    if found != metadata["sha256"]:
        raise CheckpointError(f"{path} is damaged: its SHA-256 is {found[:12]}, expected {metadata['sha256'][:12]}")
    document = json.loads(metadata["checkpoint"])
    if document["format"] != FORMAT:
        raise CheckpointError(
            f"{path} has format {document['format']!r}, expected {FORMAT!r}: use the version that wrote it"
        )
    return Checkpoint(path, tensors, document)


def restore(checkpoint: Checkpoint, model: nn.Module, optimizers: Mapping[str, Optimizer]) -> None:
    """Put the weights and the state of every optimizer back.

    Raises:
        CheckpointError: names or shapes differ from those of `model` and `optimizers`.
    """
    path, stored = checkpoint.path, checkpoint.document["optimizers"]
    if set(stored) != set(optimizers):
        raise CheckpointError(f"{path} has the optimizers {sorted(stored)}, this run has {sorted(optimizers)}")
    try:
        model.load_state_dict(checkpoint.model_state())
        for name, optimizer in optimizers.items():
            optimizer.load_state_dict(_nested_optimizer(name, optimizer, checkpoint))
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path} does not fit this model: {error}") from error


def load_model(path: Path, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights for evaluation, and the config of the run that made them.

    Args:
        path: a checkpoint file, or a run folder (its best checkpoint if present, else the last).
        prefix: take the part of the objective below this name only, e.g. "follower.".

    Returns:
        `(state_dict, run_config)`, CPU tensors.

    Raises:
        CheckpointError: nothing there, damaged, or nothing under `prefix`.
    """
    checkpoint = read_checkpoint(find_checkpoint(path))
    state = checkpoint.model_state(prefix)
    if not state:
        names = sorted(
            {name.split("/", 1)[1].split(".")[0] for name in checkpoint.tensors if name.startswith("model/")}
        )
        raise CheckpointError(
            f"{checkpoint.path} has no weights under {prefix!r}: it holds {', '.join(names) or 'none'}"
        )
    return state, checkpoint.document["config"]


def find_checkpoint(run: Path) -> Path:
    """The checkpoint to evaluate: `run` itself if a file, in a run folder the best one if present, else the last.

    Raises:
        CheckpointError: neither is there.
    """
    if run.is_file():
        return run
    for name in (BEST, LAST):
        if (run / name).is_file():
            return run / name
    what = f"{BEST} or {LAST} in the folder {run}" if run.is_dir() else f"a checkpoint file or run folder at {run}"
    raise CheckpointError(f"no checkpoint found: expected {what}; train first, or name another")


@contextlib.contextmanager
def told_when_disk_is_full(out: Path) -> Iterator[None]:
    """A full disk that the body meets, in a log or a picture, becomes a CheckpointError."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise CheckpointError(
            f"cannot write into {out}: {error}. The checkpoints in it are whole: make room, then go on with --resume"
        ) from error


def check_run_folder(out: Path, resume: bool) -> None:
    """Refuse to overwrite a run, or to resume where there is nothing.

    Raises:
        CheckpointError: `out` holds a run and `resume` is False; `out` holds no last checkpoint and `resume` is True.
    """
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"--out {out} is a file: expected a folder, new or empty")
    present = [name for name in (LAST, BEST, "log.jsonl") if (out / name).exists()]
    if resume and LAST not in present:
        other = f"it holds {', '.join(present)}" if present else "it holds no run"
        raise CheckpointError(f"cannot resume {out}: expected {LAST}, but {other}; start anew without --resume")
    if not resume and present:
        raise CheckpointError(
            f"{out} already holds a run ({', '.join(present)}): use --resume to go on with it, or another --out"
        )
    for name in (LAST, BEST):  # what a killed process left behind
        _temporary(out / name).unlink(missing_ok=True)


def check_config(checkpoint: Checkpoint, expected: dict[str, Any], free: Collection[str] = FREE_FIELDS) -> None:
    """The document's fields named in `expected` must be equal, but for those whose last name is in `free`.

    Raises:
        CheckpointError: names every differing field, what was found, what was expected.
    """
    found = _flat({key: checkpoint.document.get(key) for key in expected})
    wanted = _flat(json.loads(json.dumps(expected)))
    absent = "(absent)"
    lines = [
        f"  {name.removeprefix('config.')}: found {_short(found.get(name, absent))}, "
        f"expected {_short(wanted.get(name, absent))}"
        for name in sorted(found.keys() | wanted.keys())
        if name.rsplit(".", 1)[-1] not in free and found.get(name, absent) != wanted.get(name, absent)
    ]
    if lines:
        raise CheckpointError(
            f"{checkpoint.path} is of another config:\n" + "\n".join(lines) + "\n"
            "Resume with the flags it was started with, or start anew with another --out"
        )


def _short(value: Any) -> str:
    """A value on one line; long lists (a vocabulary) by their ends, which is where most differ."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:50]} ... {text[-50:]} ({len(value)} items)"


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {name: value}
    return {k: v for key, item in value.items() for k, v in _flat(item, f"{name}.{key}" if name else str(key)).items()}


def _flat_optimizer(name: str, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of an optimizer as tensors with names, and its groups and plain numbers as JSON values."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{name}/{index}/{key}"] = value
            else:
                numbers.setdefault(str(index), {})[key] = value
    return tensors, {"param_groups": state["param_groups"], "numbers": numbers}


def _nested_optimizer(name: str, optimizer: Optimizer, checkpoint: Checkpoint) -> dict[str, Any]:
    """Inverse of `_flat_optimizer`. JSON turned tuples (betas) to lists: turned back as the live groups have them."""
    stored = checkpoint.document["optimizers"][name]
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in stored["numbers"].items()}
    start = f"optimizer/{name}/"
    for full, tensor in checkpoint.tensors.items():
        if full.startswith(start):
            index, key = full[len(start) :].split("/", 1)
            state.setdefault(int(index), {})[key] = tensor
    groups = [dict(group) for group in stored["param_groups"]]
    for group, live in zip(groups, optimizer.param_groups, strict=False):  # load_state_dict tells unequal numbers
        for key, value in live.items():
            if isinstance(value, tuple) and isinstance(group.get(key), list):
                group[key] = tuple(group[key])
    return {"state": state, "param_groups": groups}


def _own_storage(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors, none sharing memory with another (tied weights): safetensors demands it."""
    seen: set[int] = set()
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"state {name!r} is a {type(tensor).__name__}: a checkpoint stores tensors only")
        value = tensor.detach().cpu().contiguous()
        storage = value.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != value.numel() * value.element_size():
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        result[name] = value
    return result


def _digest(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp")


def _other_good(path: Path) -> str:
    """What to do about a damaged checkpoint: names the other one of the run when that is whole."""
    other = path.with_name(LAST if path.name == BEST else BEST)
    with contextlib.suppress(CheckpointError):
        step = _read_verified(other).document["step"]
        return f"{other.name} (step {step}) is whole: to go on from it, cp {other} {path}"
    return "No other whole checkpoint lies beside it: restore a copy, or start anew with another --out"

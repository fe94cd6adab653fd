"""The built-in world: procedural houses with their features, made once in a cache folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from clip_core.runtime import Runtime, start_runtime
from clip_core.shipped import MODEL, TAG, recorded_checksum
from envs.houses.built_in import CACHE_VARIABLE, world_folder
from envs.houses.progress import make_world_shown
from envs.houses.world import WorldConfig
from precompute.panoramas import Panoramas, make_panoramas
from precompute.screen import say

try:
    import fcntl
except ImportError:  # Windows, where two first runs at once are on their own
    fcntl = None  # type: ignore[assignment]

WORLD = WorldConfig(seed=1, train=40, unseen=8, face_px=256, train_routes=64, eval_routes=48)


@dataclass(frozen=True)
class Prepare:
    """Make the built-in houses and their CLIP features in the cache folder, as the first training would.

    Example: python -m precompute prepare
    """

    features: bool = True
    """Also encode the panoramas."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N: where the encoder runs."""


def prepare_command(config: Prepare, console: Console | None = None) -> Path:
    """The command: says where the world lies."""
    console = Console() if console is None else console
    with start_runtime(config.device) as runtime:
        folder = prepare(runtime, console, features=config.features)
        if runtime.is_main:
            say(console, f"The built-in houses lie in {folder}\nNext: python -m agent.train --env r2r")
        return folder


def features_folder() -> Path:
    """Feature store of the built-in houses by the embedded CLIP; other weights have another."""
    return world_folder() / "features" / f"clip-{recorded_checksum()[:8]}"


def prepare(runtime: Runtime, console: Console, *, features: bool = True) -> Path:
    """The folder of the built-in world, made now as far as it is not there; every rank calls it.

    console: told what is made and where; silent about what is there.
    Raises ValueError where the cache cannot be written; what was made is kept, the next call goes on.
    """
    folder = world_folder()
    if runtime.is_main:
        try:
            _make_houses(folder, console)
        except OSError as error:
            raise ValueError(
                f"{folder} cannot be written ({error}); make room, or name another folder with {CACHE_VARIABLE}"
            ) from error
    runtime.largest(0)  # the others wait for the houses
    store = features_folder()
    if features and not store.exists():
        if runtime.is_main:
            say(console, f"Encoding their panoramas with the embedded CLIP ({MODEL}) into {store} (once):")
        make_panoramas(Panoramas(data=folder, model=MODEL, pretrained=TAG, out=store), runtime, console)
    return folder


def _make_houses(folder: Path, console: Console) -> None:
    """The houses, if they are not there; one process at a time."""
    complete = folder / "complete"
    if complete.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / "lock", console):
        if complete.exists():
            return
        say(
            console,
            f"Making the built-in houses in {folder} (once, 2 to 4 minutes on two cores): {WORLD.train} to train in, "
            f"{WORLD.unseen} that training never sees",
        )
        make_world_shown(folder, WORLD, console)
        complete.touch()


@contextlib.contextmanager
def _alone(path: Path, console: Console) -> Iterator[None]:
    """Waits until no other process is in here."""
    with path.open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(console, f"Another process is making {path.parent}: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield

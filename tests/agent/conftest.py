"""Fixtures of the agent's tests: a small data folder, a run trained on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import agent_toy
import pytest
import torch

from agent import train
from agent.data import Split
from envs.tables import World


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors are slower on several threads, much slower where other processes want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small_split(world_val_seen: World) -> Split:
    """48 instructions of R2R val_seen."""
    return agent_toy.first_episodes(world_val_seen, 48)


@pytest.fixture(scope="session")
def small_data(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a few real routes: train, val_seen, val_unseen, test."""
    folder = tmp_path_factory.mktemp("small")
    agent_toy.write_small(data_dir / "r2r_dev", folder, {"train": 12, "val_seen": 3, "val_unseen": 3})
    agent_toy.write_small(data_dir / "r2r", folder, {"test": 3})
    return folder


@pytest.fixture(scope="session")
def places(small_data: Path, data_dir: Path) -> list[str]:
    """The flags that every command takes: where the small data is."""
    return ["--data", str(small_data), "--connectivity", str(data_dir / "connectivity"), "--device", "cpu"]


@pytest.fixture(scope="session")
def blind_run(places: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a blind run of 3 steps."""
    out = tmp_path_factory.mktemp("runs") / "blind"
    assert train.main([*places, "--out", str(out), "--steps", "3", *agent_toy.TINY]) == 0
    return out

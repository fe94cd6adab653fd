"""Precompute in processes of its own: killed, doubled, on a full disk; the bytes are those of one undisturbed run."""

from __future__ import annotations

import resource
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from panorama_world import bytes_of, command, environment, tiny_clip, write_world

from clip_core.feature_files import partial_path, read_keys
from precompute import __main__ as precompute
from precompute import encode

SIZES = {"one": 7, "two": 4}
COMMIT_ALWAYS = "encode.COMMIT_SECONDS = 0.0"
DIE = """
import glob, os, signal, time
from precompute import panoramas
prepare = panoramas.PanoramaEncoder.prepare
def dying(self, key):
    while key == {key!r}:
        if sum(len(open(file).readlines()) for file in glob.glob({folder!r} + "/keys.txt")) >= {n_rows}:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.01)
    return prepare(self, key)
panoramas.PanoramaEncoder.prepare = dying
"""  # at an item, once so many rows are on the disk: not a matter of time


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("panoramas")
    world = write_world(folder / "world", SIZES)
    model = tiny_clip(folder / "clip")
    # Three at a time: the last group is short, and rows that were cut inside a group are computed again.
    flags = ["--data", world, "--model", model, "--pretrained", "random", "--device", "cpu", "--batch", 3]
    return [str(flag) for flag in flags]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the processes have it: the number of threads is seen in the last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(flags: list[str], out: Path) -> int:
    """The command in this process."""
    return precompute.main(["panoramas", *flags, "--out", str(out)])


@pytest.fixture(scope="module")
def whole(flags: list[str], one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Bytes of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "store"
    assert run(flags, out) == 0
    return bytes_of(out)


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """start(command, **environment) begins a process that does not outlive the test."""
    begun: list[subprocess.Popen[str]] = []

    def begin(arguments: list[str], **more: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        begun.append(subprocess.Popen(arguments, env=environment(**more), stdout=pipe, stderr=pipe, text=True))
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def rows(folder: Path) -> int:
    """Rows whose keys are on the disk."""
    return len(read_keys(folder)) if (folder / "keys.txt").exists() else 0


def test_a_killed_run_ends_with_the_same_bytes(
    flags: list[str], whole: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str], start: Start
) -> None:
    out, part = tmp_path / "store", partial_path(tmp_path / "store")
    death = DIE.format(key="two_p3", folder=str(part), n_rows=6)
    process = start(command(*flags, "--out", out, before=COMMIT_ALWAYS + death))
    process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL
    assert rows(part) in (6, 9)
    keys, table = part / "keys.txt", part / "table.npy"
    keys.write_bytes(keys.read_bytes()[:-4])  # as a power cut may leave it: half a key, half a row, half a group
    table.write_bytes(table.read_bytes() + b"half a row")
    n_rows = rows(part)
    assert n_rows % 3 == 2
    assert run(flags, out) == 0
    assert f"{n_rows} of 11 items are there" in capsys.readouterr().out
    assert bytes_of(out) == whole


def ranks(start: Start, arguments: list[str], world: int) -> list[subprocess.Popen[str]]:
    """The same command on several ranks, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    return [start(arguments, RANK=str(rank), LOCAL_RANK=str(rank), **place) for rank in range(world)]


def test_two_ranks_give_the_bytes_of_one(
    flags: list[str], whole: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str], start: Start
) -> None:
    """Rank 1 is killed in its work; the command is given again, and goes on with what both had."""
    out = tmp_path / "store"
    part = partial_path(tmp_path / "store.part1of2")
    death = DIE.format(key="two_p3", folder=str(part), n_rows=3)
    first, second = ranks(start, command(*flags, "--out", out, before=COMMIT_ALWAYS + death), 2)
    second.communicate(timeout=300)
    assert second.returncode == -signal.SIGKILL
    first.terminate()  # as torchrun does with the others
    first.communicate(timeout=300)
    assert not out.exists()
    assert rows(part) == 3

    assert run(flags, out) == 2
    assert "continue it with torchrun --nproc-per-node=2" in capsys.readouterr().err

    again = ranks(start, command(*flags, "--out", out), 2)
    printed = [process.communicate(timeout=300) for process in again]
    assert [process.returncode for process in again] == [0, 0], printed
    assert "joined from 2 ranks" in printed[0][0]
    assert printed[1][0] == ""
    assert bytes_of(out) == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store"]


def test_a_full_disk_keeps_what_is_there(
    flags: list[str],
    whole: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A limit on the size of files stands for the full disk: room for 6 rows of 1,152 bytes, not for 11."""
    out = tmp_path / "store"
    monkeypatch.setattr(encode, "COMMIT_SECONDS", 0.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    try:
        code = run(flags, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = capsys.readouterr().err
    assert code == 2
    assert "cannot be written" in message
    assert "run the same command to continue" in message
    assert rows(partial_path(out)) == 6
    assert run(flags, out) == 0
    assert bytes_of(out) == whole


def test_a_folder_that_cannot_be_made_is_a_fault_of_the_user(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert run(flags, tmp_path / "file" / "store") == 2
    assert "cannot be written" in capsys.readouterr().err

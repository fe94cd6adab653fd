"""Training in processes of its own: killed, stopped, doubled."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import clip_core_toy
import pytest
import torch
from clip_core_toy import gradients, train
from safetensors.torch import load_file

from clip_core.checkpoint import LAST, load_model, read_checkpoint
from clip_core.log import read_log
from clip_core.runtime import start_runtime

TOY = [sys.executable, clip_core_toy.__file__]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(out)
    return out


def assert_same_end(one: Path, other: Path) -> None:
    """Weights, optimizer states, random states, position, best value: bit for bit."""
    first, second = read_checkpoint(one / LAST), read_checkpoint(other / LAST)
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name
    assert first.document["ranks"] == second.document["ranks"]
    timeless = [{k: v for k, v in c.document["progress"].items() if k != "train_seconds"} for c in (first, second)]
    assert timeless[0] == timeless[1]


def curve(out: Path) -> list[dict[str, float]]:
    """The log without what a clock or the memory says."""
    hidden = ("train_seconds", "seconds_per_step", "memory_gb", "evaluation_seconds")
    return [{k: v for k, v in line.items() if k not in hidden} for line in read_log(out / "log.jsonl")]


def wait_for_step(out: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "log.jsonl").exists() and any(line["step"] >= step for line in read_log(out / "log.jsonl")):
            return
        time.sleep(0.005)
    raise AssertionError(f"step {step} was not reached, exit code {process.poll()}")


def test_kill_during_training_then_resume_ends_as_uninterrupted(whole, tmp_path):
    process = subprocess.Popen([*TOY, str(tmp_path / "killed"), "--delay-s", "0.02"], stderr=subprocess.DEVNULL)
    wait_for_step(tmp_path / "killed", 12, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    at = read_checkpoint(tmp_path / "killed" / LAST).document["step"]
    assert 10 <= at < 24
    train(tmp_path / "killed", resume=True)
    assert_same_end(whole, tmp_path / "killed")
    assert curve(tmp_path / "killed") == curve(whole)


def test_kill_during_checkpoint_write_then_resume_ends_as_uninterrupted(tmp_path):
    train(tmp_path / "whole", optimizer="adamw")
    # Two fsyncs per file (contents, folder): step 0, step 5, best of 10, last of 10 is the fourth file.
    command = [*TOY, str(tmp_path / "killed"), "--optimizer", "adamw", "--die-at-fsync", "7"]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == -signal.SIGKILL
    half = tmp_path / "killed" / f".{LAST}.tmp"
    assert half.exists()
    assert read_checkpoint(tmp_path / "killed" / LAST).document["step"] == 5
    half.write_bytes(half.read_bytes()[:1000])
    train(tmp_path / "killed", resume=True, optimizer="adamw")
    assert not half.exists()
    assert_same_end(tmp_path / "whole", tmp_path / "killed")
    assert curve(tmp_path / "killed") == curve(tmp_path / "whole")


def test_ctrl_c_saves_says_how_to_go_on_and_exits_130(whole, tmp_path):
    command = [*TOY, str(tmp_path / "stopped"), "--delay-s", "0.02"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for_step(tmp_path / "stopped", 6, process)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"clip_core_toy.py {tmp_path / 'stopped'} --delay-s 0.02 --resume" in told
    assert "Traceback" not in told
    train(tmp_path / "stopped", resume=True)
    assert_same_end(whole, tmp_path / "stopped")


def test_two_ranks_under_torchrun(tmp_path):
    """Gradients as of one process with the double batch; resume; a rank that breaks ends the other."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, clip_core_toy.__file__, str(tmp_path), "--two-ranks"]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode != 0
    assert "broken on purpose" in done.stderr
    assert time.monotonic() - start < 90
    ranks = [load_file(tmp_path / f"gradients{rank}.safetensors") for rank in (0, 1)]
    runtime = start_runtime("cpu")
    for terms, accumulate in ((1, 1), (2, 1), (1, 3), (2, 3)):
        single = gradients(runtime, terms, accumulate)
        for rank in ranks:
            found = {n.split(".", 2)[2]: v for n, v in rank.items() if n.startswith(f"{terms}.{accumulate}.")}
            assert found.keys() == single.keys()  # what no rank used has no gradient, rather than zeros
            for name, expected in single.items():
                torch.testing.assert_close(
                    found[name], expected, rtol=1e-5, atol=1e-6, msg=f"{terms} {accumulate} {name}"
                )
    assert read_checkpoint(tmp_path / "parts" / LAST).document["world"] == 2
    assert_same_end(tmp_path / "whole", tmp_path / "parts")
    assert read_checkpoint(tmp_path / "broken" / LAST).document["step"] == 3
    with pytest.raises(ValueError, match=r"run on 2 process\(es\), this one has 1: resume with torchrun"):
        train(tmp_path / "parts", resume=True, steps=8, accumulate=2, log_every=4, save_every=3, optimizer="adamw")
    assert load_model(tmp_path / "parts")[1]["optimizer"] == "adamw"

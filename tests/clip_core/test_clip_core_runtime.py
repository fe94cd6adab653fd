"""Device, seed, random states, the command to resume."""

import random
import sys

import numpy as np
import pytest
import torch

from clip_core.runtime import random_state, resume_command, set_random_state, start_runtime, undisturbed_randomness

CPU = torch.device("cpu")


def draw():
    return random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), float(torch.randn(()))


def test_seed_decides_all_three_generators():
    start_runtime("cpu", seed=5)
    first = draw()
    start_runtime("cpu", seed=5)
    assert draw() == first
    start_runtime("cpu", seed=6)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_random_state_survives_json():
    import json

    draw()  # leaves half a pair of normal numbers in python's and numpy's generators
    state = json.loads(json.dumps(random_state(CPU)))
    first = [draw() for _ in range(3)]
    set_random_state(state, CPU)
    assert [draw() for _ in range(3)] == first
    with undisturbed_randomness(CPU):
        draw()
    after = draw()
    set_random_state(state, CPU)
    assert [draw() for _ in range(4)][3] == after


def test_one_process_without_torchrun():
    with start_runtime("cpu") as runtime:
        assert (runtime.device, runtime.rank, runtime.world, runtime.is_main) == (CPU, 0, 1, True)
        assert runtime.largest(3) == 3
        assert runtime.gather("x") == ["x"]


def test_precision_is_what_autocast_computes_in():
    x = torch.randn(4, 4)
    with start_runtime("cpu", precision="bf16").autocast():
        assert (x @ x).dtype == torch.bfloat16
    with start_runtime("cpu").autocast():
        assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [
        ("gpu", "fp32", "device 'gpu' is unknown: expected auto, cpu, cuda"),
        ("mps", "fp32", "device 'mps' is not supported"),
        ("cpu", "fp8", "precision 'fp8' is unknown: expected one of fp32, bf16"),
    ],
)
def test_wrong_choices_are_told(device, precision, message):
    with pytest.raises(ValueError, match=message):
        start_runtime(device, precision)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_absent_cuda_is_told():
    with pytest.raises(ValueError, match="torch sees no CUDA device: use --device cpu"):
        start_runtime("cuda")


def test_resume_command_is_what_a_person_types(monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "agent.train", "--out", "my run"])
    assert resume_command(1) == "python -m agent.train --out 'my run' --resume"
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python", "-u", "-m", "agent.train", "--resume"])
    assert resume_command(2) == "torchrun --nproc-per-node=2 -m agent.train --resume"

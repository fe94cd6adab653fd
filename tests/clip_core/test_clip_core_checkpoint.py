"""Checkpoints: what goes in comes out, and no bad input loses anything."""

import resource
import subprocess

import pytest
import torch
from clip_core_toy import make, train
from torch import nn

from clip_core.checkpoint import (
    BEST,
    LAST,
    CheckpointError,
    find_checkpoint,
    load_model,
    read_checkpoint,
    save_checkpoint,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("toy") / "run"
    train(out, steps=12, eval_every=5)
    return out


def copy(run, tmp_path):
    subprocess.run(["cp", "-r", str(run), str(tmp_path / "run")], check=True)
    return tmp_path / "run"


@pytest.fixture
def small_files():
    """A function that forbids files over a size: the kernel then refuses writes, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_weights_for_evaluation(run):
    parts = make(run.parent / "other")
    state, config = load_model(run)
    parts["objective"].load_state_dict(state)
    assert config == {"model": {"width": 16}, "optimizer": "rmsprop", "steps": 12}
    part, _ = load_model(run / LAST, "encoder.")
    assert part.keys() == {"0.weight", "0.bias"}
    assert torch.equal(part["0.weight"], read_checkpoint(run / LAST).tensors["model/encoder.0.weight"])
    with pytest.raises(CheckpointError, match=r"no weights under 'follower\.': it holds classes, encoder, rare, value"):
        load_model(run, "follower.")


def test_the_best_of_a_folder_else_the_last(run, tmp_path):
    assert find_checkpoint(run) == run / BEST
    assert find_checkpoint(run / LAST) == run / LAST
    here = copy(run, tmp_path)
    (here / BEST).unlink()
    assert find_checkpoint(here) == here / LAST
    with pytest.raises(CheckpointError, match=r"expected best\.safetensors or last\.safetensors in the folder"):
        find_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="a checkpoint file or run folder at"):
        find_checkpoint(tmp_path / "absent")


def test_tied_weights_views_and_odd_types_survive(tmp_path):
    model = nn.Module()
    model.one = nn.Linear(3, 4)
    model.two = nn.Linear(3, 4)
    model.two.weight = model.one.weight
    model.register_buffer("view", torch.arange(12.0)[3:6])
    model.register_buffer("low", torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    model.register_buffer("count", torch.tensor(3))
    model.register_buffer("mask", torch.tensor([True, False]))
    model.register_buffer("empty", torch.zeros(0, 3))
    save_checkpoint(tmp_path / "x.safetensors", model, {}, {"step": 1, "config": {}})
    state = read_checkpoint(tmp_path / "x.safetensors").model_state()
    assert state.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        assert torch.equal(state[name], tensor)
        assert state[name].dtype == tensor.dtype


def test_another_config_names_the_fields(run, tmp_path):
    here = copy(run, tmp_path)
    with pytest.raises(CheckpointError) as error:
        train(here, resume=True, optimizer="adamw", accumulate=2, steps=30)
    lines = str(error.value).splitlines()
    assert "  optimizer: found 'rmsprop', expected 'adamw'" in lines
    assert "  trainer.accumulate: found 1, expected 2" in lines
    assert "steps" not in str(error.value)
    assert "--out" in lines[-1]
    assert (here / LAST).read_bytes() == (run / LAST).read_bytes()


def test_another_model_of_the_same_config_is_refused(run):
    checkpoint = read_checkpoint(run / LAST)
    parts = make(run)
    parts["objective"].classes = nn.Linear(16, 5)
    from clip_core.checkpoint import restore

    with pytest.raises(CheckpointError, match=r"does not fit this model: .*\n.*size mismatch for classes.weight"):
        restore(checkpoint, parts["objective"], parts["optimizers"])
    with pytest.raises(CheckpointError, match=r"has the optimizers \['all'\], this run has \['critic'\]"):
        restore(checkpoint, parts["objective"], {"critic": parts["optimizers"]["all"]})


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "document"])
def test_damage_is_told_with_the_other_whole_checkpoint(run, tmp_path, damage):
    here = copy(run, tmp_path)
    path = here / LAST
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-100] ^= 1
    elif damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "empty":
        data = bytearray()
    else:
        data = bytearray(bytes(data).replace(b'\\"step\\": 12', b'\\"step\\": 11', 1))
    assert bytes(data) != path.read_bytes()
    path.write_bytes(data)
    step = read_checkpoint(here / BEST).document["step"]
    with pytest.raises(CheckpointError, match=rf"is damaged.*best.safetensors \(step {step}\) is whole.*cp ") as error:
        train(here, resume=True, steps=12, eval_every=5)
    subprocess.run(str(error.value).split("from it, ")[1].split(), check=True)  # the advice works
    train(here, resume=True, steps=12, eval_every=5)
    one, other = read_checkpoint(here / LAST).tensors, read_checkpoint(run / LAST).tensors
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_both_damaged(run, tmp_path):
    here = copy(run, tmp_path)
    for name in (LAST, BEST):
        (here / name).write_bytes((here / name).read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="No other whole checkpoint"):
        read_checkpoint(here / LAST)


def test_foreign_safetensors_are_no_checkpoint(tmp_path):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="holds no training state"):
        load_model(tmp_path / "a.safetensors")


def test_a_folder_with_a_run_is_not_overwritten(run, tmp_path):
    here = copy(run, tmp_path)
    with pytest.raises(CheckpointError, match=r"already holds a run .*use --resume to go on with it, or another --out"):
        train(here)
    assert (here / LAST).read_bytes() == (run / LAST).read_bytes()


def test_nothing_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match=r"cannot resume .*it holds no run; start anew without --resume"):
        train(tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="is a file: expected a folder"):
        train(tmp_path / "file")


def test_full_disk_while_saving_keeps_the_last_good_checkpoint(run, tmp_path, small_files):
    here = copy(run, tmp_path)
    small_files((run / LAST).stat().st_size - 500)
    with pytest.raises(CheckpointError, match=r"cannot write .*last.safetensors.* MB.*is whole. Make room"):
        train(here, resume=True, steps=14, eval_every=0, log_every=5)
    assert (here / LAST).read_bytes() == (run / LAST).read_bytes()
    assert not list(here.glob(".*.tmp"))
    small_files(resource.RLIM_INFINITY)
    _, state = train(here, resume=True, steps=14, eval_every=0, log_every=5)
    assert state.step == 14


def test_full_disk_while_logging_is_told(run, tmp_path, small_files):
    here = copy(run, tmp_path)
    small_files((run / "log.jsonl").stat().st_size + 100)
    with pytest.raises(CheckpointError, match=r"cannot write into .*File too large.*make room"):
        train(here, resume=True, steps=14, log_every=1)
    small_files(resource.RLIM_INFINITY)
    train(here, resume=True, steps=14, log_every=1)
    lines = [line.split(",")[0] for line in (here / "log.jsonl").read_text().splitlines()]
    assert lines[-3:] == ['{"step": 13', '{"step": 14', '{"step": 14']

"""The log of a run: means, lines, truncation, picture."""

import json

import pytest
import torch

from clip_core.log import Clock, Meter, RunLog, drop_lines_after, merge, plot_curves, read_log
from clip_core.runtime import Runtime

CPU = Runtime(torch.device("cpu"))


def test_meter_means_over_steps_and_ranks():
    one, two = Meter(), Meter()
    one.add({"loss": torch.tensor(1.0), "steps": 3})
    one.add({"loss": torch.tensor(2.0)})
    two.add({"loss": 6.0, "only_here": True})
    assert merge([one.fetch(), two.fetch()]) == {"loss": 3.0, "steps": 3.0, "only_here": 1.0}
    copy = Meter()
    copy.restore(json.loads(json.dumps(one.fetch())))
    copy.add({"loss": torch.tensor(3.0)})
    assert copy.fetch() == {"loss": (6.0, 3), "steps": (3.0, 1)}
    copy.clear()
    assert copy.fetch() == {}


def test_lines_are_json_even_when_a_value_is_not(tmp_path, capfd):
    with RunLog(tmp_path, 10, 0, CPU) as log:
        log.train(5, {"loss": 0.5, "entropy": float("nan")}, 0.25)
        log.evaluation(5, {"val_seen/success": 0.25}, 1.0)
    train, evaluation = read_log(tmp_path / "log.jsonl")
    assert train["loss"] == 0.5
    assert train["entropy"] is None
    assert 0.01 < train["memory_gb"] < 100
    assert evaluation == {"step": 5, "val_seen/success": 0.25, "evaluation_seconds": 1.0}
    screen = capfd.readouterr().err
    assert "step 5/10  4.00 steps/s  00:00:01 left  loss 0.5" in screen
    assert "val_seen/success 0.25" in screen


def test_other_ranks_are_silent(tmp_path, capfd):
    with RunLog(tmp_path, 10, 0, Runtime(torch.device("cpu"), rank=1, world=2)) as log:
        log.train(5, {"loss": 0.5}, 0.25)
        log.evaluation(5, {"success": 0.25}, 1.0)
        log.say("hello")
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr().err == ""


def test_resume_drops_later_and_half_written_lines(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f'{{"step": {step}, "loss": 0.1}}\n' for step in (2, 4, 6, 8)) + '{"step": 10, "lo')
    drop_lines_after(path, 6)
    assert [line["step"] for line in read_log(path)] == [2, 4, 6]
    path.write_text('{"step": 2}\nnonsense\n{"step": 4}\n')
    with pytest.raises(ValueError, match="line 2 is no log line: 'nonsense'"):
        drop_lines_after(path, 6)


def test_clock_leaves_pauses_out():
    clock = Clock()
    with clock.paused():
        torch.randn(300, 300) @ torch.randn(300, 300)
        while clock_seconds(clock) < 0.05:
            pass
    clock.steps = 4
    seconds, per_step = clock.lap()
    assert 0 <= seconds < 0.04
    assert per_step == seconds / 4
    assert clock.steps == 0


def clock_seconds(clock):
    import time

    return time.perf_counter() - clock._start


def test_curves_grow_with_panels(tmp_path):
    from matplotlib.image import imread

    path = tmp_path / "log.jsonl"
    path.write_text(
        '{"step": 1, "loss": 1.0, "loss/a": 0.5, "lr/x": 0.1}\n{"step": 2, "loss": 0.5, "loss/a": null, "lr/x": 0.05}\n'
    )
    plot_curves(path, tmp_path / "a.png")
    with path.open("a") as file:
        file.write('{"step": 2, "val_seen/success": 0.5, "val_unseen/success": 0.4, "val_seen/nav_error": 5.0}\n')
    plot_curves(path, tmp_path / "b.png")
    two, four = imread(tmp_path / "a.png"), imread(tmp_path / "b.png")
    assert four.shape[1] == 2 * two.shape[1]  # loss, lr | success (both splits in one panel), nav_error
    path.write_text(path.read_text().replace("0.05", "0.1"))
    plot_curves(path, tmp_path / "b.png")
    assert imread(tmp_path / "b.png").shape[1] == 3 / 4 * four.shape[1]  # a learning rate that stays needs no panel
    assert two[..., :3].std() > 0.05
    assert {file.name for file in tmp_path.iterdir()} == {"log.jsonl", "a.png", "b.png"}

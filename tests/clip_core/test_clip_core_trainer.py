"""The loop: resuming, best, stopping, divergence, wrong composition."""

import signal

import pytest
import torch
from clip_core_toy import make, train
from torch import nn

from clip_core.checkpoint import BEST, LAST, read_checkpoint
from clip_core.log import read_log
from clip_core.optim import build_optimizer
from clip_core.progress import DivergedError
from clip_core.trainer import TrainerConfig, fit


def tensors(path):
    return read_checkpoint(path).tensors


def assert_equal_tensors(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


def test_it_learns_and_keeps_the_best(tmp_path):
    toy, state = train(tmp_path / "run", steps=60, eval_every=10)
    lines = read_log(tmp_path / "run" / "log.jsonl")
    successes = {line["step"]: line["val/success"] for line in lines if "val/success" in line}
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.5 * losses[0]
    assert list(successes) == [10, 20, 30, 40, 50, 60]
    assert state.best == max(successes.values()) > 0.7
    assert state.best_step == next(step for step, value in successes.items() if value == state.best)
    assert read_checkpoint(tmp_path / "run" / BEST).document["step"] == state.best_step
    assert read_checkpoint(tmp_path / "run" / LAST).document["step"] == 60
    assert toy.training
    assert all(line.get("val/steps", 0) == 0 for line in lines)  # evaluated in eval mode
    assert (tmp_path / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("optimizer", ["rmsprop", "adamw"])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_resume_is_bit_exact(tmp_path, optimizer, accumulate):
    fields = {"optimizer": optimizer, "accumulate": accumulate, "log_every": 4}
    train(tmp_path / "whole", steps=16, **fields)
    parts = make(tmp_path / "parts", steps=16, **fields)
    parts["objective"].break_at = {13 * accumulate: "raise"}
    with pytest.raises(RuntimeError, match="broken on purpose"):
        fit(**parts)
    assert read_checkpoint(tmp_path / "parts" / LAST).document["step"] == 10
    _, state = train(tmp_path / "parts", resume=True, steps=16, **fields)
    assert state.step == 16
    assert_equal_tensors(tensors(tmp_path / "whole" / LAST), tensors(tmp_path / "parts" / LAST))
    # the running means of steps 9 and 10, saved between two lines of the log, are in the line of step 12
    means = [[line["accuracy"] for line in read_log(tmp_path / run / "log.jsonl") if "accuracy" in line]
             for run in ("whole", "parts")]  # fmt: skip
    assert means[0] == means[1]


def test_evaluating_leaves_training_alone(tmp_path):
    train(tmp_path / "often", eval_every=1, save_every=0)
    toy, _ = train(tmp_path / "never", eval_every=0, save_every=0)
    assert toy.evaluations == 0
    assert_equal_tensors(tensors(tmp_path / "often" / LAST), tensors(tmp_path / "never" / LAST))


def test_cadences_and_length_may_change_on_resume(tmp_path):
    train(tmp_path / "run", steps=6)
    _, state = train(tmp_path / "run", resume=True, steps=12, log_every=1, save_every=2, eval_every=4)
    assert state.step == 12
    train(tmp_path / "whole", steps=12)
    assert_equal_tensors(tensors(tmp_path / "whole" / LAST), tensors(tmp_path / "run" / LAST))
    steps = [line["step"] for line in read_log(tmp_path / "run" / "log.jsonl") if "loss" in line]
    assert steps == [3, 6, 7, 8, 9, 10, 11, 12]


def test_resume_of_a_finished_run_does_nothing(tmp_path):
    train(tmp_path / "run", steps=6)
    before = (tmp_path / "run" / LAST).read_bytes()
    toy, state = train(tmp_path / "run", resume=True, steps=6)
    assert state.step == 6
    assert toy.evaluations == 0
    assert (tmp_path / "run" / LAST).read_bytes() == before


def test_evaluate_first_is_repeated_when_killed_before_step_one(tmp_path):
    parts = make(tmp_path / "run", evaluate_first=True)
    parts["objective"].break_at = {0: "raise"}
    with pytest.raises(RuntimeError):
        fit(**parts)
    assert read_checkpoint(tmp_path / "run" / BEST).document["step"] == 0
    train(tmp_path / "run", resume=True, evaluate_first=True, steps=4)
    assert [line["step"] for line in read_log(tmp_path / "run" / "log.jsonl")].count(0) == 1


def test_sigterm_ends_after_the_step_with_a_checkpoint(tmp_path, capfd):
    parts = make(tmp_path / "run")
    parts["objective"].break_at = {7: f"signal {int(signal.SIGTERM)}"}
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        fit(**parts)
    assert stop.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert read_checkpoint(tmp_path / "run" / LAST).document["step"] == 8
    assert "--resume" in capfd.readouterr().err


def test_second_ctrl_c_ends_at_once(tmp_path):
    parts = make(tmp_path / "run", accumulate=2)
    parts["objective"].break_at = {position: f"signal {int(signal.SIGINT)}" for position in (14, 15)}
    with pytest.raises(KeyboardInterrupt):
        fit(**parts)
    assert read_checkpoint(tmp_path / "run" / LAST).document["step"] == 5


def test_nan_stops_before_it_reaches_the_weights(tmp_path):
    parts = make(tmp_path / "run")
    parts["objective"].break_at = {7: "nan"}
    with pytest.raises(DivergedError, match=r"loss.* is nan at step 8.*expected a finite number.*last.safetensors"):
        fit(**parts)
    assert all(bool(p.isfinite().all()) for p in parts["objective"].parameters())
    assert read_checkpoint(tmp_path / "run" / LAST).document["step"] == 5


def test_nan_that_reached_the_weights_is_never_saved(tmp_path):
    """On CUDA losses are looked at when they are fetched: `Saver.save` fetches too."""
    from clip_core.progress import Progress, Saver

    parts = make(tmp_path)
    saver = Saver(parts["objective"], parts["optimizers"], parts["runtime"], tmp_path, {"config": {}})
    saver.meter.add({"loss/class": torch.tensor(1.0), "entropy": torch.tensor(float("nan"))})
    saver.save(Progress(1), LAST)  # a report may be NaN
    saver.meter.add({"loss/class": torch.tensor(float("inf"))})
    with pytest.raises(DivergedError, match="loss/class is inf"):
        saver.save(Progress(2), LAST)
    assert read_checkpoint(tmp_path / LAST).document["step"] == 1


def test_bf16_autocast_keeps_fp32_weights_and_differs_little(tmp_path):
    train(tmp_path / "bf16", precision="bf16", steps=6)
    train(tmp_path / "fp32", precision="fp32", steps=6)
    low, high = (read_checkpoint(tmp_path / run / LAST).model_state() for run in ("bf16", "fp32"))
    assert {t.dtype for t in low.values()} == {torch.float32}
    assert not torch.equal(low["encoder.0.weight"], high["encoder.0.weight"])
    torch.testing.assert_close(low["encoder.0.weight"], high["encoder.0.weight"], rtol=0, atol=0.05)


def test_unknown_best_metric_is_named(tmp_path):
    parts = make(tmp_path / "run", evaluate_first=True)
    parts["objective"].best_metric = "val_unseen/success"
    with pytest.raises(ValueError, match=r"'val_unseen/success', but evaluate\(\) gave \['val/steps', 'val/success'\]"):
        fit(**parts)


def test_parts_that_do_not_fit_are_named(tmp_path):
    parts = make(tmp_path / "run")
    parts["objective"].extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"no optimizer owns extra.weight, extra.bias \(2 in all\)"):
        fit(**parts)
    parts = make(tmp_path / "run") | {"schedules": {"typo": lambda step: 1.0}}
    with pytest.raises(ValueError, match=r"schedules for \['typo'\], but the optimizers are \['all'\]"):
        fit(**parts)
    parts = make(tmp_path / "run") | {"config": TrainerConfig(seed=3)}
    with pytest.raises(ValueError, match="seed 0, the config fp32 and 3"):
        fit(**parts)
    assert not (tmp_path / "run").exists()


def test_config_fields_are_checked():
    with pytest.raises(ValueError, match="accumulate is 0: expected 1 or more"):
        TrainerConfig(accumulate=0)


def test_tensorboard_holds_the_log(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path / "run", steps=6, tensorboard=True)
    train(tmp_path / "run", steps=9, tensorboard=True, resume=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [3, 6, 9]


def test_two_optimizers_resume(tmp_path):
    def parts(run, steps):
        made = make(tmp_path / run, steps=steps)
        toy = made["objective"]
        heads = [*toy.classes.parameters(), *toy.value.parameters(), *toy.rare.parameters()]
        first = build_optimizer("rmsprop", [{"params": list(toy.encoder.parameters())}], lr=1e-2)
        second = build_optimizer("adam", [{"params": heads}], lr=1e-2)
        return made | {"optimizers": {"encoder": first, "heads": second}, "schedules": {"heads": lambda s: 0.9**s}}

    fit(**parts("whole", 10))
    fit(**parts("parts", 5))
    fit(**parts("parts", 10), resume=True)
    assert_equal_tensors(tensors(tmp_path / "whole" / LAST), tensors(tmp_path / "parts" / LAST))
    lines = [line for line in read_log(tmp_path / "parts" / "log.jsonl") if "loss" in line]
    assert lines[-1]["lr/heads"] == pytest.approx(1e-2 * 0.9**9)
    assert lines[-1]["lr/encoder"] == 1e-2


def test_compile_changes_neither_names_nor_the_run(tmp_path):
    """Torch's stance keeps the compiled modules eager here: inductor would take 20 s and draw other dropout masks."""
    parts = make(tmp_path / "compiled", steps=4, compile=True)
    toy = parts["objective"]
    toy.compiled_modules = lambda: [toy.encoder]
    with torch.compiler.set_stance("force_eager"):
        fit(**parts)
    assert toy.encoder._compiled_call_impl is not None
    assert toy.classes._compiled_call_impl is None
    train(tmp_path / "plain", steps=4)
    assert_equal_tensors(tensors(tmp_path / "compiled" / LAST), tensors(tmp_path / "plain" / LAST))

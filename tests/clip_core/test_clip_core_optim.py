"""Schedules, groups, clipping, by hand-worked figures."""

import math

import pytest
import torch
from torch import nn

from clip_core.optim import (
    build_optimizer,
    clip_gradients,
    constant,
    learning_rates,
    parameter_groups,
    set_learning_rates,
    step_decay,
    warmup_cosine,
    warmup_linear,
)


def test_schedules_at_known_steps():
    linear = warmup_linear(10, warmup=2, floor=0.2)
    assert [linear(step) for step in (0, 1, 2, 6, 10, 99)] == pytest.approx([1 / 3, 2 / 3, 1.0, 0.6, 0.2, 0.2])
    cosine = warmup_cosine(8)
    assert [cosine(step) for step in (0, 2, 4, 8)] == pytest.approx([1.0, (1 + math.sqrt(0.5)) / 2, 0.5, 0.0])
    decay = step_decay([20, 10], 0.5)
    assert [decay(step) for step in (0, 9, 10, 20)] == [1.0, 1.0, 0.5, 0.25]
    assert constant()(123) == 1.0
    with pytest.raises(ValueError, match="warm-up of 11 steps in a run of 10"):
        warmup_linear(10, warmup=11)


def test_learning_rate_is_base_times_schedule_whatever_came_before():
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": 2.0, "name": "a"},
                                 {"params": [nn.Parameter(torch.ones(1))], "lr": 1.0, "name": "b"}])  # fmt: skip
    for step in (5, 3, 5):
        set_learning_rates({"x": optimizer}, {"x": lambda s: 1 / s}, step)
    assert learning_rates({"x": optimizer}) == {"lr/x/a": 0.4, "lr/x/b": 0.2}
    set_learning_rates({"x": optimizer}, {}, 0)
    assert learning_rates({"x": optimizer}) == {"lr/x/a": 2.0, "lr/x/b": 1.0}


def test_groups_spare_vectors_from_decay():
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    module[0].weight.requires_grad_(True)
    groups = parameter_groups(module, "text", 1e-3, weight_decay=0.1, clip=40.0)
    assert [(len(g["params"]), g["weight_decay"], g["clip"]) for g in groups] == [(1, 0.1, 40.0), (3, 0.0, 40.0)]
    module[0].weight.requires_grad_(False)
    assert [len(g["params"]) for g in parameter_groups(module, "text", 1e-3)] == [3]
    with pytest.raises(ValueError, match="optimizer 'lion' is unknown: expected one of rmsprop"):
        build_optimizer("lion", groups)


def parameter(*values):
    p = nn.Parameter(torch.zeros(len(values)))
    p.grad = torch.tensor(values)
    return p


def test_each_group_is_clipped_by_its_own_limit():
    encoder, decoder, critic, rest = (
        parameter(30.0, 40.0),
        parameter(3.0, 4.0),
        parameter(60.0, 80.0),
        parameter(9.0, 12.0),
    )
    groups = [
        {"params": [encoder], "name": "encoder", "clip": 25.0},
        {"params": [decoder], "name": "decoder", "clip": 25.0},
        {"params": [critic], "name": "critic", "clip": None},
        {"params": [rest], "name": "rest"},
    ]
    norms = clip_gradients({"all": torch.optim.SGD(groups, lr=1.0)}, 5.0)
    assert encoder.grad.tolist() == pytest.approx([15.0, 20.0])
    assert decoder.grad.tolist() == [3.0, 4.0]
    assert critic.grad.tolist() == [60.0, 80.0]
    assert rest.grad.tolist() == pytest.approx([3.0, 4.0])
    total = math.sqrt(50**2 + 5**2 + 100**2 + 15**2)
    found = {name: float(value) for name, value in norms.items()}
    assert found == pytest.approx({"grad_norm": total, "grad_norm/all/encoder": 50.0, "grad_norm/all/decoder": 5.0})


def test_groups_of_one_name_share_one_norm_and_global_norm_spans_optimizers():
    one, two = parameter(3.0), parameter(4.0)
    groups = [{"params": [one], "name": "text", "clip": 1.0}, {"params": [two], "name": "text", "clip": 1.0}]
    clip_gradients({"a": torch.optim.SGD(groups, lr=1.0)}, None)
    assert [float(one.grad), float(two.grad)] == pytest.approx([0.6, 0.8], rel=1e-5)
    one, two = parameter(3.0), parameter(4.0)
    clip_gradients({"a": torch.optim.SGD([one], lr=1.0), "b": torch.optim.SGD([two], lr=1.0)}, 1.0)
    assert [float(one.grad), float(two.grad)] == pytest.approx([0.6, 0.8], rel=1e-5)
    groups[1] |= {"clip": 2.0}
    with pytest.raises(ValueError, match=r"'a/text' have clip 1.0 and 2.0"):
        clip_gradients({"a": torch.optim.SGD(groups, lr=1.0)}, None)
    with pytest.raises(ValueError, match="no parameter of the optimizers received a gradient"):
        clip_gradients({"a": torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)}, None)

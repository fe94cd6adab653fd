"""Gradients of an update: exact whatever the cut into micro-batches."""

import pytest
import torch
from clip_core_toy import ROWS, Toy

from clip_core.accumulation import accumulate_gradients, wrap
from clip_core.log import Meter
from clip_core.runtime import start_runtime

ORDER = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))[:32]


def gradient(terms, cuts):
    runtime = start_runtime("cpu")
    toy = Toy(noisy=False, terms=terms)
    meter = Meter()
    batches = iter([(0, rows) for rows in ORDER.split(cuts)])
    losses = accumulate_gradients(wrap(toy, runtime), batches, len(cuts), runtime, meter)
    return {n: p.grad for n, p in toy.named_parameters()}, losses, meter


@pytest.mark.parametrize("terms", [1, 2])
@pytest.mark.parametrize("cuts", [[8] * 4, [1, 20, 4, 7], [31, 1]])
def test_pieces_equal_the_whole(terms, cuts):
    whole, whole_losses, _ = gradient(terms, [32])
    pieces, losses, meter = gradient(terms, cuts)
    for name, expected in whole.items():
        if expected is not None:
            torch.testing.assert_close(pieces[name], expected, rtol=1e-6, atol=1e-6)
    for name, expected in whole_losses.items():
        torch.testing.assert_close(losses[name], expected, rtol=1e-6, atol=1e-6)
    assert meter.fetch()["accuracy"][1] == len(cuts)


def test_two_terms_are_each_divided_by_their_own_weight():
    """Against plain autograd: mean cross entropy plus mean squared error over the chosen rows."""
    found, losses, _ = gradient(2, [5, 27])
    start_runtime("cpu")
    toy = Toy(noisy=False)
    answer = toy((0, ORDER))
    first = answer["loss"]["class"] / 32
    second = answer["loss"]["value"] / answer["weight"]["value"]
    (first + second).backward()
    for name, parameter in toy.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=1e-5, atol=1e-6)
    assert float(losses["loss"]) == pytest.approx((first + second).item(), rel=1e-6)
    assert losses.keys() == {"loss", "loss/class", "loss/value"}


class Fixed(torch.nn.Module):
    """Answers with whatever a batch computes from its one parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.p = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, batch):
        return batch(self.p)


def fixed(*answers):
    model = Fixed()
    runtime = start_runtime("cpu")
    losses = accumulate_gradients(wrap(model, runtime), iter(answers), len(answers), runtime, Meter())
    return float(model.p.grad), {name: float(value) for name, value in losses.items()}


def test_a_term_without_weight_counts_nothing():
    grad, losses = fixed(lambda p: {"loss": {"a": 3 * p, "b": 0 * p}, "weight": {"a": 6, "b": 0}})
    assert grad == 0.5
    assert losses == {"loss": 1.0, "loss/a": 1.0, "loss/b": 0.0}


def test_a_micro_batch_without_graph_still_counts_its_weight():
    one = lambda p: {"loss": torch.tensor(4.0), "weight": 4}  # noqa: E731
    two = lambda p: {"loss": p * p, "weight": torch.tensor(1.0)}  # noqa: E731
    assert fixed(one, two) == (pytest.approx(4 / 5), {"loss": pytest.approx(8 / 5)})
    with pytest.raises(ValueError, match="depends on no trainable parameter"):
        fixed(two, one, one)


def test_faulty_answers_are_told():
    with pytest.raises(ValueError, match=r"loss has the terms \['loss/a'\], weight has \['loss'\]"):
        fixed(lambda p: {"loss": {"a": p}, "weight": 1})
    with pytest.raises(ValueError, match=r"loss terms \['loss'\] after \['loss/a'\]"):
        fixed(lambda p: {"loss": {"a": p}, "weight": {"a": 1}}, lambda p: {"loss": p, "weight": 1})

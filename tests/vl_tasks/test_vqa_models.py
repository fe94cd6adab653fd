"""Models that answer questions: published sizes, full-size passes, what padding and the batch must not change."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vl_tasks.answers import answer_vocabulary, scaled_min_count, soft_targets, vocabulary_form
from vl_tasks.vision import Size
from vl_tasks.vqa_accuracy import answer_accuracy
from vl_tasks.vqa_data import dense_targets
from vl_tasks.vqa_objective import build_model
from vl_tasks.vqa_parts import VqaModelConfig
from vl_tasks.vqa_recipes import RECIPES, gqa_preset, vqa_preset

ANSWERS, WORDS = 3129, 1000
GRID = Size(2048, 18, 31)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    return inputs * outputs + outputs * bias


def transformer_layers(hidden: int, layers: int) -> int:
    """Of openvqa's SA and SGA units."""
    attention, norm = 4 * linear(hidden, hidden), 2 * hidden
    feed_forward = linear(hidden, 4 * hidden) + linear(4 * hidden, hidden)
    return layers * (3 * attention + 2 * feed_forward + 5 * norm)


def mcan_size(hidden: int, fused: int) -> int:
    """Parameters of openvqa's MCAN on grid features, by its published dimensions."""
    lstm = 4 * hidden * (300 + hidden + 2)
    flat = linear(hidden, 512) + linear(512, 1) + linear(hidden, fused)
    ends = WORDS * 300 + lstm + linear(2048, hidden) + 2 * flat + 2 * fused + linear(fused, ANSWERS)
    return ends + transformer_layers(hidden, 6)


@pytest.mark.parametrize(
    ("recipe", "hidden", "fused", "millions"), [("mcan_small", 512, 1024, 51.9), ("mcan_large", 1024, 2048, 195.9)]
)
def test_mcan_has_the_published_size(recipe: str, hidden: int, fused: int, millions: float) -> None:
    with torch.device("meta"):
        model = build_model(RECIPES[recipe]().model, WORDS, ANSWERS, [GRID])
    assert parameters(model) == mcan_size(hidden, fused)
    assert parameters(model) / 1e6 == pytest.approx(millions, abs=0.1)


def test_movie_mcan_has_the_published_size() -> None:
    hidden, width = 1024, 256
    with torch.device("meta"):
        model = build_model(RECIPES["movie_mcan"]().model, WORDS, ANSWERS, [GRID])
    pool = linear(hidden, 512)
    text = WORDS * 300 + 4 * hidden * (300 + hidden + 2) + pool + linear(512, 2)
    image = linear(2048, hidden) + pool + linear(512, 1)

    def bottleneck(channels: int) -> int:
        modulation = linear(hidden, channels) + linear(channels, width)
        convolutions = channels * width + 9 * width**2 + width * hidden + (channels != hidden) * channels * hidden
        return modulation + convolutions + 2 * hidden * (hidden // 4) + 49

    movie = bottleneck(2048) + 3 * bottleneck(1024) + 2 * 1024
    fusion = 6 * linear(hidden, 2 * hidden) + 3 * 4 * hidden + 3 * linear(2 * hidden, ANSWERS)
    assert parameters(model) == text + image + transformer_layers(hidden, 6) + movie + fusion


def test_pythia_has_the_published_size() -> None:
    with torch.device("meta"):
        model = build_model(RECIPES["pythia"]().model, WORDS, ANSWERS, [GRID, Size(768, 1, 1)])

    def normalised(inputs: int, outputs: int) -> int:
        return linear(inputs, outputs) + 1  # one length for the whole matrix

    text = WORDS * 300 + 4 * 1024 * (300 + 1024 + 2) + linear(1024, 512) + linear(512, 2)
    attention = sum(normalised(d, 5000) + normalised(2048, 5000) + normalised(5000, 1) for d in (2048, 768))
    fusion = normalised(2048 + 768, 5000) + normalised(2048, 5000)
    classifier = normalised(5000, 300) + linear(300, ANSWERS) + normalised(5000, 5000) + linear(5000, ANSWERS)
    assert parameters(model) == text + attention + fusion + classifier


def test_mcan_large_learns_from_558_cells_of_2048_numbers() -> None:
    torch.manual_seed(0)
    model = build_model(RECIPES["mcan_large"]().model, WORDS, ANSWERS, [GRID])
    features = torch.randn(1, GRID.height, GRID.width, GRID.dim)
    found = model([features], torch.tensor([[3, 5, 6, 2]]), torch.tensor([4]))
    assert found.logits.shape == (1, ANSWERS)
    assert found.attention[0].shape == (1, 18, 31)
    found.logits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def small(model: str, **changes) -> VqaModelConfig:
    return VqaModelConfig(model=model, hidden=16, layers=2, heads=2, word=8, pooling=8, fused=12, **changes)


MODELS = ("mcan", "movie_mcan", "pythia")
SIZES = [Size(6, 3, 4), Size(5, 2, 1)]


def inputs(batch: int = 3) -> list[torch.Tensor]:
    return [torch.randn(batch, size.height, size.width, size.dim) for size in SIZES]


@pytest.mark.parametrize("kind", MODELS)
def test_padding_and_company_change_nothing(kind: str) -> None:
    torch.manual_seed(0)
    model = build_model(small(kind, grid_positions="learned"), 20, 7, SIZES).eval()
    features = inputs()
    ids = torch.tensor([[3, 5, 6, 2, 0, 0], [3, 8, 2, 0, 0, 0], [3, 9, 9, 9, 9, 2]])
    lengths = torch.tensor([4, 3, 6])
    together = model(features, ids, lengths)
    alone = model([f[1:2] for f in features], ids[1:2, :3], lengths[1:2])
    torch.testing.assert_close(together.logits[1:2], alone.logits, atol=1e-5, rtol=1e-5)
    assert [tuple(a.shape) for a in together.attention] == [(3, 3, 4), (3, 2, 1)]
    weights = sum(a.flatten(1).sum(1) for a in together.attention)
    torch.testing.assert_close(weights, torch.full((3,), 2.0 if kind == "pythia" else 1.0))


@pytest.mark.parametrize("kind", MODELS)
def test_every_weight_learns(kind: str) -> None:
    torch.manual_seed(0)
    model = build_model(small(kind, grid_positions="learned", feature_norm=True), 20, 7, SIZES).train()
    found = model(inputs(), torch.tensor([[3, 5, 6, 2]] * 3), torch.tensor([4, 4, 4]))
    assert len(found.branches) == (2 if kind == "movie_mcan" else 0)
    torch.stack([logits.square().sum() for logits in (found.logits, *found.branches)]).sum().backward()
    lost = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A key's bias shifts all scores of a query alike, as does the last bias of a network that weighs tokens.
    alike = (".key.bias", "weigh.3.bias", "score.bias")
    assert [name for name in lost if not name.endswith(alike)] == []


def test_places_tell_cells_apart() -> None:
    torch.manual_seed(0)
    for positions, differs in (("none", False), ("learned", True)):
        model = build_model(small("mcan", grid_positions=positions), 20, 7, SIZES[:1]).eval()
        cells = torch.randn(1, 3, 4, 6)
        asked = torch.tensor([[3, 5, 2]]), torch.tensor([3])
        a, b = (model([f], *asked).logits for f in (cells, cells.flip(2)))
        assert torch.allclose(a, b, atol=1e-6) is not differs


def test_another_grid_is_refused() -> None:
    model = build_model(small("mcan"), 20, 7, SIZES[:1])
    with pytest.raises(ValueError, match=r"source 0 gives a grid \(2, 4, 6\); the model was built for \(3, 4, 6\)"):
        model([torch.randn(1, 2, 4, 6)], torch.tensor([[3, 2]]), torch.tensor([2]))


# -- answers -----------------------------------------------------------------------------------------------------------


def test_vocabulary_takes_answers_of_nine_questions() -> None:
    answers = ["Yes."] * 5 + ["yes"] * 4 + ["no"] * 8 + ["the"] * 9 + ["1,000"] * 9
    assert answer_vocabulary(answers, 9) == ["", "1000", "yes"]
    assert answer_vocabulary(answers, 8) == ["", "1000", "yes", "no"]
    assert vocabulary_form("Two dogs, a cat") == "2 dogs cat"
    assert [scaled_min_count(n) for n in (658_111, 10_000_000, 329_000, 13_844)] == [9, 9, 4, 1]
    with pytest.raises(ValueError, match="no answer is that of 10 questions or more"):
        answer_vocabulary(answers, 10)


def test_soft_targets_are_the_mean_official_accuracy() -> None:
    vocabulary = ["red", "blue", "dark red"]
    numbers = {answer: i for i, answer in enumerate(vocabulary)}
    humans = [["red"] * k + ["The Blue."] * 2 + ["mauve"] * (8 - k) for k in range(8)]
    ids, scores = soft_targets(humans, numbers)
    dense = dense_targets(torch.from_numpy(ids), torch.from_numpy(scores), 3)
    for row, given in enumerate(humans):
        official = [answer_accuracy(answer, given) for answer in vocabulary]
        torch.testing.assert_close(dense[row], torch.tensor(official), atol=1e-6, rtol=0)
    torch.testing.assert_close(dense[:5, 0], torch.tensor([0, 0.3, 0.6, 0.9, 1]))
    assert (dense[:, 2] == 0).all()


def test_answers_outside_the_vocabulary_count_nothing() -> None:
    ids, scores = soft_targets([["mauve"] * 10], {"red": 0})
    assert ids.tolist() == [[0]]
    assert scores.tolist() == [[0]]


# -- recipes -----------------------------------------------------------------------------------------------------------


def test_recipe_by_flags() -> None:
    assert vqa_preset([]).recipe == "houses"
    assert vqa_preset(["--data", "VQA"]).recipe == "mcan_small"
    assert vqa_preset(["--recipe", "pythia"]).optim.optimizer == "adamax"
    assert all(name == make().recipe for name, make in RECIPES.items())
    chosen = gqa_preset(["--data", "GQA"])
    assert (chosen.train_splits, chosen.eval_splits, chosen.min_answer_count) == (("train", "val"), ("testdev",), 1)


def test_learning_rates_of_the_published_schedule() -> None:
    large = RECIPES["mcan_large"]()
    schedule = large.optim.schedules(large.trainer.steps)
    epoch = large.trainer.steps // 13
    rates = [schedule(step * epoch) for step in (3, 9, 10, 12)]
    assert rates == pytest.approx([1, 1, 0.2, 0.04])
    assert schedule(epoch) == pytest.approx(1 / 3, abs=1e-3)

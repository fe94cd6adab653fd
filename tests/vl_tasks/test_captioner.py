"""The captioner at its published size, and the two losses that it learns from, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from clip_core.cider import cider_d, count_frequencies
from clip_core.decoder import Search, Symbols
from vl_tasks.captioner import Captioner, CaptionerConfig
from vl_tasks.captioning_config import RECIPES, TrainCaptioning, captioning_preset
from vl_tasks.self_critical import SelfCritical, SelfCriticalConfig
from vl_tasks.task import OptimConfig
from vl_tasks.vision import Size

PAD, UNK, EOS, BOS = 0, 1, 2, 11
SYMBOLS = Symbols(BOS, EOS, PAD, never=(PAD, BOS, UNK))
SIZES = (Size(6, 2, 3),)
REFERENCES = [[[3, 4, 5, EOS], [3, 5, EOS]], [[6, 7, 8, EOS]], [[9, 3, 10, 4, EOS], [9, EOS]]]
ROOM = 7


def small(**changes: float) -> Captioner:
    torch.manual_seed(0)
    config = CaptionerConfig(**{"hidden": 16, "layers": 2, "heads": 2, "inner": 32, "input_dropout": 0.0, **changes})
    return Captioner(12, SIZES, config)


def features(images: int = 3) -> list[Tensor]:
    return [torch.randn(images, 2, 3, 6, generator=torch.Generator().manual_seed(4))]


def linear(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def published_size(words: int, features: int) -> int:
    """Parameters of TransformerModel.py in ruotianluo/ImageCaptioning.pytorch, by its dimensions."""
    attention, norm = 4 * linear(512, 512), 2 * 512
    feed_forward = linear(512, 2048) + linear(2048, 512)
    encoder = 6 * (attention + feed_forward + 2 * norm) + norm
    decoder = 6 * (2 * attention + feed_forward + 3 * norm) + norm
    return linear(features, 512) + encoder + decoder + words * 512 + linear(512, words)


def test_full_size_is_the_published_one_and_learns() -> None:
    """9,487 words and 0; 196 cells of 2,560 numbers (RN50x4 at 448 x 448)."""
    model = Captioner(9488, [Size(2560, 14, 14)], RECIPES["coco"]().model)
    assert sum(p.numel() for p in model.parameters()) == published_size(9488, 2560) == 55_176_976
    ids = torch.randint(3, 9487, (2, 18))
    reading = model([torch.randn(1, 14, 14, 2560)], ids, torch.tensor([18, 9]))
    assert reading.logits.shape == (17 + 8, 9488)
    reading.logits.square().mean().backward()
    lost = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in lost if not name.endswith("key.bias")] == []  # it shifts all scores of a query alike


def test_features_of_any_scale() -> None:
    """With --feature-norm features a thousand times as large say the same; the houses' recipe has it, the published one
    not; a model of a run that knew no such setting is as it was."""
    seen = features()
    for norm, alike in ((True, True), (False, False)):
        model = small(feature_norm=norm).eval()
        tokens, scaled = model.encode(seen), model.encode([1000 * one + 3 for one in seen])
        assert torch.allclose(tokens, scaled, atol=1e-3) == alike
    assert RECIPES["houses"]().model.feature_norm
    assert not CaptionerConfig(hidden=16).feature_norm
    assert not [name for name in small().state_dict() if name.startswith("see.places")]


def test_learning_rates_of_both_phases() -> None:
    config = captioning_preset(["--data", "COCO"])
    rate = [config.optim.lr * config.schedule()(step) for step in (999, 19_999, 79_999, 15 * 11_328, 400_000)]
    noam = [512**-0.5 * min(step**-0.5, step * 20_000**-1.5) for step in (1000, 20_000, 80_000)]
    assert rate == pytest.approx([*noam, 5e-6, 5e-6])
    houses = captioning_preset([])
    assert houses.recipe == "houses"
    assert houses.schedule()(houses.first_phase - 1) < 0.01
    never = TrainCaptioning(optim=OptimConfig(schedule="constant"), self_critical=SelfCriticalConfig())
    assert never.schedule()(never.trainer.steps - 1) == 1


@pytest.mark.parametrize("baseline", ["greedy", "others"])
def test_self_critical_loss_by_hand(baseline: str) -> None:
    """Rewards by the plain scorer over the words drawn, the end among them if the model chose it; the log-probability
    of each word by a pass over the whole text."""
    model = small().eval()
    with torch.no_grad():
        model.write.projection.weight.mul_(4)
    config = SelfCriticalConfig(0, samples=4, baseline=baseline)  # type: ignore[arg-type]
    learn = SelfCritical(config, REFERENCES, SYMBOLS, ROOM)
    tokens, images = model.encode(features()), torch.tensor([2, 0, 1])
    fractions = learn.fractions(torch.tensor([40, 41, 42]), 3)
    found = learn.loss(model, tokens, images, fractions)
    drawn = model.caption(tokens, SYMBOLS, ROOM, Search("sample"), 4, fractions)
    frequencies = count_frequencies(REFERENCES)

    def rewards(ids: Tensor, lengths: Tensor, of: list[int]) -> np.ndarray:
        words = [row[1 : min(n, ROOM - 1)] for row, n in zip(ids.tolist(), lengths.tolist(), strict=True)]
        return cider_d(words, [REFERENCES[image] for image in of], frequencies)

    reward = rewards(drawn.ids, drawn.lengths, [2] * 4 + [0] * 4 + [1] * 4).reshape(3, 4)
    if baseline == "greedy":
        likeliest = model.caption(tokens, SYMBOLS, ROOM, Search())
        against = rewards(likeliest.ids, likeliest.lengths, [2, 0, 1])[:, None].repeat(4, 1)
    else:
        against = np.stack([np.delete(row, i).mean() for row in reward for i in range(4)]).reshape(3, 4)
    total, words = 0.0, 0
    for text, (ids, length) in enumerate(zip(drawn.ids, drawn.lengths.tolist(), strict=True)):
        hidden, _ = model.write.advance(ids[None, :-1], model.write.start(tokens[text // 4 : text // 4 + 1]))
        logits = model.write.projection(hidden[0])
        logits[:, list(SYMBOLS.never)] = -torch.inf
        for place in range(1, min(length, ROOM - 1)):
            chance = float(logits[place - 1].detach().log_softmax(0)[ids[place]])
            total -= chance * (reward - against)[text // 4, text % 4]
            words += 1
    assert {6, 7} & set(drawn.lengths.tolist())  # some found no end of their own
    assert found["weight"] == words
    assert float(found["loss"].detach()) == pytest.approx(total, abs=1e-4)
    assert found["reward"] == pytest.approx(reward.mean(), abs=1e-6)
    assert abs(reward - against).max() > 0.1


def test_fractions_of_a_place_are_the_same_whoever_asks() -> None:
    learn = SelfCritical(SelfCriticalConfig(0, samples=2), REFERENCES, SYMBOLS, ROOM)
    whole = learn.fractions(torch.arange(6), 1)
    assert whole.shape == (12, ROOM - 1)
    assert len(whole.unique()) == whole.numel()
    assert torch.equal(torch.cat([learn.fractions(some, 1) for some in torch.arange(6).split(2)]), whole)
    assert not torch.equal(learn.fractions(torch.arange(6), 2), whole)


def test_reward_rises() -> None:
    """Three images, a model that knows nothing: captions are found that score."""
    model = small(dropout=0.0)
    learn = SelfCritical(SelfCriticalConfig(0, samples=8, baseline="others"), REFERENCES, SYMBOLS, ROOM)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    seen, images, rewards = features(), torch.arange(3), []
    for step in range(50):
        found = learn.loss(model, model.encode(seen), images, learn.fractions(3 * step + images, 0))
        (found["loss"] / found["weight"]).backward()
        optimizer.step()
        optimizer.zero_grad()
        rewards.append(found["reward"])
    assert np.mean(rewards[-5:]) > 2 * np.mean(rewards[:5]) + 0.5


def test_settings_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="samples is 1 with --baseline others; expected at least 2"):
        SelfCriticalConfig(0, samples=1, baseline="others")
    with pytest.raises(ValueError, match="longest is 1; expected 2 or more"):
        TrainCaptioning(longest=1)
    with pytest.raises(ValueError, match="heads is 0; expected 1 or more"):
        CaptionerConfig(heads=0)

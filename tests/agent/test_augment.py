"""Back-translation: the order of its batches, the mask that speaker and follower share, what it must leave alone."""

from __future__ import annotations

from itertools import islice

import agent_toy
import numpy as np
import pytest
import torch
from torch import Tensor

from agent.augment import Author, BackTranslation, channel_mask
from agent.augment_config import AugmentConfig
from agent.config import FollowerConfig
from agent.data import Split, alongside
from agent.objectives import Batch, FollowerObjective
from agent.routes import episode_routes, see_routes
from agent.sight import Eyes
from agent.speaker import Speaker, SpeakerSizes
from clip_core.decoder import Search
from clip_core.tokenizer import WordTokenizer, build_vocabulary
from envs.dynamics import begin, observe
from envs.route_sampling import sample_routes

FEATURE = 6
GREEDY, DEFAULTS = Search(), AugmentConfig()


@pytest.fixture(scope="module")
def tokenizer(small_split: Split) -> WordTokenizer:
    """The words that `small_split` is written in."""
    return WordTokenizer(build_vocabulary((e.instruction for e in small_split.world.episodes), 1))


@pytest.fixture(scope="module")
def eyes(small_split: Split) -> Eyes:
    return agent_toy.random_eyes(small_split.world, FEATURE)


@pytest.fixture(scope="module")
def new_routes(small_split: Split, tokenizer: WordTokenizer) -> Split:
    world = small_split.world
    return alongside(small_split, "generated", sample_routes(world, world.episodes, 30, 0), tokenizer)


def tiny_speaker(tokenizer: WordTokenizer, feature: int = FEATURE) -> Speaker:
    """One that says other things of other routes."""
    torch.manual_seed(7)
    speaker = Speaker(SpeakerSizes(len(tokenizer), feature, word=8, hidden=16, angle=12)).eval()
    with torch.no_grad():
        for parameter in speaker.parameters():
            parameter.mul_(4.0)
    return speaker.requires_grad_(False)


def author(split: Split, tokenizer: WordTokenizer, search: Search = GREEDY) -> Author:
    return Author(tiny_speaker(tokenizer), episode_routes(split.world, split.ids.device), tokenizer, search)


def objective(
    split: Split,
    generated: Split,
    eyes: Eyes,
    writer: Author | None,
    rank: int = 0,
    world: int = 1,
    feature_dropout: float = 0.0,
    augment: AugmentConfig = DEFAULTS,
    **config: object,
) -> BackTranslation:
    settings = FollowerConfig(**({"batch": 5, "max_steps": 6} | config))  # type: ignore[arg-type]
    follower = agent_toy.tiny_follower(split, FEATURE)
    follower.drop_feature.probability = feature_dropout
    judged = {"val": split}
    return BackTranslation(
        follower, eyes, split, judged, settings, 5, rank, world, generated=generated, author=writer, augment=augment
    )


def drawn(made: BackTranslation, start: int, count: int) -> list[tuple[int | None, list[int]]]:
    return [(batch.generated, batch.episodes.tolist()) for batch in islice(made.batches(start), count)]


def generated_batch(made: BackTranslation) -> Batch:
    return next(made.batches(1))


def losses(made: FollowerObjective, batch: Batch) -> dict[str, float]:
    torch.manual_seed(0)
    return {name: loss.item() for name, loss in made(batch)["loss"].items()}


def test_every_second_batch_is_generated(small_split: Split, new_routes: Split, eyes: Eyes):
    made = objective(small_split, new_routes, eyes, None)
    found = drawn(made, 0, 12)
    assert [position for position, _ in found] == [None, 1, None, 3, None, 5, None, 7, None, 9, None, 11]
    plain = FollowerObjective(made.follower, eyes, small_split, {}, made.config, 5)
    assert [numbers for position, numbers in found if position is None] == [
        batch.episodes.tolist() for batch in islice(plain.batches(0), 6)
    ]
    epoch = sorted(number for position, numbers in found if position is not None for number in numbers)
    assert epoch == sorted([*range(30), *range(30)])  # 10 of 30 a batch


def test_batches_are_found_without_replay(small_split: Split, new_routes: Split, eyes: Eyes):
    made = objective(small_split, new_routes, eyes, None)
    whole = drawn(made, 0, 20)
    for start in (1, 2, 5, 12):
        assert drawn(made, start, 6) == whole[start : start + 6]


def test_two_ranks_see_what_one_process_with_the_double_batch_sees(small_split: Split, new_routes: Split, eyes: Eyes):
    ranks = [drawn(objective(small_split, new_routes, eyes, None, rank, 2), 2, 8) for rank in (0, 1)]
    together = [(a[0], a[1] + b[1]) for a, b in zip(*ranks, strict=True)]
    assert together == drawn(objective(small_split, new_routes, eyes, None, batch=10), 2, 8)


def test_the_mask_drops_whole_channels_and_scales_the_others():
    masks = torch.stack([channel_mask(1000, 0.4, np.random.default_rng((5, i))) for i in range(20)])
    assert masks.unique().tolist() == [0.0, pytest.approx(1 / 0.6)]
    assert float((masks == 0).float().mean()) == pytest.approx(0.4, abs=0.02)
    assert float(masks.mean()) == pytest.approx(1, abs=0.02)
    assert not torch.equal(masks[0], masks[1])
    assert torch.equal(masks[3], channel_mask(1000, 0.4, np.random.default_rng((5, 3))))


def test_masked_eyes_leave_out_channels_of_views_and_candidates_alike(small_split: Split, eyes: Eyes):
    mask = channel_mask(FEATURE, 0.5, np.random.default_rng(1))
    assert 0 < int((mask == 0).sum()) < FEATURE
    episodes = torch.arange(8)
    observation = observe(small_split.tables, begin(small_split.tables, episodes * 0, episodes * 0, episodes))
    plain, masked = eyes(observation), eyes.masked(mask)(observation)
    assert eyes.channels is None
    for name in ("views", "candidates"):
        before, after = getattr(plain, name), getattr(masked, name)
        torch.testing.assert_close(after, before.float() * mask)
        assert not after[..., mask == 0].any()
        assert after.any()
    for name in ("view_angles", "candidate_angles", "heading", "mask"):
        assert torch.equal(getattr(plain, name), getattr(masked, name)), name
    blind = Eyes()
    assert blind.masked(mask)(observation).views is None


def test_speaker_and_follower_work_under_the_same_mask(
    small_split: Split, new_routes: Split, eyes: Eyes, tokenizer: WordTokenizer, monkeypatch: pytest.MonkeyPatch
):
    """What the objective does, done by hand in a world whose features were multiplied: the same words, the same loss.
    The follower's own dropout of features, which would change the loss, is off."""
    writer = author(new_routes, tokenizer)
    made = objective(small_split, new_routes, eyes, writer, feature_dropout=0.5)
    batch = generated_batch(made)
    mask = channel_mask(FEATURE, 0.4, np.random.default_rng((5, 1)))
    assert eyes.table is not None
    other = Eyes(eyes.table.float() * mask, eyes.store_row)
    ids, lengths = writer.write(other, new_routes, batch.episodes, 0)
    plain = writer.write(eyes, new_routes, batch.episodes, 0)[0]
    assert not torch.equal(ids, plain)  # what the speaker says does depend on the mask

    read = list[Tensor]()
    original = type(made.follower).read
    monkeypatch.setattr(type(made.follower), "read", lambda self, i, n: (read.append(i), original(self, i, n))[1])
    found = losses(made, batch)
    assert torch.equal(read[0], ids)
    assert made.follower.drop_feature.training  # on again

    made.follower.drop_feature.probability = 0.0
    torch.manual_seed(0)
    expected = made.learn(batch, new_routes, ids, lengths, other, 0.6)["loss"]
    assert found == {name: pytest.approx(loss.item(), rel=1e-5) for name, loss in expected.items()}


def test_real_batches_are_as_without_back_translation(
    small_split: Split, new_routes: Split, eyes: Eyes, tokenizer: WordTokenizer
):
    made = objective(small_split, new_routes, eyes, author(new_routes, tokenizer), feature_dropout=0.5)
    plain = FollowerObjective(made.follower, eyes, small_split, {}, made.config, 5)
    assert losses(made, next(made.batches(0))) == losses(plain, next(plain.batches(0)))


@pytest.mark.parametrize(("kind", "scale"), [("a2c", 2.0), ("imitation", 1.0)])
def test_the_weight_counts_beside_a2c_alone(
    small_split: Split, new_routes: Split, eyes: Eyes, tokenizer: WordTokenizer, kind: str, scale: float
):
    found = []
    for weight in (0.3, 0.6):
        made = objective(
            small_split,
            new_routes,
            eyes,
            author(new_routes, tokenizer),
            augment=AugmentConfig(weight=weight),
            objective=kind,
        )
        torch.manual_seed(0)
        loss = made(generated_batch(made))["loss"]
        found.append(loss if kind == "imitation" else loss["imitation"])
    assert found[1].item() == pytest.approx(scale * found[0].item(), rel=1e-5)


def test_the_speaker_stays_out_of_the_training(
    small_split: Split, new_routes: Split, eyes: Eyes, tokenizer: WordTokenizer
):
    made = objective(small_split, new_routes, eyes, author(new_routes, tokenizer))
    made.train()
    assert {name.split(".")[0] for name in made.state_dict()} == {"follower"}
    assert not tiny_speaker(tokenizer).training
    assert made.author is not None
    assert not made.author.speaker.training
    report = made(generated_batch(made))
    assert set(report) == {
        "loss", "weight", "generated_steps_per_episode", "generated_reached", "generated_words"
    }  # fmt: skip
    total = sum(report["loss"][name] / report["weight"][name] for name in report["loss"])
    assert all(g.isfinite().all() for g in agent_toy.gradients(made.follower, total).values())
    assert all(p.grad is None for p in made.author.speaker.parameters())


def test_drawn_words_depend_on_position_and_rank_alone(
    small_split: Split, new_routes: Split, eyes: Eyes, tokenizer: WordTokenizer
):
    writer = author(new_routes, tokenizer, Search("sample"))
    told = []
    for seed, global_seed in ((1, 0), (1, 1), (2, 0)):
        torch.manual_seed(global_seed)
        ids, lengths = writer.write(eyes, new_routes, torch.arange(6), seed)
        told.append(ids)
        assert ids.shape == (6, tokenizer.max_length)
        assert (ids[:, 0] == tokenizer.bos_id).all()
        assert (ids.gather(1, lengths[:, None] - 1) == tokenizer.eos_id).all()
    assert torch.equal(told[0], told[1])
    assert not torch.equal(told[0], told[2])


def test_instructions_of_a_file_are_read_as_they_are(small_split: Split, eyes: Eyes):
    """The train split itself as the file: without dropout its losses are those of train, but for the weight."""
    made = objective(small_split, small_split, eyes, None, augment=AugmentConfig(env_dropout=0.0))
    batch = generated_batch(made)
    found, plain = losses(made, batch), losses(made, batch._replace(generated=None))
    assert found["imitation"] == pytest.approx(3 * plain["imitation"], rel=1e-5)
    assert found["a2c"] == pytest.approx(plain["a2c"], rel=1e-5)


def test_a_blind_follower_has_nothing_to_drop(small_split: Split, new_routes: Split, tokenizer: WordTokenizer):
    speaker = tiny_speaker(tokenizer, feature=0)
    writer = Author(speaker, episode_routes(new_routes.world, new_routes.ids.device), tokenizer, Search())
    results = []
    for share in (0.0, 0.9):
        settings = FollowerConfig(batch=5, max_steps=6)
        made = BackTranslation(
            agent_toy.tiny_follower(small_split), Eyes(), small_split, {}, settings, 5,
            generated=new_routes, author=writer, augment=AugmentConfig(env_dropout=share),
        )  # fmt: skip
        results.append(losses(made, generated_batch(made)))
    assert results[0] == results[1]


def test_the_tables_of_the_buildings_are_shared(small_split: Split, new_routes: Split):
    assert new_routes.tables.neighbour is small_split.tables.neighbour
    assert new_routes.tables.distance_m is small_split.tables.distance_m
    assert len(new_routes.tables.start) == 30
    sight, _ = see_routes(Eyes(), new_routes.tables, episode_routes(new_routes.world, new_routes.ids.device))
    assert sight.views is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"count": 0}, "augment_count is 0"),
        ({"env_dropout": 1.0}, "env_dropout is 1.0"),
        ({"weight": -1.0}, "augment_weight is -1.0"),
        ({"pre_explore": True}, "name a speaker with --augment-speaker"),
        ({"temperature": 0.0}, "temperature is 0.0"),
    ],
)
def test_settings_that_cannot_be(flags: dict, message: str):
    with pytest.raises(ValueError, match=message):
        AugmentConfig(**flags)

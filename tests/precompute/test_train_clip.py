"""`train-clip`: end to end on a tiny world, killed and resumed, blind to unseen houses; its parts."""

import json
import shutil

import numpy as np
import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from rich.console import Console

from clip_core.bpe_subset import MERGES_FILE, needed_merges, vocabulary_size, write_merges
from clip_core.encoder import ClipEncoder
from clip_core.images import ImageTransform
from clip_core.trainer import TrainerConfig
from envs.houses.world import WorldConfig, make_world
from envs.skybox import read_faces
from precompute import clip_scores
from precompute.clip_scores import average_precision, linear_probe
from precompute.contrastive import ContrastiveConfig, ContrastiveObjective
from precompute.house_views import EDGE, HouseViews, load_views, read_houses, scans_of
from precompute.label_objective import LabelObjective
from precompute.train_clip import TrainClip, train_clip, write_model_folder
from precompute.view_batches import ViewOrder, pictures_of, telling_views
from precompute.view_text import (
    COLOUR_NAMES,
    ROOM_KINDS,
    captions_of,
    colour_prompts,
    falsified,
    frequent_labels,
    label_matrix,
    labels_of,
    room_prompts,
)
from precompute.views import direct_camera, view_rotations, views_on_host

TINY = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64},
        "text_cfg": {"context_length": 32, "vocab_size": 1, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {},
}
TRANSFORM = ImageTransform(32, 32)
VIEWPOINTS = 8  # of each house; the others would only take time


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip") / "world"
    make_world(folder, WorldConfig(5, 1, 1, 32, 4, 4))
    for path in (folder / "houses").iterdir():
        house = json.loads(path.read_text())
        small = {key: house[key][:VIEWPOINTS] for key in ("viewpoints", "connectivity")}
        path.write_text(json.dumps(house | small))
    return folder


@pytest.fixture(scope="module")
def architecture(tmp_path_factory):
    path = tmp_path_factory.mktemp("architecture") / "open_clip_config.json"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture(scope="module")
def views(world, tmp_path_factory):
    return load_views(world, "train", TRANSFORM, tmp_path_factory.mktemp("pictures"))


def settings(world, architecture, out, **changes):
    trainer = TrainerConfig(steps=4, clip_norm=1.0, eval_every=0, save_every=2, log_every=1)
    return TrainClip(world, out, architecture=architecture, device="cpu", batch=16, trainer=trainer, **changes)


def quiet():
    return Console(quiet=True)


@pytest.fixture(scope="module")
def run(world, architecture, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "clip"
    return out, train_clip(settings(world, architecture, out), quiet())


def new_encoder(folder):
    torch.manual_seed(0)
    return ClipEncoder.load(
        f"local-dir:{folder}", "random", trainable=True, batch_norm="trained", channels_last=True
    ).train()


@pytest.fixture
def encoder(run):
    return new_encoder(run[0] / "model")


def test_the_command_makes_a_model_that_open_clip_loads(run):
    out, report = run
    name = f"local-dir:{out / 'model'}"
    encoder = ClipEncoder.load(name)
    plain = open_clip.create_model(name)
    image, text = torch.rand(2, 3, 32, 32), ["A red sofa."]
    ids = open_clip.get_tokenizer(name, bpe_path=str(out / "model" / MERGES_FILE))(text)
    assert torch.equal(encoder.tokenize(text), ids)
    with torch.no_grad():
        assert torch.equal(encoder.image_vectors(image), plain.eval().encode_image(image))
        assert torch.equal(encoder.text_vectors(text), plain.encode_text(ids))
    assert encoder.record.weights_sha256 == report["weights"]["sha256"]
    scores = report["scores"]
    assert scores["retrieval"]["view_to_caption/r1"] <= scores["retrieval"]["view_to_caption/r5"] <= 1
    assert 0 < scores["probe_projected"]["map"] <= 1
    card = (out / "model" / "MODEL_CARD.md").read_text()
    for part in ("train-clip", report["weights"]["sha256"], "s5t000", "Seed 0", "zero-shot"):
        assert part in card
    assert report == json.loads((out / "report.json").read_text())


def test_a_killed_run_ends_with_the_same_weights(run, world, architecture, tmp_path, monkeypatch):
    batches, out = ContrastiveObjective.batches, tmp_path / "killed"

    def some(self, start):
        for number, batch in enumerate(batches(self, start)):
            if number == 3:
                raise InterruptedError("killed")
            yield batch

    monkeypatch.setattr(ContrastiveObjective, "batches", some)
    with pytest.raises(InterruptedError):
        train_clip(settings(world, architecture, out), quiet())
    monkeypatch.setattr(ContrastiveObjective, "batches", batches)
    report = train_clip(settings(world, architecture, out, resume=True), quiet())
    assert report["weights"] == run[1]["weights"]
    with pytest.raises(ValueError, match="lr: found"):
        train_clip(settings(world, architecture, out, resume=True, lr=1.0), quiet())


def test_nothing_of_an_unseen_house_is_read_for_training(run, world, architecture, tmp_path):
    unseen = scans_of(world, "val_unseen")
    alone = tmp_path / "alone"
    shutil.copytree(world, alone)
    for scan in unseen:
        (alone / "houses" / f"{scan}.json").unlink()
        shutil.rmtree(alone / "v1" / "scans" / scan)
    for split in ("val_unseen", "test"):
        (alone / f"R2R_{split}.json").unlink()
    found = load_views(alone, "train", TRANSFORM, tmp_path / "pictures")
    whole = load_views(world, "train", TRANSFORM, tmp_path / "whole")
    assert [house["scan"] for house in found.houses] == scans_of(world, "train") == ["s5t000"]
    assert np.array_equal(found.pictures, whole.pictures)
    write_model_folder(tmp_path / "model", architecture, alone)
    merges = (run[0] / "model" / MERGES_FILE).read_bytes()
    assert (tmp_path / "model" / MERGES_FILE).read_bytes() == merges
    assert set(run[1]["command"]["train_houses"]).isdisjoint(unseen)


def test_houses_in_both_parts_are_an_error(world, architecture, tmp_path):
    mixed = tmp_path / "mixed"
    shutil.copytree(world, mixed)
    shutil.copy(mixed / "R2R_train.json", mixed / "R2R_val_unseen.json")
    with pytest.raises(ValueError, match="both to train on and unseen: s5t000"):
        train_clip(settings(mixed, architecture, tmp_path / "run"), quiet())


@pytest.mark.parametrize("fault", ["no world", "old format", "no architecture"])
def test_bad_input_says_what_to_do(fault, world, architecture, tmp_path):
    data = tmp_path / "data"
    if fault != "no world":
        shutil.copytree(world, data)
    if fault == "old format":
        path = data / "houses" / "s5t000.json"
        house = json.loads(path.read_text())
        for viewpoint in house["viewpoints"]:
            del viewpoint["views"]
        path.write_text(json.dumps(house))
    given = tmp_path / "absent.json" if fault == "no architecture" else architecture
    expected = {"no world": "python -m envs.houses", "old format": "what each view shows"}.get(fault, "absent.json")
    with pytest.raises(ValueError, match=expected):
        train_clip(settings(data, given, tmp_path / "run"), quiet())


def test_the_supervised_twin_trains_and_loads(world, architecture, tmp_path):
    report = train_clip(settings(world, architecture, tmp_path / "labels", objective="labels"), quiet())
    assert set(report["scores"]) == {"probe_projected", "probe_unprojected"}
    encoder = ClipEncoder.load(f"local-dir:{tmp_path / 'labels' / 'model'}")
    assert encoder.image_vectors(torch.rand(1, 3, 32, 32)).shape == (1, 16)


@pytest.mark.parametrize("kind", ["contrastive", "labels"])
def test_an_objective_learns_its_batch(kind, encoder, views):
    order = ViewOrder(telling_views(views), 24, seed=0)
    if kind == "contrastive":
        objective = ContrastiveObjective(encoder, views, order, ContrastiveConfig(captions=2))
    else:
        objective = LabelObjective(encoder, views, order, frequent_labels(views, 5))
    batch = next(objective.batches(0))
    optimizer = torch.optim.Adam([p for p in objective.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(40):
        answer = objective(batch)
        loss = answer["loss"] / answer["weight"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_texts_cut_to_the_longest_have_the_same_vectors(encoder, views):
    objective = ContrastiveObjective(encoder, views, ViewOrder(telling_views(views), 4, 0), ContrastiveConfig())
    ids = encoder.tokenize(["A red sofa to the left of a blue armchair.", "A gym."])
    whole = torch.nn.functional.normalize(encoder.text_vectors(ids), dim=-1)
    assert torch.allclose(objective._texts(ids), whole, atol=1e-6)


def test_equal_captions_are_no_negatives_of_one_another(encoder, views):
    objective = ContrastiveObjective(encoder, views, ViewOrder(telling_views(views), 4, 0), ContrastiveConfig())
    batch = next(objective.batches(0))
    same = batch._replace(captions=batch.captions[:, :1].expand_as(batch.captions), false=batch.false[:0])
    assert objective(same)["loss"].item() == pytest.approx(0.0, abs=1e-5)  # nothing is left to tell apart


def test_batches_are_a_function_of_seed_and_position(views, encoder):
    order = ViewOrder(telling_views(views), 8, seed=1)
    objective = ContrastiveObjective(encoder, views, order, ContrastiveConfig())
    run = objective.batches(0)
    next(run)
    for mine, again in zip(next(run), next(objective.batches(1)), strict=True):
        assert torch.equal(mine, again)


def test_an_epoch_has_each_telling_view_once_and_some_bare_ones():
    telling = np.arange(100) % 4 != 0  # 75 tell something, 25 are bare
    runs = [ViewOrder(telling, 83 // 2, 0, rank, 2).from_position(0) for rank in (0, 1)]
    joint = np.concatenate([next(run)[0] for run in runs])
    one = next(ViewOrder(telling, 82, 0).from_position(0))[0]
    assert np.array_equal(joint, one)
    epoch = next(ViewOrder(telling, 83, 0).from_position(0))[0]
    assert len(np.unique(epoch)) == 83
    assert telling[epoch].sum() == 75
    both = next(ViewOrder(telling, 100, 0).from_position(0))[0]  # crosses into the next epoch
    assert np.array_equal(both[:83], epoch)
    assert not np.array_equal(both[83:], epoch[:17])


def test_pictures_are_those_of_precompute_direct(views, world):
    house = views.houses[0]
    camera, item = direct_camera(TRANSFORM), house["connectivity"][1]
    faces = read_faces(world, house["scan"], item["image_id"])
    pose = np.array(item["pose"]).reshape(4, 4)
    expected = views_on_host(faces, view_rotations(pose), camera, "RGB")
    assert np.array_equal(views.pictures[36:72], expected)
    got = pictures_of(views, np.array([40, 37, 40]))
    assert np.array_equal(got.permute(0, 2, 3, 1).numpy(), expected[[4, 1, 4]])
    moved = pictures_of(views, np.array([40] * 20), np.random.default_rng(0), 2).permute(0, 2, 3, 1).numpy()
    inside = [moved[k][2:-2, 2:-2] for k in range(20)]
    shifts = {
        (dy, dx)
        for picture in inside
        for dy in range(-2, 3)
        for dx in range(-2, 3)
        if np.array_equal(picture, expected[4][2 + dy : 30 + dy, 2 + dx : 30 + dx])
    }
    assert len(shifts) > 5


def test_objects_outside_the_square_crop_are_left_out(views, world):
    raw = HouseViews(read_houses(world, ["s5t000"]), views.pictures)
    lost = 0
    for number in range(len(views)):
        here, there = ({item.index for item in v.sight(number).items} for v in (views, raw))
        assert here <= there
        lost += len(there - here)
        assert all(item.left < EDGE and item.right > -EDGE for item in views.sight(number).items)
    assert lost > 0


def test_a_falsified_caption_names_what_is_not_there(views):
    rng = np.random.default_rng(0)
    changed, telling = 0, np.flatnonzero(telling_views(views)).tolist()
    for number in telling:
        sight = views.sight(number)
        (caption,) = captions_of(views, [number], rng, 1)[0]
        false = falsified(caption, sight, rng)
        if false == caption:
            continue
        changed += 1
        lower = false.lower()
        new = set(lower.split()) - set(caption.lower().split())
        shown = {item.colour for item in sight.items}
        assert not any(word.strip(".,") in shown for word in new & set(COLOUR_NAMES))
        assert " a o" not in lower
        assert " an b" not in lower
    assert changed > 0.8 * len(telling)
    sight = views.sight(0)
    assert falsified("Nothing here.", sight, rng) == "Nothing here."
    sides = {falsified("It is on the left and that on the right.", sight, rng) for _ in range(5)}
    assert sides == {"It is on the right and that on the left."}


def test_labels_are_those_of_clear_objects(views):
    labels = frequent_labels(views, 5)
    matrix = label_matrix(views, range(len(views)), labels)
    assert (matrix.sum(0) >= 5).all()
    number = int(matrix.sum(1).argmax())
    clear = {item.category for item in views.sight(number).clear}
    assert {category for category, _ in labels_of(views.sight(number))} == clear
    assert room_prompts("kitchen")[0] == "A kitchen."
    assert colour_prompts("sofa", "orange")[0] == "An orange sofa."


class Reader(ClipEncoder):
    """Knows what the first pixels of a picture say."""

    def image_vectors(self, images, *, projected=True):
        return images[:, :, 0, 0]


def test_the_probe_reads_what_is_there(encoder, views):
    rng = np.random.default_rng(0)
    labels = frequent_labels(views, 30)[:1]
    pictures = rng.integers(0, 256, (len(views), 32, 32, 3), np.uint8)
    blind = HouseViews(views.houses, pictures)
    told = pictures.copy()
    told[:, 0, 0, 0] = 200 * label_matrix(views, range(len(views)), labels)[:, 0]
    knowing = HouseViews(views.houses, told)
    encoder.__class__ = Reader
    assert linear_probe(encoder, knowing, knowing, labels, 0)["map"] > 0.99
    score = linear_probe(encoder, blind, blind, labels, 0)
    assert score["map"] < 0.5 + score["chance"]


def test_retrieval_counts_ranks(encoder, views, monkeypatch):
    def vectors(self, ids):
        """Each text the unit vector of its place, but the first two change places."""
        found = torch.eye(len(ids))
        return found[[1, 0, *range(2, len(ids))]]

    chosen = []
    monkeypatch.setattr(
        clip_scores, "vectors_of", lambda encoder, views, numbers: chosen.append(numbers) or torch.eye(20)
    )
    monkeypatch.setattr(ClipEncoder, "text_vectors", vectors)
    scores = clip_scores.retrieval(encoder, views, seed=0, pairs=20)
    assert scores["pairs"] == 20 == len(set(chosen[0].tolist()))
    assert scores["view_to_caption/r1"] == scores["caption_to_view/r1"] == pytest.approx(18 / 20)
    assert scores["view_to_caption/r5"] == 1.0


def test_average_precision_by_hand():
    found = average_precision(torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([True, False, True, False]))
    assert found == pytest.approx((1 + 2 / 3) / 2)


def test_a_part_of_the_vocabulary_splits_its_words_as_clip_does(tmp_path):
    texts = ["A red bookshelf in the laundry room.", "Turn left, walk past the washing machine!"]
    merges = needed_merges(texts)
    write_merges(tmp_path / MERGES_FILE, merges)
    small, clip = SimpleTokenizer(str(tmp_path / MERGES_FILE)), SimpleTokenizer()
    assert small.vocab_size == vocabulary_size(merges) < 700
    for text in texts:
        own = [small.decoder[token] for token in small.encode(text)]
        assert own == [clip.decoder[token] for token in clip.encode(text)]
    assert small.decode(small.encode("zebra")).strip() == "zebra"  # unknown words fall into smaller parts
    before = (tmp_path / MERGES_FILE).read_bytes()
    write_merges(tmp_path / MERGES_FILE, merges)
    assert (tmp_path / MERGES_FILE).read_bytes() == before


def test_room_kinds_are_complete():
    assert len(ROOM_KINDS) == 13

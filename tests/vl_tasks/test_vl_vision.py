"""What tasks see with: stores, frozen encoders, encoders that learn; what they say of images that cannot be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_toy import make_folder
from PIL import Image
from rich.console import Console
from torch import nn

from clip_core.encoder import ClipEncoder
from clip_core.features import FeatureStore
from clip_core.runtime import Runtime
from precompute.images import Images, make_images
from vl_tasks.captioner import Captioner, CaptionerConfig
from vl_tasks.one_stream import OneStream, OneStreamConfig
from vl_tasks.sources import VisionConfig, open_vision, reopen_vision
from vl_tasks.task import OptimConfig, TaskObjective, build_optimizers
from vl_tasks.vision import Vision
from vl_tasks.vqa_objective import build_model
from vl_tasks.vqa_parts import VqaModelConfig

CPU = torch.device("cpu")
NAMES = [("COCO_val2014_000000000001", "1"), ("2",), ("3",)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images, and the tiny CLIPs `vit` and `rn`."""
    folder = tmp_path_factory.mktemp("vision")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for name in ("COCO_val2014_000000000001.jpg", "2.png", "3.jpg"):
        Image.fromarray(rng.integers(0, 256, (70, 90, 3), np.uint8)).save(folder / "images" / name)
    for kind in ("vit", "rn"):
        make_folder(folder / kind, kind)
    return folder


def made_store(folder: Path, kind: str, name: str, **options: Any) -> Path:
    out = folder / name
    if not out.exists():
        config = Images(
            images=folder / "images", out=out, model=f"local-dir:{folder / kind}", dtype="float32", **options
        )
        make_images(config, Runtime(CPU), Console(quiet=True))
    return out


def seen(vision: Vision, images: list[int]) -> list[torch.Tensor]:
    with torch.no_grad():
        return vision(vision.load(torch.tensor(images)))


@pytest.mark.parametrize(("kind", "shape"), [("vit", (6, 8, 48)), ("rn", (3, 4, 256))])
def test_store_and_encoder_see_the_same(folder: Path, kind: str, shape: tuple[int, ...]) -> None:
    store = made_store(folder, kind, f"grid_{kind}", layer="grid", size="96x128", point="mcan")
    by_store = open_vision(VisionConfig(features=(store,)), NAMES, None, CPU)
    config = VisionConfig(encoder=f"local-dir:{folder / kind}", size="96x128", point="mcan")
    by_encoder = open_vision(config, NAMES, folder / "images", CPU)
    a, b = (seen(vision, [2, 0, 0])[0] for vision in (by_store, by_encoder))
    assert a.shape == (3, *shape)
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(a[1], a[2])
    assert not torch.allclose(a[0], a[1], atol=1e-2)
    assert not list(by_encoder.parameters())  # frozen: no part of a checkpoint
    again = reopen_vision(by_store.record, VisionConfig(encoder=config.encoder), NAMES, folder / "images", CPU)
    torch.testing.assert_close(seen(again, [2, 0, 0])[0], a, atol=1e-4, rtol=1e-4)
    back = reopen_vision(by_encoder.record, VisionConfig(features=(store,)), NAMES, None, CPU)
    torch.testing.assert_close(seen(back, [0])[0], a[1:2])


def test_sources_stand_side_by_side(folder: Path) -> None:
    grid = made_store(folder, "rn", "grid_rn", layer="grid", size="96x128", point="mcan")
    pooled = made_store(folder, "vit", "pooled_vit")
    config = VisionConfig(features=(grid, pooled), encoder=f"local-dir:{folder / 'vit'}")
    vision = open_vision(config, NAMES, folder / "images", CPU)
    assert [(size.dim, size.height, size.width) for size in vision.sizes] == [(256, 3, 4), (24, 1, 1), (48, 4, 4)]
    assert [tuple(f.shape) for f in seen(vision, [1])] == [(1, 3, 4, 256), (1, 1, 1, 24), (1, 4, 4, 48)]
    assert len(vision.record) == 3
    blind = open_vision(VisionConfig(blind=True), NAMES, None, CPU)
    assert seen(blind, [0, 1])[0].tolist() == [[[[0.0]]], [[[0.0]]]]


def test_an_image_of_several_questions_is_read_and_seen_once(folder: Path) -> None:
    config = VisionConfig(encoder=f"local-dir:{folder / 'vit'}", train_encoder=True)
    vision = open_vision(config, NAMES, folder / "images", CPU)
    loaded = vision.load(torch.tensor([2, 0, 2, 2, 0]))
    assert [len(part) for part in loaded] == [2, 5]
    features = vision(loaded)[0]
    alone = [vision(vision.load(torch.tensor([image])))[0][0] for image in (2, 0, 2, 2, 0)]
    torch.testing.assert_close(features, torch.stack(alone), atol=1e-5, rtol=1e-5)
    weight = vision.encoders[0].clip.visual.conv1.weight
    (together,) = torch.autograd.grad(features.square().sum(), weight)
    (one_by_one,) = torch.autograd.grad(torch.stack(alone).square().sum(), weight)
    torch.testing.assert_close(together, one_by_one, atol=1e-3, rtol=1e-4)


def test_positional_embedding_of_a_vit_is_really_resized(folder: Path) -> None:
    """At 128 x 96 px the grid is 8 x 6 instead of 4 x 4. What CLIP-ViL's released code did is the named ablation."""
    config = VisionConfig(encoder=f"local-dir:{folder / 'vit'}", size="128x96")
    vision = open_vision(config, NAMES, folder / "images", CPU)
    zero = open_vision(
        VisionConfig(encoder=config.encoder, size="128x96", positions="zero"), NAMES, folder / "images", CPU
    )
    grey = [torch.full((1, 3, 128, 96), 128, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)]
    with torch.no_grad():
        placed, unplaced = vision(grey)[0], zero(grey)[0]
    assert placed.shape == (1, 8, 6, 48)
    spread = [cells.flatten(1, 2).std(1).mean() for cells in (placed, unplaced)]
    assert spread[1] < 1e-5  # every cell of a grey image alike: nothing tells where it is
    assert spread[0] > 0.01
    assert zero.record[0]["positions"] == "zero"
    again = reopen_vision(zero.record, VisionConfig(encoder=config.encoder), NAMES, folder / "images", CPU)
    with torch.no_grad():
        torch.testing.assert_close(again(grey)[0], unplaced)


class Toy(TaskObjective[range]):
    """Learns the mean of the first features of an image."""

    def collate(self, numbers: torch.Tensor) -> list[torch.Tensor]:
        return self.vision.load(numbers)

    def forward(self, batch: list[torch.Tensor]) -> dict[str, Any]:
        found = self.model(self.vision(batch)[0].mean((1, 2)))
        return {"loss": found.square().sum(), "weight": len(found)}

    def metrics(self, split: range) -> dict[str, float]:
        return {}


@pytest.mark.parametrize("kind", ["vit", "rn"])
def test_encoder_that_learns_has_its_own_optimizer(folder: Path, kind: str) -> None:
    config = VisionConfig(encoder=f"local-dir:{folder / kind}", train_encoder=True)
    vision = open_vision(config, NAMES, folder / "images", CPU)
    own = ClipEncoder.load(str(config.encoder))
    model = nn.Linear(vision.sizes[0].dim, 2)
    objective = Toy(model, vision, range(3), {}, 2, 0)
    optimizers = build_optimizers(objective, OptimConfig(lr=0.1, encoder_lr=0.01, encoder_clip=0.5))
    assert {name: type(optimizer).__name__ for name, optimizer in optimizers.items()} == {
        "task": "AdamW",
        "encoder": "SGD",
    }
    groups = optimizers["encoder"].param_groups
    assert {(group["lr"], group["clip"]) for group in groups} == {(0.01, 0.5)}
    assert all("clip" not in group for group in optimizers["task"].param_groups)
    for name, value in vision.encoders[0].state_dict().items():  # nothing was drawn anew when the head was built
        torch.testing.assert_close(value, own.state_dict()[name], atol=0, rtol=0)
    objective.train()
    objective(next(objective.batches(0)))["loss"].backward()
    assert all(
        p.grad is None for name, p in vision.named_parameters() if not name.startswith("encoders.0.clip.visual.")
    )
    moved = [p for p in vision.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert len(moved) > 10
    assert all(not m.training for m in vision.modules() if isinstance(m, nn.BatchNorm2d))
    for optimizer in optimizers.values():
        optimizer.step()
    tuned = seen(vision, [0])
    again = reopen_vision(vision.record, VisionConfig(encoder=config.encoder), NAMES, folder / "images", CPU)
    again.load_state_dict(vision.state_dict())
    torch.testing.assert_close(seen(again, [0]), tuned)


def test_building_a_model_leaves_clip_alone(folder: Path) -> None:
    """CLIP-ViL's pre-training draws the ViT anew when it initialises its head."""
    config = VisionConfig(encoder=f"local-dir:{folder / 'vit'}", train_encoder=True)
    vision = open_vision(config, NAMES, folder / "images", CPU)
    before = {name: value.clone() for name, value in vision.state_dict().items()}
    for kind in ("mcan", "movie_mcan", "pythia"):
        build_model(VqaModelConfig(model=kind, hidden=8, heads=2, layers=1), 10, 3, vision.sizes)
    OneStream(10, 3, vision.sizes, OneStreamConfig(hidden=8, heads=2, layers=1, inner=8, max_positions=4))
    Captioner(10, vision.sizes, CaptionerConfig(hidden=8, heads=2, layers=1, inner=8))
    own = ClipEncoder.load(str(config.encoder)).state_dict()
    assert {name.removeprefix("encoders.0.") for name in before} == set(own)
    for name, value in own.items():
        assert torch.equal(value, before[f"encoders.0.{name}"]), name
    for name, value in vision.state_dict().items():
        assert torch.equal(value, before[name]), name


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_nothing_to_see_with() -> None:
    with pytest.raises(ValueError, match="nothing to see with: expected --features STORE"):
        open_vision(VisionConfig(), NAMES, None, CPU)
    with pytest.raises(ValueError, match="--blind sees nothing"):
        VisionConfig(blind=True, encoder="ViT-B-32")
    with pytest.raises(ValueError, match="--train-encoder needs --encoder"):
        VisionConfig(train_encoder=True)


def test_missing_and_broken_images(folder: Path, tmp_path: Path) -> None:
    config = VisionConfig(encoder=f"local-dir:{folder / 'rn'}")
    with pytest.raises(ValueError, match=r"images lacks 1 of 4 images: zebra; download"):
        open_vision(config, [*NAMES, ("zebra",)], folder / "images", CPU)
    with pytest.raises(ValueError, match="expected --images FOLDER"):
        open_vision(config, NAMES, None, CPU)
    whole = (folder / "images" / "3.jpg").read_bytes()
    (tmp_path / "3.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "2.jpg").write_text("no image")
    vision = open_vision(config, NAMES[1:], tmp_path, CPU)
    with pytest.raises(ValueError, match=r"3.jpg is a broken image"):
        vision.load(torch.tensor([1]))
    with pytest.raises(ValueError, match=r"2.jpg is no image that Pillow can read"):
        vision.load(torch.tensor([0]))


def test_store_that_does_not_fit(folder: Path) -> None:
    store = made_store(folder, "rn", "grid_rn", layer="grid", size="96x128", point="mcan")
    with pytest.raises(ValueError, match=r"grid_rn lacks 1 of 4 images: zebra"):
        open_vision(VisionConfig(features=(store,)), [*NAMES, ("zebra",)], None, CPU)
    small = made_store(folder, "rn", "small_rn", layer="grid", size="64x64")
    record = open_vision(VisionConfig(features=(store,)), NAMES, None, CPU).record
    with pytest.raises(
        ValueError, match=r"small_rn does not fit: shape is \(2, 2, 256\), expected \(3, 4, 256\)"
    ) as told:
        reopen_vision(record, VisionConfig(features=(small,)), NAMES, None, CPU)
    assert "python -m precompute images --images FOLDER --layer grid --out STORE" in str(told.value)
    with pytest.raises(ValueError, match="--features names 2 stores; the model saw with 1"):
        reopen_vision(record, VisionConfig(features=(store, store)), NAMES, None, CPU)
    learned, images = [{**record[0], "trained": True}], folder / "images"
    own = VisionConfig(features=(store,), encoder=f"local-dir:{folder / 'rn'}")
    with pytest.raises(ValueError, match=r"names 1 stores; the model saw with 0 .*an encoder that was trained with it"):
        reopen_vision(learned, own, NAMES, images, CPU)
    other = f"local-dir:{folder / 'vit'}"
    with pytest.raises(ValueError, match=r"the weights of local-dir:.* here are .*, those of training were"):
        reopen_vision(record, VisionConfig(encoder=other), NAMES, folder / "images", CPU)


def test_folder_of_the_encoder_that_is_not_here(folder: Path) -> None:
    """A record keeps the last name of a `local-dir:` alone, so that a run may move: a user has to name the rest."""
    store = made_store(folder, "rn", "grid_rn", layer="grid", size="96x128", point="mcan")
    record = open_vision(VisionConfig(features=(store,)), NAMES, None, CPU).record
    told = r"saw with local-dir:rn, which is not found: .*name its folder with --encoder local-dir:FOLDER"
    with pytest.raises(ValueError, match=rf"{told}, or .* the store of its features with --features STORE"):
        reopen_vision(record, VisionConfig(), NAMES, folder / "images", CPU)
    with pytest.raises(ValueError, match=rf"{told}$"):  # no store stands for an encoder that was trained
        reopen_vision([{**record[0], "trained": True}], VisionConfig(), NAMES, folder / "images", CPU)
    missing = VisionConfig(encoder=f"local-dir:{folder / 'absent'}")  # what the user names is told as it is
    with pytest.raises(ValueError, match=r"no open_clip_config.json in .*absent"):
        reopen_vision(record, missing, NAMES, folder / "images", CPU)


def test_how_images_were_fitted_is_known_from_store_and_encoder(folder: Path) -> None:
    cut = made_store(folder, "rn", "cut_rn", layer="grid", size="64x64", fit="shortest")
    fitted = open_vision(VisionConfig(features=(cut,)), NAMES, None, CPU).fitted
    assert fitted is not None
    assert (fitted.resize_mode, fitted.height_px, fitted.width_px) == ("shortest", 64, 64)
    config = VisionConfig(encoder=f"local-dir:{folder / 'rn'}", size="64x96")
    fitted = open_vision(config, NAMES, folder / "images", CPU).fitted
    assert fitted is not None
    assert (fitted.resize_mode, fitted.height_px, fitted.width_px) == ("squash", 64, 96)
    assert open_vision(VisionConfig(blind=True), NAMES, None, CPU).fitted is None


def test_store_of_panoramas_and_store_of_unknown_making(folder: Path, tmp_path: Path) -> None:
    from clip_core.feature_files import Header
    from clip_core.feature_writer import StoreWriter

    def written(name: str, shape: tuple[int, ...]) -> Path:
        with StoreWriter(tmp_path / name, Header("elsewhere", shape, "float32")) as writer:
            for key in ("1", "2", "3"):
                writer.append(key, np.zeros(shape, np.float32))
            writer.finish()
        return tmp_path / name

    with pytest.raises(ValueError, match=r"items of shape \(36, 8\); expected \(D,\) or \(h, w, D\)"):
        open_vision(VisionConfig(features=(written("panoramas", (36, 8)),)), NAMES, None, CPU)
    store = written("unknown", (2, 2, 8))
    vision = open_vision(VisionConfig(features=(store,)), NAMES, None, CPU)
    assert FeatureStore.open(store).header.model is None
    assert vision.fitted is None
    with pytest.raises(ValueError, match="do not record which encoder made them: name their store with --features"):
        reopen_vision(vision.record, VisionConfig(), NAMES, folder / "images", CPU)
    named = VisionConfig(encoder=f"local-dir:{folder / 'rn'}")
    with pytest.raises(ValueError, match="the store records its preprocessing as None"):
        reopen_vision([{**vision.record[0], "trained": True}], named, NAMES, folder / "images", CPU)

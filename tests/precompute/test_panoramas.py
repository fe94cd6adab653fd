"""Skyboxes become a store: its rows, its header, the field's files made from it, every fault of the input."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from panorama_world import bytes_of, faces_of, pose_of, strip_path, tiny_clip, write_strip, write_world
from PIL import Image
from rich.console import Console

from clip_core.encoder import ClipEncoder
from clip_core.feature_files import partial_path, read_keys
from clip_core.feature_writer import StoreWriter
from clip_core.features import FeatureStore
from envs.rendering import Texture, render
from envs.skybox import SkyboxError, read_faces
from precompute import __main__ as command
from precompute.convert import Convert, convert
from precompute.export import Export, export
from precompute.panoramas import Panoramas, panoramas
from precompute.views import FIELD, direct_camera, view_rotations, views_on_host

SIZES = {"one": 3, "two": 2}
KEYS = ["one_p0", "one_p1", "one_p2", "two_p0", "two_p1"]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_world(tmp_path / "world", SIZES)


@pytest.fixture
def model(tmp_path: Path) -> str:
    return tiny_clip(tmp_path / "clip")


def made(world: Path, model: str, name: str = "store", **fields: Any) -> tuple[FeatureStore, str]:
    """The store and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    config = Panoramas(world, world.parent / name, **{"model": model, "pretrained": "random", **fields}, device="cpu")
    return panoramas(config, console), console.file.getvalue()  # type: ignore[attr-defined]


def encoder_of(model: str) -> ClipEncoder:
    torch.manual_seed(0)
    return ClipEncoder.load(model, "random")


# -- what is made --------------------------------------------------------------------------------------------------


def test_rows_are_the_views_of_every_included_viewpoint(world: Path, model: str) -> None:
    store, _ = made(world, model, dtype="float32")
    assert list(store.keys) == KEYS
    encoder = encoder_of(model)
    rotations = view_rotations(pose_of(101))  # the pose of two_p1
    images = views_on_host(read_faces(world, "two", "p1"), rotations, direct_camera(encoder.transform), "RGB")
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = encoder.image_vectors(encoder.transform.batch(pixels)).numpy()
    assert np.allclose(store.table[4], expected, atol=1e-5)
    assert np.abs(store.table[4] - store.table[3]).max() > 1e-2


def test_exact_pixels_are_640_by_480_through_the_transform(world: Path, model: str) -> None:
    store, _ = made(world, model, dtype="float32", pixels="exact", channel_order="BGR", layer="unprojected")
    encoder = encoder_of(model)
    texture = Texture.of_faces(read_faces(world, "one", "p2"), "bgr")
    images = render(texture, view_rotations(pose_of(2)), FIELD)
    inputs = torch.stack([encoder.transform(Image.fromarray(image)) for image in images])
    with torch.inference_mode():
        expected = encoder.image_vectors(inputs, projected=False).numpy()
    assert store.header.shape == (36, 32)
    assert np.allclose(store.table[2], expected, atol=1e-5)


def test_header_says_how_the_features_were_made(world: Path, model: str) -> None:
    direct, _ = made(world, model)
    exact, _ = made(world, model, "exact", pixels="exact", layer="unprojected", channel_order="BGR", dtype="float32")
    assert direct.header.preprocessing == "rendered at 32 x 32 px as the centre crop of 640 x 480, fp32"
    assert exact.header.preprocessing == "shortest side to the size, centre crop, 32 x 32 px, bicubic, fp32"
    header = direct.header
    assert (header.model, header.pretrained, header.layer) == ("local-dir:clip", "random", "projected")
    assert (header.image_width_px, header.image_height_px, header.vfov_deg) == (640, 480, 60.0)
    assert header.channel_order == "RGB"
    assert (exact.header.layer, exact.header.channel_order, exact.header.dtype) == ("unprojected", "BGR", "float32")
    assert header.source == "skyboxes of 5 viewpoints in 2 scans"


def test_batches_of_several_panoramas_give_the_same_features(world: Path, model: str) -> None:
    one, _ = made(world, model, "one", dtype="float32")
    two, _ = made(world, model, "two", dtype="float32", batch=2)
    assert one.keys == two.keys
    assert np.allclose(one.table, two.table, atol=1e-5)


def test_says_how_much_how_fast_and_what_next(world: Path, model: str) -> None:
    _, printed = made(world, model)
    assert "5 x 36 x 16 float16" in printed
    assert "180 images in 0:00:0" in printed
    assert "images/s)" in printed
    assert f"python -m agent.train --data R2R --features {world.parent / 'store'}" in printed
    _, again = made(world, model)
    assert again.strip() == f"{world.parent / 'store'} is complete (5 items): nothing to do"


@pytest.mark.parametrize("suffix", ["tsv", "hdf5"])
def test_round_trip_through_the_files_of_the_field(world: Path, model: str, suffix: str) -> None:
    store, _ = made(world, model)
    file, silent = world.parent / f"features.{suffix}", Console(file=io.StringIO())
    export(Export(store.path, file), silent)
    back = convert(Convert(file, world.parent / "back"), silent)
    assert np.array_equal(back.table[back.rows(store.keys)], store.table)
    assert len(back) == len(store)
    camera = ("image_width_px", "image_height_px", "vfov_deg", "shape")
    assert [getattr(back.header, name) for name in camera] == [getattr(store.header, name) for name in camera]


# -- faults --------------------------------------------------------------------------------------------------------


def grey(path: Path) -> None:
    Image.open(path).convert("L").save(path)


def cmyk(path: Path) -> None:
    Image.open(path).convert("CMYK").save(path)


def five_faces(path: Path) -> None:
    image = Image.open(path)
    image.crop((0, 0, 5 * image.height, image.height)).save(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1500])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (grey, "greyscale"),
        (cmyk, "CMYK"),
        (five_faces, "240 x 48 pixels, expected six square faces"),
        (cut, "is damaged"),
    ],
)
def test_a_damaged_skybox_stops_and_the_same_command_goes_on(
    world: Path, model: str, tmp_path: Path, damage: Any, message: str
) -> None:
    whole, _ = made(world, model, "whole")
    path = strip_path(world, "two", "p0")
    sound = path.read_bytes()
    damage(path)
    with pytest.raises(SkyboxError, match=message) as found:
        made(world, model)
    assert str(path) in str(found.value)
    assert read_keys(partial_path(tmp_path / "store")) == KEYS[:3]
    path.write_bytes(sound)
    store, printed = made(world, model)
    assert "Continuing" in printed
    assert "3 of 5 items are there" in printed
    assert "72 images in" in printed
    assert bytes_of(store.path) == bytes_of(whole.path)


def test_missing_skyboxes_are_found_before_the_work(world: Path, model: str, tmp_path: Path) -> None:
    strip_path(world, "two", "p1").unlink()
    with pytest.raises(ValueError, match=r"1 of 5 skyboxes are missing, in 1 of 2 scans: two; .* --scans one"):
        made(world, model)
    assert not partial_path(tmp_path / "store").exists()
    store, _ = made(world, model, scans=("one",))
    assert list(store.keys) == KEYS[:3]


def test_wrong_names_and_folders(world: Path, model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown scan 'three'"):
        made(world, model, scans=("three",))
    with pytest.raises(ValueError, match=r"no model 'ViT-B-33'; near are .*ViT-B-32"):
        made(world, "ViT-B-33")
    with pytest.raises(ValueError, match="no folder"):
        made(tmp_path / "nowhere", model)
    with pytest.raises(ValueError, match="batch is 0"):
        made(world, model, batch=0)
    with pytest.raises(ValueError, match="no connectivity folder"):
        made(world / "v1" / "scans" / "one", model)


def test_scans_without_v1_and_connectivity_by_flag(world: Path, model: str) -> None:
    store, _ = made(world / "v1" / "scans", model, connectivity=world / "connectivity")
    assert list(store.keys) == KEYS


def test_weights_of_another_model_are_refused(world: Path, model: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"visual.proj": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="does not fit"):
        made(world, model, pretrained=None, weights=tmp_path / "other.safetensors")


def test_models_that_squash_need_exact_pixels(world: Path, tmp_path: Path) -> None:
    squashing = tiny_clip(tmp_path / "squash", resize_mode="squash")
    with pytest.raises(ValueError, match="--pixels exact"):
        made(world, squashing)
    store, _ = made(world, squashing, pixels="exact")
    assert len(store) == 5


def test_another_store_under_the_name_is_kept(world: Path, model: str) -> None:
    store, _ = made(world, model)
    before = bytes_of(store.path)
    with pytest.raises(ValueError, match=r"made with other settings .*channel_order: 'RGB', not 'BGR'"):
        made(world, model, channel_order="BGR")
    write_strip(world, "two", "p1", faces_of(48, 1))
    names = (world / "connectivity" / "one_connectivity.json").read_text()
    (world / "connectivity" / "one_connectivity.json").write_text(names.replace('"p0"', '"q0"'))
    strip_path(world, "one", "p0").rename(strip_path(world, "one", "q0"))
    with pytest.raises(ValueError, match=r"holds 1 other items, e\.g\. one_p0"):
        made(world, model)
    assert bytes_of(store.path) == before


def test_a_beginning_with_other_items_is_refused(world: Path, model: str, tmp_path: Path) -> None:
    store, _ = made(world, model)
    with StoreWriter(tmp_path / "begun", store.header) as writer:
        writer.append(KEYS[1], store.table[1])
        writer.append(KEYS[0], store.table[0])
    with pytest.raises(ValueError, match="begun with other items, or in another order"):
        made(world, model, "begun")


def test_a_store_that_another_process_writes_is_left_alone(world: Path, model: str, tmp_path: Path) -> None:
    store, _ = made(world, model)
    with (
        StoreWriter(tmp_path / "busy", store.header),
        pytest.raises(ValueError, match="another process is writing"),
    ):
        made(world, model, "busy")


def test_the_command_ends_faults_with_code_2(
    world: Path, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["panoramas", "--data", world, "--model", model, "--pretrained", "random", "--out", tmp_path / "store"]
    assert command.main([*map(str, flags), "--scans", "one", "two"]) == 0
    assert command.main([*map(str, flags), "--scans", "three"]) == 2
    assert "unknown scan 'three'" in capsys.readouterr().err

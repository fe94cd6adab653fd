"""`precompute images`: every image of a folder, whatever its kind, becomes its features; broken ones are listed."""

import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from clip_toy import make_folder
from PIL import Image
from rich.console import Console

from clip_core.encoder import ClipEncoder
from clip_core.feature_files import HEADER_FILE, KEYS_FILE, TABLE_FILE, partial_path
from clip_core.feature_writer import StoreWriter
from clip_core.features import FeatureStore
from clip_core.images import open_image
from clip_core.towers import GRID_POINTS
from precompute import encode
from precompute.__main__ import main
from precompute.image_folder import BrokenImages, find_images
from precompute.images import Images, images

ORIENTATION = 0x0112  # tag of EXIF


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Names of a tiny RN, a tiny ViT, and a model with a tower of timm."""
    folder = tmp_path_factory.mktemp("models")
    timm = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "avg", "timm_proj": "linear", "image_size": 32}
    timm["timm_model_pretrained"] = False
    names = {kind: make_folder(folder / kind, kind) for kind in ("rn", "vit")}
    return {**names, "timm": make_folder(folder / "timm", "vit", vision_cfg=timm)}


@pytest.fixture
def folder(tmp_path):
    """Seven images in two folders."""
    return fill(tmp_path / "pictures", 7)


def drawing(index, height=50, width=70):
    y, x = np.mgrid[:height, :width] / (20 + 3 * index)
    return Image.fromarray((np.stack([np.sin(x * y), np.cos(x + y), np.sin(x - index)], -1) * 127 + 128).astype("u1"))


def fill(folder, n):
    for index in range(n):
        path = folder / ("train" if index % 2 else "val/deep") / f"COCO_{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        drawing(index, 40 + 9 * index, 90 - 5 * index).save(path)
    return folder


def run(folder, out, model, **options):
    """The store and what was said."""
    screen = io.StringIO()
    config = Images(folder, out, model, device="cpu", dtype="float32", **options)
    return images(config, Console(file=screen, width=200)), screen.getvalue()


def content(store):
    return {name: (store / name).read_bytes() for name in (HEADER_FILE, KEYS_FILE, TABLE_FILE)}


def records(out):
    lines = out.with_name(f"{out.name}.broken.jsonl").read_text().splitlines()
    return {record["image"]: record["reason"] for record in map(json.loads, lines)}


def spoil(folder):
    """Makes four files beside those of `fill` that are no images of 8 bits; returns their keys."""
    whole = (folder / "train" / "COCO_001.png").read_bytes()
    (folder / "train" / "COCO_000.png").write_bytes(whole[: len(whole) // 2])
    (folder / "train" / "COCO_002.JPEG").write_text("<html>404</html>")
    (folder / "val" / "empty.webp").touch()
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(folder / "val" / "x_ray.png")
    return ["train/COCO_000", "train/COCO_002", "val/empty", "val/x_ray"]


@pytest.mark.parametrize("kind", ["rn", "vit"])
@pytest.mark.parametrize("layer", ["projected", "unprojected"])
def test_vectors_are_those_of_the_encoder(folder, tmp_path, models, kind, layer):
    store, said = run(folder, tmp_path / "store", models[kind], layer=layer, batch=3)
    encoder = ClipEncoder.load(models[kind])
    assert list(store.keys) == sorted(f"{'train' if i % 2 else 'val/deep'}/COCO_{i:03d}" for i in range(7))
    for key in store.keys:
        image = encoder.transform(open_image(folder / f"{key}.png"))[None]
        with torch.no_grad():
            vector = encoder.image_vectors(image, projected=layer == "projected")[0]
        torch.testing.assert_close(torch.from_numpy(store.gather(store.rows([key]))[0]), vector, rtol=1e-3, atol=1e-3)
    header = store.header
    assert (header.layer, header.source, header.channel_order) == (layer, "7 images of pictures", "RGB")
    assert header.preprocessing == "upright, shortest side to the size, centre crop, 64 x 64 px, bicubic, fp32"
    assert header.weights_sha256 == encoder.record.weights_sha256
    assert f"7 x {header.dim} float32" in said
    assert "Warning" not in said


@pytest.mark.parametrize(
    ("kind", "point", "shape"),
    [("rn", "captioning", (3, 5, 256)), ("vit", "pythia", (6, 10, 48)), ("vit", "mcan", (6, 10, 48))],
)
def test_grids_of_squashed_images(folder, tmp_path, models, kind, point, shape):
    store, _ = run(folder, tmp_path / "store", models[kind], layer="grid", size="96x160", point=point)
    assert store.header.shape == shape
    words = store.header.preprocessing
    assert words.startswith("upright, squashed to the size, 160 x 96 px, bicubic")
    assert words.endswith(f", grid as for {point}, fp32" if kind == "vit" else "bicubic, fp32")
    encoder = ClipEncoder.load(models[kind])
    key = store.keys[2]
    squashed = open_image(folder / f"{key}.png").resize((160, 96), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(squashed)).permute(2, 0, 1)[None]
    with torch.no_grad():
        cells = encoder.grid(encoder.transform.normalised(pixels), GRID_POINTS[point]).cells[0]
    torch.testing.assert_close(torch.from_numpy(np.array(store.table[2])), cells, rtol=1e-3, atol=1e-3)


def test_the_grid_of_published_vqa_features():
    """600 x 1000 pixels give 18 x 31 cells of 2048 numbers; without computing them."""
    encoder = ClipEncoder.load("RN50", "random")
    assert (*encoder.grid_shape(600, 1000), encoder.grid_dim) == (18, 31, 2048)


def test_bilinear_as_published(folder, tmp_path, models):
    store, _ = run(folder, tmp_path / "store", models["rn"], size="96x160", interpolation="bilinear")
    assert "squashed to the size, 160 x 96 px, bilinear" in store.header.preprocessing
    bicubic, _ = run(folder, tmp_path / "bicubic", models["rn"], size="96x160")
    assert 0 < np.abs(store.table - bicubic.table).max() < 0.5 * np.abs(bicubic.table).max()


def test_padding_keeps_the_shape_of_images(tmp_path, models):
    (tmp_path / "in").mkdir()
    Image.new("RGB", (64, 32), (200, 10, 10)).save(tmp_path / "in" / "wide.png")
    padded = Image.new("RGB", (64, 64))
    padded.paste(Image.new("RGB", (64, 32), (200, 10, 10)), (0, 16))
    padded.save(tmp_path / "in" / "padded.png")
    store, _ = run(tmp_path / "in", tmp_path / "store", models["rn"], fit="longest")
    np.testing.assert_allclose(store.table[0], store.table[1], rtol=1e-3, atol=1e-4)
    assert "longest side to the size, padded, 64 x 64 px" in store.header.preprocessing


def test_every_kind_of_image_is_read(tmp_path, models):
    """Pictures of one scene: as they look on a screen, so are their features."""
    (tmp_path / "in").mkdir()
    rgb = drawing(1, 64, 64).quantize(64).convert("RGB")
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # turn by 90 degrees to the right to see it upright
    palette = rgb.quantize(64)
    palette.info["transparency"] = b"\xff\x10"
    rgba = rgb.convert("RGBA")
    rgba.putalpha(99)
    same = {"a.png": rgb, "alpha.png": rgba, "palette.png": palette, "b.BMP": rgb}
    for name, image in same.items():
        image.save(tmp_path / "in" / name)
    rgb.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "in" / "turned.png", exif=exif)
    rgb.save(tmp_path / "in" / "lossless.webp", lossless=True)
    rgb.convert("L").save(tmp_path / "in" / "grey.png")
    rgb.convert("L").convert("RGB").save(tmp_path / "in" / "grey_rgb.png")
    rgb.convert("CMYK").save(tmp_path / "in" / "print.jpg", quality=100)
    store, said = run(tmp_path / "in", tmp_path / "store", models["vit"])
    row = dict(zip(store.keys, np.array(store.table), strict=True))
    for name in ("alpha", "palette", "b", "turned", "lossless"):
        np.testing.assert_allclose(row[name], row["a"], rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(row["grey"], row["grey_rgb"], rtol=1e-4, atol=1e-5)
    assert np.corrcoef(row["print"], row["a"])[0, 1] > 0.99
    assert len(row) == 9
    assert "Warning" not in said
    stored, _ = run(tmp_path / "in", tmp_path / "as_stored", models["vit"], ignore_orientation=True)
    assert not np.allclose(stored.table[stored.rows(["turned"])[0]], row["a"], rtol=1e-2)
    assert stored.header.preprocessing.startswith("shortest side")


def test_broken_files_are_listed_and_the_rest_is_done(folder, tmp_path, models, capsys):
    broken = spoil(folder)
    os.symlink(tmp_path / "nowhere", folder / "val" / "gone.jpg")
    (folder / "val" / "two\nlines.png").write_bytes((folder / "train" / "COCO_001.png").read_bytes())
    out = tmp_path / "store"
    command = ["images", "--images", str(folder), "--out", str(out), "--model", models["rn"], "--device", "cpu"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "Warning: left out 6 of 13 images that cannot be read" in said
    assert f"{out}.broken.jsonl" in said
    found = records(out)
    assert list(found) == sorted([*broken, "val/gone", "val/two\nlines"])
    assert "broken image" in found["train/COCO_000"]
    assert "no image that Pillow can read" in found["val/empty"]
    assert "not of 8 bits" in found["val/x_ray"]
    assert "no image at" in found["val/gone"]
    assert "rename it" in found["val/two\nlines"]
    assert len(FeatureStore.open(out)) == 7
    assert main(command) == 0  # the store is there: the list is said again
    assert "nothing to do" in (again := capsys.readouterr().out)
    assert "left out 6 of 13" in again
    assert main([*command, "--strict", "--out", str(tmp_path / "other")]) == 2
    assert "COCO_000.png is a broken image" in " ".join(capsys.readouterr().err.split())
    assert main([*command, "--strict"]) == 2
    assert "lists 6 broken images of an earlier run" in " ".join(capsys.readouterr().err.split())


def test_a_full_disk_then_the_same_bytes(folder, tmp_path, models, monkeypatch):
    """The broken files before the stop stay out, also one that is whole again; then the list goes with the store."""
    monkeypatch.setattr(encode, "COMMIT_SECONDS", 0.0)
    spoil(folder)
    options = {"layer": "grid", "batch": 2}
    run(folder, tmp_path / "whole", models["rn"], **options)
    item_bytes = FeatureStore.open(tmp_path / "whole").header.item_bytes
    out = tmp_path / "store"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (128 + 5 * item_bytes, hard))
        with pytest.raises(ValueError, match=r"cannot be written .* its 4 rows are kept: make room on the disk"):
            run(folder, out, models["rn"], **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not out.exists()
    BrokenImages(out).add("val/empty", "already seen, ahead of the encoder")
    drawing(1).save(folder / "train" / "COCO_000.png")
    drawing(1).save(folder / "val" / "empty.webp")
    with out.with_name("store.broken.jsonl").open("a") as file:
        file.write('\n{"image": "train/COCO_0')  # what a kill may leave of a line
    run(folder, out, models["rn"], **options)
    assert content(out) == content(tmp_path / "whole")
    assert records(out).keys() == records(tmp_path / "whole").keys()
    for name in content(out):
        (out / name).unlink()
    out.rmdir()
    store, _ = run(folder, out, models["rn"], **options)
    assert len(store) == 9  # those that were mended are in
    assert records(out).keys() == {"train/COCO_002", "val/x_ray"}


def test_three_ranks_give_the_bytes_of_one(folder, tmp_path, models):
    """The last four of twelve images are broken: all that the third rank has, in groups of two."""
    spoil(folder)
    (folder / "val" / "deep" / "COCO_006.png").unlink()
    for name in ("zy.png", "zz.png"):
        (folder / name).touch()
    options = ["--model", models["vit"], "--batch", "2", "--device", "cpu"]
    arguments = ["-m", "precompute", "images", "--images", str(folder), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
    command = [*torchrun, *arguments, "--out", str(tmp_path / "three")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert main([*arguments[2:], "--out", str(tmp_path / "one")]) == 0
    finally:
        torch.set_num_threads(threads)
    assert content(tmp_path / "three") == content(tmp_path / "one")
    assert records(tmp_path / "three") == records(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.glob("three*")) == ["three", "three.broken.jsonl"]


def test_names_follow_links_and_keep_their_order(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "in" / "B").mkdir(parents=True)
    for path in ("real/z.jpg", "in/B/b.JPG", "in/a.jpeg", "in/.hidden.png", "in/notes.txt", "in/B/é.webp", "in/B.bmp"):
        (tmp_path / path).touch()
    os.symlink(tmp_path / "real", tmp_path / "in" / "link")
    os.symlink(tmp_path / "in", tmp_path / "in" / "loop")
    found = find_images(tmp_path / "in")
    assert list(found) == ["B", "B/b", "B/é", "a", "link/z"]
    assert found["B/b"] == tmp_path / "in" / "B" / "b.JPG"


def test_a_store_that_is_being_written_elsewhere(folder, tmp_path, models):
    out = tmp_path / "store"
    store, _ = run(folder, tmp_path / "first", models["vit"])
    with StoreWriter(out, store.header), pytest.raises(ValueError, match="another process is writing"):
        run(folder, out, models["vit"])
    assert partial_path(out).exists()


def test_a_folder_that_has_changed_since(folder, tmp_path, models):
    run(folder, tmp_path / "store", models["vit"])
    drawing(8).save(folder / "later.png")
    with pytest.raises(ValueError, match=r"other settings \(source: '7 images of pictures', not '8 images"):
        run(folder, tmp_path / "store", models["vit"])
    (folder / "val" / "deep" / "COCO_000.png").unlink()
    with pytest.raises(ValueError, match="holds 1 other items"):
        run(folder, tmp_path / "store", models["vit"])


def test_a_row_that_nobody_accounts_for(folder, tmp_path, models):
    spoil(folder)
    run(folder, tmp_path / "store", models["vit"])
    (tmp_path / "store.broken.jsonl").unlink()
    with pytest.raises(ValueError, match="lacks 4 images of the folder"):
        run(folder, tmp_path / "store", models["vit"])


def test_broken_images_alone(tmp_path, models, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("no")
    command = ["images", "--images", str(tmp_path / "in"), "--out", str(tmp_path / "store"), "--device", "cpu"]
    assert main([*command, "--model", models["vit"]]) == 2
    screen = capsys.readouterr()
    assert "left out 1 of 1 images" in screen.out
    assert "gave no features" in screen.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": "nowhere"}, "no folder .*nowhere; expected a folder of images"),
        ({"images": "empty"}, r"no image in .*empty; expected \.jpg, .* there or in its folders"),
        ({"images": "twins"}, r"1 names in .* belong to several files, e\.g\. a\.jpg and a\.png"),
        ({"model": "ViT-B-33"}, "open_clip knows no model 'ViT-B-33'; near are ViT-B-32"),
        ({"model": "RN50"}, "no weights are named for RN50; expected a tag"),
        ({"weights": "weights.pt"}, r"weights\.pt does not fit .*is missing"),
        ({"size": "600"}, "size is '600'; expected height x width in pixels, e.g. 600x1000"),
        ({"size": "20x20", "layer": "grid"}, "20 x 20 px are smaller than one cell"),
        ({"fit": "crop"}, "resize mode 'crop'; expected one of .*squash"),
        ({"size": "0x20"}, "input size is 0 x 20; expected positive"),
        ({"batch": 0}, "batch is 0; expected at least 1"),
        ({"model": "efficientnet-lite0"}, "knows no texts.*--layer unprojected"),
        ({"model": "timm", "layer": "grid"}, "tower of timm; grids"),
        ({"model": "timm", "size": "64x96"}, r"does not take images of 64x96 px .*; leave out --size"),
    ],
)
def test_bad_input_is_named(folder, tmp_path, models, changes, message):
    if changes.get("model") == "efficientnet-lite0":
        pytest.importorskip("efficientnet_lite_pytorch", reason="the extra imagenet is not installed")
    (tmp_path / "empty").mkdir()
    (tmp_path / "twins").mkdir()
    for name in ("a.png", "a.jpg"):
        (tmp_path / "twins" / name).touch()
    torch.save({"visual.conv1.weight": torch.zeros(3)}, tmp_path / "weights.pt")
    paths = {name: tmp_path / changes[name] for name in ("images", "weights") if name in changes}
    given = {"images": folder, "model": models["rn"], **changes, **paths}
    given["model"] = models.get(given["model"], given["model"])
    with pytest.raises(ValueError, match=message):
        run(given.pop("images"), tmp_path / "store", given.pop("model"), **given)
    assert not (tmp_path / "store").exists()

"""The encoder gives what open_clip and transformers give, at any size; its weights are those of the file."""

import functools
import json
import subprocess
import sys

import open_clip
import pytest
import torch
from clip_toy import CONFIGS, TEXT, hugging_face_twin, make_folder

from clip_core.encoder import ClipEncoder
from clip_core.feature_files import Header
from clip_core.towers import GRID_POINTS, GridPoint, interpolated

TEXTS = ["walk past the sofa", "a red door.", "two beds in a room with a long wooden table and many chairs"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {kind: make_folder(folder / kind, kind) for kind in CONFIGS}


@pytest.fixture(params=["vit", "rn"])
def kind(request):
    return request.param


@pytest.fixture
def encoder(names, kind):
    return ClipEncoder.load(names[kind])


def pixels(*size, batch=2):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0))


def reopened(name, **options):
    """open_clip's own model of a folder; frozen, because torch rounds otherwise where a gradient might be wanted."""
    return open_clip.create_model(name, **options).eval().requires_grad_(False)


# -- equal to others ---------------------------------------------------------------------------------------------------


def test_equal_to_open_clip(names, kind, encoder):
    theirs, images = reopened(names[kind]), pixels(64, 64)
    ids = open_clip.get_tokenizer("ViT-B-32")(TEXTS)
    with torch.no_grad():
        assert torch.equal(encoder.image_vectors(images), theirs.encode_image(images))
        assert torch.equal(encoder.text_vectors(ids), theirs.encode_text(ids))
        assert torch.equal(encoder.text_vectors(TEXTS), theirs.encode_text(ids))
        found = theirs.visual.forward_intermediates(images, indices=1, intermediates_only=True)["image_intermediates"]
        assert torch.equal(encoder.grid(images).cells.permute(0, 3, 1, 2), found[-1])
    assert encoder.image_vectors(images).shape == (2, encoder.projected_dim)


@pytest.mark.parametrize("name", ["tiny", "tiny-quickgelu", "ViT-B-32"])
def test_vit_is_that_of_transformers(tmp_path, name):
    if name == "ViT-B-32":
        torch.manual_seed(0)
        encoder = ClipEncoder.load(name, "random")
    else:
        encoder = ClipEncoder.load(make_folder(tmp_path / name, "vit", quick_gelu="quick" in name))
    twin = hugging_face_twin(encoder.clip, encoder.source.config)
    images = pixels(*encoder.clip.visual.image_size)
    ids = encoder.tokenize(TEXTS)
    with torch.no_grad():
        pooled = twin.vision_model(images).pooler_output
        words = twin.text_projection(twin.text_model(ids, attention_mask=torch.ones_like(ids)).pooler_output)
        torch.testing.assert_close(encoder.image_vectors(images), twin.visual_projection(pooled), rtol=0, atol=1e-4)
        torch.testing.assert_close(encoder.image_vectors(images, projected=False), pooled, rtol=0, atol=1e-4)
        torch.testing.assert_close(encoder.text_vectors(ids), words, rtol=0, atol=1e-4)
    assert words.std() > 0.01


def test_vectors_before_the_projection(encoder, kind):
    images = pixels(64, 64)
    with torch.no_grad():
        before, after = encoder.image_vectors(images, projected=False), encoder.image_vectors(images)
        visual = encoder.clip.visual
        projected = before @ visual.proj if kind == "vit" else visual.attnpool.c_proj(before)
    assert before.shape == (2, encoder.grid_dim)
    torch.testing.assert_close(projected, after, rtol=1e-4, atol=1e-5)


# -- any size ----------------------------------------------------------------------------------------------------------


def test_rn50_grid_at_600_x_1000_is_18_x_31():
    encoder = ClipEncoder.load("RN50", "random")
    with torch.inference_mode():
        grid = encoder.grid(torch.zeros(1, 3, 600, 1000))
    assert grid.cells.shape == (1, 18, 31, 2048)
    assert encoder.grid_shape(600, 1000) == (18, 31)
    assert torch.equal(grid.cells[0, 8, 10], grid.cells[0, 9, 20])  # a blank image has blank inner cells


@pytest.mark.parametrize("size", [(64, 64), (64, 96), (150, 70), (101, 239), (96, 97)])
def test_grids_have_the_shape_that_is_told(encoder, size):
    with torch.no_grad():
        grid = encoder.grid(pixels(*size), summary=True)
    assert grid.cells.shape == (2, *encoder.grid_shape(*size), encoder.grid_dim)
    assert grid.summary.shape == (2, encoder.projected_dim if encoder.kind == "RN" else encoder.grid_dim)


@pytest.mark.parametrize("size", [(96, 160), (32, 64), (128, 128)])
def test_vit_interpolates_as_open_clip_does(names, size):
    """open_clip rebuilds the model for a size and interpolates its embedding while it loads the weights."""
    theirs, encoder, images = (
        reopened(names["vit"], force_image_size=size),
        ClipEncoder.load(names["vit"]),
        pixels(*size),
    )
    with torch.no_grad():
        torch.testing.assert_close(encoder.image_vectors(images), theirs.encode_image(images), rtol=1e-5, atol=1e-6)
        found = theirs.visual.forward_intermediates(images, intermediates_only=True, output_extra_tokens=True)
        for skip in (0, 1, 2):
            grid = encoder.grid(images, GridPoint(skip=skip))
            cells = found["image_intermediates"][-1 - skip].permute(0, 2, 3, 1)
            torch.testing.assert_close(grid.cells, cells, rtol=1e-5, atol=1e-5)
            prefix = found["image_intermediates_prefix"][-1 - skip][:, 0]
            torch.testing.assert_close(grid.summary, prefix, rtol=1e-5, atol=1e-5)


def test_embeddings_are_neither_zero_nor_unchanged(names, kind):
    """The fault of CLIP-ViL's released code, which stays available under its name, and its bilinear filter."""
    size = (96, 160)
    found = {how: ClipEncoder.load(names[kind], positions=how) for how in ("bicubic", "bilinear", "zero")}
    with torch.no_grad():
        vectors = {how: encoder.image_vectors(pixels(*size)) for how, encoder in found.items()}
    assert (vectors["bicubic"] - vectors["zero"]).abs().max() > 1e-2
    assert (
        1e-5
        < (vectors["bicubic"] - vectors["bilinear"]).abs().max()
        < (vectors["zero"] - vectors["bilinear"]).abs().max()
    )
    ramp = torch.arange(4.0)[:, None] * torch.ones(4, 4)  # rows count up
    embedding = torch.cat([torch.full((1, 1), 9.0), ramp.reshape(-1, 1)])
    for how in ("bicubic", "bilinear"):
        larger = interpolated(embedding, (4, 4), (8, 12), how)
        rows = larger[1:].reshape(8, 12)
        assert larger[0] == 9
        assert (rows.diff(dim=0) >= 0).all()
        torch.testing.assert_close(rows, rows[:, :1].expand(8, 12))
        torch.testing.assert_close(rows[2:6, 0], torch.tensor([0.75, 1.25, 1.75, 2.25]), atol=0.05, rtol=0)
    assert interpolated(embedding, (4, 4), (8, 12), "zero").abs().max() == 0
    assert interpolated(embedding, (4, 4), (4, 4), "zero") is embedding


def test_embeddings_learn_at_another_size(names, kind):
    encoder = ClipEncoder.load(names[kind], trainable=True)
    encoder.image_vectors(pixels(96, 128)).sum().backward()
    part = encoder.clip.visual if kind == "vit" else encoder.clip.visual.attnpool
    assert part.positional_embedding.grad.abs().max() > 0


def test_points_of_the_published_recipes(names):
    encoder, images = ClipEncoder.load(names["vit"]), pixels(64, 64)
    seen = {}
    handle = encoder.clip.visual.transformer.resblocks[-2].register_forward_hook(
        lambda module, inputs, output: seen.update(tokens=output)
    )
    with torch.no_grad():
        grids = {name: encoder.grid(images, point) for name, point in GRID_POINTS.items()}
        handle.remove()
        last = grids["captioning"].cells
        assert torch.equal(grids["pythia"].cells.flatten(1, 2), seen["tokens"][:, 1:])
        assert torch.equal(grids["mcan"].cells, encoder.clip.visual.ln_post(last))
        torch.testing.assert_close(grids["mcan"].summary, encoder.image_vectors(images, projected=False))
    rn = ClipEncoder.load(names["rn"])
    shapes = [tuple(rn.grid(images, GridPoint(stage=stage)).cells.shape[1:]) for stage in range(5)]
    assert shapes == [(16, 16, 8), (16, 16, 32), (8, 8, 64), (4, 4, 128), (2, 2, 256)]
    with torch.no_grad():
        assert torch.equal(rn.grid(images, summary=True).summary, rn.image_vectors(images))


# -- frozen and trained ------------------------------------------------------------------------------------------------


class Head(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.out = encoder, torch.nn.Linear(encoder.projected_dim, 3)

    def forward(self, images):
        return self.out(self.encoder.image_vectors(images))


@pytest.mark.parametrize("trainable", [False, True])
def test_heads_and_freezing_leave_the_weights(names, kind, encoder, trainable):
    before = reopened(names[kind]).state_dict()
    model = Head(encoder).train()
    encoder.set_trainable(trainable)
    encoder.set_trainable(not trainable)
    encoder.set_trainable(trainable)
    for _ in range(2):
        model(pixels(64, 64, batch=4)).sum().backward()
    after = encoder.clip.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    learns = [name for name, parameter in encoder.named_parameters() if parameter.grad is not None]
    assert bool(learns) == trainable
    assert encoder.clip.training == trainable


def test_batch_statistics_move_only_when_asked(names):
    for batch_norm, moves in (("fixed", False), ("trained", True)):
        encoder = ClipEncoder.load(names["rn"], trainable=True, batch_norm=batch_norm).train()
        mean = encoder.clip.visual.bn1.running_mean.clone()
        encoder.image_vectors(pixels(64, 64))
        assert torch.equal(encoder.clip.visual.bn1.running_mean, mean) != moves
        assert encoder.clip.visual.bn1.weight.requires_grad


def test_parameter_groups(encoder):
    assert encoder.parameter_groups(1e-5) == []
    encoder.set_trainable(True)
    groups = encoder.parameter_groups(1e-5, weight_decay=0.1, clip=1.0)
    assert {group["name"] for group in groups} == {"clip"}
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    image = {id(p) for p in encoder.clip.visual.parameters()}
    assert {id(p) for group in groups for p in group["params"]} == image
    both = encoder.parameter_groups(1e-5, text=True)
    assert [group["name"] for group in both] == ["clip", "clip_text"]
    assert sum(len(group["params"]) for group in both) == len(list(encoder.parameters()))


# -- how it computes ---------------------------------------------------------------------------------------------------


def test_bf16_channels_last_and_compile_change_little(names, kind, encoder, monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    images = pixels(96, 64)
    with torch.no_grad():
        exact = encoder.image_vectors(images), encoder.grid(images).cells, encoder.text_vectors(TEXTS)
        for options, limit in (
            ({"precision": "bf16"}, 0.05),
            ({"channels_last": True}, 1e-5),
            ({"compile": True}, 1e-5),
        ):
            other = ClipEncoder.load(names[kind], **options)
            found = other.image_vectors(images), other.grid(images).cells, other.text_vectors(TEXTS)
            for theirs, ours in zip(exact, found, strict=True):
                assert ours.dtype == torch.float32
                difference = (theirs - ours).norm() / theirs.norm()
                assert difference < limit
                assert difference > 1e-4 or "precision" not in options
            assert other.state_dict().keys() == encoder.state_dict().keys()


def test_transform_and_record(tmp_path):
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "resize_mode": "squash", "interpolation": "bilinear"}
    name = make_folder(tmp_path / "tiny", "vit", preprocess=preprocess)
    encoder = ClipEncoder.load(name, precision="bf16")
    assert (encoder.transform.height_px, encoder.transform.mean) == (64, (0.5, 0.5, 0.5))
    header = Header(
        source="test", shape=(36, encoder.projected_dim), layer="projected", **encoder.record.header_fields()
    )
    assert header.model == "local-dir:tiny"
    assert header.preprocessing == "squashed to the size, 64 x 64 px, bilinear, bf16"
    digest = ClipEncoder.load(f"local-dir:{tmp_path}/../{tmp_path.name}/tiny/").record.weights_sha256
    assert digest == header.weights_sha256
    assert len(digest) == 64


def test_importing_is_light():
    """open_clip takes seconds; who only names the encoder does not wait for it."""
    code = "import sys, clip_core.encoder, precompute.__main__; print({'open_clip', 'timm', 'h5py'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"


# -- faults ------------------------------------------------------------------------------------------------------------


def test_faulty_inputs(encoder):
    with pytest.raises(ValueError, match=r"images are torch.uint8 \(1, 3, 64, 64\); expected normalised floats"):
        encoder.image_vectors(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    with pytest.raises(ValueError, match="images of 8 x 64 px are smaller than one cell"):
        encoder.grid(pixels(8, 64))
    with pytest.raises(ValueError, match="expected a list of texts"):
        encoder.tokenize("one text")
    long = "chair " * 100
    with pytest.raises(ValueError, match=r"'chair chair .* has 102 tokens; expected at most 77"):
        encoder.text_vectors(["short", long])
    assert encoder.tokenize([long], truncate=True).shape == (1, TEXT["context_length"])
    if encoder.kind == "ViT":
        with pytest.raises(ValueError, match=r"skip is 3; .* has 3 blocks, expected 0 to 2"):
            encoder.grid(pixels(64, 64), GridPoint(skip=3))
    else:
        with pytest.raises(ValueError, match="stage is 3; expected 0 to 4, and 4 with a summary"):
            encoder.grid(pixels(64, 64), GridPoint(stage=3), summary=True)


def test_faulty_settings(names):
    for option in ({"precision": "fp16"}, {"positions": "nearest"}, {"batch_norm": "frozen"}):
        with pytest.raises(ValueError, match=f"{next(iter(option))} is .*; expected one of"):
            ClipEncoder.load(names["rn"], **option)


def test_towers_of_timm_give_vectors_and_refuse_grids(tmp_path):
    folder = tmp_path / "timm"
    folder.mkdir()
    vision = {"timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64}
    config = {"model_cfg": {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    encoder = ClipEncoder.load(f"local-dir:{folder}", "random")
    assert encoder.image_vectors(pixels(64, 64)).shape == (2, 24)
    with pytest.raises(ValueError, match="has a tower of timm"):
        encoder.grid(pixels(64, 64))
    with pytest.raises(ValueError, match="has a tower of timm"):
        encoder.image_vectors(pixels(64, 64), projected=False)

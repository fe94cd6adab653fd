"""The CLIP model of the package: whole, small, loadable by plain open_clip, without a network."""

import hashlib
import json
import shutil

import open_clip
import pytest
import torch

from clip_core import shipped
from clip_core.bpe_subset import MERGES_FILE
from clip_core.encoder import ClipEncoder


@pytest.fixture(scope="module")
def encoder():
    return ClipEncoder.load(shipped.MODEL, shipped.TAG)


def test_it_is_small_and_its_card_tells_its_checksum():
    weights = shipped.shipped_weights()
    assert weights.stat().st_size <= shipped.MOST_BYTES
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    card = (shipped.FOLDER / shipped.CARD_FILE).read_text()
    for told in (digest, "train-clip", "--seed", "R@1", "zero-shot"):
        assert told in card


def test_it_is_what_plain_open_clip_loads(encoder):
    name = f"local-dir:{shipped.FOLDER}"
    plain = open_clip.create_model(name).eval()
    image = torch.rand(2, 3, 64, 64)
    texts = ["A red sofa in a living room.", "A blue bed."]
    ids = open_clip.get_tokenizer(name, bpe_path=str(shipped.FOLDER / MERGES_FILE))(texts)
    with torch.no_grad():
        assert torch.equal(encoder.image_vectors(image), plain.encode_image(image))
        assert torch.allclose(encoder.text_vectors(texts), plain.encode_text(ids), atol=1e-4)  # frozen: fused attention
    assert encoder.record.model == shipped.MODEL
    assert encoder.record.pretrained == shipped.TAG
    assert ClipEncoder.load(shipped.MODEL).record == encoder.record  # there is but one tag


def test_its_texts_tell_colours_apart(encoder):
    with torch.no_grad():
        red, maroon, blue = torch.nn.functional.normalize(
            encoder.text_vectors(
                ["A red sofa in a living room.", "There is a red sofa.", "A blue sofa in a living room."]
            )
        )
    assert red @ maroon > red @ blue


def test_another_file_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "embedded"
    shutil.copytree(shipped.FOLDER, folder)
    weights = folder / shipped.WEIGHTS_FILE
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="has the checksum"):
        shipped.shipped_weights(folder)
    monkeypatch.setattr(shipped, "FOLDER", folder)
    weights.unlink()
    with pytest.raises(ValueError, match="train-clip"):
        shipped.shipped_weights(folder)


def test_its_architecture_takes_other_weights(encoder, tmp_path):
    random = ClipEncoder.load(shipped.MODEL, "random")
    assert random.record.weights_sha256 is None
    assert random.projected_dim == encoder.projected_dim
    own = tmp_path / "own.safetensors"
    shutil.copy(shipped.FOLDER / shipped.WEIGHTS_FILE, own)
    assert ClipEncoder.load(shipped.MODEL, weights=own).record.weights_sha256 == encoder.record.weights_sha256
    with pytest.raises(ValueError, match="expected embedded or random"):
        ClipEncoder.load(shipped.MODEL, "openai")


def test_its_vocabulary_fits_its_tokenizer(encoder):
    config = json.loads((shipped.FOLDER / shipped.CONFIG_FILE).read_text())
    ids = encoder.tokenize(["Zebra, xylophone & the refrigerator!"])
    assert int(ids.max()) == config["model_cfg"]["text_cfg"]["vocab_size"] - 1  # the end token is the last

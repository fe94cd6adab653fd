"""The words of a store's header say how to prepare another image in the same way."""

from __future__ import annotations

import dataclasses

import pytest
from clip_toy import make_folder

from clip_core.encoder import ClipEncoder
from precompute.encoders import ImageEncoder
from precompute.preprocessing import parse_size, preprocessing_words, read_preprocessing, resized_to


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ImageEncoder:
    return ClipEncoder.load(make_folder(tmp_path_factory.mktemp("clip") / "vit", "vit"))


@pytest.mark.parametrize(
    ("size", "fit", "interpolation", "upright", "point"),
    [
        (None, None, None, True, "captioning"),
        ((96, 128), None, "bilinear", True, "mcan"),
        ((64, 64), "shortest", "bicubic", False, "pythia"),
        ((48, 80), "longest", "bilinear", False, "pretraining"),
    ],
)
def test_words_and_back(encoder: ImageEncoder, size, fit, interpolation, upright, point) -> None:
    transform = resized_to(encoder.transform, size, fit, interpolation)
    words = preprocessing_words(encoder, transform, "grid", point, upright)
    record = dataclasses.replace(encoder.record, preprocessing=words).header_fields()
    found = read_preprocessing(record["preprocessing"], encoder.transform)
    assert (found.transform, found.upright, found.point, found.precision) == (transform, upright, point, "fp32")


@pytest.mark.parametrize("words", [None, "", "centre crop, 224 px", "squashed to the size, 64 x 64 px, bicubic"])
def test_unknown_words(encoder: ImageEncoder, words: str | None) -> None:
    with pytest.raises(ValueError, match="the store records its preprocessing as"):
        read_preprocessing(words, encoder.transform)


def test_sizes() -> None:
    assert parse_size("600x1000") == (600, 1000)
    assert parse_size(None) is None
    with pytest.raises(ValueError, match="size is '600'; expected height x width"):
        parse_size("600")

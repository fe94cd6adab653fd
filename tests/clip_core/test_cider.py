"""CIDEr-D, the readable form and the compiled one: against the public scorer, each other, and by hand."""

from __future__ import annotations

import gzip
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clip_core import cider_kernels
from clip_core.cider import Frequencies, cider_d, count_frequencies
from clip_core.cider_reward import (
    LARGEST_ID,
    CiderD,
    count_id_frequencies,
    lengths_with_end,
    make_corpus,
    padded,
)
from clip_core.language_metrics import ngram_counts


def split(text: str) -> list[str]:
    return text.split()


def random_captions(rng: np.random.Generator, images: int, words: int) -> list[list[list[int]]]:
    """One to four captions an image, of 0 to 12 words and an end token 0: words repeat often."""
    return [
        [[*rng.integers(1, words, rng.integers(0, 13)).tolist(), 0] for _ in range(rng.integers(1, 5))]
        for _ in range(images)
    ]


# -- golden ------------------------------------------------------------------------------------------------------------


def test_golden_reward(golden_dir: Path) -> None:
    """Three hypotheses a path, document frequencies once a path: the readable and the compiled form."""
    golden = json.loads(gzip.decompress((golden_dir / "language" / "ciderd_dev.json.gz").read_bytes()))
    keys = list(golden["hypotheses"])
    hypotheses = [[int(word) for word in golden["hypotheses"][key].split()] for key in keys]
    references = [[[int(word) for word in text.split()] for text in golden["references"][key]] for key in keys]
    paths = references[::3]
    assert len(paths) == golden["n_paths"]
    plain = cider_d(hypotheses, references, count_frequencies(paths))
    fast = CiderD(paths).score_lists(hypotheses, np.arange(len(keys)) // 3)
    assert abs(plain - golden["per_item"]).max() < 1e-6
    assert abs(fast - golden["per_item"]).max() < 1e-6
    assert fast.mean() == pytest.approx(golden["mean"], abs=1e-6)
    assert golden["mean"] > 0.1


# -- the two forms agree -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [3, 30, LARGEST_ID + 1])
def test_compiled_equals_readable(words: int) -> None:
    """On short sentences, words that no training caption holds, images in any order, frequencies of other images."""
    rng = np.random.default_rng(words)
    training, references = random_captions(rng, 40, max(words // 2, 3)), random_captions(rng, 15, words)
    images = rng.integers(0, len(references), 60)
    candidates = [
        [*references[i][0][: rng.integers(0, 9)], *rng.integers(1, words, rng.integers(0, 5))] for i in images
    ]
    plain = cider_d(candidates, [references[i] for i in images], count_frequencies(training))
    scorer = CiderD(references, count_id_frequencies(make_corpus(training)))
    fast = scorer.score_lists(candidates, images)
    assert abs(fast - plain).max() < 1e-9
    assert fast.max() > 0.5
    own = cider_d(candidates, [references[i] for i in images], count_frequencies(references))
    assert abs(CiderD(references).score_lists(candidates, images) - own).max() < 1e-9


def test_hash_table_holds_every_count() -> None:
    captions = random_captions(np.random.default_rng(0), 50, 20)
    counts = count_frequencies(captions).images
    found = count_id_frequencies(make_corpus(captions))
    held = Counter({int(key): rarity for key, rarity in zip(found.keys, found.rarity, strict=True) if key})
    assert len(held) == len(counts)
    for ngram, count in counts.items():
        key = 0
        for token in ngram:
            key = (key << 16) | (token + 1)  # type: ignore[operator]
        assert held[key] == pytest.approx(math.log(50 / count))


def test_keys_are_the_ngrams() -> None:
    sentence = np.array([7, 7, 7, 2, LARGEST_ID], dtype=np.int64)
    keys = np.zeros(8, dtype=np.uint64)
    for n in range(1, 7):
        count = cider_kernels._write_keys(sentence, n, keys)
        assert count == max(5 - n + 1, 0)
        assert keys[:count].tolist() == sorted(keys[:count].tolist())
        if n <= 4:
            expected = [c for ngram, c in ngram_counts(sentence.tolist()).items() if len(ngram) == n]
            assert sorted(Counter(keys[:count].tolist()).values()) == sorted(expected)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_cider_by_hand() -> None:
    """Two images with one reference each. "a" is in both: weight 0; other n-grams in one of two: weight log 2."""
    references = [[split("a b c")], [split("a d")]]
    rarity = math.log(2)
    frequencies = count_frequencies(references)
    assert frequencies.total == 2
    assert frequencies.images[("a",)] == 2
    assert frequencies.images[("a", "b", "c")] == 1
    # 1-grams: candidate b, b against b, c: clipped 1·1 / (2·√2); 2-grams: bb against ab, bc: none; one bigram less
    one = rarity**2 / (2 * rarity * math.sqrt(2) * rarity)
    expected = 10 * one / 4 * math.exp(-1 / 72)
    assert cider_d([split("b b"), split("a")], references)[0] == pytest.approx(expected)
    assert cider_d([split("b b"), split("a")], references)[1] == 0


def test_identical_sentences_score_ten() -> None:
    references = [[split("go to the red door")], [split("up the stairs and stop")]]
    assert cider_d([group[0] for group in references], references) == pytest.approx([10, 10])


def test_a_single_image_has_no_rare_words() -> None:
    assert cider_d([split("a b")], [[split("a b")]]).tolist() == [0]
    assert CiderD([[[1, 2, 0]]]).score_lists([[1, 2, 0]], [0]).tolist() == [0]


def test_frequencies_of_training_captions() -> None:
    """A word that is common in training counts little, whatever the images that are scored."""
    references = [[split("a b")], [split("c d")]]
    common = Frequencies({("a",): 99, ("b",): 1}, 100)
    scores = cider_d([["a"], ["c"]], references, common)
    assert 0 < scores[0] < scores[1]
    assert cider_d([["b"], ["c"]], references, common)[0] > scores[0]


# -- shapes and bad input ----------------------------------------------------------------------------------------------


def test_padding_and_ends() -> None:
    ids, lengths = padded([[3, 4, 0], [], [5]])
    assert ids.tolist() == [[3, 4, 0], [0, 0, 0], [5, 0, 0]]
    assert lengths.tolist() == [3, 0, 1]
    assert padded([])[0].shape == (0, 0)
    sampled = np.array([[3, 0, 9, 0], [3, 4, 5, 6], [0, 0, 0, 0]])
    assert lengths_with_end(sampled, 0).tolist() == [2, 4, 1]


def test_what_follows_the_end_does_not_count() -> None:
    scorer = CiderD([[[3, 4, 5, 0]], [[6, 7, 0]]])
    ids = np.array([[3, 4, 5, 0, 6, 7], [3, 4, 5, 0, 0, -1]])
    scores = scorer.score(ids, lengths_with_end(ids, 0), np.zeros(2))
    assert scores == pytest.approx([10, 10])
    assert scorer.score(ids[:0], np.zeros(0), np.zeros(0)).shape == (0,)
    assert scorer.score_lists([[], [3]], [0, 1])[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3), np.zeros(3), np.zeros(3)), r"expected \[N, L\], \[N\], \[N\]"),
        ((np.zeros((2, 3)), np.zeros(2), np.zeros(1)), r"expected \[N, L\], \[N\], \[N\]"),
        ((np.zeros((1, 3)), np.array([4]), np.zeros(1)), "lengths from 4 to 4; expected 0 to 3"),
        ((np.zeros((1, 3)), np.array([3]), np.array([2])), "found images 2 to 2; expected 0 to 1"),
        ((np.full((1, 3), -1), np.array([3]), np.array([0])), "found token ids from -1 to -1"),
        ((np.full((1, 3), LARGEST_ID + 1), np.array([3]), np.array([0])), f"expected 0 to {LARGEST_ID}"),
    ],
)
def test_bad_candidates(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CiderD([[[1, 0]], [[2, 0]]]).score(*arguments)


def test_bad_references() -> None:
    with pytest.raises(ValueError, match="image 1 has no references"):
        CiderD([[[1, 0]], []])
    with pytest.raises(ValueError, match="found token ids from 0 to 65535"):
        CiderD([[[65535, 0]]])
    with pytest.raises(ValueError, match="found no images"):
        CiderD([])
    with pytest.raises(ValueError, match="candidate 0 has no references"):
        cider_d([["a"]], [[]])
    with pytest.raises(ValueError, match="above the 2 images"):
        cider_d([["a"]], [[["a"]]], Frequencies({("a",): 3}, 2))

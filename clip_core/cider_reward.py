"""CIDEr-D of token ids, fast enough to be a reward: the compiled twin of `cider.cider_d`.

An n-gram is one 64-bit key, 16 bits a token: its document frequency is one look in a hash table, and two sentences are
compared by walking along their sorted keys. Dimensions: N candidates, L tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from clip_core import cider_kernels
from clip_core.cider import SCALE, SIGMA

LARGEST_ID = cider_kernels.LARGEST_ID

Captions = Sequence[Sequence[Sequence[int]]]


@dataclass(frozen=True)
class Corpus:
    """Captions of images in flat arrays: tokens int64 [tokens], where each caption starts [captions + 1], which caption
    is the first of each image [images + 1]."""

    tokens: np.ndarray
    caption_starts: np.ndarray
    image_starts: np.ndarray

    @property
    def images(self) -> int:
        return len(self.image_starts) - 1


def make_corpus(captions: Captions) -> Corpus:
    """captions[image][caption] is a list of token ids, the end token last. ValueError: an image without captions, ids
    that are negative or above 65,534."""
    for image, group in enumerate(captions):
        if not len(group):
            raise ValueError(f"image {image} has no references; expected one caption or more")
    sentences = list(chain.from_iterable(captions))
    tokens = np.fromiter(chain.from_iterable(sentences), dtype=np.int64)
    _check_ids(tokens)
    return Corpus(tokens, _starts([len(s) for s in sentences]), _starts([len(group) for group in captions]))


def _starts(lengths: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, dtype=np.int64))])


def _check_ids(ids: np.ndarray) -> None:
    if ids.size and (ids.min() < 0 or ids.max() > LARGEST_ID):
        raise ValueError(f"found token ids from {ids.min()} to {ids.max()}; expected 0 to {LARGEST_ID}")


@dataclass(frozen=True)
class IdFrequencies:
    """Document frequencies as an open hash table: keys uint64 [slots], 0 where it is empty; rarity float64 [slots],
    log(images / count), in empty slots that of an n-gram which no image holds."""

    keys: np.ndarray
    rarity: np.ndarray


def count_id_frequencies(corpus: Corpus) -> IdFrequencies:
    """Document frequencies of a corpus: an image counts once for an n-gram."""
    if not corpus.images:
        raise ValueError("found no images to count document frequencies over; expected the training captions")
    keys, counts = cider_kernels.count_images(corpus.tokens, corpus.caption_starts, corpus.image_starts)
    return IdFrequencies(keys, np.log(corpus.images) - np.log(np.maximum(counts, 1)))


class CiderD:
    """CIDEr-D against the references of fixed images, e.g. all training images, made once.

    references: captions[image][caption], token ids with the end token. frequencies: from `count_id_frequencies`;
    default: those of the references themselves.
    """

    def __init__(self, references: Captions, frequencies: IdFrequencies | None = None) -> None:
        self.corpus = make_corpus(references)
        self.frequencies = frequencies or count_id_frequencies(self.corpus)

    def score(self, ids: np.ndarray, lengths: np.ndarray, images: np.ndarray) -> np.ndarray:
        """CIDEr-D [N] of candidates: ids [N, L], of which the first lengths [N] count (see `lengths_with_end`), against
        the references of images [N], indices into those given at the start. Candidates of one image are best
        neighbours: its references are then prepared once."""
        ids, lengths, images = (np.ascontiguousarray(a, dtype=np.int64) for a in (ids, lengths, images))
        if ids.ndim != 2 or lengths.shape != (len(ids),) or images.shape != (len(ids),):
            raise ValueError(
                f"found ids {ids.shape}, lengths {lengths.shape}, images {images.shape}; expected [N, L], [N], [N]"
            )
        if not len(ids):
            return np.zeros(0)
        if lengths.min() < 0 or lengths.max() > ids.shape[1]:
            raise ValueError(f"found lengths from {lengths.min()} to {lengths.max()}; expected 0 to {ids.shape[1]}")
        if images.min() < 0 or images.max() >= self.corpus.images:
            last = self.corpus.images - 1
            raise ValueError(
                f"found images {images.min()} to {images.max()}; expected 0 to {last}, which have references"
            )
        _check_ids(ids[np.arange(ids.shape[1]) < lengths[:, None]])
        corpus, table = self.corpus, self.frequencies
        scores = cider_kernels.scores(
            ids, lengths, images, corpus.tokens, corpus.caption_starts, corpus.image_starts,
            table.keys, table.rarity, 2 * SIGMA**2,
        )  # fmt: skip
        return scores * SCALE

    def score_lists(self, candidates: Sequence[Sequence[int]], images: Sequence[int]) -> np.ndarray:
        """The same for lists of token ids."""
        ids, lengths = padded(candidates)
        return self.score(ids, lengths, np.asarray(images))


def padded(sentences: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Token lists as ids [N, L], zeros after their ends, and lengths [N]."""
    lengths = np.array([len(sentence) for sentence in sentences], dtype=np.int64)
    ids = np.zeros((len(sentences), max(lengths, default=0)), dtype=np.int64)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = np.fromiter(chain.from_iterable(sentences), dtype=np.int64)
    return ids, lengths


def lengths_with_end(ids: np.ndarray, end_id: int) -> np.ndarray:
    """Lengths [N] of generated ids [N, L] up to their first end token, which counts; L where there is none."""
    ended = ids == end_id
    return np.where(ended.any(axis=1), ended.argmax(axis=1) + 1, ids.shape[1])

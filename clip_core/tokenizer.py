"""Turns instructions into token ids.

The word vocabulary is that of Room-to-Room (R2R-EnvDrop, `r2r_src/utils.py`; Tan et al. 2019): text is split at every
run of non-word characters, words are lower-cased, a run of ASCII punctuation falls into single characters unless it
consists of full stops, and a run with spaces inside (". .") stays one token. L is the token dimension, N that of texts.
"""

from __future__ import annotations

import os
import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

PAD, UNK, EOS, BOS = "<PAD>", "<UNK>", "<EOS>", "<BOS>"
BASE_VOCABULARY = (PAD, UNK, EOS)
MAX_LENGTH = 80  # tokens of an encoded instruction, <BOS> and <EOS> included (R2R-EnvDrop)
MIN_COUNT = 5  # occurrences a word needs to enter the vocabulary (R2R)

# A word, or a run of other characters without the whitespace at its ends.
_CHUNK = re.compile(r"\w+|[^\w\s](?:\W*[^\w\s])?")
_PUNCTUATION = frozenset(string.punctuation)


class Tokenizer(Protocol):
    """What models and loaders ask of a tokenizer, whatever vocabulary is behind it."""

    vocabulary: tuple[str, ...]
    pad_id: int
    unk_id: int
    bos_id: int
    eos_id: int
    max_length: int

    def __len__(self) -> int: ...

    def encode(self, text: str) -> list[int]: ...

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]: ...

    def decode(self, ids: Iterable[int]) -> str: ...


def _chunk_words(chunk: str) -> tuple[str, ...]:
    """Words of one regex chunk; lower-casing comes after the split, since it can create non-word characters."""
    word = chunk.lower()
    if _PUNCTUATION.issuperset(word) and word.strip("."):
        return tuple(word)
    return (word,)


def split(text: str) -> list[str]:
    """Words of a text as R2R-EnvDrop's `split_sentence` gives them; [] for a text of whitespace."""
    return [word for chunk in _CHUNK.findall(text) for word in _chunk_words(chunk)]


class _Ids(dict[str, tuple[int, ...]]):
    """Chunk -> its ids, each chunk analysed once."""

    def __init__(self, word_ids: dict[str, int], unk_id: int) -> None:
        super().__init__()
        self.word_ids, self.unk_id = word_ids, unk_id

    def __missing__(self, chunk: str) -> tuple[int, ...]:
        ids = tuple(self.word_ids.get(word, self.unk_id) for word in _chunk_words(chunk))
        self[chunk] = ids
        return ids


class WordTokenizer:
    """Word-level tokenizer of R2R: `<BOS> words <EOS>`, cut at `max_length` with a final `<EOS>`.

    vocab: words in order of id, as `read_vocabulary` and `build_vocabulary` return them; `<BOS>` is appended if absent.
    Attributes: vocabulary (with `<BOS>`), max_length, pad_id, unk_id, eos_id, bos_id.
    Raises ValueError for a vocabulary without `<PAD> <UNK> <EOS>` or with a word that comes twice.
    """

    def __init__(self, vocab: Sequence[str], max_length: int = MAX_LENGTH) -> None:
        words = [*vocab] if BOS in vocab else [*vocab, BOS]
        missing = [word for word in BASE_VOCABULARY if word not in words]
        if missing:
            raise ValueError(f"the vocabulary lacks {' '.join(missing)}; make it with build_vocabulary(texts)")
        word_ids = {word: index for index, word in enumerate(words)}
        if len(word_ids) != len(words):
            twice = sorted(word for word, count in Counter(words).items() if count > 1)
            raise ValueError(f"the vocabulary holds words twice: {twice[:5]}; expected each once")
        if max_length < 2:
            raise ValueError(f"max_length is {max_length}; expected at least 2, the room of <BOS> and <EOS>")
        self.vocabulary = tuple(words)
        self.max_length = max_length
        self.pad_id, self.unk_id, self.eos_id, self.bos_id = (word_ids[word] for word in (PAD, UNK, EOS, BOS))
        self._ids = _Ids(word_ids, self.unk_id)

    def __len__(self) -> int:
        """Number of ids, the rows of an embedding."""
        return len(self.vocabulary)

    def split(self, text: str) -> list[str]:
        """Words of a text before they become ids."""
        return split(text)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, `<BOS>` first, `<EOS>` last, at most `max_length`, not padded; '' gives those two alone."""
        ids = [self.bos_id, *chain.from_iterable(map(self._ids.__getitem__, _CHUNK.findall(text)))]
        del ids[self.max_length - 1 :]
        ids.append(self.eos_id)
        return ids

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids int64 [N, max_length], padded with `<PAD>`, with their lengths int64 [N] (`<BOS>`, `<EOS>` counted)."""
        rows = [self.encode(text) for text in texts]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.full((len(rows), self.max_length), self.pad_id, np.int64)
        filled = np.arange(self.max_length) < lengths[:, None]
        ids[filled] = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
        return ids, lengths

    def decode(self, ids: Iterable[int]) -> str:
        """Words of the ids up to the first `<EOS>`, joined by spaces; `<BOS>` and `<PAD>` are left out.

        Raises ValueError for an id outside the vocabulary.
        """
        return " ".join(self._words(ids))

    def _words(self, ids: Iterable[int]) -> Iterator[str]:
        for value in ids:
            index = int(value)
            if index == self.eos_id:
                return
            if not 0 <= index < len(self.vocabulary):
                raise ValueError(f"token id {index} is outside the vocabulary of {len(self.vocabulary)} words")
            if index not in (self.bos_id, self.pad_id):
                yield self.vocabulary[index]


def build_vocabulary(texts: Iterable[str], min_count: int = MIN_COUNT) -> list[str]:
    """Vocabulary of a corpus: `<PAD> <UNK> <EOS>`, then every word with at least `min_count` occurrences.

    Frequent words come first, equally frequent ones in the order of their first occurrence: what R2R-EnvDrop's
    `build_vocab` gives under Python 3. Its own `train_vocab.txt` has ties in the hash order of Python 2, and counts an
    earlier text of R2R train, in which "to the" was often "tot he". `<BOS>` is not part: `WordTokenizer` appends it.
    """
    chunks: Counter[str] = Counter()
    for text in texts:
        chunks.update(_CHUNK.findall(text))
    words: Counter[str] = Counter()
    for chunk, count in chunks.items():  # in the order of first occurrence, hence the words too
        for word in _chunk_words(chunk):
            words[word] += count
    frequent = [word for word, count in words.most_common() if count >= min_count and len(word.splitlines()) == 1]
    return [*BASE_VOCABULARY, *frequent]


def read_vocabulary(path: Path | str) -> list[str]:
    """Words of a `train_vocab.txt`: one a line, in order of id, in UTF-8.

    Raises ValueError for a file that is missing, empty, or not text in UTF-8.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"no vocabulary at {path}; build_vocabulary(texts) makes one from a corpus") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); expected one word a line") from None
    words = [line.strip() for line in text.strip().split("\n")]
    if not all(words):
        raise ValueError(f"{path}: line {words.index('') + 1} is empty; expected one word a line")
    return words


def write_vocabulary(path: Path | str, vocab: Sequence[str]) -> None:
    """Writes a `train_vocab.txt`, one word a line, without the `<BOS>` that a tokenizer appends at the end."""
    words = vocab[:-1] if vocab and vocab[-1] == BOS else vocab
    temporary = Path(f"{path}.tmp{os.getpid()}")
    temporary.write_text("".join(f"{word}\n" for word in words), encoding="utf-8")
    temporary.replace(path)

"""Pieces of words to ids: byte-pair encoding learned from the training instructions, in any script.

Nothing is downloaded: Hugging Face `tokenizers` learns the merges (Sennrich et al. 2016) from the texts it is given,
the same texts giving the same merges. Texts are normalised to NFKC, so that a letter of Devanagari or Telugu that can
be written in two ways is one letter, and lower-cased. A word is what Unicode calls one, with vowel signs
and joiners (GPT-2's pattern would cut Hindi and Telugu at every vowel sign); marks of punctuation are words of their
own.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from clip_core.tokenizer import BOS, EOS, MAX_LENGTH, PAD, UNK

SPECIAL = (PAD, UNK, EOS, BOS)
"""The first ids, 0 to 3."""
SIZE = 8000
"""Pieces of a vocabulary, the special ones included."""
START = "\u2581"
"""Marks the first piece of a word (the library's own mark at the end of words, `end_of_word_suffix`, numbers pieces in
the order of a hash, so that the same texts would give other merges in every process)."""
FILE_NAME = "subwords.json"


def learn_subwords(texts: Iterable[str], size: int = SIZE, min_count: int = 2) -> str:
    """A vocabulary as JSON text, in the format of Hugging Face's `tokenizer.json`.

    texts: the training instructions. size: pieces at most, unless the texts have more different characters. min_count:
    occurrences that a pair of pieces needs to become one.

    Raises ValueError for a size that has no room for the special tokens, or texts without a word.
    """
    if size <= len(SPECIAL):
        raise ValueError(f"the vocabulary's size is {size}; expected more than the {len(SPECIAL)} special tokens")
    tokenizer = _untrained()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=min_count,
        special_tokens=list(SPECIAL),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    document = json.loads(tokenizer.to_str())
    document["added_tokens"] = []  # otherwise an instruction that says "<EOS>" would end there
    if len(document["model"]["vocab"]) == len(SPECIAL):
        raise ValueError(
            "the texts hold no word to learn a vocabulary from; expected the instructions of the train split"
        )
    return json.dumps(document, ensure_ascii=False)


def _untrained() -> tokenizers.Tokenizer:
    """How a text becomes words, before any merge is known."""
    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token=UNK))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    mark = pre_tokenizers.Metaspace(replacement=START, prepend_scheme="always", split=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Punctuation(), mark])
    tokenizer.decoder = decoders.Metaspace(replacement=START, prepend_scheme="always")
    return tokenizer


@functools.cache
def _without_merges() -> tokenizers.Tokenizer:
    return _untrained()


def split_any_script(text: str) -> list[str]:
    """Words of a text in any script, lower-case, every mark of punctuation a word: what pieces are made from, and what
    metrics compare where R2R's words (`clip_core.tokenizer.split`), which end at every vowel sign, will not do."""
    return _words(_without_merges(), text)


def _words(tokenizer: tokenizers.Tokenizer, text: str) -> list[str]:
    normal = tokenizer.normalizer.normalize_str(text)
    return [word.removeprefix(START) for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]


class _Ids(dict[str, list[int]]):
    """What stands between two spaces -> its ids, each analysed once: ten times as fast as whole texts."""

    def __init__(self, tokenizer: tokenizers.Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer

    def __missing__(self, chunk: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(chunk).ids
        self[chunk] = ids
        return ids


class SubwordTokenizer:
    """`<BOS> pieces <EOS>`, cut at `max_length` with a final `<EOS>`; a `clip_core.tokenizer.Tokenizer`.

    document: what `learn_subwords` returned. Attributes: document, vocabulary (pieces in order of id), max_length,
    pad_id, unk_id, eos_id, bos_id. Raises ValueError for a document of something else.
    """

    def __init__(self, document: str, max_length: int = MAX_LENGTH) -> None:
        if max_length < 2:
            raise ValueError(f"max_length is {max_length}; expected at least 2, the room of <BOS> and <EOS>")
        self.document, self.max_length = document, max_length
        self._tokenizer = _from_document(document)
        self._ids = _Ids(self._tokenizer)
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        if [ids.get(name) for name in SPECIAL] != list(range(len(SPECIAL))):
            raise ValueError(
                f"the subword vocabulary does not begin with {' '.join(SPECIAL)}; make it with learn_subwords(texts)"
            )
        self.vocabulary = tuple(sorted(ids, key=ids.__getitem__))
        self.pad_id, self.unk_id, self.eos_id, self.bos_id = range(len(SPECIAL))

    def __len__(self) -> int:
        """Number of ids, the rows of an embedding."""
        return len(self.vocabulary)

    def split(self, text: str) -> list[str]:
        """Words of a text before they are taken to pieces, normalised."""
        return _words(self._tokenizer, text)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, `<BOS>` first, `<EOS>` last, at most `max_length`, not padded; '' gives those two alone."""
        ids = chain.from_iterable(map(self._ids.__getitem__, text.split()))
        return [self.bos_id, *islice(ids, self.max_length - 2), self.eos_id]

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids int64 [N, max_length], padded with `<PAD>`, with their lengths int64 [N] (`<BOS>`, `<EOS>` counted)."""
        rows = [self.encode(text) for text in texts]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        ids = np.full((len(rows), self.max_length), self.pad_id, np.int64)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = values
        return ids, lengths

    def decode(self, ids: Iterable[int]) -> str:
        """Words of the ids up to the first `<EOS>`, joined by spaces; `<BOS>` and `<PAD>` are left out.

        Raises ValueError for an id outside the vocabulary.
        """
        pieces = []
        for index in map(int, ids):
            if index == self.eos_id:
                break
            if not 0 <= index < len(self.vocabulary):
                raise ValueError(f"token id {index} is outside the vocabulary of {len(self.vocabulary)} pieces")
            if index not in (self.bos_id, self.pad_id):
                pieces.append(self.vocabulary[index])
        return self._tokenizer.decoder.decode(pieces).strip()


def _from_document(document: str) -> tokenizers.Tokenizer:
    try:
        kind = json.loads(document)["model"]["type"]
        if kind != "BPE":
            raise ValueError(f"its model is {kind}, not BPE")
        return tokenizers.Tokenizer.from_str(document)
    except Exception as error:  # the library raises Exception itself
        raise ValueError(f"not a subword vocabulary ({error}); make it with learn_subwords(texts)") from None


def read_subwords(path: Path | str) -> str:
    """The document of a run's `subwords.json`. ValueError for a file that is missing or holds something else."""
    try:
        document = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"no subword vocabulary at {path}; leave it away, and the train split gives one") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); expected the {FILE_NAME} of a run") from None
    _from_document(document)
    return document


def write_subwords(path: Path | str, document: str) -> None:
    """Writes the document, readable for people, with Hugging Face's own names."""
    found: dict[str, Any] = json.loads(document)
    temporary = Path(f"{path}.tmp{os.getpid()}")
    temporary.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)

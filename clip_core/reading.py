"""The tokenizer a model reads with: made for a run, recorded in its checkpoint, written into its folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from clip_core import subword_tokenizer
from clip_core.subword_tokenizer import SubwordTokenizer, learn_subwords, read_subwords, write_subwords
from clip_core.tokenizer import Tokenizer, WordTokenizer, build_vocabulary, read_vocabulary, write_vocabulary

TokenizerKind = Literal["words", "subwords"]
"""words: those of R2R; subwords: pieces of words in any script."""
WORDS_NAME = "vocab.txt"


def make_tokenizer(
    kind: TokenizerKind, vocabulary: Path | None, texts: Iterable[str], min_count: int, size: int, max_length: int
) -> Tokenizer:
    """The tokenizer of a vocabulary file, without one that of the texts of the train split.

    min_count: occurrences that a word needs; size: pieces at most. Raises ValueError for a file of the other kind.
    """
    if kind == "subwords":
        document = learn_subwords(texts, size) if vocabulary is None else read_subwords(vocabulary)
        return SubwordTokenizer(document, max_length)
    words = build_vocabulary(texts, min_count) if vocabulary is None else read_vocabulary(vocabulary)
    return WordTokenizer(words, max_length)


def record_tokenizer(tokenizer: Tokenizer) -> list[str] | str:
    """What a checkpoint keeps: the words, or the document of the subwords."""
    return tokenizer.document if isinstance(tokenizer, SubwordTokenizer) else list(tokenizer.vocabulary)


def restore_tokenizer(record: Sequence[str] | str, max_length: int) -> Tokenizer:
    """The tokenizer of what `record_tokenizer` gave. ValueError for something else."""
    return SubwordTokenizer(record, max_length) if isinstance(record, str) else WordTokenizer(record, max_length)


def write_tokenizer(folder: Path, tokenizer: Tokenizer) -> None:
    """vocab.txt or subwords.json, which --vocabulary of another run reads."""
    if isinstance(tokenizer, SubwordTokenizer):
        write_subwords(folder / subword_tokenizer.FILE_NAME, tokenizer.document)
    else:
        write_vocabulary(folder / WORDS_NAME, tokenizer.vocabulary)

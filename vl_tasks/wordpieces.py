"""The word pieces of a BERT that lies in a local folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

BEGIN, END, PADDING, UNKNOWN = "[CLS]", "[SEP]", "[PAD]", "[UNK]"


class WordPieceTokenizer:
    """`[CLS] pieces [SEP]`, cut at `max_length` with a final `[SEP]`; a `clip_core.tokenizer.Tokenizer`.

    document: Hugging Face's tokenizer.json, as `read_wordpieces` gives it. Attributes: document, vocabulary (pieces in
    order of id), max_length, pad_id, unk_id, bos_id, eos_id. Raises ValueError for a document of something else.
    """

    def __init__(self, document: str, max_length: int) -> None:
        self.document, self.max_length = document, max_length
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(document)
        except Exception as error:  # the library raises Exception itself
            raise ValueError(f"not a tokenizer ({error}); expected the tokenizer.json of BERT") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        ids = self._tokenizer.get_vocab(with_added_tokens=True)
        missing = [name for name in (BEGIN, END, PADDING, UNKNOWN) if name not in ids]
        if missing:
            raise ValueError(f"the vocabulary lacks {' '.join(missing)}; expected that of BERT")
        self.vocabulary = tuple(sorted(ids, key=ids.__getitem__))
        self.bos_id, self.eos_id, self.pad_id, self.unk_id = (ids[name] for name in (BEGIN, END, PADDING, UNKNOWN))

    def __len__(self) -> int:
        """Number of ids."""
        return len(self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, not padded."""
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self.bos_id, *ids[: self.max_length - 2], self.eos_id]

    def encode_batch(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids int64 [N, max_length], padded, with their lengths int64 [N] (`[CLS]`, `[SEP]` counted)."""
        rows = [self.encode(text) for text in texts]
        ids = np.full((len(rows), self.max_length), self.pad_id, np.int64)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = values
        return ids, np.array([len(row) for row in rows], np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        """Words of the ids up to the first `[SEP]`."""
        pieces: list[str] = []
        for index in map(int, ids):
            if index == self.eos_id:
                break
            if index not in (self.bos_id, self.pad_id):
                pieces.append(self.vocabulary[index])
        return " ".join(pieces).replace(" ##", "")


def read_wordpieces(folder: Path) -> str:
    """The document of the tokenizer of a local folder: its tokenizer.json, or what its vocab.txt means.

    Raises ValueError if the folder has neither.
    """
    whole, words, settings = folder / "tokenizer.json", folder / "vocab.txt", folder / "tokenizer_config.json"
    if whole.is_file():
        return whole.read_text(encoding="utf-8")
    if not words.is_file():
        raise ValueError(f"{folder} has neither tokenizer.json nor vocab.txt; expected the tokenizer of BERT there")
    pieces = words.read_text(encoding="utf-8").rstrip("\n").split("\n")
    known = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token=UNKNOWN)
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=known.get("do_lower_case", True))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer.to_str()

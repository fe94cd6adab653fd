"""The part of CLIP's byte-pair vocabulary that a small corpus needs.

CLIP's tokenizer has 49,408 tokens; a small text tower cannot afford an embedding of so many. `needed_merges` keeps the
merges that the words of a corpus go through, in their order: open_clip's `SimpleTokenizer`, given the file, splits
these words as CLIP does, and any other text down to bytes if need be.
"""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterable
from pathlib import Path

MERGES_FILE = "bpe_merges.txt.gz"
_BASE = 2 * 256 + 2  # bytes, bytes at the end of a word, begin, end

Merge = tuple[str, str]


def needed_merges(texts: Iterable[str]) -> list[Merge]:
    """Merges of CLIP that the words of the texts go through, in CLIP's order."""
    from open_clip.tokenizer import SimpleTokenizer, re

    clip = SimpleTokenizer()
    words = {word for text in set(texts) for word in re.findall(clip.pat, clip.clean_fn(text))}
    used = {
        merge
        for word in words
        for merge in _merges_of("".join(clip.byte_encoder[byte] for byte in word.encode()), clip.bpe_ranks)
    }
    return sorted(used, key=clip.bpe_ranks.__getitem__)


def _merges_of(word: str, ranks: dict[Merge, int]) -> list[Merge]:
    """The merges that make the tokens of a word, in the order in which they are applied."""
    parts, used = [*word[:-1], f"{word[-1]}</w>"], []
    while pairs := [pair for pair in itertools.pairwise(parts) if pair in ranks]:
        best = min(pairs, key=ranks.__getitem__)
        used.append(best)
        joined, at = [], 0
        while at < len(parts):
            step = 2 if tuple(parts[at : at + 2]) == best else 1
            joined.append("".join(parts[at : at + step]))
            at += step
        parts = joined
    return used


def vocabulary_size(merges: list[Merge]) -> int:
    """Tokens of a tokenizer with these merges: `vocab_size` of a text tower."""
    return _BASE + len(merges)


def write_merges(path: Path, merges: list[Merge]) -> None:
    """Writes a merges file as `SimpleTokenizer(bpe_path=...)` reads it; the same merges give the same bytes."""
    text = "\n".join(["#version: part of CLIP's", *(" ".join(merge) for merge in merges)])
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(gzip.compress(text.encode(), mtime=0))
    temporary.replace(path)

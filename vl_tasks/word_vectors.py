"""Word vectors from a text file, such as GloVe's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor


def read_word_vectors(path: Path, words: Sequence[str], size: int) -> dict[int, Tensor]:
    """Vectors float32 [size] of those words that the file has, by their number.

    The file has a word and `size` numbers a line, separated by spaces. ValueError for a file that is missing, a line of
    another length, a file with none of the words.
    """
    numbers = {word: number for number, word in enumerate(words)}
    found: dict[int, Tensor] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for count, line in enumerate(file, 1):
                word, *values = line.rstrip("\n").split(" ")
                if len(values) != size:
                    if count == 1 and len(values) == 1:
                        continue  # word2vec's text format begins with the numbers of words and columns
                    raise ValueError(f"{path}, line {count}: found {len(values)} numbers; expected {size} (--word)")
                if word in numbers:
                    found[numbers[word]] = torch.tensor([float(value) for value in values])
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error}); expected a text file of word vectors") from None
    if not found:
        raise ValueError(f"{path} has none of the {len(numbers)} words of the vocabulary; is it of another language?")
    return found

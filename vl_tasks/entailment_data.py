"""Pairs of a split as tensors, and how right a model is about them.

Legend: P pairs, L words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from clip_core.tokenizer import Tokenizer
from vl_tasks.entailment_files import LABELS, Pair
from vl_tasks.scores import Scores

GROUP = "label"


@dataclass(frozen=True, eq=False)
class PairSet:
    """A split. image [P]: number of the image among those of the run; ids [P, L], lengths [P]: the texts; labels [P]:
    numbers of LABELS. All on the CPU."""

    name: str
    pairs: list[Pair]
    image: Tensor
    ids: Tensor
    lengths: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pairs)


def image_numbers(splits: Mapping[str, Sequence[Pair]]) -> dict[tuple[str, ...], int]:
    """The images of all splits, by the names that their files may have, with their numbers."""
    names = dict.fromkeys(pair.images for pairs in splits.values() for pair in pairs)
    return {image: number for number, image in enumerate(names)}


def encode_texts(
    tokenizer: Tokenizer, hypotheses: Sequence[str], premises: Sequence[str] | None
) -> tuple[Tensor, Tensor]:
    """Ids int64 [P, L] and lengths [P] of hypotheses, each behind its premise where those are read."""
    rows = [tokenizer.encode(text) for text in hypotheses]
    if premises is not None:
        rows = [tokenizer.encode(premise) + row[1:] for premise, row in zip(premises, rows, strict=True)]
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.full((len(rows), int(lengths.max())), tokenizer.pad_id)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
    return ids, lengths


def pair_set(
    name: str,
    pairs: list[Pair],
    images: Mapping[tuple[str, ...], int],
    tokenizer: Tokenizer,
    read_premise: bool,
) -> PairSet:
    """The pairs as tensors; ValueError if premises are read and one is missing."""
    if read_premise and (without := [pair.pair_id for pair in pairs if not pair.premise.strip()]):
        raise ValueError(f"{name}: pair {without[0]} has no sentence1 ({len(without)} such); leave out --read-premise")
    premises = [pair.premise for pair in pairs] if read_premise else None
    ids, lengths = encode_texts(tokenizer, [pair.hypothesis for pair in pairs], premises)
    return PairSet(
        name,
        pairs,
        torch.tensor([images[pair.images] for pair in pairs]),
        ids,
        lengths,
        torch.tensor([LABELS.index(pair.label) for pair in pairs]),
    )


def pair_scores(pairs: Sequence[Pair], found: Sequence[str]) -> Scores:
    """Accuracy of a label for each pair: overall, by true label."""
    each = [float(pair.label == label) for pair, label in zip(pairs, found, strict=True)]
    counts: dict[str, int] = {label: sum(pair.label == label for pair in pairs) for label in LABELS}
    right = {label: sum(e for e, pair in zip(each, pairs, strict=True) if pair.label == label) for label in counts}
    known = {label: right[label] / count for label, count in counts.items() if count}
    return Scores(sum(each) / len(each), {GROUP: known}, {GROUP: {label: counts[label] for label in known}}, each)


def confusion(pairs: Sequence[Pair], found: Sequence[str]) -> dict[str, dict[str, int]]:
    """True label -> found label -> pairs."""
    counts = Counter((pair.label, label) for pair, label in zip(pairs, found, strict=True))
    return {true: {label: counts[true, label] for label in LABELS} for true in LABELS}

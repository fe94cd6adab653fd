"""What the trainer minimises for visual entailment, and a model's judgements of a split.

Legend: B pairs of a batch, L words, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from vl_tasks.entailment_data import PairSet, pair_scores
from vl_tasks.entailment_files import LABELS
from vl_tasks.one_stream import OneStream
from vl_tasks.task import TaskObjective
from vl_tasks.vision import Vision

EVALUATION_BATCH = 256


class PairBatch(NamedTuple):
    """loaded: what `Vision.load` gave; ids [B, L], lengths [B], labels [B] on the CPU."""

    loaded: list[Tensor]
    ids: Tensor
    lengths: Tensor
    labels: Tensor


def collate(vision: Vision, split: PairSet, numbers: Tensor) -> PairBatch:
    """The batch of some pairs of a split."""
    parts = (split.ids, split.lengths, split.labels)
    return PairBatch(vision.load(split.image[numbers]), *(part[numbers] for part in parts))


class EntailmentObjective(TaskObjective[PairSet]):
    """Cross-entropy of the three classes."""

    model: OneStream
    headline = ("accuracy", *LABELS)

    def collate(self, numbers: Tensor) -> PairBatch:
        return collate(self.vision, self.train_split, numbers)

    def forward(self, batch: PairBatch) -> dict[str, Any]:
        """Loss summed over the pairs [B]; `accuracy` of the likeliest classes."""
        logits_BC = self.judgement(batch).float()
        labels_B = batch.labels.to(logits_BC.device, non_blocking=True)
        loss = F.cross_entropy(logits_BC, labels_B, reduction="sum")
        right = (logits_BC.argmax(1) == labels_B).float().mean()
        return {"loss": loss, "weight": len(labels_B), "accuracy": right}

    def judgement(self, batch: PairBatch) -> Tensor:
        """Logits [B, C] of a batch."""
        features = self.vision(batch.loaded)
        ids = batch.ids[:, : int(batch.lengths.max())].to(features[0].device, non_blocking=True)
        return self.model(features, ids, batch.lengths)

    def metrics(self, split: PairSet) -> dict[str, float]:
        """Accuracy, overall and by label."""
        return pair_scores(split.pairs, labels_of(self.probabilities(split))).metrics()

    def probabilities(self, split: PairSet) -> Tensor:
        """Of each class for each pair of a split, [P, C] on the CPU, in evaluation mode."""
        with self.judging():
            found = [
                self.judgement(collate(self.vision, split, some)).float().softmax(1).cpu()
                for some in torch.arange(len(split)).split(EVALUATION_BATCH)
            ]
        return torch.cat(found)


def labels_of(probabilities_PC: Tensor) -> Sequence[str]:
    """The likeliest label of each pair."""
    return [LABELS[number] for number in probabilities_PC.argmax(1).tolist()]

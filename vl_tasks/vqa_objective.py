"""What the trainer minimises for question answering, and a model's answers to a split.

Legend: B questions of a batch, L tokens, K answers of a question, V answers of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vl_tasks.mcan import Mcan
from vl_tasks.movie_mcan import MovieMcan
from vl_tasks.pythia import Pythia
from vl_tasks.task import TaskObjective
from vl_tasks.vision import Size, Vision
from vl_tasks.vqa_data import QuestionSet, Scorer, dense_targets
from vl_tasks.vqa_parts import Answered, VqaModelConfig

EVALUATION_BATCH = 256
MODELS = {"mcan": Mcan, "movie_mcan": MovieMcan, "pythia": Pythia}


def build_model(
    config: VqaModelConfig, words: int, answers: int, sizes: Sequence[Size], padding_id: int = 0
) -> nn.Module:
    """The model of a config, for so many words and answers, and visual sources of these sizes."""
    return MODELS[config.model](words, answers, sizes, config, padding_id)


class VqaBatch(NamedTuple):
    """loaded: what `Vision.load` gave; ids [B, L], lengths [B], target_ids [B, K], target_scores [B, K] on the CPU."""

    loaded: list[Tensor]
    ids: Tensor
    lengths: Tensor
    target_ids: Tensor
    target_scores: Tensor


def collate(vision: Vision, split: QuestionSet, numbers: Tensor) -> VqaBatch:
    """The batch of some questions of a split."""
    parts = (split.ids, split.lengths, split.target_ids, split.target_scores)
    return VqaBatch(vision.load(split.image[numbers]), *(part[numbers] for part in parts))


class VqaObjective(TaskObjective[QuestionSet]):
    """Binary cross-entropy of every answer's score, summed over the answers and averaged over the questions (the mean
    over both would be thousands of times smaller)."""

    headline = ("accuracy", "yes_no", "number", "other", "binary", "open")

    def __init__(
        self,
        model: nn.Module,
        vision: Vision,
        train: QuestionSet,
        judged: Mapping[str, QuestionSet],
        vocabulary: Sequence[str],
        score: Scorer,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__(model, vision, train, judged, batch, seed, rank, world)
        self.vocabulary, self.score = list(vocabulary), score

    def collate(self, numbers: Tensor) -> VqaBatch:
        return collate(self.vision, self.train_split, numbers)

    def forward(self, batch: VqaBatch) -> dict[str, Any]:
        """Loss summed over the questions [B] and branches; `soft_accuracy` is the score of the chosen answers."""
        found = self.answer(batch)
        device = found.logits.device
        targets = dense_targets(batch.target_ids.to(device), batch.target_scores.to(device), found.logits.shape[1])
        losses = [
            F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum")
            for logits in (found.logits, *found.branches)
        ]
        right = targets.gather(1, found.logits.argmax(1, keepdim=True)).mean()
        return {"loss": torch.stack(losses).sum(), "weight": len(targets), "soft_accuracy": right}

    def compiled_modules(self) -> list[nn.Module]:
        """The co-attention of an MCAN, the rest of which has other shapes in every batch; nothing of Pythia."""
        return [module for name, module in self.model.named_children() if name == "co_attention"]

    def answer(self, batch: VqaBatch) -> Answered:
        """What the model makes of a batch."""
        features = self.vision(batch.loaded)
        ids = batch.ids[:, : int(batch.lengths.max())].to(features[0].device, non_blocking=True)
        return self.model(features, ids, batch.lengths)

    def metrics(self, split: QuestionSet) -> dict[str, float]:
        """Accuracy, overall and by answer type."""
        return self.score(split.questions, self.answers(split)).metrics()

    def answers(self, split: QuestionSet) -> list[str]:
        """The model's answer to each question of a split."""
        return [self.vocabulary[number] for found in self.answered(split) for number in found.logits.argmax(1).tolist()]

    def answered(self, split: QuestionSet, numbers: Sequence[int] | None = None) -> Iterator[Answered]:
        """What the model makes of the questions of a split (all, or these numbers), in order, batch by batch, without
        gradients, in evaluation mode."""
        chosen = torch.arange(len(split)) if numbers is None else torch.tensor(list(numbers))
        with self.judging():
            for some in chosen.split(EVALUATION_BATCH):
                yield self.answer(collate(self.vision, split, some))

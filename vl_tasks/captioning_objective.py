"""What the trainer minimises for captioning, and a model's captions of a split.

Legend: B images of a batch, E captions of each, L tokens, M visual tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from clip_core.decoder import Search, Symbols
from clip_core.shuffling import shuffled_batches
from clip_core.tokenizer import Tokenizer
from vl_tasks.captioner import Captioner
from vl_tasks.captioning_data import CaptionSet
from vl_tasks.self_critical import SelfCritical, SelfCriticalConfig
from vl_tasks.task import TaskObjective, ahead
from vl_tasks.vision import Vision

EVALUATION_BATCH = 64
GREEDY = Search()


class CaptionBatch(NamedTuple):
    """loaded: what `Vision.load` gave; images [B]: numbers in the split; ids [B * E, L], lengths [B * E]: captions,
    those of an image neighbours; fractions: by which captions are drawn in the self-critical phase
    (`SelfCritical.fractions`), None before it. On the CPU."""

    loaded: list[Tensor]
    images: Tensor
    ids: Tensor
    lengths: Tensor
    fractions: Tensor | None = None


class CaptioningObjective(TaskObjective[CaptionSet]):
    """Cross-entropy of the words of people's captions, averaged over the words; from a step on self-critical training.

    An item is an image; in each epoch other captions of it are taken, if it has more than are taken at once.
    """

    headline = ("cider", "bleu_4", "rouge_l", "loss")
    model: Captioner

    def __init__(
        self,
        model: Captioner,
        vision: Vision,
        train: CaptionSet,
        judged: Mapping[str, CaptionSet],
        tokenizer: Tokenizer,
        self_critical: SelfCriticalConfig,
        batch: int,
        each: int,
        longest: int,
        accumulate: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """batch: images of a micro-batch of this rank; each: captions of one; longest: words of a caption written;
        accumulate: batches of an update."""
        super().__init__(model, vision, train, judged, batch, seed, rank, world)
        self.tokenizer, self.symbols = tokenizer, Symbols.of(tokenizer)
        self.max_length, self._each = longest + 2, each
        self.self_critical: SelfCritical | None = None
        self._critical_from = 0
        if self_critical.self_critical_from is not None:
            self._critical_from = self_critical.self_critical_from * accumulate
            self.self_critical = SelfCritical(self_critical, train.reference_ids(), self.symbols, self.max_length)

    def collate(self, numbers: Tensor) -> CaptionBatch:
        return self._collate(numbers, torch.zeros_like(numbers), None)

    def _collate(self, numbers: Tensor, turn: Tensor, fractions: Tensor | None) -> CaptionBatch:
        split = self.train_split
        loaded = self.vision.load(split.image[numbers])
        return CaptionBatch(loaded, numbers, *split.take(numbers, self._each, turn), fractions)

    def batches(self, start: int) -> Iterator[CaptionBatch]:
        """Shuffled epochs one after the other; each batch knows its phase."""
        made = self._batches(start)
        return ahead(made) if self.vision.files else made

    def _batches(self, start: int) -> Iterator[CaptionBatch]:
        (count, size, seed), (rank, world) = self._order, self._place
        for position, numbers in enumerate(shuffled_batches(*self._order, start, *self._place), start):
            place = (position * world + rank) * size + torch.arange(size)  # among the images that all ranks meet
            fractions = None
            if self.self_critical is not None and position >= self._critical_from:
                fractions = self.self_critical.fractions(place, seed)
            yield self._collate(numbers, place // count, fractions)

    def forward(self, batch: CaptionBatch) -> dict[str, Any]:
        """The loss of the phase that the batch is for."""
        features = self.vision(batch.loaded)
        if batch.fractions is not None:
            return self._criticise(features, batch.images, batch.fractions)
        device = features[0].device
        reading = self.model(features, batch.ids.to(device, non_blocking=True), batch.lengths)
        loss = F.cross_entropy(reading.logits.float(), reading.target, reduction="sum")
        right = (reading.logits.argmax(1) == reading.target).float().mean()
        return {"loss": loss, "weight": len(reading.target), "word_accuracy": right}

    def _criticise(self, features: Sequence[Tensor], images_B: Tensor, fractions_NL: Tensor) -> dict[str, Any]:
        assert self.self_critical is not None
        was_training = self.model.training
        self.model.train(was_training and self.self_critical.config.sample_dropout)
        found = self.self_critical.loss(self.model, self.model.encode(features), images_B, fractions_NL)
        self.model.train(was_training)
        return found

    def metrics(self, split: CaptionSet) -> dict[str, float]:
        """Scores of greedy captions, and `loss`, nats per word of people's captions."""
        texts, total, words = list[str](), 0.0, 0
        for numbers, tokens in self.encoded(split):
            ids, lengths = split.take(numbers, self._each)
            reading = self.model.write(ids.to(tokens.device), lengths, tokens)
            total -= float(reading.log_prob(len(ids)).sum())
            words += len(reading.target)
            texts += self._written(tokens, GREEDY)
        return {**split.score(_by_image(split, texts)).corpus, "loss": total / words}

    def captions(self, split: CaptionSet, search: Search = GREEDY) -> dict[int, str]:
        """A caption for each image of a split, by image id."""
        texts = [text for _, tokens in self.encoded(split) for text in self._written(tokens, search)]
        return _by_image(split, texts)

    def _written(self, tokens_BMH: Tensor, search: Search) -> list[str]:
        written = self.model.caption(tokens_BMH, self.symbols, self.max_length, search)
        return [self.tokenizer.decode(ids) for ids in written.ids.tolist()]

    def encoded(self, split: CaptionSet, numbers: Sequence[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Numbers [B] and visual tokens [B, M, H] of the images of a split (all, or these), in order, batch by batch,
        without gradients, in evaluation mode."""
        chosen = torch.arange(len(split)) if numbers is None else torch.tensor(list(numbers))
        with self.judging():
            for some in chosen.split(EVALUATION_BATCH):
                yield some, self.model.encode(self.vision(self.vision.load(split.image[some])))

    def looks(self, split: CaptionSet, numbers: Sequence[int], captions: Mapping[int, str]) -> list[np.ndarray]:
        """Where the captions of some images were looked for: a map [h, w] over the first source, the mean of the
        words'."""
        maps: list[np.ndarray] = []
        for some, tokens in self.encoded(split, numbers):
            texts = [captions[split.records[number].image_id] for number in some.tolist()]
            ids, lengths = (torch.from_numpy(x) for x in self.tokenizer.encode_batch(texts))
            weights = self.model.looks(tokens, ids[:, : lengths.max()].to(tokens.device))
            for one, length in zip(weights.float().cpu(), lengths.tolist(), strict=True):
                words = one[: max(length - 2, 1)].mean(0, keepdim=True)
                maps.append(self.model.see.as_grids(words)[0][0].numpy())
        return maps


def _by_image(split: CaptionSet, texts: Sequence[str]) -> dict[int, str]:
    return {record.image_id: text for record, text in zip(split.records, texts, strict=True)}

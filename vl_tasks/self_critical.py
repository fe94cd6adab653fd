"""Self-critical training: captions that are drawn learn from how much better they score than a baseline.

Rennie et al. 2017 (arXiv 1612.00563) with the reward CIDEr-D; the mean of the other samples as the baseline: Luo 2020
(arXiv 2003.09971). Legend: B images, S samples of each, M visual tokens, L tokens, P packed tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from clip_core.cider_reward import CiderD
from clip_core.decoder import Search, Symbols, log_probabilities
from vl_tasks.captioner import Captioner

DRAWING = 1
"""Sets the stream of random numbers apart from the run's others."""


@dataclass(frozen=True)
class SelfCriticalConfig:
    """The second phase of training."""

    self_critical_from: int | None = None
    """Update from which captions are drawn and rewarded for their CIDEr-D; before it, words are learned by
    cross-entropy. 0 with --start-from RUN: from the first one. Default: never."""
    self_critical_lr: float = 5e-6
    """Learning rate of that phase, constant."""
    samples: int = 5
    """Captions drawn for each image."""
    baseline: Literal["greedy", "others"] = "greedy"
    """What a caption must beat: the likeliest one (self-critical, as published), or the mean of the other samples of
    its image (new self-critical: better and cheaper by its authors' account)."""
    sample_dropout: bool = False
    """Draw and learn with dropout, as published; the masks of drawing and learning then differ. Without it the captions
    that are learned from are drawn from just the model that learns."""

    def __post_init__(self) -> None:
        if self.self_critical_from is not None and self.self_critical_from < 0:
            raise ValueError(f"self_critical_from is {self.self_critical_from}; expected 0 or more")
        if self.samples < (2 if self.baseline == "others" else 1):
            raise ValueError(
                f"samples is {self.samples} with --baseline {self.baseline}; expected at least 2 for others"
            )


class SelfCritical:
    """The loss of the phase, and the reward of captions of the training images.

    references[image][caption]: token ids with the end, without the beginning; their images also give the document
    frequencies. max_length: room of a caption, beginning and end included, at least 3.
    """

    def __init__(
        self,
        config: SelfCriticalConfig,
        references: Sequence[Sequence[Sequence[int]]],
        symbols: Symbols,
        max_length: int,
    ) -> None:
        self.config, self.symbols, self.max_length = config, symbols, max_length
        self._score = CiderD(references).score

    def fractions(self, places_B: Tensor, seed: int) -> Tensor:
        """Random numbers in [0, 1), [B * S, max_length - 1] float32, by which captions of the images at these places of
        a run are drawn. A place counts the images that all ranks have met: what is drawn is the same however many ranks
        and micro-batches share a batch."""
        shape = self.config.samples, self.max_length - 1
        found = [np.random.default_rng((seed, DRAWING, place)).random(shape, np.float32) for place in places_B.tolist()]
        return torch.from_numpy(np.concatenate(found))

    def loss(self, model: Captioner, tokens_BMH: Tensor, images_B: Tensor, fractions_NL: Tensor) -> dict[str, Any]:
        """What the trainer asks of an objective, for encoded images (numbers on the CPU), with what `fractions` gave.
        Sum over the words drawn, the end among them, of - log-probability times advantage; their number is the weight.

        On a device: a sync, the reward is counted on the host.
        """
        samples, device = self.config.samples, tokens_BMH.device
        sampling, fractions_NL = Search("sample"), fractions_NL.to(device, non_blocking=True)
        drawn = model.caption(tokens_BMH, self.symbols, self.max_length, sampling, samples, fractions_NL)
        reward = self.reward(drawn.ids, drawn.lengths, images_B.repeat_interleave(samples)).view(-1, samples)
        words = self.counted(drawn.lengths) - 1
        report = {"reward": float(reward.mean()), "words_drawn": float(words.float().mean())}
        if self.config.baseline == "greedy":
            baseline = self.baseline(model, tokens_BMH, images_B)[:, None]
            report["reward_of_greedy"] = float(baseline.mean())
        else:
            baseline = (reward.sum(1, keepdim=True) - reward) / (samples - 1)
        reading = model.write(drawn.ids, words + 1, tokens_BMH)
        scores = log_probabilities(reading.logits, self.symbols)
        log_prob_P = scores.gather(1, reading.target[:, None]).squeeze(1)
        advantage_P = (reward - baseline).to(device).flatten()[reading.text]
        return {"loss": -(log_prob_P * advantage_P).sum(), "weight": len(log_prob_P), **report}

    def baseline(self, model: Captioner, tokens_BMH: Tensor, images_B: Tensor) -> Tensor:
        """Reward [B] of the likeliest captions, written without dropout."""
        was_training = model.training
        model.eval()
        likeliest = model.caption(tokens_BMH, self.symbols, self.max_length, Search())
        model.train(was_training)
        return self.reward(likeliest.ids, likeliest.lengths, images_B)

    def reward(self, ids_NL: Tensor, lengths_N: Tensor, images_N: Tensor) -> Tensor:
        """CIDEr-D [N] float32 (CPU) of written captions. The end counts as a word, unless the room ended the text."""
        lengths = self.counted(lengths_N) - 1
        scores = self._score(ids_NL[:, 1:].cpu().numpy(), lengths.numpy(), np.asarray(images_N))
        return torch.from_numpy(scores).float()

    def counted(self, lengths_N: Tensor) -> Tensor:
        """Lengths (CPU) without an end that was not the model's choice: that at the last place."""
        return lengths_N.cpu().clamp(max=self.max_length - 1)

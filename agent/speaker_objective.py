"""What the trainer minimises for the speaker: the surprise at what people said of a route.

Legend: B instructions of a batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from agent.data import Split
from agent.languages import by_language, foreign_ids
from agent.routes import episode_routes
from agent.sight import Eyes
from agent.speaker import Speaker
from agent.speaker_config import SpeakerConfig
from agent.speaking import Spoken, judge_by_teacher, score_spoken, speak
from clip_core.optim import parameter_groups
from clip_core.shuffling import shuffled_batches
from clip_core.tokenizer import Tokenizer
from clip_core.trainer import Objective
from envs.metrics import mean_scores


class SpeakerObjective(Objective):
    """Speaker, what it sees and the splits it learns and is judged on, by teacher forcing."""

    headline = ("loss", "word_accuracy", "bleu4", "cider")

    def __init__(
        self,
        speaker: Speaker,
        eyes: Eyes,
        train: Split,
        judged: Mapping[str, Split],
        tokenizer: Tokenizer,
        config: SpeakerConfig,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__()
        self.speaker, self.eyes = speaker, eyes
        self.train_split, self.judged, self.tokenizer, self.config = train, judged, tokenizer, config
        self.seed, self.rank, self.world = seed, rank, world
        device = train.ids.device
        self.routes = episode_routes(train.world, device)
        self.judged_routes = {name: episode_routes(split.world, device) for name, split in judged.items()}
        self.judged_languages = {name: by_language(split, tokenizer) for name, split in judged.items()}
        self.best_metric = f"{list(judged)[-1]}/bleu4" if judged else None

    def forward(self, batch: Tensor) -> dict[str, Any]:
        """Cross-entropy of the tokens after the first of the instructions [B] (int64, CPU)."""
        split = self.train_split
        context = self.speaker.read(self.eyes, split.tables, self.routes.rows(batch))
        reading = self.speaker(context, split.ids[batch.to(split.ids.device)], split.lengths[batch])
        loss = nn.functional.cross_entropy(reading.logits.float(), reading.target, reduction="sum")
        right = (reading.logits.argmax(1) == reading.target).float().mean()
        return {"loss": loss, "weight": len(reading.target), "word_accuracy": right}

    def batches(self, start: int) -> Iterator[Tensor]:
        """Shuffled epochs one after the other; see `shuffled_batches`."""
        episodes = len(self.train_split.world.episodes)
        return shuffled_batches(episodes, self.config.batch, self.seed, start, self.rank, self.world)

    def evaluate(self) -> dict[str, float]:
        """Teacher forcing on every instruction, greedy instructions for every route of each judged split; the scores of
        these, where there are several languages, are the means over the languages."""
        metrics: dict[str, float] = {}
        for name, split in self.judged.items():
            found = judge_by_teacher(self.speaker, self.eyes, split, self.judged_routes[name])
            found |= mean_scores(
                score_spoken(self.write(part, language), part.world)
                for language, part in self.judged_languages[name].items()
            )
            metrics |= {f"{name}/{key}": value for key, value in found.items()}
        return metrics

    def write(self, split: Split, language: str | None) -> Spoken:
        """Greedy instructions in one language (None: in that of the speaker)."""
        unwritten = foreign_ids(self.tokenizer, language)
        return speak(self.speaker, self.eyes, split, self.tokenizer, unwritten=unwritten)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Encoder and decoder clipped separately (R2R-EnvDrop)."""
        lr, clip = self.config.lr, self.config.clip
        return [
            *parameter_groups(self.speaker.encoder, "encoder", lr, clip=clip),
            *parameter_groups(self.speaker.decoder, "decoder", lr, clip=clip),
        ]

    def compiled_modules(self) -> list[nn.Module]:
        """None: every batch has other shapes."""
        return []

"""MoVie+MCAN, winner of the VQA challenge 2020 (Nguyen et al. 2020, arXiv 2004.11883; sizes of MMF's movie_mcan).

What CLIP-ViL calls MCAN. Legend: B questions, L tokens, N visual tokens, H hidden, V answers, h x w cells.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from vl_tasks.mcan import CoAttention
from vl_tasks.vision import Size
from vl_tasks.visual_tokens import Places, VisualTokens
from vl_tasks.vqa_parts import Answered, AttentionPooling, QuestionTokens, VqaModelConfig

MOVIE_LAYERS = 4


class MovieBottleneck(nn.Module):
    """A ResNet bottleneck whose input the question modulates, with gates of channels and of places.

    The original's frozen BatchNorms are left out: never fitted, they are the identity.
    """

    def __init__(self, channels: int, hidden: int, condition: int) -> None:
        super().__init__()
        width = hidden // 4
        self.modulate = nn.Linear(condition, channels)
        self.modulated = nn.Conv2d(channels, width, 1)
        self.reduce = nn.Conv2d(channels, width, 1, bias=False)
        self.spread = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.expand = nn.Conv2d(width, hidden, 1, bias=False)
        self.squeeze = nn.Conv2d(hidden, width, 1, bias=False)
        self.excite = nn.Conv2d(width, hidden, 1, bias=False)
        self.place = nn.Conv2d(1, 1, 7, padding=3, bias=False)
        self.shortcut = nn.Identity() if channels == hidden else nn.Conv2d(channels, hidden, 1, bias=False)

    def forward(self, map_BDhw: Tensor, question_BH: Tensor) -> Tensor:
        """Map [B, H, h, w]."""
        modulated = self.modulated(map_BDhw * self.modulate(question_BH)[:, :, None, None])
        found = F.relu(self.reduce(map_BDhw) + modulated)
        found = self.expand(F.relu(self.spread(found)))
        channels = F.relu(self.squeeze(found.mean((2, 3), keepdim=True)))
        found = found * self.excite(channels).sigmoid()
        found = found * self.place(found.mean(1, keepdim=True)).sigmoid()
        return F.relu(found + self.shortcut(map_BDhw))


class MovieMcan(nn.Module):
    """MCAN beside a modulated convolutional branch over the grid of the first source.

    Three classifiers learn: of the sum of all, of the convolutional branch, of question and MCAN; the first answers.
    """

    def __init__(
        self, words: int, answers: int, sizes: Sequence[Size], config: VqaModelConfig, padding_id: int = 0
    ) -> None:
        super().__init__()
        hidden, dropout = config.hidden, config.dropout
        self.read = QuestionTokens(words, config.word, hidden, padding_id)
        self.see = VisualTokens(sizes, hidden, config.grid_positions, norm=config.feature_norm)
        self.co_attention = CoAttention(config)
        self.pool_question = AttentionPooling(hidden, hidden // 2, dropout, glimpses=2)
        self.pool_image = AttentionPooling(hidden, hidden // 2, dropout)
        self.places = Places(sizes[:1], config.grid_positions, config.feature_norm)
        channels = [sizes[0].dim, *[hidden] * (MOVIE_LAYERS - 1)]
        self.movie = nn.ModuleList(MovieBottleneck(size, hidden, hidden) for size in channels)
        self.movie_norm = nn.LayerNorm(hidden)
        self.of_question, self.of_image, self.of_movie = (
            nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(2)) for _ in range(3)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(2 * hidden) for _ in range(3))
        self.classify = nn.ModuleList(nn.Linear(2 * hidden, answers) for _ in range(3))

    def forward(self, features: Sequence[Tensor], ids_BL: Tensor, lengths_B: Tensor) -> Answered:
        """Of features [B, h, w, D] of each source and question ids [B, L] with lengths [B] (CPU)."""
        question_BLH, padding_BL = self.read(ids_BL, lengths_B)
        question_BLH, image_BNH = self.co_attention(question_BLH, padding_BL, self.see(features))
        asked_B2H, _ = self.pool_question(question_BLH, padding_BL)
        seen_B1H, weights_B1N = self.pool_image(image_BNH)
        moved = self._movie(features, asked_B2H[:, 0])
        asked, seen = asked_B2H[:, 1], seen_B1H[:, 0]
        joined = (
            self.of_question[0](asked) + self.of_movie[0](moved) + self.of_image[0](seen),
            self.of_movie[1](moved),
            self.of_question[1](asked) + self.of_image[1](seen),
        )
        wanted = 3 if self.training else 1
        logits = tuple(self.classify[i](self.norms[i](joined[i])) for i in range(wanted))
        return Answered(logits[0], self.see.as_grids(weights_B1N[:, 0]), logits[1:])

    def _movie(self, features: Sequence[Tensor], question_BH: Tensor) -> Tensor:
        """[B, H] of the convolutional branch."""
        maps = self.places(features[:1])[0].permute(0, 3, 1, 2)
        for layer in self.movie:
            maps = layer(maps, question_BH)
        return self.movie_norm(maps.mean((2, 3)))

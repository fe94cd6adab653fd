"""MCAN: deep co-attention of question and image (Yu et al. 2019, arXiv 1906.10770; sizes of MILVLG/openvqa).

Legend: B questions, L tokens of the question, N visual tokens, H hidden, V answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from clip_core.transformer import TransformerLayer, visible_tokens
from vl_tasks.vision import Size
from vl_tasks.visual_tokens import VisualTokens
from vl_tasks.vqa_parts import Answered, AttentionPooling, QuestionTokens, VqaModelConfig


class CoAttention(nn.Module):
    """Layers of self-attention over the question, then as many over the image, guided by what became of the question
    (MCAN's encoder-decoder)."""

    def __init__(self, config: VqaModelConfig) -> None:
        super().__init__()
        sizes = config.hidden, config.heads, 4 * config.hidden, config.dropout
        self.question = nn.ModuleList(TransformerLayer(*sizes) for _ in range(config.layers))
        self.image = nn.ModuleList(TransformerLayer(*sizes, cross=True) for _ in range(config.layers))

    def forward(self, question_BLH: Tensor, padding_BL: Tensor, image_BNH: Tensor) -> tuple[Tensor, Tensor]:
        """Question [B, L, H] and image [B, N, H] tokens after all layers."""
        visible = visible_tokens(padding_BL)
        for layer in self.question:
            question_BLH = layer(question_BLH, visible)
        for layer in self.image:
            image_BNH = layer(image_BNH, None, question_BLH, visible)
        return question_BLH, image_BNH


class Mcan(nn.Module):
    """MCAN; the tokens of several visual sources, each projected on its own, stand side by side.

    Departures: LayerNorm is torch's (variance by N, not N - 1); the LSTM ends with the question, not with its padding.
    """

    def __init__(
        self, words: int, answers: int, sizes: Sequence[Size], config: VqaModelConfig, padding_id: int = 0
    ) -> None:
        super().__init__()
        hidden, pooling, fused, dropout = config.hidden, config.pooling, config.fused, config.dropout
        self.read = QuestionTokens(words, config.word, hidden, padding_id)
        self.see = VisualTokens(sizes, hidden, config.grid_positions, norm=config.feature_norm)
        self.co_attention = CoAttention(config)
        self.pool_question = AttentionPooling(hidden, pooling, dropout, out=fused)
        self.pool_image = AttentionPooling(hidden, pooling, dropout, out=fused)
        self.norm = nn.LayerNorm(fused, eps=1e-6)
        self.classify = nn.Linear(fused, answers)

    def forward(self, features: Sequence[Tensor], ids_BL: Tensor, lengths_B: Tensor) -> Answered:
        """Of features [B, h, w, D] of each source and question ids [B, L] with lengths [B] (CPU)."""
        question_BLH, padding_BL = self.read(ids_BL, lengths_B)
        question_BLH, image_BNH = self.co_attention(question_BLH, padding_BL, self.see(features))
        asked, _ = self.pool_question(question_BLH, padding_BL)
        seen, weights_B1N = self.pool_image(image_BNH)
        return Answered(self.classify(self.norm(asked + seen)), self.see.as_grids(weights_B1N[:, 0]))

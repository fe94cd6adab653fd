"""A transformer that captions images: visual tokens through an encoder, words through a decoder that looks at them.

Sizes and order of the "Transformer" of ruotianluo/ImageCaptioning.pytorch, which CLIP-ViL trains on COCO.
Legend: B images, h x w cells of a grid, M visual tokens, N texts, L tokens, H hidden, V words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from clip_core.decoder import Generated, Search, Symbols, beam_search, generate
from clip_core.lstm_decoder import Reading
from clip_core.transformer import TransformerLayer
from clip_core.transformer_decoder import TransformerTextDecoder
from vl_tasks.vision import Size
from vl_tasks.visual_tokens import GridPositions, VisualTokens


@dataclass(frozen=True)
class CaptionerConfig:
    """The model; defaults are as published."""

    hidden: int = 512
    """Width of visual tokens and words."""
    layers: int = 6
    """Layers of the encoder, and as many of the decoder."""
    heads: int = 8
    """Heads of an attention."""
    inner: int = 2048
    """Hidden size of the feed-forward networks."""
    dropout: float = 0.1
    """Dropout of both."""
    input_dropout: float = 0.5
    """Dropout of the projected visual features."""
    grid_positions: GridPositions = "none"
    """learned: tell the model of each cell's row and column."""
    feature_norm: bool = False
    """Bring each cell's features to mean 0 and deviation 1 before anything else, whatever the scale of the encoder."""

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "inner"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")


class Captioner(nn.Module):
    """Visual features become texts.

    Departures: LayerNorm is torch's (variance by N, not N - 1); beginning, end and padding have ids of their own, the
    original writes 0 for all three.
    """

    def __init__(self, words: int, sizes: Sequence[Size], config: CaptionerConfig, padding_id: int = 0) -> None:
        super().__init__()
        hidden, layers, heads, inner, dropout = config.hidden, config.layers, config.heads, config.inner, config.dropout
        self.see = VisualTokens(sizes, hidden, config.grid_positions, config.input_dropout, norm=config.feature_norm)
        self.layers = nn.ModuleList(
            TransformerLayer(hidden, heads, inner, dropout, pre_norm=True) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden, eps=1e-6)
        self.write = TransformerTextDecoder(words, hidden, layers, heads, inner, dropout, padding_id)
        for name, parameter in self.named_parameters():  # image encoders are no part of this module
            if parameter.dim() > 1 and "places" not in name:
                nn.init.xavier_uniform_(parameter)

    def encode(self, features: Sequence[Tensor]) -> Tensor:
        """Visual tokens [B, M, H] of features [B, h, w, D] of each source."""
        tokens_BMH = F.relu(self.see(features))
        for layer in self.layers:
            tokens_BMH = layer(tokens_BMH)
        return self.norm(tokens_BMH)

    def forward(self, features: Sequence[Tensor], ids_NL: Tensor, lengths_N: Tensor) -> Reading:
        """What the model makes of given texts, N / B of each image, neighbours; lengths on the CPU."""
        return self.write(ids_NL, lengths_N, self.encode(features))

    @torch.no_grad()
    def caption(
        self,
        tokens_BMH: Tensor,
        symbols: Symbols,
        max_length: int,
        search: Search,
        each: int = 1,
        fractions_NL: Tensor | None = None,
    ) -> Generated:
        """`each` texts [B * each, L] about each image, those of an image neighbours, of encoded images. Several of one
        image differ only with the method sample; samples are drawn by the fractions (see `decoder.generate`), from
        torch's global generator if None."""
        count, device = each * len(tokens_BMH), tokens_BMH.device
        state = self.write.start(tokens_BMH, each)
        return generate(self.write.step, state, count, symbols, max_length, search, device, fractions_NL=fractions_NL)

    @torch.no_grad()
    def best(self, tokens_BMH: Tensor, symbols: Symbols, max_length: int, search: Search) -> Generated:
        """All texts [B * W, L] that a beam of width W keeps, the best one of an image first."""
        state = self.write.start(tokens_BMH)
        device = tokens_BMH.device
        return beam_search(self.write.step, state, len(tokens_BMH), symbols, max_length, search, device)

    @torch.no_grad()
    def looks(self, tokens_BMH: Tensor, ids_BL: Tensor) -> Tensor:
        """Where each token of a text, the first one left out, was looked for: weights [B, L - 1, M], the mean over the
        layers and heads of the decoder."""
        watched: list[Tensor] = []
        self.write.advance(ids_BL[:, :-1], self.write.start(tokens_BMH), watched)
        return torch.stack(watched).mean(0)

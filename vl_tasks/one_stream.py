"""A joint transformer over the words of a text followed by the cells of an image, as in CLIP-ViL_p.

Legend: B pairs of image and text, L words, N visual tokens, T = L + N, H hidden, A heads, K = H / A, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from clip_core.blocks import Dropout, padding_mask
from vl_tasks.vision import Size
from vl_tasks.visual_tokens import GridPositions, VisualTokens

ACTIVATION = "gelu"
DEVIATION, WIDTH = 0.02, 768
"""Of BERT's weights before training, at the width of BERT-base. Other widths get what keeps a token's sums as large:
with 0.02 at a width of 128 attention hardly tells tokens apart at first, and learning starts late."""


PATH = 12
"""Points on the way from a blank image to the image at which an explanation takes gradients."""


@dataclass(frozen=True)
class OneStreamConfig:
    """The model; defaults are BERT-base as published (12 layers, 768, 12 heads; arXiv 1810.04805)."""

    hidden: int = 768
    """Width of the tokens. With --bert this size and the next four are those of the folder."""
    layers: int = 12
    """Layers of self-attention over words and cells together."""
    heads: int = 12
    """Heads of an attention."""
    inner: int = 3072
    """Hidden size of the feed-forward networks."""
    max_positions: int = 512
    """Words that have an embedding of their place."""
    dropout: float = 0.1
    """Dropout of embeddings, and after every part."""
    attention_dropout: float = 0.1
    """Dropout of attention weights."""
    grid_positions: GridPositions = "learned"
    """learned: tell the model of each cell's row and column, in the features' own width (CLIP-ViL_p)."""
    feature_norm: bool = False
    """Bring each cell's features to mean 0 and deviation 1 before anything else, whatever the scale of the encoder."""
    visual_segment: bool = True
    """Cells get BERT's second segment embedding. CLIP-ViL_p has none for them: --no-visual-segment."""

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "heads", "inner", "max_positions"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more")
        if self.hidden % self.heads:
            raise ValueError(f"hidden is {self.hidden} with {self.heads} heads; expected a multiple of the heads")


def bert_settings(folder: Path, config: OneStreamConfig) -> tuple[OneStreamConfig, int]:
    """The config with the sizes of the BERT of a local folder, and how many words that embeds.

    Raises ValueError for a folder without a config.json of a BERT that this model can hold.
    """
    from transformers import BertConfig  # slow to import

    if not (folder / "config.json").is_file():
        raise ValueError(f"{folder} has no config.json; expected a folder of BERT as save_pretrained writes it")
    found = BertConfig.from_pretrained(folder, local_files_only=True)
    if found.hidden_act != ACTIVATION or found.type_vocab_size < 2:
        raise ValueError(
            f"{folder}: found activation {found.hidden_act!r}, {found.type_vocab_size} segments; expected "
            f"{ACTIVATION!r}, 2, as of bert-base-uncased"
        )
    sizes = replace(
        config,
        hidden=found.hidden_size,
        layers=found.num_hidden_layers,
        heads=found.num_attention_heads,
        inner=found.intermediate_size,
        max_positions=found.max_position_embeddings,
    )
    return sizes, int(found.vocab_size)


class OneStream(nn.Module):
    """BERT's embeddings, encoder and pooler (without its tanh, as CLIP-ViL_p) over words and visual tokens, then
    LXMERT's head: twice the width, GELU, LayerNorm, classes.

    Cells become tokens by a projection for each source, LayerNorm, dropout; no cell is hidden. Parameters outside BERT
    are drawn here, one by one: nothing re-initialises what was loaded.
    """

    def __init__(
        self, words: int, classes: int, sizes: Sequence[Size], config: OneStreamConfig, padding_id: int = 0
    ) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel  # slow to import

        deviation = DEVIATION * (WIDTH / config.hidden) ** 0.5
        settings = BertConfig(
            vocab_size=words,
            hidden_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.inner,
            max_position_embeddings=config.max_positions,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.attention_dropout,
            hidden_act=ACTIVATION,
            initializer_range=deviation,
            pad_token_id=padding_id,
        )
        hidden = config.hidden
        self.segment = config.visual_segment
        self.bert: Any = BertModel(settings)
        self.see = VisualTokens(sizes, hidden, config.grid_positions, norm=config.feature_norm)
        self.norm = nn.LayerNorm(hidden, eps=1e-12)
        self.drop = Dropout(config.dropout)
        self.classify = nn.Sequential(
            nn.Linear(hidden, 2 * hidden),
            nn.GELU(),
            nn.LayerNorm(2 * hidden, eps=1e-12),
            nn.Linear(2 * hidden, classes),
        )
        for layer in self.classify:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=deviation)
                nn.init.zeros_(layer.bias)
        for name, module in list(self.bert.named_modules()):
            if isinstance(module, nn.Dropout) and not name.endswith("attention.self.dropout"):
                self.bert.set_submodule(name, Dropout(module.p))  # drawn faster on CPUs

    def load_bert(self, folder: Path) -> None:
        """Takes over the weights of a local folder of BERT; ValueError if they are missing or of other sizes."""
        from transformers import BertModel

        try:
            found = BertModel.from_pretrained(folder, local_files_only=True)
            self.bert.load_state_dict(found.state_dict())
        except (OSError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ValueError(
                f"{folder} holds no weights that fit ({reason}); expected a folder of BERT as save_pretrained writes it"
            ) from None

    def forward(self, features: Sequence[Tensor], ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits [B, C] of features [B, h, w, D] of each source and text ids [B, L] with lengths [B].

        Raises ValueError for texts longer than BERT has positions for.
        """
        return self.decide(self.cells(features), ids_BL, lengths_B)

    def cells(self, features: Sequence[Tensor]) -> Tensor:
        """The cells of all sources as tokens [B, N, H], ready for the encoder."""
        cells_BNH = self.see(features)
        if self.segment:
            cells_BNH = cells_BNH + self.bert.embeddings.token_type_embeddings.weight[1]
        return self.drop(self.norm(cells_BNH))

    def decide(self, cells_BNH: Tensor, ids_BL: Tensor, lengths_B: Tensor) -> Tensor:
        """Logits [B, C] of what `cells` gave, and of texts."""
        places = self.bert.embeddings.position_embeddings.num_embeddings
        if ids_BL.shape[1] > places:
            raise ValueError(
                f"a text has {ids_BL.shape[1]} tokens; the model has places for {places}: lower --max-words"
            )
        tokens_BTH = torch.cat([self.bert.embeddings(ids_BL), cells_BNH], 1)
        hidden_BL = padding_mask(lengths_B.to(ids_BL.device, non_blocking=True), ids_BL.shape[1])
        hidden_BT = torch.cat([hidden_BL, hidden_BL.new_zeros(cells_BNH.shape[:2])], 1)
        mask_B11T = torch.zeros_like(hidden_BT, dtype=tokens_BTH.dtype).masked_fill(
            hidden_BT, torch.finfo(tokens_BTH.dtype).min
        )[:, None, None]
        found_BTH = self.bert.encoder(tokens_BTH, attention_mask=mask_B11T)[0]
        return self.classify(self.bert.pooler.dense(found_BTH[:, 0]))

    def explain(self, features: Sequence[Tensor], ids_BL: Tensor, lengths_B: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits [B, C], and how much each cell spoke for the likeliest class, [B, h, w] for each source, 0 or more.

        Integrated gradients (Sundararajan et al. 2017, arXiv 1703.01365) of the class's logit less the mean of all, on
        the way from an image whose cells are all alike, their mean, to the image.
        """
        with torch.no_grad():
            cells_BNH = self.cells(features)
            logits_BC = self.decide(cells_BNH, ids_BL, lengths_B)
        chosen_B1 = logits_BC.argmax(1, keepdim=True)
        alike_B1H = cells_BNH.mean(1, keepdim=True)
        total_BNH = torch.zeros_like(cells_BNH)
        for step in range(PATH):
            share = (step + 0.5) / PATH
            with torch.enable_grad():
                leaves_BNH = alike_B1H.lerp(cells_BNH, share).requires_grad_()
                found_BC = self.decide(leaves_BNH, ids_BL, lengths_B)
                (gradient_BNH,) = torch.autograd.grad(
                    (found_BC.gather(1, chosen_B1)[:, 0] - found_BC.mean(1)).sum(), leaves_BNH
                )
            total_BNH += gradient_BNH / PATH
        spoke_BN = (total_BNH * (cells_BNH - alike_B1H)).sum(2)
        return logits_BC, self.see.as_grids(spoke_BN.clamp(min=0))

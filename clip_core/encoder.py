"""The CLIP encoder that everything sees with: images become vectors or grids, texts become vectors.

B images or texts, H x W pixels, h x w cells of a grid, D feature, L token.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from clip_core import clip_weights, optim, towers
from clip_core.images import ImageTransform
from clip_core.runtime import DTYPES, Precision
from clip_core.towers import LAST, GridPoint, Positions

BatchNorm = Literal["fixed", "trained"]


@dataclass(frozen=True)
class EncoderRecord:
    """What decides on the vectors of an encoder: it goes into the header of a store."""

    model: str
    """Name of open_clip; of `local-dir:` the folder's name alone, so that it is the same on every machine."""
    pretrained: str | None
    """Tag of the weights."""
    weights_sha256: str | None
    """Hash of the weights file; None for untrained weights."""
    precision: Precision
    """fp32, or bf16 autocast."""
    preprocessing: str
    """From pixels to the input, in words."""

    def header_fields(self) -> dict[str, str | None]:
        """Fields of `clip_core.feature_files.Header`; the precision stands at the end of the preprocessing."""
        return {
            "model": self.model,
            "pretrained": self.pretrained,
            "weights_sha256": self.weights_sha256,
            "preprocessing": f"{self.preprocessing}, {self.precision}",
        }


class Grid(NamedTuple):
    """Features of the cells of B images."""

    cells: Tensor
    """float32 [B, h, w, D]."""
    summary: Tensor | None
    """One vector an image: the class token of a ViT at the same point, [B, D]; of an RN the pooled projected vector if
    it was asked for."""


class ClipEncoder(nn.Module):
    """Any CLIP model of open_clip as one module; see `load`.

    Images of any size from one patch (ViT) or 32 pixels (RN) on are taken: positional embeddings are interpolated for
    sizes other than the model's own. `transform` makes inputs of the model's own size. Results are float32.
    Attributes: clip (open_clip's model, whose weights are never changed here), source, record, transform, trainable.
    """

    clip: Any

    def __init__(
        self,
        clip: nn.Module,
        source: clip_weights.ClipSource,
        *,
        precision: Precision = "fp32",
        positions: Positions = "bicubic",
        trainable: bool = False,
        batch_norm: BatchNorm = "fixed",
        channels_last: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        _check_choices(precision, positions, batch_norm)
        self.clip, self.source = clip, source
        self.positions, self.batch_norm, self.channels_last = positions, batch_norm, channels_last
        visual = self.clip.visual
        self.kind = towers.kind_of(visual)
        size = getattr(visual, "image_size", None) or source.config["vision_cfg"].get("image_size", 224)
        self.transform = ImageTransform.from_config(source.preprocess, size)
        name = source.model
        if name.startswith(clip_weights.LOCAL_DIR):
            name = f"{clip_weights.LOCAL_DIR}{Path(name.removeprefix(clip_weights.LOCAL_DIR)).resolve().name}"
        digest = None if source.weights is None else clip_weights.file_sha256(source.weights)
        self.record = EncoderRecord(name, source.pretrained, digest, precision, self.transform.describe())
        self._tokenizer: Any = None
        if channels_last:
            visual.to(memory_format=torch.channels_last)
        if compile:
            self._vectors, self._texts = torch.compile(self._vectors), torch.compile(self._texts)  # type: ignore[method-assign]
            self._cells = torch.compile(self._cells)  # type: ignore[method-assign]
        self.set_trainable(trainable)

    @classmethod
    def load(
        cls,
        model: str,
        pretrained: str | None = None,
        weights: Path | str | None = None,
        *,
        device: torch.device | str = "cpu",
        **options: Any,
    ) -> ClipEncoder:
        """Encoder by the name of open_clip and a tag, a weights file, or `local-dir:FOLDER`.

        pretrained: tag, e.g. `openai`, or `random`. With `weights` it says which tag the file holds.
        weights: .safetensors, .pt, .pth or .bin, OpenAI's archives included.
        options: precision (fp32; bf16 is autocast, weights stay float32), positions (bicubic with antialiasing as
            open_clip, bilinear as CLIP-ViL, or zero: the fault of CLIP-ViL's released ViT code), trainable,
            batch_norm (fixed statistics, or trained ones as CLIP-ViL when it unfreezes an RN), channels_last, compile.
        Weights that were trained with quick-GELU get it, whichever variant of the name is given.
        Raises ValueError for whatever does not exist or does not fit; see `clip_weights`.
        """
        source = clip_weights.resolve(model, pretrained, weights)
        return cls(clip_weights.build(source), source, **options).to(device)

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.clip.logit_scale.device

    @property
    def projected_dim(self) -> int:
        """D of vectors in the joint space of images and texts."""
        return int(self.source.config["embed_dim"])

    @property
    def grid_dim(self) -> int:
        """D of grid cells (RN: of stage 4) and of vectors before the projection."""
        visual = self.clip.visual
        if self.kind == "ViT":
            return int(visual.conv1.out_channels)
        self._expect_own_tower()
        return int(visual.attnpool.c_proj.in_features)

    def grid_shape(self, height_px: int, width_px: int) -> tuple[int, int]:
        """(h, w) of the grid for an input size, RN at stage 4; ValueError if the image is smaller than a cell."""
        self._expect_own_tower()
        shape = towers.grid_shape(self.clip.visual, height_px, width_px)
        if min(shape) < 1:
            raise ValueError(f"images of {height_px} x {width_px} px are smaller than one cell of {self.source.model}")
        return shape

    # -- what it does --------------------------------------------------------------------------------------------------

    def image_vectors(self, images: Tensor, *, projected: bool = True) -> Tensor:
        """Vectors float32 [B, D] of normalised images float32 [B, 3, H, W].

        projected: into the joint space with texts, as open_clip's `encode_image`; else the vector before that: the
        class token after the last LayerNorm (ViT), or what the attention pooling gathers (RN).
        """
        images = self._prepared(images)
        if self.kind != "other":
            self.grid_shape(*images.shape[2:])  # says so if they are too small
        with self._autocast():
            return self._vectors(images, projected).float()

    def grid(self, images: Tensor, point: GridPoint = LAST, *, summary: bool = False) -> Grid:
        """Grid of normalised images float32 [B, 3, H, W]: a cell is a patch of a ViT or 32 x 32 pixels of an RN.

        summary: of an RN, compute the pooled vector too (stage 4 only).
        Raises ValueError for a point that the model does not have, and for towers of timm.
        """
        self._expect_own_tower()
        depth = len(self.clip.visual.transformer.resblocks) if self.kind == "ViT" else None
        if depth is not None and not 0 <= point.skip < depth:
            raise ValueError(f"skip is {point.skip}; {self.source.model} has {depth} blocks, expected 0 to {depth - 1}")
        if not 0 <= point.stage <= 4 or (self.kind == "RN" and summary and point.stage != 4):
            raise ValueError(f"stage is {point.stage}; expected 0 to 4, and 4 with a summary")
        images = self._prepared(images)
        self.grid_shape(*images.shape[2:])
        with self._autocast():
            cells, vector = self._cells(images, point, summary)
        return Grid(cells.float(), None if vector is None else vector.float())

    def text_vectors(self, texts: Tensor | Sequence[str]) -> Tensor:
        """Vectors float32 [B, D] in the joint space, of texts or of their ids int64 [B, L]."""
        ids = texts if isinstance(texts, Tensor) else self.tokenize(texts)
        with self._autocast():
            return self._texts(ids.to(self.device)).float()

    def tokenize(self, texts: Sequence[str], *, truncate: bool = False) -> Tensor:
        """Ids int64 [B, L] of texts in the model's own tokenizer, on the CPU; L is its context length.

        Raises ValueError for a text that is longer, unless `truncate`, and if the tokenizer's files are not there.
        """
        import open_clip

        if isinstance(texts, str):
            raise ValueError(f"texts is one text, {texts[:40]!r}; expected a list of texts")
        if self._tokenizer is None:
            try:
                self._tokenizer = open_clip.get_tokenizer(self.source.address, **self.source.tokenizer_options)
            except (OSError, RuntimeError) as error:
                raise ValueError(
                    f"the tokenizer of {self.source.model} is not on this machine ({clip_weights.first_line(error)}); "
                    "expected its files in the cache: build it once with a network"
                ) from error
        if not truncate and hasattr(self._tokenizer, "encode"):
            limit = self._tokenizer.context_length
            for text in texts:
                if (length := len(self._tokenizer.encode(text)) + 2) > limit:
                    raise ValueError(
                        f"{text[:40]!r}... has {length} tokens; expected at most {limit}, or truncate=True"
                    )
        return self._tokenizer(list(texts))

    # -- training ------------------------------------------------------------------------------------------------------

    def set_trainable(self, trainable: bool) -> None:
        """Freezes or frees every weight; their values stay. A frozen encoder stays in evaluation mode."""
        self.trainable = trainable
        self.requires_grad_(trainable)
        self.train(self.training)

    def train(self, mode: bool = True) -> ClipEncoder:
        """Training mode for what is trainable; batch statistics move only if `batch_norm` is `trained`."""
        super().train(mode)
        self.clip.train(mode and self.trainable)
        if self.batch_norm == "fixed":
            for module in self.clip.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def parameter_groups(self, lr: float, *, text: bool = False, **options: Any) -> list[dict]:
        """Groups of the image tower for an optimizer, named `clip`; with `text`, the rest as `clip_text`.

        options: as of `optim.parameter_groups`, e.g. weight_decay. A frozen encoder has none.
        """
        if not self.trainable:
            return []
        groups = optim.parameter_groups(self.clip.visual, "clip", lr, **options)
        if text:
            rest = nn.ParameterList(p for name, p in self.clip.named_parameters() if not name.startswith("visual."))
            groups += optim.parameter_groups(rest, "clip_text", lr, **options)
        return groups

    # -- inside --------------------------------------------------------------------------------------------------------

    def _vectors(self, images: Tensor, projected: bool) -> Tensor:
        visual = self.clip.visual
        if self.kind == "ViT":
            return towers.vit_vectors(visual, images, projected, self.positions)
        if self.kind == "RN":
            return towers.rn_pooled(visual, towers.rn_maps(visual, images, 4), projected, self.positions)
        if not projected:
            self._expect_own_tower()
        return visual(images)

    def _cells(self, images: Tensor, point: GridPoint, summary: bool) -> tuple[Tensor, Tensor | None]:
        visual = self.clip.visual
        if self.kind == "ViT":
            return towers.vit_grid(visual, images, point, self.positions)
        maps = towers.rn_maps(visual, images, point.stage)
        vector = towers.rn_pooled(visual, maps, True, self.positions) if summary else None
        return maps.permute(0, 2, 3, 1), vector

    def _texts(self, ids: Tensor) -> Tensor:
        return self.clip.encode_text(ids, normalize=False)

    def _prepared(self, images: Tensor) -> Tensor:
        check_normalised(images)
        images = images.to(self.device)
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.record.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.record.precision])

    def _expect_own_tower(self) -> None:
        if self.kind == "other":
            raise ValueError(
                f"{self.source.model} has a tower of timm; grids, and vectors before the projection, exist for the ViT "
                "and RN models of open_clip: expected one of those"
            )


def check_normalised(images: Tensor) -> None:
    """Raises ValueError unless images can be the input of an encoder, floats [B, 3, H, W]."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype} {tuple(images.shape)}; expected normalised floats [B, 3, H, W]: transform "
            "pixels first (ClipEncoder.transform)"
        )


def _check_choices(precision: str, positions: str, batch_norm: str) -> None:
    for name, value, choices in (
        ("precision", precision, tuple(DTYPES)),
        ("positions", positions, ("bicubic", "bilinear", "zero")),
        ("batch_norm", batch_norm, ("fixed", "trained")),
    ):
        if value not in choices:
            raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")

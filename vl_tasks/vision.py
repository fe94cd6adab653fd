"""Where a task's visual tokens come from: feature stores, or encoders that see the images while a task runs.

Legend: B images of a batch, h x w cells of a grid, N = h w, D feature.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from clip_core.encoder import ClipEncoder
from clip_core.features import FeatureStore
from clip_core.images import ImageTransform, open_image
from precompute.encoders import ImageEncoder, ImageLayer, encoded
from precompute.preprocessing import Preprocessing, preprocessing_words, read_preprocessing

RESIDENT_SHARE = 0.4
"""A store goes to a GPU as a whole if it needs no more than this share of the memory that is free there."""
MAKE_STORE = "python -m precompute images --images FOLDER --layer grid --out STORE"


@dataclass(frozen=True)
class Size:
    """What a source gives for an image: a grid of h x w cells of D numbers; 1 x 1 is a pooled vector."""

    dim: int
    height: int
    width: int

    @property
    def cells(self) -> int:
        return self.height * self.width


class Source(Protocol):
    """One place that visual features come from, for the images of a run, which have numbers.

    size; record: what a checkpoint keeps of it, JSON values; files: whether it reads image files.
    """

    size: Size
    record: dict[str, Any]
    files: bool

    def load(self, images: np.ndarray) -> Tensor:
        """What is read on the host for the images of these numbers [B]; may run in another thread."""
        ...

    def features(self, loaded: Tensor) -> Tensor:
        """Features float32 [B, h, w, D] on the device of what was loaded."""
        ...


class NoSight:
    """The source of a model that sees nothing: one cell of one zero for every image."""

    size, files = Size(1, 1, 1), False
    record: dict[str, Any] = {"blind": True}  # noqa: RUF012 (a constant)

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def load(self, images: np.ndarray) -> Tensor:
        return torch.zeros(len(images), 1, 1, 1)

    def features(self, loaded: Tensor) -> Tensor:
        return loaded.to(self._device)


class StoreSource:
    """A feature store, of grids [h, w, D] or of vectors [D]."""

    files = False

    def __init__(self, store: FeatureStore, keys: Sequence[str], device: torch.device) -> None:
        """keys: that of each image of the run. ValueError for a key that is missing, or a store of panoramas."""
        shape = store.header.shape
        if len(shape) not in (1, 3):
            raise ValueError(
                f"{store.path} holds items of shape {shape}; expected (D,) or (h, w, D), the features of images: "
                f"{MAKE_STORE}"
            )
        self.size = Size(shape[-1], *(shape[:2] if len(shape) == 3 else (1, 1)))
        self.record = source_record(store)
        self._store, self._rows, self._device = store, store.rows(keys), device
        self._table: Tensor | None = None
        if device.type == "cuda":
            used, which = np.unique(self._rows, return_inverse=True)
            free_bytes, _ = torch.cuda.mem_get_info(device)
            if len(used) * store.header.item_bytes <= RESIDENT_SHARE * free_bytes:
                self._table, self._rows = store.to(device, used), which

    def load(self, images: np.ndarray) -> Tensor:
        rows = self._rows[images]
        return torch.from_numpy(rows if self._table is not None else self._store.gather(rows))

    def features(self, loaded: Tensor) -> Tensor:
        loaded = loaded.to(self._device, non_blocking=True)
        found = (loaded if self._table is None else self._table[loaded]).float()
        return found.view(len(found), self.size.height, self.size.width, self.size.dim)


def source_record(store: FeatureStore) -> dict[str, Any]:
    """What decides whether two stores are interchangeable, with how images became features."""
    return {**store.origin(), "shape": list(store.header.shape), "preprocessing": store.header.preprocessing}


class EncoderSource:
    """An encoder that sees image files while the task runs; frozen, or trained with the task.

    Attributes beside those of `Source`: encoder, how (transform, point of the grid).
    """

    files = True

    def __init__(
        self, encoder: ImageEncoder, how: Preprocessing, layer: ImageLayer, paths: Sequence[Path], workers: int = 2
    ) -> None:
        """paths: the file of each image of the run; workers: threads that read them."""
        self.encoder, self.how, self._layer, self._paths = encoder, how, layer, paths
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="images")
        if layer == "grid":
            height, width = encoder.grid_shape(how.transform.height_px, how.transform.width_px)
            self.size = Size(encoder.grid_dim, height, width)
        else:
            blank = torch.zeros(1, 3, how.transform.height_px, how.transform.width_px, device=encoder.device)
            with torch.no_grad():
                self.size = Size(encoded(encoder, blank, layer, how.point).shape[1], 1, 1)
        shape = [self.size.height, self.size.width, self.size.dim] if layer == "grid" else [self.size.dim]
        words = preprocessing_words(encoder, how.transform, layer, how.point, how.upright)
        fields = dataclasses.replace(encoder.record, preprocessing=words).header_fields()
        self.record = {**fields, "layer": layer, "channel_order": "RGB", "shape": shape, "trained": self.trained}
        if isinstance(encoder, ClipEncoder):
            self.record["positions"] = encoder.positions

    @property
    def trained(self) -> bool:
        """Whether the encoder learns with the task."""
        return isinstance(self.encoder, ClipEncoder) and self.encoder.trainable

    def load(self, images: np.ndarray) -> Tensor:
        """Pixels uint8 [B, 3, H, W]; ValueError that names an image which is missing or broken."""
        return torch.stack(list(self._threads.map(self._pixels, [self._paths[image] for image in images])))

    def _pixels(self, path: Path) -> Tensor:
        return self.how.transform.pixels(open_image(path, upright=self.how.upright))

    def features(self, loaded: Tensor) -> Tensor:
        inputs = self.how.transform.normalised(loaded.to(self.encoder.device, non_blocking=True))
        with torch.set_grad_enabled(self.trained and torch.is_grad_enabled()):
            found = encoded(self.encoder, inputs, self._layer, self.how.point)
        return found.view(len(found), self.size.height, self.size.width, self.size.dim)


class Vision(nn.Module):
    """All sources of a run side by side. Its parameters are those of encoders that learn; frozen encoders and stores
    are no part of its state. Attributes: sizes, files (whether image files are read)."""

    def __init__(self, sources: Sequence[Source]) -> None:
        super().__init__()
        self.sources = tuple(sources)
        self.sizes = tuple(source.size for source in sources)
        self.files = any(source.files for source in sources)
        learning = [s.encoder for s in sources if isinstance(s, EncoderSource) and s.trained]
        self.encoders = nn.ModuleList(encoder for encoder in learning if isinstance(encoder, ClipEncoder))

    @property
    def record(self) -> list[dict[str, Any]]:
        """What a checkpoint keeps of each source."""
        return [source.record for source in self.sources]

    @property
    def fitted(self) -> ImageTransform | None:
        """How images were fitted to the encoder of the first source, None where nobody recorded it; its constants of
        colour are not recorded."""
        try:
            return read_preprocessing(self.record[0].get("preprocessing"), ImageTransform()).transform
        except ValueError:
            return None

    def load(self, images: Tensor | np.ndarray) -> list[Tensor]:
        """What is read on the host for images [B] of the run, a tensor a source, then their rows [B] in it: files are
        read, and seen by an encoder, once, however many questions of a batch are about them."""
        numbers = np.asarray(images, np.int64)
        rows = np.arange(len(numbers))
        if self.files and len(each := np.unique(numbers)) < len(numbers):
            numbers, rows = each, np.searchsorted(each, numbers)
        return [*(source.load(numbers) for source in self.sources), torch.from_numpy(rows)]

    def forward(self, loaded: Sequence[Tensor]) -> list[Tensor]:
        """Features float32 [B, h, w, D] of each source, on the device, of what `load` gave."""
        *parts, rows = loaded
        features = [source.features(one) for source, one in zip(self.sources, parts, strict=True)]
        if len(features[0]) == len(rows):
            return features
        return [found[rows.to(found.device, non_blocking=True)] for found in features]

    def parameter_groups(self, lr: float, **options: Any) -> list[dict[str, Any]]:
        """Groups named `clip` of the image towers that learn, for an optimizer of their own."""
        learning = [encoder for encoder in self.encoders if isinstance(encoder, ClipEncoder)]
        return [group for encoder in learning for group in encoder.parameter_groups(lr, **options)]

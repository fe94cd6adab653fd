"""Turns a folder of images into their features, pooled vectors or grids."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from clip_core.clip_weights import first_line
from clip_core.feature_files import Dtype, Header
from clip_core.features import FeatureStore
from clip_core.images import ImageTransform, Interpolation, ResizeMode, open_image
from clip_core.runtime import Precision, Runtime, start_runtime
from precompute.encode import Work, make_store, worker_threads
from precompute.encoders import ImageEncoder, ImageLayer, Point, encoded, load_encoder
from precompute.image_folder import BrokenImages, find_images
from precompute.preprocessing import parse_size, preprocessing_words, resized_to
from precompute.screen import say

GROUP_PIXELS = {"cpu": 32 * 224 * 224, "cuda": 256 * 224 * 224}
"""Pixels in a batch of the encoder."""


@dataclass(frozen=True)
class Images:
    """Make the features of every image of a folder, for the vision-and-language tasks: vectors or grids.

    An item is named by the path of its image in the folder, without suffix. Images that cannot be read are listed in
    OUT.broken.jsonl, the rest is done. A run that was interrupted continues when the same command is given again.
    Several GPUs: torchrun --nproc-per-node=N -m precompute images ...
    CLIP-ViL's inputs: --layer grid with --size 600x1000 (VQA), --size 448x448 (captioning), or --size 384x640 --fit
    longest (pre-training, images that are wider than high).
    """

    images: Path
    """Folder of the images, with their folders: .jpg, .jpeg, .png, .webp, .bmp."""
    out: Path
    """Folder of the store to make."""
    model: str = "ViT-B-32"
    """Encoder as open_clip names it, local-dir:FOLDER, or efficientnet-lite0."""
    pretrained: str | None = None
    """Tag of its weights, e.g. openai; random for untrained ones."""
    weights: Path | None = None
    """Weights file; --pretrained then says which weights they are."""
    layer: ImageLayer = "projected"
    """projected: joint space with texts; unprojected: the pooled vector before it; grid: a vector for each cell."""
    point: Point = "captioning"
    """Where a ViT's grid is taken in CLIP-ViL's recipes: after the last block; after the last LayerNorm too (mcan,
    pretraining); one block earlier (pythia). An RN's is always its last map."""
    size: str | None = None
    """Height x width of the encoder's input in pixels, e.g. 600x1000; default: the model's own."""
    fit: ResizeMode | None = None
    """How an image is brought to that size: squash (to it, whatever its shape), shortest (then cut to the centre),
    longest (then padded with black); default: squash with --size, else the model's own way."""
    interpolation: Interpolation | None = None
    """bilinear as CLIP-ViL in VQA and pre-training, or bicubic; default: the model's own, bicubic for CLIP."""
    ignore_orientation: bool = False
    """Leave images as they are stored, like open_clip; otherwise the camera's orientation tag turns them upright."""
    strict: bool = False
    """Stop at the first image that cannot be read."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N."""
    precision: Precision = "fp32"
    """fp32, or bf16 autocast (fast on a GPU; slower than fp32 on most CPUs)."""
    dtype: Dtype = "float16"
    """Number format of the store."""
    batch: int | None = None
    """Images that the encoder sees at once; default: as many as 32 (on a GPU 256) of 224 x 224 pixels."""
    workers: int | None = None
    """Threads that read images; default: 1 beside an encoder on the CPU, else one a core."""


def images(config: Images, console: Console | None = None) -> FeatureStore:
    """Makes the store that the config asks for; keys as of `find_images`, items [D] or [h, w, D]. Memory is constant.

    Raises ValueError for what `make_store` and `find_images` say, an unknown model, weights that do not fit, a layer or
    size that the model does not have, a folder of broken images alone, and with `strict` the first broken one.
    """
    console = Console() if console is None else console
    with start_runtime(config.device, config.precision) as runtime:
        return make_images(config, runtime, console)


def make_images(config: Images, runtime: Runtime, console: Console) -> FeatureStore:
    """`images` in a process whose runtime has been started; every rank calls it."""
    for name in ("batch", "workers"):
        if (value := getattr(config, name)) is not None and value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1")
    size = parse_size(config.size)
    paths = find_images(config.images)
    encoder = load_encoder(
        config.model,
        config.pretrained,
        config.weights,
        device=runtime.device,
        precision=config.precision,
        channels_last=True,
    )
    transform = resized_to(encoder.transform, size, config.fit, config.interpolation)
    broken = _broken_list(config, runtime)
    encode = ImageFolderEncoder(config, encoder, transform, paths, broken)
    pixels = encode.transform.height_px * encode.transform.width_px
    work = Work(
        keys=tuple(paths),
        prepare=encode.prepare,
        encode=encode.features,
        group=config.batch or max(1, GROUP_PIXELS[runtime.device.type] // pixels),
        workers=config.workers or worker_threads(runtime.device),
    )
    return _made(config.out, encode.header(), work, broken, runtime, console)


def _broken_list(config: Images, runtime: Runtime) -> BrokenImages:
    """The list of the images that an earlier run found broken, which stay out."""
    broken = BrokenImages(config.out)
    if runtime.is_main:
        broken.begin()
    runtime.largest(0)  # no rank reads the list of an earlier store
    broken.load()
    if config.strict and broken.reasons:
        raise ValueError(
            f"{broken.path} lists {len(broken.reasons)} broken images of an earlier run; mend them, then remove "
            f"{config.out} and {config.out.name}.part* to begin anew, or leave out --strict"
        )
    return broken


def _made(
    out: Path, header: Header, work: Work, broken: BrokenImages, runtime: Runtime, console: Console
) -> FeatureStore:
    """The store, what was left out of it being said whether or not it could be made."""
    try:
        store = make_store(out, header, work, runtime, console)
    finally:
        if runtime.is_main:
            broken.load()
            _say_broken(console, broken, len(work.keys))
    if not runtime.is_main:
        return store
    broken.sort()
    missing = sorted(set(work.keys) - set(broken.reasons) - set(store.keys))
    if missing:
        raise ValueError(
            f"{out} lacks {len(missing)} images of the folder, e.g. {missing[0]}, and {broken.path.name} does not list "
            "them as broken; remove the store to make it anew, or choose another name with --out"
        )
    return store


def _say_broken(console: Console, broken: BrokenImages, n_images: int) -> None:
    if broken.reasons:
        first = min(broken.reasons)
        say(console, f"Warning: left out {len(broken.reasons)} of {n_images} images that cannot be read: {broken.path}")
        say(console, f"lists them; the first: {broken.reasons[first]}")


class ImageFolderEncoder:
    """Reads the images of a folder and encodes them."""

    def __init__(
        self,
        config: Images,
        encoder: ImageEncoder,
        transform: ImageTransform,
        paths: Mapping[str, Path],
        broken: BrokenImages,
    ) -> None:
        self.transform = transform
        self._config, self._encoder, self._paths, self._broken = config, encoder, paths, broken

    def prepare(self, key: str) -> Tensor | None:
        """Pixels of an image, uint8 [3, h, w]; None, and a line in the list, for one that cannot be read."""
        if key in self._broken.reasons:
            return None
        try:
            _check_name(key)
            return self.transform.pixels(open_image(self._paths[key], upright=not self._config.ignore_orientation))
        except ValueError as error:
            if self._config.strict:
                raise
            self._broken.add(key, str(error))
            return None

    def features(self, pixels: list[Tensor]) -> Tensor:
        """Rows float32 [n, D] or [n, h, w, D] of n images."""
        inputs = self.transform.normalised(torch.stack(pixels).to(self._encoder.device))
        return encoded(self._encoder, inputs, self._config.layer, self._config.point)

    def header(self) -> Header:
        """How the features are made. Encodes a blank image, which shows their shape, or that the model has none."""
        config, record = self._config, self._encoder.record
        blank = torch.zeros(3, self.transform.height_px, self.transform.width_px, dtype=torch.uint8)
        try:
            with torch.inference_mode():
                shape = tuple(self.features([blank]).shape[1:])
        except (RuntimeError, AssertionError) as error:  # a tower of timm, at a size other than its own
            raise ValueError(
                f"{record.model} does not take images of {config.size} px ({first_line(error)}); leave out --size"
            ) from error
        words = preprocessing_words(
            self._encoder, self.transform, config.layer, config.point, not config.ignore_orientation
        )
        fields: dict[str, Any] = {**dataclasses.replace(record, preprocessing=words).header_fields()}
        return Header(
            source=f"{len(self._paths)} images of {config.images.resolve().name}",
            shape=shape,
            dtype=config.dtype,
            layer=config.layer,
            channel_order="RGB",
            **fields,
        )


def _check_name(key: str) -> None:
    """ValueError for a name that cannot be a line of the store's keys."""
    if "\n" in key or "\r" in key or key.encode(errors="replace").decode() != key:
        raise ValueError(f"its name {key!a} is no line of text in UTF-8; rename it")

"""Which data a task runs on, what it sees with: what the flags name, or the built-in houses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from clip_core.clip_weights import CONFIG_FILE, LOCAL_DIR, RANDOM, SUFFIXES
from clip_core.encoder import ClipEncoder
from clip_core.features import FeatureStore
from clip_core.images import Interpolation, ResizeMode
from clip_core.runtime import Precision, Runtime
from clip_core.shipped import MODEL, TAG, recorded_checksum
from clip_core.towers import Positions
from envs.houses.built_in import world_folder
from envs.houses.pictures import FOLDER
from precompute.encoders import ImageEncoder, ImageLayer, Point, load_encoder
from precompute.image_folder import find_images
from precompute.images import Images, make_images
from precompute.prepare import prepare
from precompute.preprocessing import Preprocessing, parse_size, read_preprocessing, resized_to
from precompute.screen import say
from vl_tasks.data import ImageKeys
from vl_tasks.vision import MAKE_STORE, EncoderSource, NoSight, Source, StoreSource, Vision

BUILT_IN_SIZE = "192x256"
"""Height x width in pixels at which the embedded CLIP sees the pictures of the houses: a grid of 6 x 8 cells."""


@dataclass(frozen=True)
class VisionConfig:
    """What a task sees with."""

    features: tuple[Path, ...] = ()
    """Feature stores of the images (python -m precompute images), grids or vectors; several stand side by side, each
    with its own projection. Default: grids of the embedded CLIP in the built-in houses, else --encoder."""
    encoder: str | None = None
    """See the image files with this encoder while the task runs, e.g. ViT-B-32: open_clip's name, local-dir:FOLDER, or
    efficientnet-lite0. Beside --features it is one more source."""
    encoder_weights: str | None = None
    """Weights of --encoder (without it: of the embedded CLIP): a tag such as openai, a weights file, or random."""
    train_encoder: bool = False
    """Train --encoder with the task, by SGD (--encoder-lr); its BatchNorm statistics stay."""
    blind: bool = False
    """See nothing: the baseline that answers from the words alone."""
    size: str | None = None
    """Of --encoder: height x width of its input in pixels, e.g. 600x1000 (CLIP-ViL's VQA), 448x448 (captioning)."""
    fit: ResizeMode | None = None
    """Of --encoder: how an image is brought to that size: squash, shortest (cut to the centre), longest (padded)."""
    interpolation: Interpolation | None = None
    """Of --encoder: filter of that; default: the model's own, bicubic for CLIP."""
    layer: ImageLayer = "grid"
    """Of --encoder: grid, or one vector an image: projected (joint space with texts), unprojected."""
    point: Point = "captioning"
    """Of --encoder: where a ViT's grid is taken (python -m precompute images --help)."""
    positions: Positions = "bicubic"
    """Of --encoder: how its positional embedding is carried to another grid; zero repeats the fault of CLIP-ViL's
    released ViT code."""

    def __post_init__(self) -> None:
        if self.blind and (self.features or self.encoder is not None):
            raise ValueError("--blind sees nothing: leave out --features, --encoder")
        if self.train_encoder and self.encoder is None:
            raise ValueError("--train-encoder needs --encoder MODEL: features of a store cannot be trained")


def open_vision(
    config: VisionConfig,
    images: Sequence[tuple[str, ...]],
    folder: Path | None,
    device: torch.device,
    precision: Precision = "fp32",
) -> Vision:
    """What the flags name, for the images of a run (by the names that their files may have).

    Raises ValueError if nothing is named, for images that are missing, for whatever the parts say.
    """
    if config.blind:
        return Vision([NoSight(device)])
    sources: list[Source] = [_stored(FeatureStore.open(path), images, device) for path in config.features]
    if config.encoder is not None:
        encoder = _encoder(config.encoder, config.encoder_weights, config, device, precision)
        transform = resized_to(encoder.transform, parse_size(config.size), config.fit, config.interpolation)
        how = Preprocessing(transform, True, config.point, precision)
        sources.append(EncoderSource(encoder, how, config.layer, image_files(images, folder)))
    if not sources:
        raise ValueError(
            "nothing to see with: expected --features STORE (python -m precompute images), --encoder MODEL with "
            "--images FOLDER, or --blind"
        )
    return Vision(sources)


def reopen_vision(
    records: Sequence[Mapping[str, Any]],
    config: VisionConfig,
    images: Sequence[tuple[str, ...]],
    folder: Path | None,
    device: torch.device,
) -> Vision:
    """What a trained model saw with, as `Vision.record` tells, for other images: the stores named by the config as far
    as they go, in their order; for the rest the encoders themselves, untrained weights as they were before training.

    Raises ValueError for stores, weights that differ from those of training.
    """
    named, sources = list(config.features), list[Source]()
    for record in records:
        if record.get("blind"):
            sources.append(NoSight(device))
        elif named and not record.get("trained"):
            store = FeatureStore.open(named.pop(0))
            store.check(command=MAKE_STORE, **_origin(record))
            sources.append(_stored(store, images, device))
        else:
            encoder, how = encoder_of(record, config, device)
            sources.append(EncoderSource(encoder, how, record["layer"], image_files(images, folder)))
    if named:
        stored = len(config.features) - len(named)
        raise ValueError(
            f"--features names {len(config.features)} stores; the model saw with {stored} that a store can stand for "
            "(none for an encoder that was trained with it, none for a blind model): leave out the others"
        )
    return Vision(sources)


def encoder_of(
    record: Mapping[str, Any], config: VisionConfig, device: torch.device
) -> tuple[ImageEncoder, Preprocessing]:
    """The encoder that gave the features of a record, and how it saw images.

    Raises ValueError if the record does not tell, if a `local-dir:` is not here (only its last name is recorded), or if
    the weights on this machine are others.
    """
    model = config.encoder or record.get("model")
    if model is None:
        raise ValueError(
            "the features of this model do not record which encoder made them: name their store with --features"
        )
    if config.encoder is None and model.startswith(LOCAL_DIR):
        folder = Path(model.removeprefix(LOCAL_DIR))
        if not (folder / CONFIG_FILE).exists():
            store = (
                "" if record.get("trained") else ", or (not for ask) the store of its features with --features STORE"
            )
            raise ValueError(
                f"the model saw with {model}, which is not found: there is no {folder / CONFIG_FILE} here; name its "
                f"folder with --encoder {LOCAL_DIR}FOLDER{store}"
            )
    precision: Precision = "bf16" if str(record.get("preprocessing")).endswith(", bf16") else "fp32"
    chosen = replace(
        config, train_encoder=False, positions=record.get("positions", "bicubic"), encoder=model, features=()
    )
    encoder = _encoder(model, config.encoder_weights or record.get("pretrained"), chosen, device, precision)
    if encoder.record.weights_sha256 != record.get("weights_sha256") and not record.get("trained"):
        raise ValueError(
            f"the weights of {model} here are {encoder.record.weights_sha256}, those of training were "
            f"{record.get('weights_sha256')}; name the same with --encoder, --encoder-weights"
        )
    how = read_preprocessing(record.get("preprocessing"), encoder.transform)
    if record.get("trained") and isinstance(encoder, ClipEncoder):
        _free_tower(encoder)
    return encoder, how


def image_files(images: Sequence[tuple[str, ...]], folder: Path | None) -> list[Path]:
    """The file of each image; ValueError for those that are missing."""
    if folder is None:
        raise ValueError("the image files are needed to see them with an encoder: expected --images FOLDER")
    files = find_images(folder)
    keys = ImageKeys(files, str(folder)).find_all(images)
    return [files[keys[names]] for names in images]


def _stored(store: FeatureStore, images: Sequence[tuple[str, ...]], device: torch.device) -> StoreSource:
    keys = ImageKeys(store.keys, str(store.path)).find_all(images)
    return StoreSource(store, [keys[names] for names in images], device)


def _origin(record: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the header that another store must have; JSON, which checkpoints keep, knows lists only."""
    names = ("model", "pretrained", "weights_sha256", "layer", "channel_order", "shape", "preprocessing")
    return {name: tuple(record[name]) if name == "shape" else record.get(name) for name in names}


def _encoder(
    model: str, weights: str | None, config: VisionConfig, device: torch.device, precision: Precision
) -> ImageEncoder:
    file = weights if weights is not None and Path(weights).suffix in SUFFIXES else None
    options: dict[str, Any] = {"precision": precision, "channels_last": device.type == "cuda"}
    if config.positions != "bicubic":
        options["positions"] = config.positions
    encoder = load_encoder(model, None if file else weights, file, device=device, **options)
    if config.train_encoder:
        if not isinstance(encoder, ClipEncoder):
            raise ValueError(f"--train-encoder: {model} is no CLIP model; expected one")
        _free_tower(encoder)
    return encoder


def _free_tower(encoder: ClipEncoder) -> None:
    """The image tower learns; the text tower, which no task uses, stays."""
    encoder.set_trainable(True)
    for name, parameter in encoder.clip.named_parameters():
        parameter.requires_grad_(name.startswith("visual."))


@dataclass(frozen=True)
class Data:
    """Where the files of a data set lie, its images, and whether it is that of the built-in houses."""

    folder: Path
    images: Path | None
    built_in: bool


def choose_data(
    data: Path | None, images: Path | None, vision: VisionConfig, runtime: Runtime, console: Console
) -> tuple[Data, VisionConfig]:
    """The folder named, else the built-in houses, made now with their grids if this is the first time. Every rank calls
    it. Images: the folder named, else `images` in the data folder if it is there."""
    if data is not None:
        if not data.is_dir():
            raise ValueError(f"no folder {data}; expected the files of the data set (docs/data.md)")
        inside = data / "images"
        return Data(data, images or (inside if inside.is_dir() else None), False), vision
    if runtime.is_main:
        say(console, "no --data given: using the built-in procedural houses (other data: --data DIR, see docs/data.md)")
    folder = prepare(runtime, console, features=False) / FOLDER
    found = Data(folder, folder / "images", True)
    if vision.blind or vision.features or vision.encoder is not None:
        return found, vision
    store = built_in_grids(found, vision.encoder_weights, runtime, console)
    return found, replace(vision, features=(store,), encoder_weights=None)


def built_in_grids(data: Data, weights: str | None, runtime: Runtime, console: Console) -> Path:
    """Store of the grids that the embedded CLIP (or the same architecture untrained) sees in the built-in pictures,
    made now if it is not there. ValueError for other weights."""
    if weights not in (None, TAG, RANDOM):
        raise ValueError(
            f"--encoder-weights is {weights!r} without --encoder; expected {TAG} or {RANDOM}, for the embedded CLIP"
        )
    kind = RANDOM if weights == RANDOM else f"clip-{recorded_checksum()[:8]}"
    store = world_folder() / "features" / f"grids-{kind}-{BUILT_IN_SIZE}"
    if not store.exists():
        assert data.images is not None
        if runtime.is_main:
            say(console, f"Encoding their pictures with {MODEL} ({weights or TAG}) into {store} (once):")
        config = Images(
            images=data.images, out=store, model=MODEL, pretrained=weights or TAG, layer="grid", size=BUILT_IN_SIZE
        )
        make_images(config, runtime, console)
    return store

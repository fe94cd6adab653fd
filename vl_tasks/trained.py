"""A trained model's sight again: over a split, or over one image file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor

from clip_core.clip_weights import RANDOM
from clip_core.images import open_image
from clip_core.runtime import Runtime
from clip_core.shipped import MODEL
from envs.files import replacing
from precompute.screen import say
from vl_tasks.overlay import heat_overlay, png_bytes, seen_part
from vl_tasks.sources import Data, VisionConfig, choose_data, encoder_of
from vl_tasks.task import AskConfig, UseConfig
from vl_tasks.vision import EncoderSource, NoSight, Source, Vision


def trained_data(
    config: UseConfig, record: Sequence[dict[str, Any]], runtime: Runtime, console: Console
) -> tuple[Data, VisionConfig]:
    """Data and stores to use a model on; in the built-in houses the grids that it was trained on, if it was.

    record: of the sources of the model (`Vision.record`).
    """
    built_in = len(record) == 1 and record[0].get("model") == MODEL and not record[0].get("trained")
    chosen = config.vision
    if config.data is None and built_in and not chosen.features and chosen.encoder is None:
        weights = RANDOM if record[0].get("pretrained") == RANDOM else None
        return choose_data(None, config.images, replace(chosen, encoder_weights=weights), runtime, console)
    data, _ = choose_data(config.data, config.images, VisionConfig(blind=True), runtime, console)
    return data, chosen


@dataclass(frozen=True, eq=False)
class SeenFile:
    """An image file as a model sees it. features: [1, h, w, D] of each source; sources: those."""

    image: Image.Image
    features: list[Tensor]
    sources: list[Source]

    def overlay(self, heat: np.ndarray) -> Image.Image | None:
        """The image under a map [h, w] of the first source; None where there is nothing to lay over it."""
        source = self.sources[0]
        if heat.size <= 1 or not isinstance(source, EncoderSource):
            return None
        return heat_overlay(seen_part(self.image, source.how.transform), heat)


def see_file(
    config: AskConfig, record: Sequence[Mapping[str, Any]], weights: Mapping[str, Tensor], device: torch.device
) -> SeenFile:
    """What a model sees of the image file of a config.

    record: of its sources; weights: of encoders that were trained with it. ValueError for a file that is missing or
    broken, and for an encoder that is not here.
    """
    image = open_image(config.image, upright=True)
    chosen = VisionConfig(encoder=config.encoder, encoder_weights=config.encoder_weights)
    sources: list[Source] = []
    for one in record:
        if one.get("blind"):
            sources.append(NoSight(device))
            continue
        encoder, how = encoder_of(one, chosen, device)
        sources.append(EncoderSource(encoder, how, one["layer"], [config.image], 1))
    vision = Vision(sources).to(device)
    vision.load_state_dict(dict(weights))
    vision.eval()
    with torch.no_grad():
        return SeenFile(image, vision(vision.load(torch.zeros(1, dtype=torch.int64))), sources)


def write_overlay(config: AskConfig, picture: Image.Image | None, console: Console, words: str) -> None:
    """The picture into the file that the config names, said with some words; nothing for None."""
    if picture is not None:
        with replacing(config.overlay_file) as file:
            file.write(png_bytes(picture))
        say(console, f"{words}: {config.overlay_file}")

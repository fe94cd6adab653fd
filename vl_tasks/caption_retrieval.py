"""The baseline of captioning: say what was said of the most similar training image.

Legend: Q images of a split, R images of train, D features of all sources.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from vl_tasks.captioning_data import CaptionSet
from vl_tasks.vision import Vision

BATCH = 256


def nearest_captions(vision: Vision, split: CaptionSet, train: CaptionSet) -> dict[int, str]:
    """For each image of a split the first caption of the training image whose pooled features are nearest by cosine."""
    keys_RD = pooled(vision, train.image)
    captions = {}
    for some, numbers in zip(
        pooled(vision, split.image).split(BATCH), torch.arange(len(split)).split(BATCH), strict=True
    ):
        for number, nearest in zip(numbers.tolist(), (some @ keys_RD.T).argmax(1).tolist(), strict=True):
            captions[split.records[number].image_id] = train.records[nearest].captions[0]
    return captions


@torch.no_grad()
def pooled(vision: Vision, images: Tensor) -> Tensor:
    """Vectors [Q, D] of images by their numbers in the run: means over the cells of each source, of length 1."""
    vectors = []
    for some in images.split(BATCH):
        features = vision(vision.load(some))
        vectors.append(torch.cat([F.normalize(one.flatten(1, 2).mean(1), dim=1) for one in features], 1))
    return torch.cat(vectors)

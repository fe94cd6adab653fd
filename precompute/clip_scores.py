"""How well an encoder knows the views of houses: retrieval, zero-shot rooms and colours, a linear probe.

N views, L labels, D feature.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from clip_core.encoder import ClipEncoder
from envs.houses.wording import shows_colour
from precompute.house_views import HouseViews
from precompute.view_batches import pictures_of
from precompute.view_text import (
    COLOUR_NAMES,
    ROOM_KINDS,
    Label,
    captions_of,
    colour_prompts,
    label_matrix,
    room_prompts,
)

PAIRS = 500
ROOM_PERMILLE, COLOUR_PERMILLE = 700, 20
RIDGE = 1e-2
"""Regularisation of the probe, times the number of views; features have variance 1."""
LEAST_VIEWS = 10
_CHUNK = 256


@torch.no_grad()
def vectors_of(encoder: ClipEncoder, views: HouseViews, numbers: np.ndarray, *, projected: bool = True) -> Tensor:
    """float32 [N, D] on the CPU, of views in the middle of their pictures, in evaluation mode."""
    training = encoder.training
    encoder.eval()
    chunks = (numbers[i : i + _CHUNK] for i in range(0, len(numbers), _CHUNK))
    found = [encoder.image_vectors(encoder.transform.batch(pictures_of(views, c)), projected=projected) for c in chunks]
    encoder.train(training)
    return torch.cat(found).cpu()


@torch.no_grad()
def retrieval(encoder: ClipEncoder, views: HouseViews, seed: int, pairs: int = PAIRS) -> dict[str, float]:
    """Fractions: R@1 and R@5 of captions for views and of views for captions, among `pairs` views of unseen houses.

    Views are drawn at random among those that show something clear; each brings one caption. A caption that was drawn
    before is not taken again, so each is one text; it may still be true of another view, which counts as an error.
    """
    rng = np.random.default_rng((seed, 500))
    numbers: list[int] = []
    texts: list[str] = []
    for number in rng.permutation(len(views)):
        if len(numbers) == pairs:
            break
        if not views.sight(number).clear:
            continue
        text = captions_of(views, [number], rng, 1)[0][0]
        if text not in texts:
            numbers.append(int(number))
            texts.append(text)
    images = functional.normalize(vectors_of(encoder, views, np.array(numbers)), dim=-1)
    words = functional.normalize(encoder.text_vectors(encoder.tokenize(texts, truncate=True)).cpu(), dim=-1)
    similar = images @ words.T
    found: dict[str, float] = {"pairs": float(len(texts))}
    for name, scores in (("view_to_caption", similar), ("caption_to_view", similar.T)):
        rank = (scores > scores.diagonal()[:, None]).sum(1)
        found |= {f"{name}/r{k}": float((rank < k).float().mean()) for k in (1, 5)}
    return found


@torch.no_grad()
def prompt_vectors(encoder: ClipEncoder, prompts: Sequence[Sequence[str]]) -> Tensor:
    """float32 [classes, D]: the normalised mean over the prompts of each class."""
    flat = [text for texts in prompts for text in texts]
    vectors = functional.normalize(encoder.text_vectors(encoder.tokenize(flat, truncate=True)).cpu(), dim=-1)
    means = [part.mean(0) for part in vectors.split([len(texts) for texts in prompts])]
    return functional.normalize(torch.stack(means), dim=-1)


def zero_shot_room(encoder: ClipEncoder, views: HouseViews) -> dict[str, float]:
    """Accuracy of the kind of room by prompts, on level views of which one room fills 70 % and something is clear;
    `chance` is the share of the most frequent kind."""
    sights = {n: views.sight(n) for n in range(len(views))}
    chosen = [n for n, s in sights.items() if s.elevation == 0 and s.permille >= ROOM_PERMILLE and s.clear]
    truth = torch.tensor([ROOM_KINDS.index(sights[n].kind) for n in chosen])
    images = vectors_of(encoder, views, np.array(chosen))
    scores = images @ prompt_vectors(encoder, [room_prompts(kind) for kind in ROOM_KINDS]).T
    return {
        "accuracy": float((scores.argmax(1) == truth).float().mean()),
        "chance": float(truth.bincount().max() / len(truth)),
        "views": float(len(truth)),
    }


def zero_shot_colour(encoder: ClipEncoder, views: HouseViews) -> dict[str, float]:
    """Accuracy of the colour of the one clear object of its category in a view, among all colours, by prompts;
    `chance` is the share of the most frequent colour."""
    asked: list[tuple[int, str, str]] = []
    for number in range(len(views)):
        items = views.sight(number).clear
        kinds = [item.category for item in items]
        asked += [
            (number, item.category, item.colour)
            for item in items
            if item.share >= COLOUR_PERMILLE and kinds.count(item.category) == 1 and shows_colour(item)
        ]
    categories = sorted({category for _, category, _ in asked})
    prompts = [colour_prompts(category, colour) for category in categories for colour in COLOUR_NAMES]
    words = prompt_vectors(encoder, prompts).reshape(len(categories), len(COLOUR_NAMES), -1)
    numbers = sorted({number for number, _, _ in asked})
    images = dict(zip(numbers, vectors_of(encoder, views, np.array(numbers)), strict=True))
    right = [
        COLOUR_NAMES[int((words[categories.index(category)] @ images[number]).argmax())] == colour
        for number, category, colour in asked
    ]
    most = max(sum(colour == c for _, _, colour in asked) for c in COLOUR_NAMES)
    return {"accuracy": float(np.mean(right)), "chance": most / len(asked), "objects": float(len(asked))}


def linear_probe(
    encoder: ClipEncoder,
    seen: HouseViews,
    unseen: HouseViews,
    labels: Sequence[Label],
    seed: int,
    *,
    projected: bool = True,
    most: int = 8000,
) -> dict[str, float]:
    """What a linear reader finds in frozen vectors: mean average precision over labels (category with colour).

    Ridge regression on views of seen houses, judged on views of unseen ones, at most `most` of each; labels with fewer
    than `LEAST_VIEWS` views there are left out.
    """
    rng = np.random.default_rng((seed, 600))
    train, test = (np.sort(rng.permutation(len(v))[:most]) for v in (seen, unseen))
    x, z = (vectors_of(encoder, v, n, projected=projected) for v, n in ((seen, train), (unseen, test)))
    mean, scale = x.mean(0), x.std(0) + 1e-6
    x, z = (torch.cat([(part - mean) / scale, torch.ones(len(part), 1)], dim=1).double() for part in (x, z))
    y = torch.from_numpy(label_matrix(seen, train.tolist(), labels)).double()
    truth = torch.from_numpy(label_matrix(unseen, test.tolist(), labels))
    gram = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    scores = z @ torch.linalg.solve(gram, x.T @ y)
    kept = (truth.sum(0) >= LEAST_VIEWS).nonzero()[:, 0].tolist()
    precisions = [average_precision(scores[:, k], truth[:, k]) for k in kept]
    base = float(truth[:, kept].double().mean()) if len(kept) else 0.0
    return {"map": float(np.mean(precisions)) if precisions else 0.0, "chance": base, "labels": float(len(kept))}


def average_precision(scores: Tensor, truth: Tensor) -> float:
    """Mean precision at the true ones [N] bool, in order of falling scores [N]."""
    right = truth[scores.argsort(descending=True, stable=True)].double()
    precision = right.cumsum(0) / torch.arange(1, len(right) + 1)
    return float((precision * right).sum() / right.sum())

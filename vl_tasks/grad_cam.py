"""Where in an image CLIP finds a text: Grad-CAM of their similarity (Selvaraju et al. 2017, arXiv 1610.02391).

One method for both kinds of tower, at the last place where cells still act on the image's vector: of an RN the maps of
stage 4, which the attention pooling reads; of a ViT the normed tokens that the last block's attention reads (after it
the class token alone counts). CLIP-ViL's notebook uses Grad-CAM for RN, a relevance map for ViT.

Legend: T texts, h x w cells of a grid, N = h w, D channel, E joint space.
"""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn
from torch.nn import functional as F

from clip_core.encoder import ClipEncoder
from clip_core.images import open_image
from clip_core.runtime import start_runtime
from clip_core.shipped import MODEL
from envs.files import replacing
from precompute.encoders import load_encoder
from precompute.preprocessing import parse_size, resized_to
from precompute.screen import say
from vl_tasks.analyse_config import EncoderChoice, GradCam
from vl_tasks.overlay import heat_overlay, png_bytes, seen_part, word_sheet
from vl_tasks.sources import BUILT_IN_SIZE


def grad_cam(encoder: ClipEncoder, image: Tensor, texts_TE: Tensor) -> tuple[Tensor, Tensor]:
    """Heat [T, h, w], 0 or more, and cosine similarity [T] of an image and each text.

    image: normalised, [3, H, W]; texts_TE: vectors of the texts in the joint space. A channel weighs the mean of its
    gradient over the cells; heat is where the weighted sum of the channels is positive.
    Raises ValueError for towers whose cells this method cannot reach.
    """
    point = _point(encoder)
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0]

    handle = point.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            vector_1E = encoder.image_vectors(image[None])
            similar_T = F.cosine_similarity(vector_1E, texts_TE.to(vector_1E.device))
            rows = [
                torch.autograd.grad(one, kept[0], retain_graph=place + 1 < len(similar_T))[0]
                for place, one in enumerate(similar_T)
            ]
    finally:
        handle.remove()
    shape = encoder.grid_shape(*image.shape[1:])
    cells_ND = _cells(encoder, kept[0].detach(), shape)
    weights_TD = torch.stack([_cells(encoder, row, shape).mean(0) for row in rows])
    heat_TN = (weights_TD @ cells_ND.T).clamp(min=0)
    return heat_TN.float().unflatten(1, shape), similar_T.detach()


def _point(encoder: ClipEncoder) -> nn.Module:
    """The module whose output holds the cells."""
    visual = encoder.clip.visual
    if encoder.kind == "RN":
        return visual.layer4
    if encoder.kind == "ViT" and getattr(visual, "attn_pool", None) is None and visual.pool_type == "tok":
        return visual.transformer.resblocks[-1].ln_1
    raise ValueError(
        f"{encoder.source.model} makes its vector of something else than a class token or an RN's pooling; expected an "
        "RN or ViT of OpenAI's kind"
    )


def _cells(encoder: ClipEncoder, found: Tensor, shape: tuple[int, int]) -> Tensor:
    """[N, D] of what the module gave, or of its gradient."""
    if encoder.kind == "RN":
        return found[0].flatten(1).T.float()
    tokens = found if encoder.clip.visual.transformer.batch_first else found.transpose(0, 1)
    return tokens[0, 1 : 1 + shape[0] * shape[1]].float()


def chosen_encoder(choice: EncoderChoice, device: torch.device, size: str | None = None) -> ClipEncoder:
    """The CLIP model of a choice, its transform as the choice wants it; ValueError if it is none. size: what stands in
    where the choice has none."""
    encoder = load_encoder(choice.encoder, choice.encoder_weights, device=device)
    if not isinstance(encoder, ClipEncoder):
        raise ValueError(f"{choice.encoder} knows no texts; expected a CLIP model")
    encoder.transform = resized_to(encoder.transform, parse_size(choice.size or size), choice.fit, None)
    return encoder


def run_grad_cam(config: GradCam, console: Console) -> list[float]:
    """The command: one picture for all texts; returns their similarities."""
    with start_runtime(config.sees.device) as runtime:
        image = open_image(config.image, upright=True)
        size = BUILT_IN_SIZE if config.sees.encoder == MODEL else None  # its own, 64 x 64, has four cells
        encoder = chosen_encoder(config.sees, runtime.device, size)
        with torch.no_grad():
            texts = encoder.text_vectors(encoder.tokenize(config.texts))
        heat, similar = grad_cam(encoder, encoder.transform(image).to(runtime.device), texts)
    seen = seen_part(image, encoder.transform)
    pictures: list[tuple[str, Image.Image]] = [("", seen)]
    for text, one, value in zip(config.texts, heat.cpu().numpy(), similar.tolist(), strict=True):
        say(console, f"{value:6.3f}  {text}")
        pictures.append((f"{text} ({value:.2f})", heat_overlay(seen, one)))
    with replacing(config.out) as file:
        file.write(png_bytes(word_sheet(pictures)))
    say(console, f"Where {config.sees.encoder} finds them: {config.out}")
    return similar.tolist()

"""Settings of the analyses: CLIP without training, where it looks, runs side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from clip_core.images import ResizeMode
from clip_core.shipped import MODEL

Prompt = Literal["answer", "question", "statement"]
"""answer: the answer alone; question: "question: ... answer: ..." (CLIP-ViL); statement: a sentence made of both by
rules, e.g. "the sofa is red"."""


@dataclass(frozen=True, kw_only=True)
class EncoderChoice:
    """Which CLIP looks."""

    encoder: str = MODEL
    """open_clip's name, e.g. RN50, ViT-B-32, or local-dir:FOLDER. Default: the embedded CLIP of the built-in houses."""
    encoder_weights: str | None = None
    """Its weights: a tag such as openai, a weights file, or random."""
    size: str | None = None
    """Height x width of its input in pixels, e.g. 448x448; default: the model's own (Grad-CAM with the embedded CLIP:
    192x256, a grid of 6 x 8 cells)."""
    fit: ResizeMode | None = None
    """How an image is brought to --size: squash, shortest (cut to the centre), longest (padded)."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, kw_only=True)
class GradCam:
    """Where in an image CLIP finds a text: Grad-CAM of their similarity, for RN and ViT by one method.

    For example:

      python -m vl_tasks analyse grad-cam --image picture.jpg --texts "a red sofa" "a window"
      python -m vl_tasks analyse grad-cam --image dog.jpg --texts "a dog" --encoder ViT-B-32 --encoder-weights openai

    Writes one PNG: the image, then for each text the image with its heat, red where the text is found.
    """

    image: Path
    """The image file."""
    texts: tuple[str, ...]
    """The texts."""
    out: Path = Path("grad_cam.png")
    """PNG to write."""
    sees: Annotated[EncoderChoice, tyro.conf.arg(name="")] = EncoderChoice()

    def __post_init__(self) -> None:
        if not self.texts or not all(text.strip() for text in self.texts):
            raise ValueError("--texts has an empty text or none; expected one or more")


@dataclass(frozen=True, kw_only=True)
class ZeroShot:
    """CLIP alone on visual question answering: the answer whose prompt is nearest to the image.

    For example:

      python -m vl_tasks analyse zero-shot
      python -m vl_tasks analyse zero-shot --data VQA --encoder ViT-B-32 --encoder-weights openai --limit 5000

    Prints the official accuracy by answer type for each kind of prompt, beside that of always giving the type's most
    common answer.
    """

    data: Path | None = None
    """Folder with the files of VQA v2 (docs/data.md). Default: the built-in procedural houses."""
    images: Path | None = None
    """Folder of the image files. Default: images/ in the data folder, if it is there."""
    split: str = "val2014"
    """Split whose questions are answered."""
    candidates_from: str = "train2014"
    """Split whose answers are the candidates."""
    among: Literal["type", "all"] = "type"
    """Candidates of a question: the answers of its answer type, or all answers."""
    most: int = 1000
    """Candidates of a type at most, the most common ones."""
    prompts: tuple[Prompt, ...] = ("answer", "question", "statement")
    """What CLIP reads: the answer alone; `question: ... answer: ...` (CLIP-ViL); a sentence made of both by rules."""
    limit: int | None = None
    """Answer so many questions only, drawn at random: prompts with the question cost a text for each candidate."""
    seed: int = 0
    """Seed of that draw."""
    json: Path | None = None
    """Write the accuracies to this file."""
    sees: Annotated[EncoderChoice, tyro.conf.arg(name="")] = EncoderChoice()

    def __post_init__(self) -> None:
        if self.most < 1 or (self.limit is not None and self.limit < 1) or not self.prompts:
            raise ValueError("--most, --limit or --prompts asks for nothing; expected one or more of each")


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Runs side by side: what each saw with, frozen or trained, how long it learned, what it scores.

    Example: python -m vl_tasks analyse compare --runs runs/vqa runs/vqa_trained runs/vqa_vit --out comparison
    """

    runs: tuple[Path, ...]
    """Run folders of vqa, gqa, captioning or entailment."""
    out: Path | None = None
    """Folder for comparison.md and comparison.png."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("--runs is empty; expected one run folder or more")

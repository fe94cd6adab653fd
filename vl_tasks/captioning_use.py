"""Uses of a trained captioner: score it, caption for the server, caption an image file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from clip_core.caption_scores import CaptionScores
from clip_core.caption_tokens import tokenize_captions
from clip_core.decoder import Search, Symbols
from clip_core.reading import restore_tokenizer
from clip_core.runtime import Runtime, seed_everything, start_runtime
from clip_core.tokenizer import Tokenizer
from envs.files import replacing
from precompute.screen import say
from vl_tasks.captioner import Captioner, CaptionerConfig
from vl_tasks.captioning_config import AskCaption, EvalCaptions, PredictCaptions, SearchConfig
from vl_tasks.captioning_data import CaptionFiles, CaptionSet, caption_set, image_numbers
from vl_tasks.captioning_objective import CaptioningObjective
from vl_tasks.captioning_run import TASK, scores_line
from vl_tasks.coco_files import Captioned, read_captions, write_captions
from vl_tasks.coco_scorers import java_scores
from vl_tasks.overlay import word_sheet
from vl_tasks.records import load_record, of_this_version, part_of
from vl_tasks.self_critical import SelfCriticalConfig
from vl_tasks.sources import VisionConfig, choose_data, reopen_vision
from vl_tasks.task import UseConfig
from vl_tasks.trained import see_file, trained_data, write_overlay
from vl_tasks.vision import Size


@dataclass(frozen=True, eq=False)
class TrainedCaptioner:
    """A model as it was trained, its words. longest: words of a caption; vision: weights of encoders that were trained
    with it; record: of its sources."""

    model: Captioner
    tokenizer: Tokenizer
    longest: int
    record: list[dict[str, Any]]
    vision: dict[str, Tensor]


def load_captioner(checkpoint: Path, device: torch.device) -> TrainedCaptioner:
    """The model of a run folder or a checkpoint file; ValueError for one of something else, or of another version."""
    state, record = load_record(checkpoint, TASK)
    with of_this_version(checkpoint):
        sizes = [Size(**size) for size in record["sizes"]]
        tokenizer = restore_tokenizer(record["tokenizer"], record["max_words"])
        model = Captioner(len(tokenizer), sizes, CaptionerConfig(**record["model"]), tokenizer.pad_id)
        model.load_state_dict(part_of(state, "model."))
        longest, vision = int(record["longest"]), part_of(state, "vision.")
        return TrainedCaptioner(model.to(device).eval(), tokenizer, longest, record["vision"], vision)


def predict_captions(config: PredictCaptions, console: Console) -> dict[int, str]:
    """The command: a results file."""
    with start_runtime(config.device, config.precision, config.writing.seed) as runtime, runtime.autocast():
        captions, _ = _captions(config, config.checkpoint, config.split, config.writing, runtime, console)
        write_captions(config.out, captions)
        say(console, f"{config.out}: {len(captions):,} captions of {config.split}")
    return captions


def eval_captions(config: EvalCaptions, console: Console) -> CaptionScores[int]:
    """The command: the scores of a model or of a results file."""
    with start_runtime(config.device, config.precision, config.writing.seed) as runtime, runtime.autocast():
        if config.results is not None:
            data, _ = choose_data(config.data, config.images, VisionConfig(blind=True), runtime, console)
            records = CaptionFiles(data.folder).read([config.split])
            captions = read_captions(config.results, {record.image_id: record for record in records})
            nothing = torch.zeros(0, dtype=torch.int64)
            split = CaptionSet(config.split, records, nothing, nothing, nothing, nothing)
        else:
            assert config.checkpoint is not None
            captions, split = _captions(config, config.checkpoint, config.split, config.writing, runtime, console)
    if not all(record.captions for record in split.records):
        raise ValueError(f"captions of {config.split} are not here: captioning predict writes a file for the server")
    scores = split.score(captions)
    words = dict(zip(captions, tokenize_captions(list(captions.values())), strict=True))
    more, notes = java_scores(words, split.references, config.meteor, config.spice)
    corpus = {**scores.corpus, **more}
    say(console, f"{config.split}: {scores_line(corpus)}  of {len(split):,} images")
    for note in notes:
        say(console, note)
    if config.json is not None:
        each = {str(identity): {"caption": captions[identity], **found} for identity, found in scores.each.items()}
        with replacing(config.json) as file:
            file.write((json.dumps({"corpus": corpus, "images": each}, indent=1) + "\n").encode())
    return CaptionScores(corpus, scores.each)


def _captions(
    config: UseConfig, checkpoint: Path, name: str, writing: SearchConfig, runtime: Runtime, console: Console
) -> tuple[dict[int, str], CaptionSet]:
    """A trained model's captions of a split, and the split."""
    trained = load_captioner(checkpoint, runtime.device)
    data, vision_config = trained_data(config, trained.record, runtime, console)
    records: list[Captioned] = CaptionFiles(data.folder).images(name)
    images = image_numbers({name: records})
    vision = reopen_vision(trained.record, vision_config, list(images), data.images, runtime.device)
    vision.load_state_dict(trained.vision)
    split = caption_set(name, records, images, trained.tokenizer)
    objective = CaptioningObjective(
        trained.model, vision, split, {}, trained.tokenizer, SelfCriticalConfig(), 1, 1, trained.longest, 1, 0
    )
    seed_everything(writing.seed)  # building the parts may have drawn numbers
    return objective.captions(split, writing.how()), split


def ask_captions(config: AskCaption, console: Console) -> list[tuple[str, float]]:
    """The command: the likeliest captions with their probabilities, and a sheet of what was looked at word by word."""
    with start_runtime(config.device) as runtime:
        trained = load_captioner(config.checkpoint, runtime.device)
        seen = see_file(config, trained.record, trained.vision, runtime.device)
        symbols = Symbols.of(trained.tokenizer)
        with torch.no_grad():
            tokens = trained.model.encode(seen.features)
        search = Search("beam", beam_width=config.beam_width)
        kept = trained.model.best(tokens, symbols, trained.longest + 2, search)
        weights_LM = trained.model.looks(tokens, kept.ids[:1])[0]
    captions = [
        (trained.tokenizer.decode(ids), math.exp(total))
        for ids, total in zip(kept.ids.tolist(), kept.total.tolist(), strict=True)
    ][: config.top]
    for caption, chance in captions:
        say(console, f"{100 * chance:7.3f} %  {caption or '(empty)'}")
    words = [trained.tokenizer.decode([number]) for number in kept.ids[0, 1 : int(kept.lengths[0]) - 1].tolist()]
    heats = trained.model.see.as_grids(weights_LM[: len(words)].float().cpu())[0].numpy()
    flat = np.zeros(heats.shape[1:])  # colours nothing: the image itself comes first
    pictures = [(word, seen.overlay(heat)) for word, heat in [("(the image)", flat), *zip(words, heats, strict=True)]]
    shown = [(word, picture) for word, picture in pictures if picture is not None]
    write_overlay(config, word_sheet(shown) if shown else None, console, "What it looked at, word by word")
    return captions

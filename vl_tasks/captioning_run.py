"""A training run of captioning, from the folders named to a report page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from rich.console import Console

from clip_core.checkpoint import load_model
from clip_core.decoder import Search
from clip_core.reading import make_tokenizer, record_tokenizer, restore_tokenizer, write_tokenizer
from clip_core.runtime import Runtime, start_runtime
from clip_core.tokenizer import Tokenizer
from precompute.screen import say
from vl_tasks.caption_retrieval import nearest_captions
from vl_tasks.captioner import Captioner, CaptionerConfig
from vl_tasks.captioning_config import TrainCaptioning
from vl_tasks.captioning_data import CaptionFiles, CaptionSet, caption_set, image_numbers, spoken_words
from vl_tasks.captioning_objective import CaptioningObjective
from vl_tasks.captioning_report import report_captioning
from vl_tasks.coco_files import write_captions
from vl_tasks.records import load_record, part_of, shared_record
from vl_tasks.report import write_table
from vl_tasks.sources import Data, choose_data, open_vision
from vl_tasks.task import run_line, sizes_words, train_task
from vl_tasks.vision import Size, Vision

TASK = "captioning"


def train_captioning(config: TrainCaptioning, console: Console) -> None:
    """The whole job of the command on one rank."""
    trainer = config.trainer
    with start_runtime(config.device, trainer.precision, trainer.seed) as runtime:
        data, vision_config = choose_data(config.data, config.images, config.vision, runtime, console)
        config = replace(config, vision=vision_config)
        start = None if config.start_from is None else load_record(config.start_from, TASK)
        if start is not None:
            config = replace(config, model=CaptionerConfig(**start[1]["model"]))
        parts = load_parts(config, data, None if start is None else start[1], runtime, console)
        model = Captioner(len(parts.tokenizer), parts.vision.sizes, config.model, parts.tokenizer.pad_id)
        if start is not None:
            start_weights(model, parts.vision, *start, config)
        objective = CaptioningObjective(
            model,
            parts.vision,
            parts.train,
            parts.judged,
            parts.tokenizer,
            config.self_critical,
            config.batch,
            config.captions_each,
            config.longest,
            trainer.accumulate,
            trainer.seed,
            runtime.rank,
            runtime.world,
        ).to(runtime.device)
        if runtime.is_main:
            describe(console, config, parts, objective, runtime)
        train_task(objective, config, run_record(config, parts), runtime, config.schedule())
        if runtime.is_main:
            finish(config, data, parts, objective, console)


@dataclass(frozen=True, eq=False)
class Parts:
    """All that a run reads. judged: splits for the evaluations; final: those for the end, these among them."""

    train: CaptionSet
    judged: dict[str, CaptionSet]
    final: dict[str, CaptionSet]
    tokenizer: Tokenizer
    vision: Vision


def load_parts(
    config: TrainCaptioning, data: Data, start: Mapping[str, Any] | None, runtime: Runtime, console: Console
) -> Parts:
    """Captions, vocabulary, what is seen. `start`: the record of the run that this one starts from."""
    files = CaptionFiles(data.folder)
    records = {name: files.read([name]) for name in config.eval_splits}
    records |= {name: files.read([name]) for name in config.final_splits if name not in records and files.has(name)}
    train = files.read(config.train_splits)
    seen = {record.image_id for name, split in records.items() if name not in config.train_splits for record in split}
    if shared := len(seen.intersection(record.image_id for record in train)):
        raise ValueError(f"{shared} images to judge on are among those to learn from; expected none, check the splits")
    if runtime.is_main:
        for note in files.notes:
            say(console, note)
    text = config.text
    if start is not None:
        tokenizer = restore_tokenizer(start["tokenizer"], text.max_words)
    else:
        words = chain.from_iterable(map(spoken_words, train))
        tokenizer = make_tokenizer(
            text.tokenizer, text.vocabulary, words, text.min_word_count, text.subwords, text.max_words
        )
    images = image_numbers({"train": train, **records})
    vision = open_vision(config.vision, list(images), data.images, runtime.device, config.trainer.precision)
    final = {name: caption_set(name, split, images, tokenizer) for name, split in records.items()}
    judged = {name: final[name] for name in config.eval_splits}
    return Parts(caption_set("train", train, images, tokenizer), judged, final, tokenizer, vision)


def start_weights(
    model: Captioner, vision: Vision, state: Mapping[str, Any], record: Mapping[str, Any], config: TrainCaptioning
) -> None:
    """Weights of another run; ValueError if its model saw with something else."""
    try:
        model.load_state_dict(part_of(state, "model."))
        if encoder := part_of(state, "vision."):
            vision.load_state_dict(encoder)
    except RuntimeError:
        seen, here = sizes_words(Size(**size) for size in record["sizes"]), sizes_words(vision.sizes)
        raise ValueError(
            f"--start-from {config.start_from}: its weights do not fit: found a model that saw {seen}, expected one "
            f"that saw {here}; name what it saw with: --features STORE (python -m precompute images), or its "
            "--encoder, --size"
        ) from None


def describe(
    console: Console, config: TrainCaptioning, parts: Parts, objective: CaptioningObjective, runtime: Runtime
) -> None:
    """One look at what is about to run."""
    for split in (parts.train, *parts.final.values()):
        say(console, f"{split.name}: {len(split.ids):,} captions of {len(split):,} images")
    name = f"captioner of {len(parts.tokenizer):,} words ({config.recipe})"
    say(console, run_line(config, name, objective, runtime))
    start = config.self_critical.self_critical_from
    if start is not None and start < config.trainer.steps:
        words = (
            f"cross-entropy for {start:,} steps, then self-critical training, {config.self_critical.samples} samples"
        )
        say(console, f"{words} an image against {config.self_critical.baseline}")
    elif start is not None:
        say(console, f"no self-critical training: --steps {config.trainer.steps} end before step {start}")


def run_record(config: TrainCaptioning, parts: Parts) -> dict[str, Any]:
    """What a checkpoint holds."""
    return {
        **shared_record(config, TASK, parts.vision),
        "model": dataclasses.asdict(config.model),
        "longest": config.longest,
        "captions_each": config.captions_each,
        "self_critical": dataclasses.asdict(config.self_critical),
        "train_splits": list(config.train_splits),
        "tokenizer": record_tokenizer(parts.tokenizer),
    }


def finish(
    config: TrainCaptioning, data: Data, parts: Parts, objective: CaptioningObjective, console: Console
) -> dict[str, dict[str, dict[str, float]]]:
    """Vocabulary, results files of the best weights, a table of scores by split and way, the report page."""
    if parts.judged and config.trainer.eval_every:
        objective.load_state_dict(load_model(config.out)[0])
    write_tokenizer(config.out, parts.tokenizer)
    baseline = config.retrieval and not parts.vision.files
    if config.retrieval and not baseline:
        say(console, "no retrieval baseline: it needs features in stores (python -m precompute images)")
    table: dict[str, dict[str, dict[str, float]]] = {}
    captions: dict[str, dict[str, dict[int, str]]] = {}
    for name, split in parts.final.items():
        beam = Search("beam", beam_width=config.beam_width)
        captions[name] = {
            f"beam {config.beam_width}": objective.captions(split, beam),
            "greedy": objective.captions(split),
        }
        if baseline:
            captions[name]["retrieval"] = nearest_captions(parts.vision, split, parts.train)
        write_captions(config.out / f"results_{name}.json", captions[name][f"beam {config.beam_width}"])
        table[name] = {way: split.score(written).corpus for way, written in captions[name].items()}
        for way, scores in table[name].items():
            say(console, f"{name:6} {way:10} {scores_line(scores)}")
    write_table(config.out, table)
    if captions:
        say(console, f"Look at {report_captioning(config, data, objective, parts.final, captions, table)}")
    return table


def scores_line(scores: Mapping[str, float]) -> str:
    """In percent, CIDEr first."""
    names = ("cider", *(name for name in scores if name != "cider"))
    return "  ".join(f"{name} {100 * scores[name]:.1f}" for name in names)

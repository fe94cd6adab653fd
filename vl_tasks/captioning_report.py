"""The report page of captioning: scores, both phases, images with what was written of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from clip_core.log import read_log
from vl_tasks.captioning_config import TrainCaptioning
from vl_tasks.captioning_data import CaptionSet
from vl_tasks.captioning_objective import CaptioningObjective
from vl_tasks.report import Bars, Example, Verdict, example_images, write_report
from vl_tasks.sources import Data

EXAMPLES = 36
REFERENCES = 3
"""People's captions shown of each example."""
GOOD, POOR = 1.0, 0.4
"""CIDEr from which a caption's card is green, below which it is red."""
VERDICTS = f"A green edge: CIDEr of {100 * GOOD:.0f} or more; yellow: of {100 * POOR:.0f} or more; red: below."
Captions = Mapping[str, Mapping[int, str]]
Scores = Mapping[str, Mapping[str, float]]


def report_captioning(
    config: TrainCaptioning,
    data: Data,
    objective: CaptioningObjective,
    splits: Mapping[str, CaptionSet],
    captions: Mapping[str, Captions],
    table: Mapping[str, Scores],
) -> Path:
    """Writes the page into the run folder. captions, table: by split and way of writing, the model's best way first."""
    facts, bars = list[tuple[str, str]](), list[Bars]()
    phases = phase_ciders(config, objective)
    for name in splits:
        best = next(iter(table[name]))
        facts.append((f"CIDEr on {name}, {best}", f"{100 * table[name][best]['cider']:.1f}"))
        if "retrieval" in table[name]:
            facts.append((f"{name}, nearest training image", f"{100 * table[name]['retrieval']['cider']:.1f}"))
        ways = {way: scores["cider"] for way, scores in table[name].items()}
        bars.append(Bars(f"CIDEr on {name}", f"cider_{name}", {**ways, **phases.get(name, {})}))
        shown = {metric: value for metric, value in table[name][best].items() if metric != "cider"}
        beside = table[name].get("retrieval")
        bars.append(Bars(f"Other metrics on {name}, {best}", f"metrics_{name}", shown, None, beside, "retrieval"))
    last = list(splits)[-1]
    examples = draw_examples(objective, splits[last], captions[last], data, config.trainer.seed)
    parameters = sum(p.numel() for p in objective.model.parameters())
    facts += [
        ("parameters", f"{parameters / 1e6:.1f} M"),
        ("words", f"{len(objective.tokenizer):,}"),
        ("images learned from", f"{len(objective.train_split):,}"),
        ("updates by cross-entropy", f"{config.first_phase:,}"),
        ("self-critical updates", f"{config.trainer.steps - config.first_phase:,}"),
    ]
    return write_report(config.out, "Image captioning", facts, bars, examples, VERDICTS)


def phase_ciders(config: TrainCaptioning, objective: CaptioningObjective) -> dict[str, dict[str, float]]:
    """Of each split judged while training: CIDEr of greedy captions at the last evaluation of each phase."""
    found: dict[str, dict[str, float]] = {}
    for line in read_log(config.out / "log.jsonl"):
        phase = "greedy, end of cross-entropy" if line["step"] <= config.first_phase else "greedy, end of self-critical"
        for name in objective.judged:
            if (value := line.get(f"{name}/cider")) is not None:
                found.setdefault(name, {})[phase] = float(value)
    return found


def draw_examples(
    objective: CaptioningObjective, split: CaptionSet, captions: Captions, data: Data, seed: int
) -> list[Example]:
    """Some images, drawn at random, with the captions of the model, of people, of the nearest training image, and what
    the model looked at."""
    chosen = np.random.default_rng(seed).permutation(len(split))[:EXAMPLES].tolist()
    written = next(iter(captions.values()))
    scores = split.score(written).each
    images = example_images(data.images, [split.records[number].images for number in chosen])
    maps = objective.looks(split, chosen, written)
    examples = []
    for number, image, heat in zip(chosen, images, maps, strict=True):
        record = split.records[number]
        cider = scores[record.image_id]["cider"]
        lines = [("caption", written[record.image_id]), ("CIDEr", f"{100 * cider:.0f}")]
        lines += [("people" if i == 0 else "", text) for i, text in enumerate(record.captions[:REFERENCES])]
        if "retrieval" in captions:
            lines.append(("nearest", captions["retrieval"][record.image_id]))
        verdict: Verdict = "right" if cider >= GOOD else "wrong" if cider < POOR else "partly"
        examples.append(Example(image, lines, verdict, heat, objective.vision.fitted))
    return examples

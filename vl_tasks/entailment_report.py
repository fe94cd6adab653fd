"""The report page of visual entailment: accuracies by label, confusions, hypotheses with how they were judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vl_tasks.entailment_config import TrainEntailment
from vl_tasks.entailment_data import GROUP, PairSet, confusion
from vl_tasks.entailment_files import LABELS
from vl_tasks.entailment_objective import EntailmentObjective, collate, labels_of
from vl_tasks.report import Bars, Example, Verdict, example_images, write_report
from vl_tasks.scores import Scores
from vl_tasks.sources import Data

EXAMPLES = 36


def report_entailment(
    config: TrainEntailment,
    data: Data,
    objective: EntailmentObjective,
    found: Mapping[str, Tensor],
    scores: Mapping[str, Scores],
    blind: Mapping[str, Scores] | None,
) -> Path:
    """Writes the page into the run folder. found: probabilities [P, C] of each judged split; scores: what they are
    worth; blind: those of the blind twin, drawn beside."""
    facts, bars, examples = list[tuple[str, str]](), list[Bars](), list[Example]()
    for name, probabilities in found.items():
        split, labels = objective.judged[name], labels_of(probabilities)
        one, twin = scores[name], None if blind is None else blind[name]
        facts.append((f"accuracy on {name}", f"{100 * one.overall:.1f} %"))
        if twin is not None:
            facts.append(("hypothesis-only", f"{100 * twin.overall:.1f} %"))
        beside = None if twin is None else twin.groups[GROUP]
        title = f"Accuracy on {name} by true label"
        bars.append(Bars(title, f"accuracy_{name}", one.groups[GROUP], one.counts[GROUP], beside, "blind"))
        bars.append(confusion_bars(name, split, labels))
        examples += draw_examples(objective, split, probabilities, data, config.trainer.seed)
    parameters = sum(p.numel() for p in objective.model.parameters())
    facts += [
        ("parameters", f"{parameters / 1e6:.1f} M"),
        ("pairs learned from", f"{len(objective.train_split):,}"),
        ("reads", "premise and hypothesis" if config.read_premise else "the hypothesis, no premise"),
        ("updates", f"{config.trainer.steps:,}"),
    ]
    return write_report(config.out, "Visual entailment", facts, bars, examples)


def confusion_bars(name: str, split: PairSet, labels: Sequence[str]) -> Bars:
    """What share of the pairs of a label was taken for which."""
    table = confusion(split.pairs, labels)
    shares, counts = dict[str, float](), dict[str, int]()
    for true, row in table.items():
        for label, count in row.items():
            shares[f"{true}, taken for {label}"] = count / max(1, sum(row.values()))
            counts[f"{true}, taken for {label}"] = count
    return Bars(f"What pairs of {name} were taken for", f"confusion_{name}", shares, counts)


def draw_examples(
    objective: EntailmentObjective, split: PairSet, probabilities: Tensor, data: Data, seed: int
) -> list[Example]:
    """Some pairs, drawn at random, with the probabilities and the cells that spoke for the likeliest label."""
    chosen = np.random.default_rng(seed).permutation(len(split))[:EXAMPLES]
    images = example_images(data.images, [split.pairs[number].images for number in chosen])
    batch = collate(objective.vision, split, torch.from_numpy(chosen))
    objective.eval()
    with torch.no_grad():
        features = objective.vision(batch.loaded)
    _, maps = objective.model.explain(features, batch.ids.to(features[0].device), batch.lengths)
    examples = []
    for place, number in enumerate(chosen):
        pair, chances = split.pairs[number], probabilities[number].tolist()
        label = LABELS[int(np.argmax(chances))]
        ordered = sorted(zip(LABELS, chances, strict=True), key=lambda item: -item[1])
        shown = ", ".join(f"{name} {100 * chance:.0f} %" for name, chance in ordered)
        lines = [("hypothesis", pair.hypothesis), ("judged", shown), ("truth", pair.label)]
        verdict: Verdict = "right" if label == pair.label else "wrong"
        image, heat = images[place], maps[0][place].float().cpu().numpy()
        examples.append(Example(image, lines, verdict, heat, objective.vision.fitted))
    return examples

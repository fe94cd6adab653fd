"""The report page of question answering: accuracies by type, questions with what the model answered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vl_tasks.report import Bars, Example, Verdict, example_images, write_report
from vl_tasks.scores import Scores
from vl_tasks.sources import Data
from vl_tasks.vqa_config import TrainVqa
from vl_tasks.vqa_data import QuestionSet
from vl_tasks.vqa_objective import VqaObjective

EXAMPLES = 36
QUESTION_TYPES = 30
"""The most frequent ones, in the picture."""


def report_vqa(
    config: TrainVqa,
    data: Data,
    objective: VqaObjective,
    scores: Mapping[str, Scores],
    blind: Mapping[str, Scores] | None,
) -> Path:
    """Writes the page into the run folder; `blind`: scores of the blind twin, drawn beside."""
    facts, bars, examples = [], [], []
    for split, found in scores.items():
        twin = None if blind is None else blind[split]
        facts.append((f"accuracy on {split}", f"{100 * found.overall:.1f} %"))
        if twin is not None:
            facts.append(("the same model blind", f"{100 * twin.overall:.1f} %"))
        for group, values in found.groups.items():
            shown = dict(list(values.items())[:QUESTION_TYPES])
            beside = None if twin is None else twin.groups[group]
            title, file = f"Accuracy on {split} by {group}", f"accuracy_{split}_{group.replace(' ', '_')}"
            bars.append(Bars(title, file, shown, found.counts[group], beside, "blind"))
        examples += draw_examples(objective, objective.judged[split], found, data, config.trainer.seed)
    parameters = sum(p.numel() for p in objective.model.parameters())
    facts += [
        ("model", config.model.model),
        ("parameters", f"{parameters / 1e6:.1f} M"),
        ("answers to choose from", f"{len(objective.vocabulary):,}"),
        ("questions learned from", f"{len(objective.train_split):,}"),
        ("updates", f"{config.trainer.steps:,}"),
    ]
    return write_report(config.out, "Visual question answering", facts, bars, examples)


def draw_examples(objective: VqaObjective, split: QuestionSet, scores: Scores, data: Data, seed: int) -> list[Example]:
    """Some questions, drawn at random, with the answer, those of people, and what the model looked at."""
    chosen = np.random.default_rng(seed).permutation(len(split))[:EXAMPLES].tolist()
    images = example_images(data.images, [split.questions[number].images for number in chosen])
    examples, place = [], 0
    for found in objective.answered(split, chosen):
        for row, best in enumerate(found.logits.argmax(1).tolist()):
            question, image = split.questions[chosen[place]], images[place]
            score = scores.each[chosen[place]]
            heat = found.attention[0][row].float().cpu().numpy()
            people = ", ".join(dict.fromkeys(sorted(question.answers, key=lambda a: -question.answers.count(a))))
            lines = [("question", question.text), ("answer", objective.vocabulary[best]), ("people", people)]
            verdict: Verdict = "right" if score >= 0.9 else "partly" if score > 0 else "wrong"
            examples.append(Example(image, lines, verdict, heat, objective.vision.fitted))
            place += 1
    return examples

"""CLIP alone on visual question answering, by prompts.

Legend: I images, K candidate answers, E joint space.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from clip_core.encoder import ClipEncoder
from clip_core.images import open_image
from clip_core.runtime import start_runtime
from envs.files import replacing
from precompute.screen import say
from vl_tasks.analyse_config import ZeroShot
from vl_tasks.answers import vocabulary_form
from vl_tasks.grad_cam import chosen_encoder
from vl_tasks.prompts import PROMPTS
from vl_tasks.scores import Scores
from vl_tasks.sources import VisionConfig, choose_data, image_files
from vl_tasks.vqa_data import image_numbers, vqa_scores
from vl_tasks.vqa_files import Question, read_questions

IMAGES, TEXTS = 64, 512
"""Images, texts that are encoded at once."""
MOST_COMMON = "most common answer"


def candidate_answers(questions: Sequence[Question], most: int, among: str = "type") -> dict[str, list[str]]:
    """Answer type -> candidates, the most common first; with `among` all, every type has those of all."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for question in questions:
        if question.answer is not None:
            counts[str(question.answer_type)][vocabulary_form(question.answer)] += 1
    if among == "all":
        total = sum(counts.values(), Counter[str]())
        counts = defaultdict(Counter, dict.fromkeys(counts, total))
    return {kind: [a for a, _ in sorted(c.items(), key=lambda i: (-i[1], i[0]))[:most]] for kind, c in counts.items()}


def zero_shot_answers(
    encoder: ClipEncoder,
    images_IE: Tensor,
    questions: Sequence[Question],
    numbers: Mapping[tuple[str, ...], int],
    candidates: Mapping[str, Sequence[str]],
    prompt: Callable[[str, str], str],
) -> list[str]:
    """The answer to each question whose prompt is most similar to its image.

    images_IE: vectors of length 1; numbers: the image of a question -> its row; candidates: by answer type.
    """
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        answers = candidates.get(str(question.answer_type))
        if not answers:
            raise ValueError(f"no answer of the type {question.answer_type!r} is known; name another --candidates-from")
        groups[tuple(prompt(question.text, answer) for answer in answers)].append(place)
    found = [""] * len(questions)
    waiting: list[tuple[tuple[str, ...], list[int]]] = []

    def answer_waiting() -> None:
        vectors = text_vectors(encoder, [text for texts, _ in waiting for text in texts])
        for (_, places), texts_KE in zip(waiting, vectors.split([len(texts) for texts, _ in waiting]), strict=True):
            rows = images_IE[[numbers[questions[place].images] for place in places]]
            for place, best in zip(places, (rows @ texts_KE.T).argmax(1).tolist(), strict=True):
                found[place] = candidates[str(questions[place].answer_type)][best]
        waiting.clear()

    for group in groups.items():
        waiting.append(group)
        if sum(len(texts) for texts, _ in waiting) >= TEXTS:
            answer_waiting()
    if waiting:
        answer_waiting()
    return found


def text_vectors(encoder: ClipEncoder, texts: Sequence[str]) -> Tensor:
    """Vectors [K, E] of length 1; texts too long for the model are cut."""
    with torch.no_grad():
        ids = encoder.tokenize(texts, truncate=True)
        return torch.cat([F.normalize(encoder.text_vectors(some), dim=1) for some in ids.split(TEXTS)])


def image_vectors(encoder: ClipEncoder, files: Sequence[Path]) -> Tensor:
    """Vectors [I, E] of length 1 of image files."""
    found = []
    with torch.no_grad():
        for start in range(0, len(files), IMAGES):
            pixels = [encoder.transform(open_image(file, upright=True)) for file in files[start : start + IMAGES]]
            found.append(F.normalize(encoder.image_vectors(torch.stack(pixels)), dim=1))
    return torch.cat(found)


def run_zero_shot(config: ZeroShot, console: Console) -> dict[str, Scores]:
    """The command: accuracies by prompt, and of each type's most common answer."""
    with start_runtime(config.sees.device) as runtime:
        data, _ = choose_data(config.data, config.images, VisionConfig(blind=True), runtime, console)
        questions = read_questions(data.folder, config.split)
        if not all(question.answers for question in questions):
            raise ValueError(f"people's answers to {config.split} are not there; expected a split with annotations")
        if config.limit is not None and config.limit < len(questions):
            drawn = np.random.default_rng(config.seed).permutation(len(questions))[: config.limit]
            questions = [questions[number] for number in sorted(drawn.tolist())]
        known = read_questions(data.folder, config.candidates_from)
        candidates = candidate_answers(known, config.most, config.among)
        encoder = chosen_encoder(config.sees, runtime.device)
        numbers = image_numbers({config.split: questions})
        images_IE = image_vectors(encoder, image_files(list(numbers), data.images))
        common = {kind: answers[0] for kind, answers in candidate_answers(known, 1).items()}
        given = {MOST_COMMON: [common.get(str(question.answer_type), "") for question in questions]}
        for name in config.prompts:
            given[name] = zero_shot_answers(encoder, images_IE, questions, numbers, candidates, PROMPTS[name])
    scores = {name: vqa_scores(questions, answers) for name, answers in given.items()}
    show(config, scores, {kind: len(answers) for kind, answers in candidates.items()}, console)
    if config.json is not None:
        with replacing(config.json) as file:
            file.write((json.dumps({name: one.table() for name, one in scores.items()}, indent=1) + "\n").encode())
    return scores


def show(config: ZeroShot, scores: Mapping[str, Scores], sizes: Mapping[str, int], console: Console) -> None:
    """A line for each way of answering."""
    first = next(iter(scores.values()))
    kinds = first.groups["answer type"]
    say(console, f"{config.sees.encoder} alone on {len(first.each):,} questions of {config.split}, accuracy in %")
    choices = ", ".join(f"{sizes.get(kind, 0):,} for {kind}" for kind in kinds)
    say(console, f"  answers to choose from: {choices}; a type's questions stand in brackets")
    heads = [f"{kind} ({first.counts['answer type'][kind]:,})" for kind in kinds]
    say(console, f"  {'prompt':20}{'all':>8}" + "".join(f"{head:>{len(head) + 3}}" for head in heads))
    for name, one in scores.items():
        values = [one.groups["answer type"][kind] for kind in kinds]
        cells = "".join(f"{100 * value:{len(head) + 3}.2f}" for value, head in zip(values, heads, strict=True))
        say(console, f"  {name:20}{100 * one.overall:8.2f}{cells}")

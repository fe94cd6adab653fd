"""Uses of a trained question answerer: score it, answer for the server, ask about an image file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from clip_core.reading import restore_tokenizer
from clip_core.runtime import Runtime, start_runtime
from clip_core.tokenizer import Tokenizer
from envs.files import replacing
from precompute.screen import say
from vl_tasks.question_sets import VQA, DataSet, answers_in_order
from vl_tasks.records import load_record, of_this_version, part_of
from vl_tasks.scores import Scores
from vl_tasks.sources import VisionConfig, choose_data, reopen_vision
from vl_tasks.task import UseConfig
from vl_tasks.trained import see_file, trained_data, write_overlay
from vl_tasks.vision import Size, Vision
from vl_tasks.vqa_accuracy import ANSWERS
from vl_tasks.vqa_config import AskVqa, EvalVqa, PredictVqa
from vl_tasks.vqa_data import QuestionSet, image_numbers, question_set
from vl_tasks.vqa_files import Question
from vl_tasks.vqa_objective import VqaObjective, build_model
from vl_tasks.vqa_parts import VqaModelConfig


@dataclass(frozen=True, eq=False)
class TrainedVqa:
    """A model as it was trained, what it reads with, the answers it chooses from. `vision`: weights of encoders that
    were trained with it; `record`: of its sources."""

    model: nn.Module
    tokenizer: Tokenizer
    vocabulary: list[str]
    record: list[dict[str, Any]]
    vision: dict[str, Tensor]

    def with_vision(self, vision: Vision) -> Vision:
        """The vision with the weights that were trained."""
        vision.load_state_dict(self.vision)
        return vision.eval()


def load_vqa(checkpoint: Path, device: torch.device, task: str = VQA.name) -> TrainedVqa:
    """The model of a run folder or a checkpoint file; ValueError for one of something else, or of another version."""
    state, record = load_record(checkpoint, task)
    with of_this_version(checkpoint):
        sizes = [Size(**size) for size in record["sizes"]]
        tokenizer = restore_tokenizer(record["tokenizer"], record["max_words"])
        config = VqaModelConfig(**record["model"])
        model = build_model(config, len(tokenizer), len(record["answers"]), sizes, tokenizer.pad_id)
        model.load_state_dict(part_of(state, "model."))
        return TrainedVqa(
            model.to(device).eval(), tokenizer, record["answers"], record["vision"], part_of(state, "vision.")
        )


def predict_vqa(config: PredictVqa, console: Console, data_set: DataSet = VQA) -> None:
    """The command: a results file."""
    data_set.check(config.data)
    name = config.split or data_set.judged
    with start_runtime(config.device, config.precision) as runtime, runtime.autocast():
        questions, objective, split = _opened(config, config.checkpoint, name, data_set, runtime, console, None)
        answers = objective.answers(split)
        data_set.write(config.out, {q.question_id: answer for q, answer in zip(questions, answers, strict=True)})
        say(console, f"{config.out}: {len(answers):,} answers to {name}")


def eval_vqa(config: EvalVqa, console: Console, data_set: DataSet = VQA) -> Scores:
    """The command: the accuracy of a model or of a results file."""
    data_set.check(config.data)
    answers_each, name = None if config.any_number_of_answers else ANSWERS, config.split or data_set.judged
    with start_runtime(config.device, config.precision) as runtime, runtime.autocast():
        if config.results is not None:
            data, _ = choose_data(config.data, config.images, VisionConfig(blind=True), runtime, console)
            questions = data_set.read(data.folder, name, answers_each)
            answers = answers_in_order(config.results, questions, data_set.read_results(config.results))
        else:
            assert config.checkpoint is not None
            parts = (config.checkpoint, name, data_set, runtime, console, answers_each)
            questions, objective, split = _opened(config, *parts)
            answers = objective.answers(split)
    if not questions[0].answers:
        raise ValueError(f"people's answers to {name} are not published: vqa predict writes a file for the server")
    scores = data_set.score(questions, answers, answers_each)
    show_scores(console, name, scores)
    if config.json is not None:
        each = {str(q.question_id): score for q, score in zip(questions, scores.each, strict=True)}
        document = {"overall": scores.overall, **scores.groups, "questions": each}
        with replacing(config.json) as file:
            file.write((json.dumps(document, indent=1) + "\n").encode())
    return scores


def show_scores(console: Console, split: str, scores: Scores) -> None:
    """Percent, overall and by type."""
    say(console, f"{split}: accuracy {100 * scores.overall:.2f} % of {len(scores.each):,} questions")
    for group, values in scores.groups.items():
        say(console, f"  by {group}")
        for name, value in values.items():
            say(console, f"    {100 * value:6.2f} %  {name} ({scores.counts[group][name]:,})")


def _opened(
    config: UseConfig,
    checkpoint: Path,
    split: str,
    data_set: DataSet,
    runtime: Runtime,
    console: Console,
    answers_each: int | None,
) -> tuple[list[Question], VqaObjective, QuestionSet]:
    """The questions of a split, a trained model to answer them, the questions as it reads them."""
    trained = load_vqa(checkpoint, runtime.device, data_set.name)
    data, vision_config = trained_data(config, trained.record, runtime, console)
    questions = data_set.read(data.folder, split, answers_each)
    images = image_numbers({split: questions})
    vision = reopen_vision(trained.record, vision_config, list(images), data.images, runtime.device)
    made = question_set(split, questions, images, trained.tokenizer, trained.vocabulary, data_set.form)
    objective = VqaObjective(trained.model, trained.with_vision(vision), made, {}, trained.vocabulary, _unscored, 1, 0)
    return questions, objective, made


def _unscored(questions: Sequence[Question], answers: Sequence[str]) -> Scores:
    raise AssertionError("answers are scored by the caller")


def ask_vqa(config: AskVqa, console: Console, data_set: DataSet = VQA) -> list[tuple[str, float]]:
    """The command: the likeliest answers, and a picture of what was looked at."""
    with start_runtime(config.device) as runtime:
        trained = load_vqa(config.checkpoint, runtime.device, data_set.name)
        seen = see_file(config, trained.record, trained.vision, runtime.device)
        ids, lengths = trained.tokenizer.encode_batch([config.question])
        with torch.no_grad():
            found = trained.model(seen.features, torch.from_numpy(ids).to(runtime.device), torch.from_numpy(lengths))
        scores, numbers = found.logits[0].sigmoid().topk(min(config.top, len(trained.vocabulary)))
    answers = [(trained.vocabulary[n], s) for n, s in zip(numbers.tolist(), scores.tolist(), strict=True)]
    for answer, score in answers:
        say(console, f"{100 * score:5.1f} %  {answer or '(empty)'}")
    heat = found.attention[0][0].float().cpu().numpy()
    write_overlay(config, seen.overlay(heat), console, "What it looked at")
    return answers

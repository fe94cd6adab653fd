"""Trains the small CLIP of the embedded world on views of its training houses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console
from safetensors.torch import save

from clip_core import shipped
from clip_core.bpe_subset import MERGES_FILE, needed_merges, vocabulary_size, write_merges
from clip_core.checkpoint import check_run_folder
from clip_core.clip_weights import LOCAL_DIR, RANDOM, file_sha256
from clip_core.encoder import ClipEncoder
from clip_core.optim import build_optimizer, parameter_groups, warmup_cosine
from clip_core.runtime import Runtime, start_runtime
from clip_core.trainer import Objective, TrainerConfig, fit
from envs.files import replacing
from envs.simulator_sight import VIEWS
from precompute.clip_card import write_card
from precompute.clip_scores import linear_probe, retrieval, zero_shot_colour, zero_shot_room
from precompute.contrastive import ContrastiveConfig, ContrastiveObjective
from precompute.house_views import HouseViews, load_views, read_houses, scans_of
from precompute.label_objective import LabelObjective
from precompute.screen import say
from precompute.view_batches import ViewOrder, telling_views
from precompute.view_text import (
    COLOUR_NAMES,
    ROOM_KINDS,
    Label,
    captions_of,
    colour_prompts,
    frequent_labels,
    room_prompts,
)

SEEN, UNSEEN = "train", "val_unseen"
LEAST_VIEWS = 30
"""Views of training houses that a label must be clear in to be learnt."""
MODEL_FOLDER, REPORT_FILE, PICTURES = "model", "report.json", "pictures"


@dataclass(frozen=True)
class TrainClip:
    """Train the small CLIP of the embedded world, or its supervised twin, on views of training houses.

    Example: python -m precompute train-clip --data world --out runs/clip

    Writes into --out: log.jsonl, curves.png, checkpoints; model/, a folder of open_clip with weights, tokenizer and
    model card, to be used as --model local-dir:OUT/model; report.json with the scores on houses that were never
    trained on. A killed run goes on with the same command and --resume.
    """

    data: Path
    """World of procedural houses (python -m envs.houses): it learns from the houses of R2R_train.json alone."""
    out: Path = Path("runs/clip")
    """Run folder."""
    objective: Literal["contrastive", "labels"] = "contrastive"
    """contrastive: views with captions, as CLIP; labels: objects with colour and the room, for comparison."""
    architecture: Path = shipped.FOLDER / shipped.CONFIG_FILE
    """open_clip_config.json whose architecture is trained; the vocabulary is that of the captions and instructions."""
    resume: bool = False
    """Go on with the run in --out."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    batch: int = 256
    """Views per update on each process."""
    lr: float = 2e-3
    """Largest learning rate of AdamW; it rises over the first twentieth of the steps, then falls as a cosine."""
    weight_decay: float = 0.1
    """Weight decay of AdamW, of matrices only."""
    captions: Annotated[ContrastiveConfig, tyro.conf.arg(name="")] = field(default_factory=ContrastiveConfig)
    trainer: Annotated[TrainerConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: TrainerConfig(steps=1000, clip_norm=1.0, eval_every=250, save_every=50)
    )

    def __post_init__(self) -> None:
        for name in ("batch", "lr"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}: expected more than 0")


def train_clip(config: TrainClip, console: Console | None = None) -> dict[str, Any]:
    """Does what the config asks for; returns the report.

    Raises ValueError for a world that is missing, damaged, of an older format or without houses, for an architecture
    that open_clip cannot build, and as `clip_core.trainer.fit`.
    """
    console = Console() if console is None else console
    with start_runtime(config.device, config.trainer.precision, config.trainer.seed) as runtime:
        return _train(config, runtime, console)


def _train(config: TrainClip, runtime: Runtime, console: Console) -> dict[str, Any]:
    """The whole job of the command on one rank."""
    model = config.out / MODEL_FOLDER
    if runtime.is_main:
        check_run_folder(config.out, config.resume)
        write_model_folder(model, config.architecture, config.data)
    runtime.largest(0)  # no rank reads the folder before it is there
    encoder = ClipEncoder.load(
        f"{LOCAL_DIR}{model}", RANDOM, device=runtime.device, trainable=True, batch_norm="trained", channels_last=True
    )
    views = _views(config, SEEN, encoder, runtime, console)
    unseen = _views(config, UNSEEN, encoder, runtime, console)
    shared = sorted({h["scan"] for h in views.houses} & {h["scan"] for h in unseen.houses})
    if shared:
        raise ValueError(f"{config.data} has houses both to train on and unseen: {', '.join(shared[:3])}")
    labels = frequent_labels(views, min(LEAST_VIEWS, len(views) // VIEWS))
    objective = _objective(config, encoder, views, unseen, labels, runtime, console).to(runtime.device)
    groups = parameter_groups(objective, "clip", config.lr, weight_decay=config.weight_decay)
    steps = config.trainer.steps
    progress = fit(
        objective,
        {"adamw": build_optimizer("adamw", groups, betas=(0.9, 0.98))},
        {"adamw": warmup_cosine(steps, steps // 20)},
        config.trainer,
        runtime,
        config.out,
        {"train_clip": _record(config, views, unseen)},
        config.resume,
    )
    if not runtime.is_main:
        return {}
    texts = config.objective == "contrastive"
    report: dict[str, Any] = {
        "command": _record(config, views, unseen),
        "trainer": dataclasses.asdict(config.trainer),
        "train_minutes": progress.train_seconds / 60,
        "scores": full_scores(encoder, views, unseen, labels, config.trainer.seed, texts=texts),
    }
    save_model(encoder, model, report, config.out / REPORT_FILE)
    for name, value in _flat("", report["scores"]).items():
        say(console, f"  {name:40s} {value:.3f}" if value <= 1 else f"  {name:40s} {value:,.0f}")
    say(console, f"the model is in {model}: use it as --model {LOCAL_DIR}{model}")
    return report


def _objective(
    config: TrainClip,
    encoder: ClipEncoder,
    views: HouseViews,
    unseen: HouseViews,
    labels: Sequence[Label],
    runtime: Runtime,
    console: Console,
) -> Objective:
    """What the config asks to learn; says on how much."""
    seed = config.trainer.seed
    order = ViewOrder(telling_views(views), config.batch, seed, runtime.rank, runtime.world)
    if runtime.is_main:
        learnt = config.trainer.steps * config.trainer.accumulate * config.batch * runtime.world
        say(
            console,
            f"{config.objective}: {len(views):,} views of {len(views.houses)} houses, {order.epoch_size:,} an epoch, "
            f"{learnt / order.epoch_size:.1f} epochs; judged on {len(unseen):,} views of {len(unseen.houses)} houses; "
            f"{sum(p.numel() for p in encoder.parameters()) / 1e6:.2f} M weights on {runtime.device}",
        )
    if config.objective == "labels":
        return LabelObjective(encoder, views, order, labels, config.captions.shift_px)

    def judge(encoder: ClipEncoder) -> dict[str, float]:
        return _flat("val_unseen", quick_scores(encoder, unseen, seed))

    return ContrastiveObjective(encoder, views, order, config.captions, judge)


def write_model_folder(folder: Path, architecture: Path, data: Path) -> None:
    """Config and tokenizer of a new model: the architecture given, the words of the training houses."""
    try:
        content = json.loads(architecture.read_text(encoding="utf-8"))
        text = content["model_cfg"]["text_cfg"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{architecture} is no open_clip_config.json that can be used ({error!r})") from None
    merges = needed_merges(corpus(data))
    text["vocab_size"] = vocabulary_size(merges)
    folder.mkdir(parents=True, exist_ok=True)
    write_merges(folder / MERGES_FILE, merges)
    with replacing(folder / shipped.CONFIG_FILE) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


def corpus(data: Path) -> list[str]:
    """Texts whose words the tokenizer knows whole: captions and instructions of training houses, prompts."""
    houses = read_houses(data, scans_of(data, SEEN))
    views = HouseViews(houses, np.empty((VIEWS * sum(len(h["viewpoints"]) for h in houses), 0)))
    captions = captions_of(views, range(len(views)), np.random.default_rng(0), 2)
    texts = [text for pair in captions for text in pair]
    for item in json.loads((data / f"R2R_{SEEN}.json").read_text(encoding="utf-8")):
        texts += item["instructions"]
    texts += [text for kind in ROOM_KINDS for text in room_prompts(kind)]
    return [*texts, *(text for colour in COLOUR_NAMES for text in colour_prompts("sofa", colour))]


def quick_scores(encoder: ClipEncoder, unseen: HouseViews, seed: int) -> dict[str, dict[str, float]]:
    """What is looked at while it trains."""
    return {
        "retrieval": retrieval(encoder, unseen, seed),
        "room": zero_shot_room(encoder, unseen),
        "colour": zero_shot_colour(encoder, unseen),
    }


def full_scores(
    encoder: ClipEncoder, views: HouseViews, unseen: HouseViews, labels: Sequence[Label], seed: int, *, texts: bool
) -> dict[str, dict[str, float]]:
    """All scores on unseen houses; those that need texts only for an encoder that learnt some."""
    scores = quick_scores(encoder, unseen, seed) if texts else {}
    for name, projected in (("probe_projected", True), ("probe_unprojected", False)):
        scores[name] = linear_probe(encoder, views, unseen, labels, seed, projected=projected)
    return scores


def save_model(encoder: ClipEncoder, folder: Path, report: dict[str, Any], report_file: Path) -> None:
    """Weights with their checksum and model card into the folder of the model, the report beside it."""
    with replacing(folder / shipped.WEIGHTS_FILE) as file:
        file.write(save({name: tensor.cpu().contiguous() for name, tensor in encoder.clip.state_dict().items()}))
    digest = file_sha256(folder / shipped.WEIGHTS_FILE)
    report["weights"] = {"sha256": digest, "bytes": (folder / shipped.WEIGHTS_FILE).stat().st_size}
    with replacing(folder / shipped.CHECKSUM_FILE) as file:
        file.write(f"{digest}  {shipped.WEIGHTS_FILE}\n".encode())
    with replacing(report_file) as file:
        file.write((json.dumps(report, indent=2) + "\n").encode())
    write_card(folder / shipped.CARD_FILE, report)


def _views(config: TrainClip, split: str, encoder: ClipEncoder, runtime: Runtime, console: Console) -> HouseViews:
    """Views of a split, rendered by rank 0 if they are not there."""
    told: Callable[[int, int], None] = lambda done, total: (  # noqa: E731
        say(console, f"pictures of {split}: {done} of {total} viewpoints") if done % 200 == 0 or done == total else None
    )
    cache = config.out / PICTURES
    if runtime.is_main:
        load_views(config.data, split, encoder.transform, cache, told)
    runtime.largest(0)  # the others wait for the pictures
    return load_views(config.data, split, encoder.transform, cache)


def _record(config: TrainClip, views: HouseViews, unseen: HouseViews) -> dict[str, Any]:
    """What a resumed run must share."""
    world = config.data / "world.json"
    return {
        "objective": config.objective,
        "batch": config.batch,
        "lr": config.lr,
        "weight_decay": config.weight_decay,
        **dataclasses.asdict(config.captions),
        "world": json.loads(world.read_text(encoding="utf-8")) if world.is_file() else None,
        "train_houses": [house["scan"] for house in views.houses],
        "unseen_houses": [house["scan"] for house in unseen.houses],
        "train_views": len(views),
    }


def _flat(start: str, scores: dict[str, dict[str, float]]) -> dict[str, float]:
    return {
        "/".join(part for part in (start, name, key) if part): value
        for name, values in scores.items()
        for key, value in values.items()
    }

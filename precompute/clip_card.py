"""The card of a model that `train-clip` made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from clip_core.shipped import MODEL
from envs.files import replacing

_TEXT = """# {name}: a small CLIP of procedural houses

{what}
Architecture: open_clip's own (`open_clip_config.json`). It knows ClipNav's procedural houses and nothing else: it is no
model of photographs.

## How it was made

```
python -m envs.houses --out world --seed {world_seed} --train {n_train} --unseen {n_unseen}
python -m precompute train-clip --data world {flags}
```

- Data: {views:,} views (36 a viewpoint, 64 x 64 pixels at 60 degrees) of the {n_train} training houses {first} to
  {last}, with captions of `envs/houses/captions.py` drawn afresh for each batch. The {n_unseen} unseen houses
  {first_unseen} to {last_unseen} were only measured on.
- Seed {seed}; {steps:,} updates of {batch} views; {minutes:.0f} minutes of training on the machine that made it.
- Weights: float32, {bytes:,} bytes, SHA-256 `{sha256}`.

## What it knows, on houses that it never saw

| what | score | chance |
|---|---|---|
{rows}

{explained}

## Use

```python
from clip_core.encoder import ClipEncoder

encoder = ClipEncoder.load("{address}")
vectors = encoder.text_vectors(["A red sofa in a living room."])
```
"""
_EXPLAINED = """Retrieval: {pairs:.0f} pairs of a view that shows something clear and one caption; a caption that was
drawn before is not taken again, but it may be true of other views too, which counts as an error. Rooms and colours: by
prompts. Probe: ridge regression from frozen vectors to objects with their colour, mean average precision (mAP) over
{labels:.0f} labels."""
_ROWS = (
    ("retrieval/view_to_caption/r1", "R@1, view to caption"),
    ("retrieval/view_to_caption/r5", "R@5, view to caption"),
    ("retrieval/caption_to_view/r1", "R@1, caption to view"),
    ("retrieval/caption_to_view/r5", "R@5, caption to view"),
    ("room/accuracy", "zero-shot kind of room, of 13"),
    ("colour/accuracy", "zero-shot colour of an object, of 11"),
    ("probe_projected/map", "probe, projected vectors (mAP)"),
    ("probe_unprojected/map", "probe, vectors before the projection (mAP)"),
)
_OBJECTIVES = {
    "contrastive": "Trained as CLIP, with views and captions of procedural houses.",
    "labels": "Trained with labels (objects with colour, kind of room), for comparison; its text tower learnt nothing.",
}


def write_card(path: Path, report: dict[str, Any]) -> None:
    """Writes a model card in Markdown from the report of `train-clip`."""
    with replacing(path) as file:
        file.write(card(report).encode())


def card(report: dict[str, Any]) -> str:
    """Text of the card."""
    command, trainer, scores = report["command"], report["trainer"], report["scores"]
    train, unseen = command["train_houses"], command["unseen_houses"]
    world = command["world"] or {}
    values = {f"{name}/{key}": value for name, part in scores.items() for key, value in part.items()}
    rows = [
        f"| {words} | {100 * values[key]:.1f} % | {_chance(key, values)} |" for key, words in _ROWS if key in values
    ]
    flags = " ".join([
        f"--objective {command['objective']}", f"--steps {trainer['steps']}", f"--batch {command['batch']}",
        f"--lr {command['lr']:g}", f"--captions {command['captions']}", f"--seed {trainer['seed']}",
    ])  # fmt: skip
    return _TEXT.format(
        name=MODEL, what=_OBJECTIVES[command["objective"]], world_seed=world.get("seed", "?"), n_train=len(train),
        n_unseen=len(unseen), flags=flags, views=command["train_views"], first=train[0], last=train[-1],
        first_unseen=unseen[0], last_unseen=unseen[-1], seed=trainer["seed"], steps=trainer["steps"],
        batch=command["batch"], minutes=report["train_minutes"], bytes=report["weights"]["bytes"],
        sha256=report["weights"]["sha256"], rows="\n".join(rows),
        explained=_EXPLAINED.format(
            pairs=values.get("retrieval/pairs", 0), labels=values.get("probe_projected/labels", 0)
        ), address=MODEL,
    )  # fmt: skip


def _chance(key: str, values: dict[str, float]) -> str:
    """Of guessing among the pairs, or always the most frequent answer; of a probe the share of true labels."""
    if key.startswith("retrieval"):
        return f"{100 * int(key[-1]) / values['retrieval/pairs']:.1f} %"
    return f"{100 * values[key.split('/')[0] + '/chance']:.1f} %"

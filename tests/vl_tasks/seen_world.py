"""What the tests of several tasks need beside a data set: a tiny encoder, a store of what it sees."""

from __future__ import annotations

from pathlib import Path

import torch
from clip_toy import make_folder
from rich.console import Console

from clip_core.runtime import Runtime
from precompute.images import Images, make_images

CPU = Runtime(torch.device("cpu"))
QUIET = Console(quiet=True)


def with_grids(folder: Path) -> Path:
    """The folder of a data set; beside it now a tiny CLIP `rn` of random weights, and a store `grids` of what it sees,
    to the bit, so that answers by store and by encoder are the same."""
    model = make_folder(folder.parent / "rn", "rn")
    grids = folder.parent / "grids"
    store = Images(images=folder / "images", out=grids, model=model, layer="grid", size="64x128", dtype="float32")
    make_images(store, CPU, QUIET)
    return folder

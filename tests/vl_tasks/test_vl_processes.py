"""Training of every task on two ranks: the same as on one with the double batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from caption_world import write_caption_world
from entailment_world import write_pairs_world
from seen_world import with_grids
from two_ranks import on_two_ranks
from vqa_world import write_world

from clip_core.checkpoint import LAST, read_checkpoint
from clip_core.log import read_log
from vl_tasks.__main__ import main

SHARED = ["--device", "cpu", "--recipe", "houses", "--dropout", "0", "--hidden", "16", "--heads", "2", "--layers", "1"]
SHARED += ["--eps", "1e-3", "--log-every", "1"]


def test_two_ranks_equal_one(tmp_path: Path) -> None:
    """VQA with an encoder that learns; entailment; captioning with two updates by cross-entropy, two self-critical ones
    in which both draw the same captions."""
    worlds = {
        "vqa": with_grids(write_world(tmp_path / "vqa" / "world")),
        "entailment": with_grids(write_pairs_world(tmp_path / "entailment" / "world")),
        "captioning": with_grids(write_caption_world(tmp_path / "captioning" / "world")),
    }
    stores = {task: ["--features", str(world.parent / "grids")] for task, world in worlds.items()}
    learning = ["--encoder", f"local-dir:{tmp_path / 'vqa' / 'rn'}", "--size", "64x64", "--train-encoder"]
    flags = {
        "vqa": ["--no-blind-twin", *learning, "--steps", "3"],
        "entailment": ["--no-blind-twin", *stores["entailment"], "--inner", "16", "--steps", "3"],
        "captioning": [*stores["captioning"], "--input-dropout", "0", "--steps", "4", "--final-splits", "--eval-splits",
                       "--self-critical-from", "2", "--self-critical-lr", "1e-3"],
    }  # fmt: skip

    def command(task: str, name: str, batch: int) -> list[str]:
        where = ["--data", str(worlds[task]), "--out", str(tmp_path / task / name), "--batch", str(batch)]
        return [task, "train", *where, *SHARED, *flags[task]]

    on_two_ranks([("vl_tasks.__main__", command(task, "two", 4)) for task in worlds])
    for task in worlds:
        assert main(command(task, "one", 8)) == 0
        one, both = (read_checkpoint(tmp_path / task / name / LAST) for name in ("one", "two"))
        assert both.document["world"] == 2
        for name, value in one.model_state().items():
            torch.testing.assert_close(both.model_state()[name], value, atol=2e-6, rtol=1e-4, msg=f"{task}: {name}")
    folders = [tmp_path / "captioning" / name for name in ("one", "two")]
    logs = [[line for line in read_log(folder / "log.jsonl") if "loss" in line] for folder in folders]
    assert ["reward" in line for line in logs[0]] == [False, False, True, True]
    assert [line["loss"] for line in logs[0]] == pytest.approx([line["loss"] for line in logs[1]], abs=1e-6)
    assert abs(logs[0][3]["loss"]) > 0.01

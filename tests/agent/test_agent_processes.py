"""Training of every kind on two ranks: the same as on one with the double batch."""

from __future__ import annotations

from pathlib import Path

import agent_toy
from test_speaker_train import TINY as TINY_SPEAKER
from two_ranks import on_two_ranks

from agent import train
from clip_core.checkpoint import LAST, read_checkpoint


def test_two_processes_learn_as_one_with_the_double_batch(places: list[str], small_data: Path, tmp_path: Path):
    """Without dropout, teacher forced, nothing is random but the order of the episodes: a follower; one that also
    learns from a file of further routes; a speaker, whose texts differ in length, so that the mean over the tokens of
    both ranks is not the mean of their means."""
    settings = [*places, "--dropout", "0", "--feature-dropout", "0", "--eval-splits", "none"]
    follower = [*settings, *agent_toy.TINY, "--objective", "imitation"]
    kinds = {
        "follower": [*follower, "--steps", "3"],
        "augment": [*follower, "--steps", "4", "--augment-routes", str(small_data / "R2R_train.json")],
        "speaker": [*settings, *TINY_SPEAKER, "--steps", "3"],
    }
    out = {(kind, name): tmp_path / kind / name for kind in kinds for name in ("one", "two")}
    two = [[*flags, "--batch", "3", "--out", str(out[kind, "two"])] for kind, flags in kinds.items()]
    on_two_ranks([("agent.train", command) for command in two])
    for kind, flags in kinds.items():
        assert train.main([*flags, "--batch", "6", "--out", str(out[kind, "one"])]) == 0
        one, both = (read_checkpoint(out[kind, name] / LAST) for name in ("one", "two"))
        assert both.document["world"] == 2
        agent_toy.assert_close(both.model_state(), one.model_state(), 1e-6)

"""Command: train a follower or a speaker (`python -m agent.train --help`)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import tyro
from rich.console import Console

from agent import config as follower_config
from agent import speaker_config
from agent.config import TrainConfig
from agent.follower_run import run_follower
from agent.speaker_config import TrainSpeakerConfig
from agent.speaker_run import run_speaker
from clip_core.log import print_error
from clip_core.runtime import start_runtime


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, build the parts, connect them, train, show what came out."""
    console = Console()
    try:
        config = parse(sys.argv[1:] if argv is None else list(argv))
        with start_runtime(config.device, config.trainer.precision, config.trainer.seed) as runtime:
            if isinstance(config, TrainSpeakerConfig):
                run_speaker(config, runtime, console)
            else:
                run_follower(config, runtime, console)
    except ValueError as error:
        print_error(error)
        return 2
    return 0


def parse(argv: list[str]) -> TrainConfig | TrainSpeakerConfig:
    """The preset of --train, --env and --recipe, in its version for the built-in houses without --data, overlaid by the
    other flags."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--train", default="follower")
    early.add_argument("--env", default="r2r")
    early.add_argument("--data")
    early.add_argument("--recipe")
    known = early.parse_known_args(argv)[0]
    module: Any = speaker_config if known.train == "speaker" else follower_config
    presets = module.BUILT_IN if known.data is None else module.PRESETS
    preset = presets.get(known.env, presets["r2r"])()
    recipe = known.recipe or ("layout" if known.data is None else "envdrop")
    if isinstance(preset, TrainConfig) and recipe == "layout":
        preset = follower_config.by_layout(preset)
    return tyro.cli(
        type(preset), args=argv, default=preset, prog="python -m agent.train", config=(tyro.conf.OmitArgPrefixes,)
    )


if __name__ == "__main__":
    raise SystemExit(main())

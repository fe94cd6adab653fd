"""Command line of precompute: scenes, images or feature files become feature stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tyro

from clip_core.log import print_error
from precompute.convert import Convert, convert
from precompute.export import Export, export
from precompute.images import Images, images
from precompute.panoramas import Panoramas, panoramas
from precompute.prepare import Prepare, prepare_command
from precompute.train_clip import TrainClip, train_clip

DESCRIPTION = """Make a feature store: the features of an encoder for every viewpoint or image, in one memory-mapped
table with a header that says how they were made. For example, from skyboxes, or from the feature file of R2R-EnvDrop:

  python -m precompute panoramas --data scans --model ViT-B-32 --pretrained openai --out features/vit-b-32
  python -m precompute convert --from ResNet-152-imagenet.tsv --out features/resnet152 --model resnet152

Each command has its own help: python -m precompute convert --help"""
COMMANDS: dict[str, tuple[type, Callable[[Any], object]]] = {
    "panoramas": (Panoramas, panoramas),
    "images": (Images, images),
    "convert": (Convert, convert),
    "export": (Export, export),
    "train-clip": (TrainClip, train_clip),
    "prepare": (Prepare, prepare_command),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command of the arguments; a fault of the user gives a message and exit code 2."""
    names: dict[str, Callable[..., Any]] = {name: config for name, (config, _) in COMMANDS.items()}
    config = tyro.extras.subcommand_cli_from_dict(
        names, prog="python -m precompute", description=DESCRIPTION, args=argv
    )
    try:
        next(run for kind, run in COMMANDS.values() if kind is type(config))(config)
    except ValueError as error:
        print_error(error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

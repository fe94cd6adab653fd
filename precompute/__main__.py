"""Command line of precompute: scenes, images or feature files become feature stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tyro

from clip_core.log import print_error
from precompute.convert import Convert, convert
from precompute.export import Export, export

DESCRIPTION = """Make a feature store: the features of an encoder for every viewpoint or image, in one memory-mapped
table with a header that says how they were made. For example, from the feature file of R2R-EnvDrop:

  python -m precompute convert --from ResNet-152-imagenet.tsv --out features/resnet152 --model resnet152

Each command has its own help: python -m precompute convert --help"""
COMMANDS: dict[type, Callable[[Any], object]] = {Convert: convert, Export: export}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command of the arguments; a fault of the user gives a message and exit code 2."""
    names: dict[str, Callable[..., Any]] = {config.__name__.lower(): config for config in COMMANDS}
    config = tyro.extras.subcommand_cli_from_dict(
        names, prog="python -m precompute", description=DESCRIPTION, args=argv
    )
    try:
        COMMANDS[type(config)](config)
    except ValueError as error:
        print_error(error)
        return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The CLIP model that comes with the package: small, trained on procedural houses, for the embedded world."""

from __future__ import annotations

import hashlib
from pathlib import Path

MODEL, TAG = "clipnav-houses", "embedded"
FOLDER = Path(__file__).parent / "embedded"
"""As open_clip saves a model (`local-dir:`), with the merges of its tokenizer and a model card."""
CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "open_clip_config.json", "open_clip_model.safetensors", "MODEL_CARD.md"
CHECKSUM_FILE = f"{WEIGHTS_FILE}.sha256"
MOST_BYTES = 8_000_000
"""Of the weights file."""


def recorded_checksum(folder: Path = FOLDER) -> str:
    """SHA-256 that the weights file must have. OSError or IndexError if its file is missing or empty."""
    return (folder / CHECKSUM_FILE).read_text(encoding="utf-8").split()[0]


def shipped_weights(folder: Path = FOLDER) -> Path:
    """The weights file, its checksum compared; ValueError if it is missing or another file."""
    path, checksum = folder / WEIGHTS_FILE, folder / CHECKSUM_FILE
    try:
        expected = recorded_checksum(folder)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(
            f"the weights of {MODEL} are not whole in {folder} ({error}); install the package again, or train them: "
            "python -m precompute train-clip"
        ) from None
    if found != expected:
        raise ValueError(
            f"{path} has the checksum {found}, expected {expected} ({checksum.name}); install the package again, or "
            "name a file of your own as weights"
        )
    return path

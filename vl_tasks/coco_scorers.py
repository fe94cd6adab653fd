"""METEOR and SPICE of pycocoevalcap, an optional extra that needs Java; what cannot run is told, not raised."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module, util

Scorer = Callable[[dict[int, list[str]], dict[int, list[str]]], float]
INSTALL = 'pip install "clipnav[coco]"'


def java_scores(
    candidates: Mapping[int, Sequence[str]],
    references: Mapping[int, Sequence[Sequence[str]]],
    meteor: bool,
    spice: bool,
) -> tuple[dict[str, float], list[str]]:
    """Fractions `meteor`, `spice` of captions split into words, and a sentence for each that had to be left out."""
    theirs = {identity: [" ".join(words) for words in group] for identity, group in references.items()}
    mine = {identity: [" ".join(candidates[identity])] for identity in references}
    found: dict[str, float] = {}
    notes: list[str] = []
    for name, wanted in (("meteor", meteor), ("spice", spice)):
        if not wanted:
            continue
        reason = missing()
        if reason is None:
            try:
                found[name] = _scorer(name)(theirs, mine)
            except Exception as error:  # Java fails in many ways; the other scores stand
                lines = str(error).strip().splitlines()
                reason = f"it failed with {type(error).__name__}: {lines[0] if lines else 'no message'}"
        if reason is not None:
            notes.append(f"{name.upper()} is left out: {reason}")
    return found, notes


def missing() -> str | None:
    """What they lack on this machine, and how to get it; None if nothing."""
    if shutil.which("java") is None:
        return "it needs Java, and there is no program java on the PATH; install a Java runtime (for SPICE version 8)"
    if util.find_spec("pycocoevalcap") is None:
        return f"it needs pycocoevalcap: {INSTALL}"
    return None


def _scorer(name: str) -> Scorer:
    module = import_module(f"pycocoevalcap.{name}.{name}")
    scorer = getattr(module, name.capitalize())()
    return lambda references, candidates: float(scorer.compute_score(references, candidates)[0])

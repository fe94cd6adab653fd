"""The configuration of agent.evaluate: what is scored, where, how its routes are found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.config import DataSet
from agent.search import MAX_EXPANSIONS, K, RouteSearch
from clip_core.runtime import Precision
from envs.metrics import SplBy

SOURCES = ("checkpoint", "policy", "predictions")
"""Flags that name what is evaluated; exactly one of them is given."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a trained follower, one of the field's simple policies, or a file of predictions on a split.

    For example:

      python -m agent.evaluate --data R2R --connectivity CONNECTIVITY --split val_unseen --checkpoint runs/blind
      python -m agent.evaluate --data R2R --checkpoint runs/one runs/two --search dijkstra --speaker runs/speaker

    Give exactly one of --checkpoint, --policy, --predictions. Prints metrics in metres and percent; --json keeps metres
    and fractions. A test split has no goals: it can be written with --submission, or checked with --predictions.
    """

    env: DataSet = "r2r"
    """Data set."""
    data: Path | None = None
    """Folder of R2R_{split}.json (docs/data.md). Default: the built-in procedural houses, made on first use."""
    connectivity: Path | None = None
    """Folder of the navigation graphs. Default: connectivity/ in the data folder or beside it."""
    split: str = "val_unseen"
    """Split to evaluate on."""
    languages: tuple[str, ...] = ()
    """Of RxR: instructions in these alone (en, hi, te, or a tag like en-US). Default: all."""
    checkpoint: tuple[Path, ...] = ()
    """A run folder of agent.train (its best checkpoint), or one checkpoint file. Several decide together: the mean of
    their action probabilities."""
    policy: Literal["shortest", "random", "stop"] | None = None
    """shortest: the shortest path to the goal; random: a random heading, then five moves forward; stop: stay."""
    predictions: Path | None = None
    """A predictions file in the format of EvalAI's R2R challenge, .json or .json.gz, or of the RxR competition, .jsonl
    or .jsonl.gz; checked before it is scored."""
    way_back_penalty: float | None = None
    """With --checkpoint of a follower with a layout: what is taken off the logit of the way back. Default: that of its
    training for greedy, 0 for a search, which compares whole routes and loses by it (docs/results.md)."""
    search: Literal["greedy", "beam", "dijkstra", "best-first"] = "greedy"
    """With --checkpoint. greedy: the likeliest action at each step. The others list --k candidate routes and choose one
    of them. beam: the width is k; dijkstra: the best route to every place, as R2R-EnvDrop; best-first: the k likeliest
    routes, exactly."""
    k: int | None = None
    """Candidates of a search. Default: 40."""
    max_expansions: int = MAX_EXPANSIONS
    """Places at which dijkstra or best-first asks the follower before it gives up."""
    speaker: Path | None = None
    """With a search: a run of agent.train --train speaker. It chooses the candidate that the instruction fits best
    (pragmatic inference); without it the likeliest is chosen."""
    speaker_weight: float | None = None
    """What the speaker's word counts, 0 to 1; the follower's counts the rest. Default: the weight with the highest
    success rate on val_seen."""
    count_exploration: bool = False
    """With a search: the route is the whole walk that the search would have been, then on to the chosen end, in metrics
    and --submission alike. The challenge of R2R demands that; results of beam search are often told without."""
    features: str | None = None
    """With --checkpoint: the feature store that the agent sees with; it must be as the one of its training. Default:
    in the built-in houses that of the embedded CLIP for an agent that sees; else none."""
    json: Path | None = None
    """Write the metrics, overall and of every instruction, to this file."""
    submission: Path | None = None
    """Write the routes to this file in the format of EvalAI's R2R challenge, with --env rxr in that of the RxR
    competition (JSON Lines), and check it."""
    routes: Path | None = None
    """Draw some routes, drawn at random by --seed, from above into this PNG."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Precision = "fp32"
    """bf16: matrix products in bfloat16 (autocast)."""
    seed: int = 0
    """Seed of --policy random and of the choice of --routes."""
    seeds: int = 1
    """With --policy random: mean over so many seeds, from --seed on."""
    spl_by: SplBy = "shortest"
    """What SPL takes for the length of a perfect walk: the shortest distance from start to goal (R2R's evaluator, and
    CLIP-ViL's for RxR) or the length of the reference route (HAMT, DUET). On R2R they are equal. On R4R and RxR the
    reference routes are longer: shortest punishes those who follow them, so say which one a number is."""
    keep_repeats: bool = False
    """Count a turn on the spot as a step, as the public evaluators do (changes steps, nDTW, SDTW)."""

    def how(self) -> RouteSearch | None:
        """The search that the flags describe, None for greedy. Raises ValueError for numbers that cannot be."""
        if self.search == "greedy":
            return None
        return RouteSearch(self.search, K if self.k is None else self.k, self.max_expansions)

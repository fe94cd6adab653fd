"""Routes of a follower by search: candidates, the speaker's choice among them, what is said of both.

Legend: C candidates of all episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.progress import Progress

from agent.candidates import Candidates
from agent.data import Split
from agent.ensemble import Ensemble
from agent.evaluation import Predictions, follow
from agent.exploration import as_walked
from agent.pragmatics import WEIGHTS, WeightChoice, choose_weight, hear, weigh
from agent.search import RouteSearch, find_candidates
from agent.sight import Eyes
from agent.speaker import Speaker

TUNING_SPLIT = "val_seen"
"""Where the speaker's weight is chosen: never on unseen buildings."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a follower answers on a split. predictions: its routes; beside: other choices among the same candidates, by
    name; how: the search in words, for a title; notes: lines for a person; record: the search for a file."""

    predictions: Predictions
    beside: Mapping[str, Predictions] = field(default_factory=dict)
    how: str = ""
    notes: Sequence[str] = ()
    record: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Searcher:
    """A follower that searches, and the speaker that listens to it, with what both see."""

    ensemble: Ensemble
    eyes: Eyes
    search: RouteSearch
    max_steps: int
    speaker: Speaker | None

    def candidates(
        self, split: Split, for_speaker: Split | None, bar: Progress
    ) -> tuple[Candidates, np.ndarray | None]:
        """Of a split, with the speaker's opinion [C]. for_speaker: the split as the speaker reads it."""
        tell = _task(bar, f"{self.search.method} on {split.name}", split)
        found = find_candidates(self.ensemble, self.eyes, split, self.search, self.max_steps, done=tell)
        if self.speaker is None or for_speaker is None:
            return found, None
        tell = _task(bar, f"speaker on {split.name}", split)
        return found, hear(self.speaker, self.eyes, for_speaker, found, done=tell)


def follow_greedily(ensemble: Ensemble, eyes: Eyes, split: Split, max_steps: int, bar: Progress) -> Answers:
    """The greedy routes."""
    routes = follow(ensemble, eyes, split, max_steps, done=_task(bar, f"follower on {split.name}", split))
    return Answers(routes, record={"method": "greedy"})


def infer(
    searcher: Searcher,
    splits: Mapping[str, Split],
    for_speaker: Mapping[str, Split],
    name: str,
    weight: float | None,
    counted: bool,
    bar: Progress,
) -> Answers:
    """Search the split of that name and choose.

    splits, for_speaker: as the follower and as the speaker reads them. weight: the speaker's; None: chosen on
    `TUNING_SPLIT`, which is then among the splits. counted: the routes are the whole walks, see `exploration`.
    """
    found, heard = searcher.candidates(splits[name], for_speaker.get(name), bar)
    choice = None
    if heard is not None and weight is None:
        tuning, by = (found, heard) if name == TUNING_SPLIT else _tuning(searcher, splits, for_speaker, bar)
        choice = choose_weight(tuning, by, splits[TUNING_SPLIT].world, TUNING_SPLIT)
        weight = choice.weight
    world, k = splits[name].world, searcher.search.k
    chosen = {"": found.best(weigh(found, heard, weight or 0.0))}
    if heard is not None:
        chosen["follower alone"] = found.best(weigh(found, None, 0.0))
    if all(e.has_goal for e in world.episodes):
        chosen[f"best of {k}"] = found.best(-found.error_m(world))
    routes = {
        who: as_walked(found, which, world) if counted else found.predictions(which, world)
        for who, which in chosen.items()
    }
    record = _record(searcher.search, found, weight if heard is not None else None, choice, counted)
    return Answers(routes.pop(""), routes, _described(record), _notes(searcher.search, found, choice), record)


def _tuning(
    searcher: Searcher, splits: Mapping[str, Split], for_speaker: Mapping[str, Split], bar: Progress
) -> tuple[Candidates, np.ndarray]:
    found, heard = searcher.candidates(splits[TUNING_SPLIT], for_speaker[TUNING_SPLIT], bar)
    assert heard is not None
    return found, heard


def _task(bar: Progress, name: str, split: Split) -> Callable[[int], None]:
    task = bar.add_task(name, total=len(split.world.episodes))
    return lambda episodes: bar.advance(task, episodes)


def _record(
    search: RouteSearch, found: Candidates, weight: float | None, choice: WeightChoice | None, counted: bool
) -> dict[str, Any]:
    counts = found.counts()
    record: dict[str, Any] = {
        "method": search.method,
        "k": search.k,
        "max_expansions": search.max_expansions,
        "candidates": float(counts.mean()),
        "with_fewer": int((counts < search.k).sum()),
        "gave_up": found.cut,
        "exploration_counted": counted,
        "speaker_weight": weight,
    }
    if choice is not None:
        curve = zip(WEIGHTS.tolist(), choice.success.tolist(), strict=True)
        record["weight_chosen_on"] = choice.split
        record["weight_curve"] = [{"weight": w, "success": success} for w, success in curve]
    return record


def _described(record: Mapping[str, Any]) -> str:
    """For the title of a table."""
    parts = [f"{record['method']} search, k {record['k']}"]
    if record["speaker_weight"] is not None:
        where = f" (chosen on {record['weight_chosen_on']})" if "weight_chosen_on" in record else ""
        parts.append(f"speaker weight {record['speaker_weight']:.2f}{where}")
    return ", ".join([*parts, f"exploration {'' if record['exploration_counted'] else 'not '}counted"])


def _notes(search: RouteSearch, found: Candidates, choice: WeightChoice | None) -> list[str]:
    """What a person should know of the candidates and of the weight."""
    notes, counts = [], found.counts()
    if found.cut:
        notes.append(
            f"{found.cut:,} of {len(counts):,} searches gave up after {search.max_expansions:,} places: their "
            "candidates are the likeliest routes met until then (--max-expansions)"
        )
    elif (counts < search.k).any():
        notes.append(
            f"fewer than {search.k} routes for {int((counts < search.k).sum()):,} of {len(counts):,} instructions, at "
            f"least {counts.min()}: there are no more"
        )
    if choice is not None:
        points = [f"{WEIGHTS[i]:.1f}: {choice.success[i] * 100:.1f}" for i in range(0, len(WEIGHTS), 10)]
        notes.append(
            f"success on {choice.split} is highest with speaker weight {choice.weight:.2f}: "
            f"{choice.success.max() * 100:.1f} % (weight {', '.join(points)})"
        )
    return notes

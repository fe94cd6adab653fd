"""Accuracies of a model on a split, as tables, screens and reports take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scores:
    """Fractions: over all items; by group ("answer type", "question type", "label"), then name; of each item, in order.
    counts: items behind each of the second."""

    overall: float
    groups: dict[str, dict[str, float]]
    counts: dict[str, dict[str, int]]
    each: list[float]

    def table(self) -> dict[str, Any]:
        """For a run's table: the overall one, the groups."""
        return {"overall": self.overall, **self.groups}

    @property
    def first_group(self) -> dict[str, float]:
        """The group that is shown where there is room for one."""
        return next(iter(self.groups.values()), {})

    def metrics(self) -> dict[str, float]:
        """For the trainer: the overall one and those of the first group."""
        named = {name.replace("/", "_").replace(" ", "_"): value for name, value in self.first_group.items()}
        return {"accuracy": self.overall, **named}

    def line(self) -> str:
        """In percent: the overall one and those of the first group."""
        named = "  ".join(f"{name} {100 * value:.2f} %" for name, value in self.first_group.items())
        return f"accuracy {100 * self.overall:.2f} %  {named}"

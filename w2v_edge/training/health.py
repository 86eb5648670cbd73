"""Is it still learning? Numbers that are none, and codes that have all become one."""

from __future__ import annotations

import math
from collections.abc import Mapping

from w2v_edge.errors import TrainingError

COLLAPSED = 1.5
"""Entries in use of a group, by perplexity, at which codes say nothing any more."""

PATIENCE = 50
"""Updates in a row: one batch may be silence."""


def refuse_non_numbers(figures: Mapping[str, float], update: int, saved: str) -> None:
    """Raise `TrainingError` if a figure is no number; `saved` says what there is to go back to."""
    for name, value in figures.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"{name} is {value} at update {update}: training has come apart; {saved}; "
                "try a lower learning rate, or --precision bf16 or fp32 instead of fp16"
            )


class CollapseAlarm:
    """Says once when codes have collapsed, and again after they had recovered."""

    def __init__(self) -> None:
        self._updates = 0
        self._said = False

    def watch(self, perplexities: Mapping[str, float], updates: int = 1) -> str:
        """Return a line if the codes of a group have been nearly one for long, else nothing.

        Args:
            perplexities: entries in use, by the name of the group.
            updates: since it was last asked.
        """
        if not perplexities:
            return ""
        name, least = min(perplexities.items(), key=lambda x: x[1])
        if least > COLLAPSED:
            self._updates, self._said = 0, False
            return ""
        self._updates += updates
        if self._said or self._updates < PATIENCE:
            return ""
        self._said = True
        return (
            f"codes have collapsed: {name} has been below {COLLAPSED:g} for {self._updates} "
            "updates, the loss means nothing; try a higher diversity weight, a higher temperature "
            "for longer, or a lower learning rate"
        )

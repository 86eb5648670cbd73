"""The result of the parity gate, as the command line prints it and a manifest holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from w2v_edge.agreement import (
    MAX_TIES,
    RELATIVE_TOLERANCE,
    ROUNDING_FACTOR,
    Deviation,
    json_number,
)


@dataclass(frozen=True)
class ParityReport:
    """Result of the parity gate.

    Attributes:
        rows: one deviation for each output of each graph and case.
        codes_compared: codes compared in all cases.
        codes_tied: differing codes that are ties.
        codes_wrong: differing codes that are no ties.
        distinct_codes: number of entries seen in each group.
        provider: execution provider of the bundle.
        exact: True in float32, where codes must be equal; False where budgets hold.
        rounding: largest deviation of PyTorch's own float32 from float64, by output; of `codes`,
            of the quantizer's logits in their standard deviations.
        std: standard deviation of each output across frames.
        float32_drift: share of codes that PyTorch's own float32 changes.
        codes_wanted: codes that a whole gate compares.
        thorough: whether the thorough set was compared.
        accepted_ill_conditioned: whether an output without a verdict was let pass.
        longest_seconds: length of the longest case.
        shortened: whether memory allowed no longer one.
    """

    rows: tuple[Deviation, ...]
    codes_compared: int
    codes_tied: int
    codes_wrong: int
    distinct_codes: tuple[int, ...]
    provider: str
    exact: bool = True
    rounding: Mapping[str, float] = field(default_factory=dict)
    std: Mapping[str, float] = field(default_factory=dict)
    float32_drift: float = 0.0
    codes_wanted: int = 0
    thorough: bool = False
    accepted_ill_conditioned: bool = False
    longest_seconds: float = 0.0
    shortened: bool = False

    @property
    def failures(self) -> list[Deviation]:
        """Deviations beyond their tolerance."""
        return [row for row in self.rows if not row.ok]

    @property
    def too_many_ties(self) -> bool:
        """Whether more codes differ at ties than chance, or float32 itself, explains."""
        return self.codes_tied > self._tie_share * self.codes_compared

    @property
    def _tie_share(self) -> float:
        return max(MAX_TIES, ROUNDING_FACTOR * self.float32_drift)

    @property
    def passed(self) -> bool:
        """Whether the bundle agrees with PyTorch."""
        return not self.failures and not self.too_many_ties

    @property
    def summary(self) -> str:
        """The failure, in one line."""
        causes = [f"; {remark}" for remark in self.remarks]
        if not self.failures:
            return "the bundle differs from PyTorch" + "".join(causes)
        first = self.failures[0]
        return (
            f"the bundle differs from PyTorch in {len(self.failures)} of {len(self.rows)} "
            f"comparisons; first: {first.output} of {first.case}" + "".join(causes)
        )

    @property
    def remarks(self) -> list[str]:
        """Limits of the evidence, and failures that no single row shows."""
        remarks = []
        if self.distinct_codes and min(self.distinct_codes) <= 1:
            remarks.append(
                "only one code was ever chosen in a group: equal codes prove nothing there"
            )
        if 0 < self.codes_compared < self.codes_wanted:
            remarks.append(f"only {self.codes_compared} codes compared, {self.codes_wanted} wanted")
        if self.shortened:
            remarks.append(
                f"compared up to {self.longest_seconds:g} s only: this machine has too little free "
                "memory for longer audio in float64"
            )
        remarks += self._rounding_remarks()
        if self.too_many_ties:
            remarks.append(
                f"{self.codes_tied} of {self.codes_compared} codes differ at ties, "
                f"more than {self._tie_share:.2%}"
            )
        return remarks

    def _rounding_remarks(self) -> list[str]:
        """Return a remark for each output whose float32 rounding exceeds the usual tolerance."""
        return [
            f"this checkpoint amplifies float32 rounding: {name} of PyTorch itself in float32 is "
            f"off by {self.rounding[name]:.1e}, at a standard deviation of {std:.1e}"
            for name, std in self.std.items()
            if self.rounding.get(name, 0.0) * ROUNDING_FACTOR > RELATIVE_TOLERANCE * std
        ]

    def worst(self) -> list[Deviation]:
        """Return for each graph and output the deviation nearest to its tolerance."""
        worst: dict[tuple[str, str], Deviation] = {}
        for row in self.rows:
            key = (row.case.split()[0], row.output)
            if key not in worst or _strain(row) > _strain(worst[key]):
                worst[key] = row
        return list(worst.values())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as a manifest holds it; every value is valid JSON."""
        return {
            "passed": self.passed,
            "provider": self.provider,
            "comparisons": len(self.rows),
            "thorough": self.thorough,
            "accepted_ill_conditioned": self.accepted_ill_conditioned,
            "longest_seconds": self.longest_seconds,
            "codes_compared": self.codes_compared,
            "codes_tied": self.codes_tied,
            "codes_wrong": self.codes_wrong,
            "distinct_codes": list(self.distinct_codes),
            "float32_rounding": {x: json_number(value) for x, value in self.rounding.items()},
            "std": {x: json_number(value) for x, value in self.std.items()},
            "float32_code_drift": json_number(self.float32_drift),
            "remarks": self.remarks,
            "worst": [row.to_dict() for row in self.worst()],
            "failures": [row.to_dict() for row in self.failures],
        }


def _strain(row: Deviation) -> float:
    if not row.ok:
        return np.inf
    return row.worst / row.allowed if row.allowed else row.worst

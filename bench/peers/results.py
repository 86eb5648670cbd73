"""Results of the comparison: a latency report, and a second file for other figures.

`NAME.json` is a report as `w2v-edge bench` writes one. A side stands for a bundle; it has a trial
for each length, whose queries took turns with those of all other sides in one process. Imports and
loading are medians of that side's fresh processes. Times that were not measured are 0.
`NAME-more.json` has accuracy, memory, each fresh process, profiles, and sides that were not run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.peers.sides import Side
from bench.peers.timing import STEADY, Times, quartiles
from w2v_edge.latency.report.files import read_report, to_json, write
from w2v_edge.latency.report.records import (
    BenchmarkCase,
    BenchmarkReport,
    BenchmarkSettings,
    BundleRecord,
    CaseResult,
    Trial,
)
from w2v_edge.latency.statistics import CONFIDENCE, summarise

MORE = "-more.json"
DIGITS = 3
"""Of milliseconds."""

RIGHT = 0.99
"""Least cosine with PyTorch at the worst decile of frames of a side that counts."""

SETTINGS = BenchmarkSettings(
    rounds=1, steady_s=0.0, precision=0.0, time_s=0.0, confidence=CONFIDENCE, seed=0
)
"""One process; rounds are counted, not timed."""


@dataclass(frozen=True)
class SideTimes:
    """One side at one length.

    Attributes:
        side: its name.
        seconds: of audio.
        raw_ms: of each round, in their order; empty where it failed.
        first_ms: the first run of this length.
        failure: reason of a failure; empty without one.
    """

    side: str
    seconds: float
    raw_ms: tuple[float, ...]
    first_ms: float
    failure: str

    @cached_property
    def quartiles_ms(self) -> tuple[float, float, float]:
        """Lower quartile, median, upper quartile."""
        return quartiles(self.raw_ms)

    @property
    def median_ms(self) -> float:
        """Median over rounds."""
        return self.quartiles_ms[1]

    @property
    def p90_ms(self) -> float:
        """90th percentile over rounds, interpolated."""
        return float(np.quantile(self.raw_ms, 0.9))

    @property
    def steady(self) -> bool:
        """Whether the rounds show no sign of other load."""
        low, median, high = self.quartiles_ms
        return max(high - median, median - low) <= STEADY * median


@dataclass(frozen=True)
class Results:
    """Both files of a run.

    Attributes:
        report: latencies.
        more: the rest, by side under `sides`.
    """

    report: BenchmarkReport
    more: dict[str, Any]

    @classmethod
    def read(cls, stem: Path) -> Results:
        """Read `STEM.json` and `STEM-more.json`."""
        more = json.loads(Path(f"{stem}{MORE}").read_text())
        return cls(read_report(Path(f"{stem}.json")), more)

    def write(self, stem: Path) -> None:
        """Write both files."""
        write(Path(f"{stem}.json"), to_json(self.report))
        write(Path(f"{stem}{MORE}"), json.dumps(self.more, indent=1, allow_nan=False) + "\n")

    @property
    def sides(self) -> dict[str, dict[str, Any]]:
        """Figures of each side other than latencies."""
        sides: dict[str, dict[str, Any]] = self.more["sides"]
        return sides

    def rows(self, group: str) -> list[SideTimes]:
        """Return all timed rows of a group."""
        return [_row(x) for x in self.report.cases if x.case.graph == group]

    def timed(self, group: str, seconds: float) -> dict[str, SideTimes]:
        """Return the sides of a group that have figures at one length."""
        return {x.side: x for x in self.rows(group) if x.seconds == seconds and x.raw_ms}

    def lengths(self, group: str = "encoder") -> list[float]:
        """Return the lengths that were timed, in seconds."""
        return sorted({x.seconds for x in self.rows(group)})

    def look(self, side: str, *keys: str) -> float | None:
        """Return a figure of a side by its path in the second file; None where there is none."""
        found: Any = self.sides.get(side)
        for key in keys:
            found = found.get(key) if found else None
        return None if found is None else float(found)

    def is_wrong(self, side: str) -> bool:
        """Whether the outputs of a side are too far from PyTorch's to compare its times."""
        cosine = self.look(side, "accuracy", "cosine_worst_decile")
        return cosine is not None and cosine < RIGHT

    def over_least(self, row: SideTimes) -> float | None:
        """Return the time of a row over the least one; None if the limit was not measured."""
        precision = next(x.precision for x in self.report.bundles if x.name == row.side)
        by_precision = self.more.get("limit", {}).get("least_ms", {})
        least = by_precision.get(precision, {}).get(f"{row.seconds:g}")
        return row.median_ms / least if least and row.raw_ms else None

    def disk_mb(self, side: str) -> float | None:
        """Return the size of a side's files."""
        return next((x.size_mb for x in self.report.bundles if x.name == side), None)


def _row(result: CaseResult) -> SideTimes:
    case = result.case
    if not result.trials:
        return SideTimes(case.bundle, case.seconds, (), 0.0, result.failure)
    (trial,) = result.trials
    return SideTimes(case.bundle, case.seconds, trial.latencies_ms, trial.first_ms, "")


def side_record(side: Side, preset: str, size_mb: float) -> BundleRecord:
    """Describe a side, identified by its recipe, since exported bytes differ each time."""
    recipe = {"name": side.name, "kind": side.kind, "precision": side.precision, "model": preset}
    digest = hashlib.sha256(
        json.dumps(recipe, sort_keys=True, allow_nan=False).encode()
    ).hexdigest()
    return BundleRecord(side.name, digest, preset, side.precision, side.kind, round(size_mb, 2))


def case_result(
    side: Side, seconds: float, threads: int, times: Times, fresh: Mapping[str, Any]
) -> CaseResult:
    """Return the result of one side at one length.

    Args:
        side: what was run.
        seconds: of audio.
        threads: of one operator.
        times: what it took.
        fresh: what its fresh processes took, under `cold` and `load`; empty without them.
    """
    case = BenchmarkCase(
        side.name, side.group, "cpu", {}, threads, "high", float(seconds), 1, "single"
    )
    if times.failure:
        return CaseResult(case, (), None, failure=times.failure)
    trial = Trial(
        begin_s=0.0,
        end_s=0.0,
        start_ms=0.0,
        import_ms=fresh.get("cold", {}).get("import_ms", 0.0),
        load_ms=fresh.get("load", {}).get("first_result_ms", 0.0),
        first_ms=round(1e3 * times.first, DIGITS),
        warm_up_ms=tuple(round(1e3 * x, DIGITS) for x in times.warm_up),
        latencies_ms=tuple(round(1e3 * x, DIGITS) for x in times.raw),
        steady_s=round(sum(times.raw), 6),
        audio_s=float(seconds) * len(times.raw),
    )
    return CaseResult(case, (trial,), summarise(case, [trial]))

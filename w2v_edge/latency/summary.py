"""What the trials of a case say together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from w2v_edge.latency.report import Case, Estimate, Summary, Trial
from w2v_edge.latency.scenarios import OFFLINE
from w2v_edge.latency.statistics import estimate, estimate_median, percentile

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}


def summarise(case: Case, trials: Sequence[Trial], *, seed: int = 0) -> Summary:
    """Compute all figures of a case from its raw samples."""
    latencies = [np.array(trial.latencies_ms) for trial in trials]
    found = {
        name: estimate(latencies, percentile(share), seed=seed)
        for name, share in PERCENTILES.items()
    }
    audio_ms = 1e3 * audio_of_query(case, trials)
    energies = [trial.energy_j for trial in trials]
    known = [x / t.audio_s for x, t in zip(energies, trials, strict=True) if x is not None]
    streaming = case.scenario == "streaming"
    blocks = sum(map(len, latencies))
    return Summary(
        queries=blocks,
        p50_ms=found["p50"],
        p90_ms=found["p90"],
        p95_ms=found["p95"],
        p99_ms=found["p99"],
        max_ms=found["max"],
        real_time_factor=_scaled(found["p50"], 1 / audio_ms),
        speed=_inverse(_scaled(found["p50"], 1 / audio_ms)),
        throughput=estimate_median([t.audio_s / t.steady_s for t in trials]),
        start_ms=estimate_median([t.start_ms for t in trials]),
        import_ms=estimate_median([t.import_ms for t in trials]),
        load_ms=estimate_median([t.load_ms for t in trials]),
        first_ms=estimate_median([t.first_ms for t in trials]),
        warm_up_ms=estimate_median([sum(t.warm_up_ms) for t in trials]),
        loaded_mb=_most([t.loaded_mb for t in trials]),
        peak_mb=_most([t.peak_mb for t in trials]),
        energy_j=estimate_median(known) if len(known) == len(trials) else None,
        energy_source=trials[0].energy_source,
        miss_rate=sum(t.late for t in trials) / blocks if streaming else None,
        behind_ms=max(t.behind_ms for t in trials) if streaming else None,
    )


def audio_of_query(case: Case, trials: Sequence[Trial]) -> float:
    """Return the seconds of audio in a query; of a stream, in a block."""
    if case.scenario == "streaming":
        return case.block_ms / 1e3
    if case.scenario == "offline":
        return OFFLINE * case.seconds
    return sum(t.audio_s for t in trials) / sum(len(t.latencies_ms) for t in trials)


def _scaled(x: Estimate, factor: float) -> Estimate:
    return Estimate(x.value * factor, x.low * factor, x.high * factor)


def _inverse(x: Estimate) -> Estimate:
    return Estimate(1 / x.value, 1 / x.high, 1 / x.low)


def _most(values: Sequence[float | None]) -> float | None:
    known = [x for x in values if x is not None]
    return max(known) if known else None

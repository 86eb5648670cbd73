"""One trial, in the process that was started for it: from the first import to the steady state."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any, cast

from w2v_edge.latency.jobs import Job
from w2v_edge.names import Power

WARM_UP_S = 0.2
WARM_UPS = 2


def work(job: Job, begun: float) -> dict[str, Any]:
    """Measure a trial; `begun` is when the process came to its first line."""
    import w2v_edge
    from w2v_edge.latency.energy import open_counter
    from w2v_edge.latency.inputs import read_inputs
    from w2v_edge.latency.memory import peak_mb, resident_mb
    from w2v_edge.latency.scenarios import open_scenario

    case = job.case
    inputs = read_inputs(Path(job.inputs))
    prepared = time.perf_counter()
    model = w2v_edge.load(
        job.bundle,
        provider=(case.provider, case.provider_options),
        threads=case.threads,
        power=cast("Power", case.power),
    )
    for graph in graphs_of(case.scenario, case.graph, list(model.manifest.graphs)):
        model.prepare(graph)
    loaded = time.perf_counter()
    loaded_mb = resident_mb()
    scenario = open_scenario(model, case, inputs)
    first, *warm_up = _warm_up(scenario.query)
    gc.collect()
    counter = open_counter(case.provider)
    before = counter.joules() if counter else 0.0
    steady = scenario.steady(job.steady_s, warm_up[-1])
    energy = counter.joules() - before if counter else 0.0
    return {
        "start_ms": max(0.0, _ms(begun - job.spawned)),
        "import_ms": _ms(job.imported - begun),
        "load_ms": _ms(loaded - prepared),
        "first_ms": _ms(first),
        "warm_up_ms": [_ms(x) for x in warm_up],
        "latencies_ms": [_ms(x) for x in steady.latencies],
        "steady_s": round(steady.seconds, 6),
        "audio_s": round(steady.audio_s, 6),
        # A counter that did not move, as of a battery that counts in large steps, says nothing.
        "energy_j": energy if energy > 0 else None,
        "energy_source": counter.source if counter else None,
        "loaded_mb": loaded_mb,
        "peak_mb": peak_mb(),
        "late": steady.late,
        "behind_ms": _ms(steady.behind),
        "loadgen": dict(steady.loadgen),
    }


def graphs_of(scenario: str, graph: str, there: list[str]) -> list[str]:
    """Return the graphs that a case runs, of those that there are."""
    if scenario != "streaming":
        return [graph]
    wanted = ["statistics", "frontend", "quantizer", *(["context"] if graph == "encoder" else [])]
    return [name for name in wanted if name in there]


def _warm_up(query: Any) -> list[float]:
    """Time queries until the model is warm; the first one is the first."""
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) <= WARM_UPS or time.perf_counter() < begun + times[0] + WARM_UP_S:
        start = time.perf_counter()
        query()
        times.append(time.perf_counter() - start)
    return times


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 4)

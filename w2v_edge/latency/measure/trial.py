"""The jobs of measured processes: a trial, a profile, and the inputs of inner graphs."""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from w2v_edge import strict
from w2v_edge.latency.measure.memory import StagePeaks, bytes_read, resident_mb
from w2v_edge.latency.measure.processes import Job
from w2v_edge.latency.measure.products import multiplications
from w2v_edge.latency.report.records import Operator
from w2v_edge.names import Power
from w2v_edge.providers.placement import CONTROL, KERNEL

if TYPE_CHECKING:
    from w2v_edge.runtime.model import Model

TRIAL = "w2v_edge.latency.measure.trial:run_trial"
PROFILE = "w2v_edge.latency.measure.trial:profile_graph"
INNER_INPUTS = "w2v_edge.latency.measure.trial:make_inner_inputs"

WARM_UP_S = 0.2
MIN_WARM_UPS = 2
PROFILED_RUNS = 5


def run_trial(job: Job, begun: float) -> dict[str, Any]:
    """Measure one trial, from the first import to the steady state.

    Args:
        job: the case and its inputs.
        begun: when the process executed its first line, by `time.perf_counter`.

    Returns:
        The fields of a `Trial` that this process knows.
    """
    from w2v_edge.latency.measure.energy import open_counter
    from w2v_edge.latency.measure.inputs import read_inputs
    from w2v_edge.latency.measure.scenarios import open_workload

    case, peaks = job.case, StagePeaks("import")
    started = bytes_read()
    inputs = read_inputs(Path(job.inputs))
    peaks.begin("load")
    before_load = bytes_read()
    prepared = time.perf_counter()
    model = _load(job)
    for graph in _graphs_of(case.scenario, case.graph, list(model.manifest.graphs)):
        model.prepare(graph)
    loaded = time.perf_counter()
    loaded_mb, after_load = resident_mb(), bytes_read()
    peaks.begin("first")
    workload = open_workload(model, case, inputs)
    first = _timed(workload.query)
    peaks.begin("steady")
    warm_up = _warm_up(workload.query)
    gc.collect()
    counter = open_counter(case.provider, case.provider_options)
    before = counter.joules() if counter else 0.0
    steady = workload.steady(job.steady_s, warm_up[-1])
    energy = counter.joules() - before if counter else 0.0
    peaks.end()
    # The inputs are the benchmark's, not the application's.
    read_mb, storage_mb = (
        None if a is None or b is None or c is None else round((a + c - b) / 1e6, 3)
        for a, b, c in zip(started, before_load, after_load, strict=True)
    )
    return {
        "start_ms": max(0.0, _ms(begun - job.spawned)),
        "import_ms": _ms(job.imported - begun),
        "load_ms": _ms(loaded - prepared),
        "first_ms": _ms(first),
        "warm_up_ms": [_ms(x) for x in warm_up],
        "latencies_ms": [_ms(x) for x in steady.latencies],
        "steady_s": round(steady.seconds, 6),
        "audio_s": round(steady.audio_s, 6),
        # A counter that did not move, such as a battery's with large steps, gives no figure.
        "energy_j": energy if energy > 0 else None,
        "energy_source": counter.source if counter else None,
        "loaded_mb": loaded_mb,
        "peak_mb": max(peaks.mb.values(), default=None),
        "late": steady.late,
        "behind_ms": _ms(steady.behind),
        "loadgen": dict(steady.loadgen),
        "read_mb": read_mb,
        "storage_mb": storage_mb,
        "stage_peaks_mb": peaks.mb,
        "peaks_reset": peaks.reset,
    }


def profile_graph(job: Job, begun: float) -> dict[str, Any]:  # noqa: ARG001 - as all jobs
    """Profile the graph of a case on its inputs, and list what the case needs installed.

    The blocks of a stream are not profiled.
    """
    from w2v_edge.latency.measure.inputs import read_inputs
    from w2v_edge.latency.measure.installation import installed_parts

    case, model = job.case, _load(job)
    nodes: dict[str, int] = {}
    operators: tuple[Operator, ...] = ()
    if case.scenario == "streaming":
        for graph in _graphs_of(case.scenario, case.graph, list(model.manifest.graphs)):
            model.prepare(graph)
    else:
        inputs = read_inputs(Path(job.inputs))[0]
        events = model.profile(case.graph, MIN_WARM_UPS + PROFILED_RUNS, **inputs)
        nodes, operators = operator_times(events, MIN_WARM_UPS)
    return {
        "nodes": nodes,
        "operators": strict.to_plain(operators),
        "weights_mb": weights_mb(Path(job.bundle), case.graph),
        "install": strict.to_plain(installed_parts(model.bundle)),
    }


def make_inner_inputs(job: Job, begun: float) -> dict[str, Any]:  # noqa: ARG001 - as all jobs
    """Replace the waveforms in the inputs file by the inputs of a graph inside the model."""
    import w2v_edge
    from w2v_edge.latency.measure.inputs import read_inputs, write_inputs

    model = w2v_edge.load(job.bundle)
    graphs = model.manifest.graphs
    names = {tensor.name for tensor in graphs[job.case.graph].inputs}
    made = []
    for batch in read_inputs(Path(job.inputs)):
        tensors = dict(batch)
        if "context" in names:
            tensors |= model.run("encoder", **batch)
        else:
            if "statistics" in graphs:
                tensors |= model.run("statistics", **batch)
            if names & {"features", "frame_lengths"}:
                given = graphs["frontend"].inputs
                tensors |= model.run("frontend", **{x.name: tensors[x.name] for x in given})
        made.append({name: tensors[name] for name in names})
    write_inputs(Path(job.inputs), made)
    return {}


def operator_times(
    events: Iterable[dict[str, Any]], warm_ups: int
) -> tuple[dict[str, int], tuple[Operator, ...]]:
    """Aggregate the events of onnxruntime's profiler.

    Args:
        events: of several runs of one graph.
        warm_ups: number of runs to skip.

    Returns:
        Nodes by provider in one run, and time by operator type, longest first.
    """
    events = list(events)
    begins = sorted(int(x["ts"]) for x in events if x.get("name") == "model_run")
    kept = begins[warm_ups:]
    counts: Counter[tuple[str, str, str]] = Counter()
    times: Counter[tuple[str, str, str]] = Counter()
    products: dict[tuple[str, str, str], float | None] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith(KERNEL) or int(event["ts"]) < kept[0]:
            continue
        arithmetic, made = multiplications(event["args"])
        key = (event["args"]["op_name"], event["args"]["provider"], arithmetic)
        counts[key] += 1
        # The time of a loop is counted for the operators in it.
        times[key] += 0 if key[0] in CONTROL else int(event["dur"])
        before = products.get(key, 0.0)
        products[key] = None if made is None or before is None else before + made
    total = max(1, times.total())
    nodes: Counter[str] = Counter()
    for (_, provider, _), count in counts.items():
        nodes[provider] += round(count / len(kept))
    return dict(nodes.most_common()), tuple(
        Operator(
            *key[:2],
            counts[key] / len(kept),
            round(time / 1e3 / len(kept), 4),
            round(time / total, 6),
            key[2],
            None if (made := products[key]) is None else round(made / len(kept)),
        )
        for key, time in times.most_common()
    )


def weights_mb(folder: Path, graph: str) -> float:
    """Return the size of a graph's file and of the files with its weights, in 10^6 bytes."""
    from w2v_edge.bundle import file_stem, read_manifest

    manifest = read_manifest(folder)
    # Graphs of fixed shapes differ little in size.
    stem = file_stem(graph, manifest.shapes[0] if manifest.shapes else None)
    names = (f"{stem}.onnx", *manifest.graphs[graph].data)
    return round(sum((folder / name).stat().st_size for name in names) / 1e6, 3)


def _load(job: Job) -> Model:
    import w2v_edge

    case = job.case
    return w2v_edge.load(
        job.bundle,
        provider=(case.provider, case.provider_options),
        threads=case.threads,
        power=cast("Power", case.power),
    )


def _graphs_of(scenario: str, graph: str, available: list[str]) -> list[str]:
    """Return the available graphs that a case runs."""
    if scenario != "streaming":
        return [graph]
    wanted = ["statistics", "frontend", "quantizer", *(["context"] if graph == "encoder" else [])]
    return [name for name in wanted if name in available]


def _warm_up(query: Callable[[], None]) -> list[float]:
    """Return the times of the queries after the first one in seconds, until the model is warm."""
    times: list[float] = []
    end = time.perf_counter() + WARM_UP_S
    while len(times) < MIN_WARM_UPS or time.perf_counter() < end:
        times.append(_timed(query))
    return times


def _timed(query: Callable[[], None]) -> float:
    start = time.perf_counter()
    query()
    return time.perf_counter() - start


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 4)

"""Providers on which the operators of a graph ran, from onnxruntime's profile of a short run."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle.manifest import GraphInfo
from w2v_edge.errors import ProviderError
from w2v_edge.providers.choice import Execution

HEAVY = frozenset(
    "MatMul Gemm FusedMatMul FusedGemm TransposeMatMul Conv FusedConv NhwcFusedConv ConvTranspose "
    "Attention MultiHeadAttention GroupQueryAttention QAttention PackedMultiHeadAttention "
    "MatMulInteger MatMulIntegerToFloat DynamicQuantizeMatMul QLinearMatMul QGemm ConvInteger "
    "QLinearConv MatMulNBits Einsum".split()
)
"""Operators that do nearly all of the work; shape arithmetic may stay on the CPU."""

CONTROL = frozenset({"Scan", "Loop", "If"})
"""Control flow: the profile also lists the operators inside, which take its time."""

KERNEL = "_kernel_time"
RUN = "model_run"
"""Name of a run's event."""

SECONDS = 1.0
FRAMES = 50


@dataclass(frozen=True)
class Placement:
    """Providers on which a graph runs.

    Attributes:
        providers: execution providers of its session, first choice first.
        nodes: number of operators per provider in the profiled run, a fused subgraph counting as
            one; None without a profiled run, as on the CPU.
        time: fraction of the operators' time per provider in the profiled run, or None.
        heaviest: operators with their provider and fraction of time, largest first.
        elsewhere: heavy operators that did not run on a requested provider, longest first.
        runs: number of runs, whose medians the times are; 0 without a profiled run.
    """

    providers: tuple[str, ...]
    nodes: dict[str, int] | None = None
    time: dict[str, float] | None = None
    heaviest: tuple[tuple[str, str, float], ...] = field(default=(), repr=False)
    elsewhere: tuple[str, ...] = ()
    runs: int = 0


def sample_inputs(
    graph: GraphInfo, sample_rate: int, axes: Mapping[str, int] | None = None
) -> dict[str, npt.NDArray[Any]]:
    """Return inputs of tones and noise: one short utterance, or as many as `axes` states.

    Args:
        graph: description of the graph.
        sample_rate: in Hz.
        axes: lengths of all axes of a fixed shape, by name.
    """
    random = np.random.default_rng(0)
    sizes = axes or {"batch": 1, "samples": int(SECONDS * sample_rate)}
    samples = sizes["samples"]
    made: dict[str, npt.NDArray[Any]] = {}
    for tensor in graph.inputs:
        shape = [axis if isinstance(axis, int) else sizes.get(axis, FRAMES) for axis in tensor.axes]
        noise = random.standard_normal(shape).astype(np.float32)
        if tensor.name == "waveform":
            seconds = np.arange(samples) / sample_rate
            tones = np.sin(2 * np.pi * 220 * seconds) + np.sin(2 * np.pi * 1_320 * seconds)
            made[tensor.name] = (0.1 * tones + 0.02 * noise).astype(np.float32)
        elif tensor.name == "statistics":
            made[tensor.name] = np.abs(noise) + 1
        elif tensor.type == "int64":
            count = samples if tensor.name == "lengths" else sizes.get("frames", FRAMES)
            made[tensor.name] = np.full(shape, count, dtype=np.int64)
        else:
            made[tensor.name] = noise
    return made


def summarise(
    events: Iterable[dict[str, Any]],
    providers: tuple[str, ...],
    execution: Execution,
    *,
    warm_ups: int = 0,
) -> Placement:
    """Return the placement that the events of a profile show.

    Args:
        events: onnxruntime's, of one run or several.
        providers: execution providers of the session.
        execution: what was requested.
        warm_ups: number of first runs to leave out.
    """
    events = list(events)
    kept = sorted(int(x["ts"]) for x in events if x.get("name") == RUN)[warm_ups:]
    runs = max(1, len(kept))
    nodes: Counter[str] = Counter()
    seen: Counter[tuple[int, str]] = Counter()
    durations: dict[tuple[str, str, bool, str, int], list[int]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith(KERNEL):
            continue
        run = bisect(kept, int(event["ts"])) if kept else 1
        if not run:
            continue
        operator, provider = event["args"]["op_name"], event["args"]["provider"]
        nodes[provider] += 1
        # The body of a loop runs an operator several times.
        seen[run, name] += 1
        is_heavy = operator in HEAVY and not _in_double(event)
        key = operator, provider, is_heavy, name, seen[run, name]
        durations.setdefault(key, []).append(int(event["dur"]))
    times: Counter[tuple[str, str]] = Counter()
    heavy: Counter[tuple[str, str]] = Counter()
    for (operator, provider, is_heavy, *_), found in durations.items():
        # The median leaves out runs that other processes interrupted.
        duration = round(median(found))
        times[operator, provider] += 0 if operator in CONTROL else duration
        if is_heavy:
            heavy[operator, provider] += duration
    total = max(1, times.total())
    shares: Counter[str] = Counter()
    for (_, provider), duration in times.items():
        shares[provider] += duration
    ranked = [(*key, duration / total) for key, duration in times.most_common()]
    elsewhere = [name for (name, where), _ in heavy.most_common() if where not in execution.allowed]
    if heavy and execution.info.ort_name not in nodes:
        elsewhere = elsewhere or [name for (name, _), _ in heavy.most_common()]
    return Placement(
        providers,
        {provider: round(count / runs) for provider, count in nodes.most_common()},
        {provider: share / total for provider, share in shares.most_common()},
        tuple(ranked),
        tuple(dict.fromkeys(elsewhere)),
        runs,
    )


def check(placement: Placement, graph: str, execution: Execution) -> None:
    """Check that every heavy operator ran on a requested provider.

    Raises:
        ProviderError: one did not, and fallback is not allowed.
    """
    if placement.elsewhere and not execution.allow_fallback:
        raise refusal(graph, execution, "did not run there", placement.elsewhere)


def refusal(
    graph: str, execution: Execution, what: str, operators: tuple[str, ...] = ()
) -> ProviderError:
    """Return the error for a graph that does not run on its provider."""
    named = f"{', '.join(operators[:6])} " if operators else ""
    target = TARGETS.get(execution.provider)
    other = f"export with --target {target}, or " if target else ""
    return ProviderError(
        f"graph {graph!r} on provider {execution.provider!r}: {named}{what}; "
        f"{other}pass allow_fallback=True"
    )


TARGETS = {
    "cuda": "cuda",
    "tensorrt": "cuda",
    "openvino": "openvino",
    "coreml": "coreml",
    "directml": "directml",
    "qnn": "qnn",
}
"""The export target whose graphs a provider runs completely."""


def _in_double(event: dict[str, Any]) -> bool:
    """Return whether an operator is float64: small sums, on types that most accelerators lack."""
    return any("double" in tensor for tensor in event["args"].get("input_type_shape", ()))

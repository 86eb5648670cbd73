"""Tuning from end to end: a bundle and a time limit in, the best settings for this device out."""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from w2v_edge.bundle import Manifest
from w2v_edge.latency.measure.inputs import Speech, Tensors, waveform_inputs, write_inputs
from w2v_edge.latency.measure.plan import Matrix, NamedBundle, make_cases, open_bundles
from w2v_edge.latency.measure.processes import Job
from w2v_edge.latency.report.records import BenchmarkCase
from w2v_edge.latency.tuning.parameters import Parameter, batch_parameter, session_parameters
from w2v_edge.latency.tuning.search import Attempt, processes, search
from w2v_edge.latency.tuning.trials import TUNING_TRIAL, TrialRunner
from w2v_edge.providers.table import TABLE
from w2v_edge.providers.tuned import Gain
from w2v_edge.providers.tuning import Tuning

QUERIES, LISTS = "single utterances", "lists of utterances"
Goal = Literal["single", "offline"]

QUERIES_SHARE = 0.7
"""Fraction of the time for single utterances; the rest is for lists."""

GRACE, GRACE_S = 0.2, 5.0
"""Fraction of the time, and seconds, after which a process is killed."""

UTTERANCE_S = 1.0
"""Shortest utterance of a list; the longest is a tenth longer, so that all fit in one batch."""


@dataclass(frozen=True)
class TuningRequest:
    """What to tune for.

    Attributes:
        provider: execution provider.
        graph: the timed graph, `encoder` or `tokenizer`.
        seconds: lengths of single utterances; each has equal weight.
        threads: candidate numbers of threads; empty for powers of two and half of the cores.
        scenario: `single` for the latency of single utterances and then batch sizes of lists;
            `offline` for lists only.
        time_s: time limit in seconds.
        seed: seed of the order of trials.
    """

    provider: str = "cpu"
    graph: str = "encoder"
    seconds: tuple[float, ...] = (1.0, 10.0)
    threads: tuple[int, ...] = ()
    scenario: Goal = "single"
    time_s: float = 120.0
    seed: int = 0


@dataclass(frozen=True)
class TuningOutcome:
    """The result of tuning.

    Attributes:
        manifest: manifest of the bundle.
        tuning: the best settings; the defaults if nothing was better.
        gains: gains over the defaults.
        attempts: the candidates.
        spent_s: time spent in seconds.
        enough_s: estimated time to try everything in seconds.
    """

    manifest: Manifest
    tuning: Tuning
    gains: tuple[Gain, ...]
    attempts: tuple[Attempt, ...]
    spent_s: float
    enough_s: float


def tune(
    bundle: Path,
    request: TuningRequest | None = None,
    *,
    audio: Sequence[Path] = (),
    show: Callable[[str, float], None] = lambda _what, _done: None,
    task: str = TUNING_TRIAL,
) -> TuningOutcome:
    """Find settings for this device that are significantly faster than the defaults.

    Args:
        bundle: folder of the bundle.
        request: what to tune for, and the time limit.
        audio: audio files or folders of them; empty for the shipped clips.
        show: called with what is being done and the fraction of the time that is over.
        task: `module:function` of the processes; tests pass another one.

    Raises:
        BundleError: the folder is not a valid bundle.
        GraphMissingError: the bundle lacks the graph.
        ProviderError: the provider does not run here, or there are more threads than cores.
        InputError: the audio cannot be used, or is too short or too long.
    """
    request = request or TuningRequest()
    begun = time.perf_counter()
    (named,) = open_bundles([bundle])
    case = _check(named, request)
    speech = Speech.read(audio, named.bundle.manifest.sample_rate)
    tuning, gains, attempts = Tuning(), list[Gain](), list[Attempt]()
    enough_s = 0.0
    with tempfile.TemporaryDirectory(prefix="w2v-edge-") as name:
        for what, parameters, share in _goals(request):
            path = Path(name) / "inputs.npz"
            write_inputs(path, _inputs(what, request, speech))
            runner = TrialRunner(
                Job(str(named.bundle.folder), _case_of(case, what), str(path), 0.0),
                task,
                Path(name),
                begun + request.time_s,
                begun + request.time_s * (1 + GRACE) + GRACE_S,
                random.Random(request.seed),  # noqa: S311 - an order of trials, not a secret
                lambda what: show(what, min(1.0, (time.perf_counter() - begun) / request.time_s)),
            )
            found = search(runner, what, parameters, tuning, begun + share * request.time_s)
            tuning = found.tuning
            gains += [found.gain] if found.gain else []
            attempts += found.attempts
            needed = enough_s + processes(parameters) * runner.cost_s
            enough_s = max(needed, processes(parameters) * runner.cost_s / share)
    spent_s = time.perf_counter() - begun
    manifest = named.bundle.manifest
    return TuningOutcome(manifest, tuning, tuple(gains), tuple(attempts), spent_s, enough_s)


def _check(named: NamedBundle, request: TuningRequest) -> BenchmarkCase:
    """Validate the request; return the case with the longest audio."""
    matrix = Matrix(
        graphs=(request.graph,),
        seconds=request.seconds,
        threads=request.threads,
        providers=(request.provider,),
    )
    return max(make_cases([named], matrix), key=lambda case: (case.seconds, case.threads))


def _goals(request: TuningRequest) -> list[tuple[str, list[Parameter], float]]:
    """Return the workloads, their parameters, and the fraction of the time at their end."""
    sessions = session_parameters(request.provider, request.threads)
    batches = batch_parameter(request.provider)
    if request.scenario == "offline":
        return [(LISTS, [*sessions, batches], 1.0)]
    return [(QUERIES, sessions, QUERIES_SHARE), (LISTS, [batches], 1.0)]


def _case_of(case: BenchmarkCase, what: str) -> BenchmarkCase:
    return case if what == QUERIES else replace(case, scenario="offline", seconds=UTTERANCE_S)


def _inputs(what: str, request: TuningRequest, speech: Speech) -> list[Tensors]:
    if what == QUERIES:
        return [x for s in request.seconds for x in waveform_inputs(speech.excerpts(s), 1)]
    # More audio than the largest candidate batch, so that a full batch is measured.
    usual = TABLE[request.provider].batch_seconds
    most = max(usual, *map(float, batch_parameter(request.provider).values))
    count = math.ceil(1.2 * most / UTTERANCE_S)
    sizes = np.linspace(UTTERANCE_S, 1.1 * UTTERANCE_S, count) * speech.rate
    starts = np.linspace(0, len(speech.samples), count, endpoint=False)
    pieces = [
        speech.samples.take(np.arange(start, start + size, dtype=int), mode="wrap")
        for start, size in zip(starts.astype(int), sizes.astype(int), strict=True)
    ]
    return [tensors for piece in pieces for tensors in waveform_inputs([piece], 1)]

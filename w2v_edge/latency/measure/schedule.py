"""The schedule: rounds of one trial per case, in shuffled order, each in a fresh process.

Shuffling prevents one case from always being measured at a better time. Rounds continue until all
medians have the requested precision or the time is over.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from w2v_edge import strict
from w2v_edge.errors import InferenceError, W2VEdgeError
from w2v_edge.latency.device import nvidia
from w2v_edge.latency.device.disturbances import unstable
from w2v_edge.latency.device.watch import Watch
from w2v_edge.latency.measure.inputs import Speech, waveform_inputs, write_inputs
from w2v_edge.latency.measure.memory_limit import SMALLER, MemoryLimit, limiting
from w2v_edge.latency.measure.peaks import PEAKS
from w2v_edge.latency.measure.plan import NamedBundle
from w2v_edge.latency.measure.processes import Job, run_job
from w2v_edge.latency.measure.trial import INNER_INPUTS, PROFILE, TRIAL
from w2v_edge.latency.report.machine_records import Conditions, InstalledPart
from w2v_edge.latency.report.records import (
    BenchmarkCase,
    BenchmarkSettings,
    CaseResult,
    Operator,
    Peaks,
    Trial,
)
from w2v_edge.latency.statistics import estimate, percentile, summarise

ShowProgress = Callable[[str, float], None]
"""Called with what is being done and the fraction of all work that is done."""

Select = Callable[["Sequence[CaseProgress]", BenchmarkSettings], "list[CaseProgress]"]
"""Chooses the cases that need further rounds, of those that have not failed."""

MIN_ROUNDS = 5

REFERENCE_SIDE = 384
REFERENCE_S = 0.03


class Reference:
    """A fixed matrix product, timed around each trial: the machine's own speed at that time.

    Clocks, neighbours on the host and heat change it by some percent from minute to minute. It
    separates a slower model from a slower machine.
    """

    def __init__(self) -> None:
        side, random_ = REFERENCE_SIDE, np.random.default_rng(0)
        self._left, self._right = random_.standard_normal((2, side, side)).astype(np.float32)
        self.time_ms()

    def time_ms(self) -> float:
        """Return the median time of a product in ms."""
        times: list[float] = []
        end = time.perf_counter() + REFERENCE_S
        while (start := time.perf_counter()) < end or not times:
            np.matmul(self._left, self._right)
            times.append(time.perf_counter() - start)
        return 1e3 * float(np.median(times))


@dataclass
class CaseProgress:
    """The measurements of a case so far."""

    case: BenchmarkCase
    job: Job
    trials: list[Trial] = field(default_factory=list)
    nodes: dict[str, int] = field(default_factory=dict)
    operators: tuple[Operator, ...] = ()
    weights_mb: float = 0.0
    install: tuple[InstalledPart, ...] = ()
    failure: str = ""


def imprecise(
    progresses: Sequence[CaseProgress], settings: BenchmarkSettings
) -> list[CaseProgress]:
    """Return all cases until all medians are precise enough."""
    for progress in progresses:
        latencies = [np.array(trial.latencies_ms) for trial in progress.trials]
        p50 = estimate(latencies, percentile(0.5))
        if p50.high - p50.low > 2 * settings.precision * p50.value:
            return list(progresses)
    return []


def measure(
    cases: Sequence[BenchmarkCase],
    named: Sequence[NamedBundle],
    speech: dict[int, Speech],
    settings: BenchmarkSettings,
    *,
    rounds: int | None = None,
    profile: bool = False,
    limit: bool = False,
    show: ShowProgress = lambda _what, _done: None,
    task: str = TRIAL,
    select: Select = imprecise,
) -> tuple[tuple[CaseResult, ...], Conditions, tuple[Peaks, ...], BenchmarkSettings]:
    """Measure all cases; return their results, the state of the machine, its peaks, and settings.

    The settings have the number of completed rounds, and what limited memory.

    Args:
        cases: as returned by `make_cases`.
        named: the bundles of the cases.
        speech: by sample rate in Hz.
        settings: duration and precision.
        rounds: exact number of rounds; overrides the settings.
        profile: also aggregate the operators of each case.
        limit: also measure the peaks for the cases' numbers of threads; implies `profile`.
        show: progress callback.
        task: `module:function` that a trial's process runs.
        select: chooses the cases of each round after the first ones.
    """
    bundles = {one.record.name: one for one in named}
    zero = time.perf_counter()

    def clock() -> float:
        return time.perf_counter() - zero

    watch = Watch(clock, gpu=_watched_gpu(cases))
    limiter = limiting(settings.memory_limit_mb)
    with tempfile.TemporaryDirectory(prefix="w2v-edge-") as name, watch, limiter as memory:
        folder = Path(name)
        progresses = _prepare(cases, bundles, speech, settings, folder, show)
        _profiles(progresses, folder, show, profile=profile or limit)
        # The machine's speed drifts: the peaks are the best of before and after.
        before = _peaks(progresses, folder, show) if limit else ()
        run = partial(_run_trial, task, folder, memory)
        _rounds(progresses, settings, rounds, clock, show, run, select)
        after = _peaks(progresses, folder, show) if limit else ()
    # Leaving the context takes the last sample.
    conditions = watch.conditions()
    results = tuple(_result(x, conditions, settings) for x in progresses)
    ended = replace(
        settings,
        rounds=max((len(x.trials) for x in results), default=0),
        memory_limit_by=memory.by if memory else "",
    )
    return results, conditions, tuple(map(_best, before, after)), ended


def _watched_gpu(cases: Sequence[BenchmarkCase]) -> Any | None:
    """Return the handle of the GPU that is measured, or else of the first visible one."""
    options = next((x.provider_options for x in cases if x.provider in nvidia.PROVIDERS), {})
    found = nvidia.gpu_of(options)
    return None if found is None else found[1]


def _prepare(
    cases: Sequence[BenchmarkCase],
    bundles: dict[str, NamedBundle],
    speech: dict[int, Speech],
    settings: BenchmarkSettings,
    folder: Path,
    show: ShowProgress,
) -> list[CaseProgress]:
    """Write the inputs of all cases; cases with equal inputs share a file and its failure."""
    files: dict[tuple[object, ...], Path] = {}
    failures: dict[Path, str] = {}
    made = []
    for case in cases:
        show(f"inputs, {case.graph}", 0.0)
        bundle = bundles[case.bundle].bundle
        rate = bundle.manifest.sample_rate
        takes_waveform = case.graph in {"encoder", "tokenizer"}
        key = (rate, case.seconds, case.batch, "" if takes_waveform else (case.bundle, case.graph))
        path = files.get(key) or folder / f"inputs-{len(files)}.npz"
        job = Job(str(bundle.folder), case, str(path), settings.steady_s)
        progress = CaseProgress(case, job, failure=failures.get(path, ""))
        made.append(progress)
        if key in files:
            continue
        files[key] = path
        excerpts = speech[rate].excerpts(case.seconds, case.batch)
        write_inputs(path, waveform_inputs(excerpts, case.batch))
        if not takes_waveform:
            try:
                run_job(INNER_INPUTS, job, folder)
            except W2VEdgeError as error:
                progress.failure = failures[path] = str(error)
    return made


def _profiles(
    progresses: list[CaseProgress], folder: Path, show: ShowProgress, *, profile: bool
) -> None:
    """Find out which provider runs which operators, and which files and packages are needed.

    This is done in processes outside the trials. One profile serves all cases of a graph and
    provider, unless a `profile` of each is requested.
    """
    known: dict[object, CaseProgress] = {}
    for progress in progresses:
        case = progress.case
        key = (
            *(case.bundle, case.graph, case.provider, tuple(case.provider_options.items())),
            case.scenario == "streaming",
        )
        if progress.failure:
            continue
        if profile or key not in known:
            show(f"profile, {case.graph}", 0.0)
            _profile(progress, folder, profile=profile)
            known[key] = progress
        progress.nodes, progress.install = known[key].nodes, known[key].install


def _profile(progress: CaseProgress, folder: Path, *, profile: bool) -> None:
    try:
        found = run_job(PROFILE, progress.job, folder)
    except W2VEdgeError as error:
        progress.failure = str(error)
        return
    progress.nodes = found["nodes"]
    progress.install = tuple(strict.from_plain(InstalledPart, x) for x in found["install"])
    if profile:
        progress.weights_mb = found["weights_mb"]
        progress.operators = tuple(strict.from_plain(Operator, x) for x in found["operators"])


def _peaks(progresses: list[CaseProgress], folder: Path, show: ShowProgress) -> tuple[Peaks, ...]:
    """Measure the CPU's peaks, in a process for each number of threads."""
    jobs = {x.case.threads: x.job for x in progresses if x.case.provider == "cpu"}
    show("peaks of this device", 0.0)
    return tuple(
        strict.from_plain(Peaks, run_job(PEAKS, jobs[threads], folder)) for threads in sorted(jobs)
    )


def _best(one: Peaks, other: Peaks) -> Peaks:
    return Peaks(
        one.threads,
        max(one.float32, other.float32),
        max(one.int8, other.int8),
        max(one.memory, other.memory),
    )


def _rounds(
    progresses: list[CaseProgress],
    settings: BenchmarkSettings,
    rounds: int | None,
    clock: Callable[[], float],
    show: ShowProgress,
    run: Callable[[Job], dict[str, Any]],
    select: Select,
) -> None:
    shuffler = random.Random(settings.seed)  # noqa: S311 - an order of trials, not a secret
    reference = Reference()
    done, spent = 0, 0.0
    while left := [x for x in progresses if not x.failure]:
        if rounds is None and done >= MIN_ROUNDS:
            left = select(left, settings)
        begun = clock()
        planned = rounds or max(MIN_ROUNDS, done + _affordable(settings.time_s - begun, spent))
        if done >= planned or not left:
            break
        shuffler.shuffle(left)
        for number, progress in enumerate(left):
            share = (done + number / len(left)) / max(planned, 1)
            show(f"round {done + 1} of {planned}, {progress.case.graph}", min(1.0, share))
            _trial(progress, clock, reference, run)
        done, spent = done + 1, clock() - begun


def _affordable(left_s: float, round_s: float) -> int:
    """Return the number of rounds that fit in the time."""
    return max(0, int(left_s / round_s)) if round_s else 0


def _run_trial(task: str, folder: Path, memory: MemoryLimit | None, job: Job) -> dict[str, Any]:
    """Run a trial, within the limit on its memory if there is one."""
    if memory is None:
        return run_job(task, job, folder)
    killed = memory.kills()
    try:
        found = run_job(task, job, folder, prefix=memory.prefix)
    except InferenceError as error:
        if memory.kills() > killed:
            raise InferenceError(
                f"killed at the limit of {memory.mb:.4g} MB in a control group; {SMALLER}"
            ) from error
        raise
    memory.check(found.get("peak_mb"))
    return found


def _trial(
    progress: CaseProgress,
    clock: Callable[[], float],
    reference: Reference,
    run: Callable[[Job], dict[str, Any]],
) -> None:
    before = reference.time_ms()
    begin = clock()
    try:
        found = run(progress.job)
    except W2VEdgeError as error:
        progress.failure = str(error)
        return
    found |= {
        "begin_s": round(begin, 4),
        "end_s": round(clock(), 4),
        "reference_ms": (round(before, 5), round(reference.time_ms(), 5)),
    }
    progress.trials.append(strict.from_plain(Trial, found))


def _result(
    progress: CaseProgress, conditions: Conditions, settings: BenchmarkSettings
) -> CaseResult:
    trials = tuple(progress.trials)
    succeeded = trials and not progress.failure
    return CaseResult(
        progress.case,
        trials,
        summarise(progress.case, trials, seed=settings.seed) if succeeded else None,
        unstable(trials, conditions),
        progress.nodes,
        progress.operators,
        progress.failure,
        progress.weights_mb,
        progress.install,
    )

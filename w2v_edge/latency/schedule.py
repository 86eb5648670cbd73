"""The trials of all cases, in rounds of shuffled order, so that none is measured at a better time.

A round has one trial of each case, each in a process of its own. Rounds go on until the medians are
as sure as was asked for, or the time is over.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from w2v_edge import strict
from w2v_edge.errors import W2VEdgeError
from w2v_edge.latency import jobs
from w2v_edge.latency.conditions import Conditions
from w2v_edge.latency.disturbances import unstable
from w2v_edge.latency.inputs import waveform_inputs, write_inputs
from w2v_edge.latency.jobs import Job
from w2v_edge.latency.plan import Named
from w2v_edge.latency.reference import Reference
from w2v_edge.latency.report import Case, CaseResult, Operator, Settings, Trial
from w2v_edge.latency.speech import Speech
from w2v_edge.latency.statistics import estimate, percentile
from w2v_edge.latency.summary import summarise
from w2v_edge.latency.watch import Watch

Show = Callable[[str, float], None]

FEWEST_ROUNDS = 5
TRIAL = "w2v_edge.latency.trial"
PROFILE = "w2v_edge.latency.profile"
INPUTS = "w2v_edge.latency.inputs"


@dataclass
class Progress:
    """What there is of a case so far."""

    case: Case
    job: Job
    trials: list[Trial] = field(default_factory=list)
    nodes: dict[str, int] = field(default_factory=dict)
    operators: tuple[Operator, ...] = ()
    failure: str = ""


def measure(
    cases: Sequence[Case],
    named: Sequence[Named],
    speech: dict[int, Speech],
    settings: Settings,
    *,
    rounds: int | None = None,
    profile: bool = False,
    show: Show = lambda _what, _done: None,
    module: str = TRIAL,
) -> tuple[tuple[CaseResult, ...], Conditions]:
    """Measure all cases.

    Args:
        cases: as from `make_cases`.
        named: the bundles that they name.
        speech: by sample rate.
        settings: how long and how sure.
        rounds: exactly so many, whatever the settings say.
        profile: also sum up each case's operators.
        show: told what is done, and what share of all.
        module: what a trial's process does.
    """
    bundles = {one.record.name: one for one in named}
    zero = time.perf_counter()

    def clock() -> float:
        return time.perf_counter() - zero

    with tempfile.TemporaryDirectory(prefix="w2v-edge-") as name, Watch(clock) as watch:
        folder = Path(name)
        all_ = _prepare(cases, bundles, speech, settings, folder, show)
        _profiles(all_, folder, show, profile=profile)
        _rounds(all_, folder, settings, rounds, clock, show, module)
    # Leaving takes the last sample.
    conditions = watch.conditions()
    return tuple(_result(progress, conditions, settings) for progress in all_), conditions


def _prepare(
    cases: Sequence[Case],
    bundles: dict[str, Named],
    speech: dict[int, Speech],
    settings: Settings,
    folder: Path,
    show: Show,
) -> list[Progress]:
    """Write the inputs of all cases; those of one kind share a file, or the lack of it."""
    files: dict[tuple[object, ...], Path] = {}
    failures: dict[Path, str] = {}
    made = []
    for case in cases:
        show(f"inputs, {case.graph}", 0.0)
        bundle = bundles[case.bundle].bundle
        rate = bundle.manifest.sample_rate
        whole = case.graph in {"encoder", "tokenizer"}
        key = (rate, case.seconds, case.batch, "" if whole else (case.bundle, case.graph))
        path = files.get(key) or folder / f"inputs-{len(files)}.npz"
        job = Job(str(bundle.folder), case, str(path), settings.steady_s)
        progress = Progress(case, job, failure=failures.get(path, ""))
        made.append(progress)
        if key in files:
            continue
        files[key] = path
        write_inputs(
            path, waveform_inputs(speech[rate].excerpts(case.seconds, case.batch), case.batch)
        )
        if not whole:
            try:
                jobs.start(INPUTS, job, folder)
            except W2VEdgeError as error:
                progress.failure = failures[path] = str(error)
    return made


def _profiles(all_: list[Progress], folder: Path, show: Show, *, profile: bool) -> None:
    """Find out which provider runs which operators, in processes apart from the trials.

    Once for cases that differ in lengths and the like only, unless a `profile` of each is wanted.
    """
    known: dict[object, dict[str, int]] = {}
    for progress in all_:
        case = progress.case
        key = (case.bundle, case.graph, case.provider, tuple(case.provider_options.items()))
        if progress.failure or case.scenario == "streaming":
            continue
        if profile or key not in known:
            show(f"profile, {case.graph}", 0.0)
            _profile(progress, folder, profile=profile)
            known[key] = progress.nodes
        progress.nodes = known[key]


def _profile(progress: Progress, folder: Path, *, profile: bool) -> None:
    try:
        found = jobs.start(PROFILE, progress.job, folder)
    except W2VEdgeError as error:
        progress.failure = str(error)
        return
    progress.nodes = found["nodes"]
    if profile:
        progress.operators = tuple(strict.from_plain(Operator, x) for x in found["operators"])


def _rounds(
    all_: list[Progress],
    folder: Path,
    settings: Settings,
    rounds: int | None,
    clock: Callable[[], float],
    show: Show,
    module: str,
) -> None:
    # An order of trials, no secret.
    shuffler = random.Random(settings.seed)  # noqa: S311
    reference = Reference()
    begun, done = clock(), 0
    while left := [x for x in all_ if not x.failure]:
        planned = rounds or _planned(clock() - begun, done, begun, settings)
        if done >= planned or (rounds is None and done >= FEWEST_ROUNDS and _sure(left, settings)):
            break
        shuffler.shuffle(left)
        for number, progress in enumerate(left):
            share = (done + number / len(left)) / max(planned, 1)
            show(f"round {done + 1} of {planned}, {progress.case.graph}", min(1.0, share))
            _trial(progress, folder, clock, reference, module)
        done += 1


def _planned(spent: float, done: int, begun: float, settings: Settings) -> int:
    """Return how many rounds there is time for."""
    if not done:
        return FEWEST_ROUNDS
    return max(FEWEST_ROUNDS, int((settings.time_s - begun) / (spent / done)))


def _sure(all_: list[Progress], settings: Settings) -> bool:
    for progress in all_:
        latencies = [np.array(trial.latencies_ms) for trial in progress.trials]
        p50 = estimate(latencies, percentile(0.5))
        if p50.high - p50.low > 2 * settings.precision * p50.value:
            return False
    return True


def _trial(
    progress: Progress,
    folder: Path,
    clock: Callable[[], float],
    reference: Reference,
    module: str,
) -> None:
    before = reference.time_ms()
    begin = clock()
    try:
        found = jobs.start(module, progress.job, folder)
    except W2VEdgeError as error:
        progress.failure = str(error)
        return
    end = clock()
    times = (round(before, 5), round(reference.time_ms(), 5))
    progress.trials.append(_as_trial(found, begin, end, times))


def _as_trial(
    found: dict[str, Any], begin: float, end: float, reference: tuple[float, float]
) -> Trial:
    times = {"begin_s": round(begin, 4), "end_s": round(end, 4), "reference_ms": reference}
    return strict.from_plain(Trial, found | times)


def _result(progress: Progress, conditions: Conditions, settings: Settings) -> CaseResult:
    trials = tuple(progress.trials)
    summary = summarise(progress.case, trials, seed=settings.seed) if trials else None
    return CaseResult(
        progress.case,
        trials,
        None if progress.failure else summary,
        unstable(trials, conditions),
        progress.nodes,
        progress.operators,
        progress.failure,
    )


def with_rounds(settings: Settings, results: Sequence[CaseResult]) -> Settings:
    """Return the settings with the rounds that were made."""
    return replace(settings, rounds=max((len(x.trials) for x in results), default=0))

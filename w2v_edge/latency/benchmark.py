"""The benchmark from end to end: bundles and a matrix of cases in, a report out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from w2v_edge.latency.device.fingerprint import describe_device
from w2v_edge.latency.measure.inputs import Speech, audio_record
from w2v_edge.latency.measure.plan import Matrix, make_cases, open_bundles
from w2v_edge.latency.measure.schedule import Select, ShowProgress, imprecise, measure
from w2v_edge.latency.measure.trial import TRIAL
from w2v_edge.latency.report.records import FORMAT, VERSION, BenchmarkReport, BenchmarkSettings
from w2v_edge.latency.statistics import CONFIDENCE

DEFAULT_SETTINGS = BenchmarkSettings(
    rounds=0, steady_s=0.5, precision=0.02, time_s=40.0, confidence=CONFIDENCE, seed=0
)


def benchmark(
    bundles: Sequence[Path],
    matrix: Matrix | None = None,
    settings: BenchmarkSettings = DEFAULT_SETTINGS,
    *,
    audio: Sequence[Path] = (),
    rounds: int | None = None,
    profile: bool = False,
    limit: bool = False,
    command: str = "",
    show: ShowProgress = lambda _what, _done: None,
    task: str = TRIAL,
    select: Select = imprecise,
) -> BenchmarkReport:
    """Measure bundles side by side on real speech, each trial in a fresh process.

    Args:
        bundles: folders written by `w2v-edge export`.
        matrix: the values to combine into cases.
        settings: duration and precision.
        audio: audio files or folders of them; empty for the shipped clips.
        rounds: exact number of trials of each case; overrides the settings.
        profile: also aggregate the time of each operator type.
        limit: also measure the highest speeds of this device, for the least time of each case;
            implies `profile`.
        command: the command line, for the report.
        show: called with what is being done and the fraction of all work that is done.
        task: `module:function` that a trial's process runs; tests and experiments pass others.
        select: chooses the cases of each round after the first ones.

    Raises:
        BundleError: a folder is not a valid bundle.
        GraphMissingError: a bundle lacks a requested graph.
        ProviderError: a provider does not run here, or there are more threads than cores.
        InputError: the audio cannot be used, or is too short or too long.
    """
    created = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    named = open_bundles(bundles)
    cases = make_cases(named, matrix or Matrix())
    rates = {one.bundle.manifest.sample_rate for one in named}
    speech = {rate: Speech.read(audio, rate) for rate in sorted(rates)}
    device = describe_device()
    results, conditions, peaks, ended = measure(
        cases,
        named,
        speech,
        settings,
        rounds=rounds,
        profile=profile,
        limit=limit,
        show=show,
        task=task,
        select=select,
    )
    return BenchmarkReport(
        FORMAT,
        VERSION,
        created,
        command,
        device,
        tuple(one.record for one in named),
        audio_record(list(speech.values())),
        ended,
        conditions,
        results,
        peaks,
    )

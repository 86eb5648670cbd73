"""A benchmark from end to end: bundles and a matrix in, a report out."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from w2v_edge.latency.fingerprint import describe_device
from w2v_edge.latency.plan import Matrix, make_cases, open_bundles
from w2v_edge.latency.report import FORMAT, VERSION, Report, Settings
from w2v_edge.latency.schedule import TRIAL, Show, measure, with_rounds
from w2v_edge.latency.speech import Speech, audio_record
from w2v_edge.latency.statistics import CONFIDENCE

USUAL = Settings(rounds=0, steady_s=0.5, precision=0.02, time_s=40.0, confidence=CONFIDENCE, seed=0)


def benchmark(
    bundles: Sequence[Path],
    matrix: Matrix | None = None,
    settings: Settings = USUAL,
    *,
    audio: Sequence[Path] = (),
    rounds: int | None = None,
    profile: bool = False,
    command: str = "",
    show: Show = lambda _what, _done: None,
    module: str = TRIAL,
) -> Report:
    """Measure bundles on real speech, each trial in a process of its own.

    Args:
        bundles: folders that `w2v-edge export` wrote; they are measured side by side.
        matrix: what is varied.
        settings: how long and how sure.
        audio: files of speech, or folders of them; none for the clips in the package.
        rounds: exactly so many trials of each case.
        profile: also sum up what each type of operator takes.
        command: what was typed.
        show: told what is done, and what share of all.
        module: what a trial's process does; another one measures something else.

    Raises:
        BundleError: a folder is no bundle.
        GraphMissingError: one lacks the graph that was asked for.
        ProviderError: a provider does not run here, or more threads than cores.
        InputError: audio that cannot be used, too short or too long.
    """
    created = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    named = open_bundles(bundles)
    cases = make_cases(named, matrix or Matrix())
    rates = {one.bundle.manifest.sample_rate for one in named}
    speech = {rate: Speech.read(audio, rate) for rate in sorted(rates)}
    device = describe_device()
    results, conditions = measure(
        cases, named, speech, settings, rounds=rounds, profile=profile, show=show, module=module
    )
    return Report(
        FORMAT,
        VERSION,
        created,
        command,
        device,
        tuple(one.record for one in named),
        audio_record(list(speech.values())),
        with_rounds(settings, results),
        conditions,
        results,
    )

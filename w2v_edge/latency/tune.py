"""Tuning from end to end: a bundle and a time budget in, the settings for this device out."""

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
from w2v_edge.latency.arena import Arena
from w2v_edge.latency.inputs import Tensors, waveform_inputs, write_inputs
from w2v_edge.latency.jobs import Job
from w2v_edge.latency.knobs import Knob, batch_knob, session_knobs
from w2v_edge.latency.plan import Matrix, Named, make_cases, open_bundles
from w2v_edge.latency.report import Case
from w2v_edge.latency.search import Attempt, processes, search
from w2v_edge.latency.speech import Speech
from w2v_edge.providers.tuned import Gain
from w2v_edge.providers.tuning import Tuning
from w2v_edge.runtime.model import ACCELERATOR_BATCH_SECONDS, BATCH_SECONDS

TRIAL = "w2v_edge.latency.tuning_trial"
QUERIES, LISTS = "single utterances", "lists of utterances"
Goal = Literal["single", "offline"]

QUERIES_SHARE = 0.7
"""Of the time, for single utterances; the rest is for lists."""

GRACE, GRACE_S = 0.2, 5.0
"""Of the time, and seconds, by which the last process may be late before it is ended."""

UTTERANCE_S = 1.0
"""Shortest utterance of a list; the longest has a tenth more, so that all go together."""


@dataclass(frozen=True)
class Wanted:
    """What is to be tuned.

    Attributes:
        provider: execution provider.
        graph: the graph that is timed; for lists `tokenize` where it is the tokenizer.
        seconds: of audio of single utterances; each length counts alike.
        threads: counts to try; none for powers of two and half of the cores.
        scenario: `single` for the least latency of single utterances, and then batches for lists;
            `offline` for lists alone.
        time_s: for all of it.
        seed: of the order of trials.
    """

    provider: str = "cpu"
    graph: str = "encoder"
    seconds: tuple[float, ...] = (1.0, 10.0)
    threads: tuple[int, ...] = ()
    scenario: Goal = "single"
    time_s: float = 120.0
    seed: int = 0


@dataclass(frozen=True)
class Outcome:
    """What was found.

    Attributes:
        manifest: the bundle's.
        tuning: what to use; the defaults where nothing was better.
        gains: over the defaults.
        attempts: what was tried.
        spent_s: what it took.
        enough_s: about what it would take to try everything.
    """

    manifest: Manifest
    tuning: Tuning
    gains: tuple[Gain, ...]
    attempts: tuple[Attempt, ...]
    spent_s: float
    enough_s: float


def tune(
    bundle: Path,
    wanted: Wanted | None = None,
    *,
    audio: Sequence[Path] = (),
    show: Callable[[str, float], None] = lambda _what, _done: None,
    module: str = TRIAL,
) -> Outcome:
    """Find settings for this device, each measured to be better in processes side by side.

    Args:
        bundle: the folder.
        wanted: what to tune, and for how long.
        audio: files of speech, or folders of them; none for the clips in the package.
        show: told what is done, and what share of the time is over.
        module: what a process does; another one measures something else.

    Raises:
        BundleError: the folder is no bundle.
        GraphMissingError: it lacks the graph.
        ProviderError: the provider does not run here, or more threads than cores.
        InputError: audio that cannot be used, too short or too long.
    """
    wanted = wanted or Wanted()
    begun = time.perf_counter()
    (named,) = open_bundles([bundle])
    case = _check(named, wanted)
    speech = Speech.read(audio, named.bundle.manifest.sample_rate)
    tuning, gains, attempts = Tuning(), list[Gain](), list[Attempt]()
    enough_s = 0.0
    with tempfile.TemporaryDirectory(prefix="w2v-edge-") as name:
        for what, knobs, share in _goals(wanted):
            path = Path(name) / "inputs.npz"
            write_inputs(path, _inputs(what, wanted, speech))
            arena = Arena(
                Job(str(named.bundle.folder), _case_of(case, what), str(path), 0.0),
                module,
                Path(name),
                begun + wanted.time_s,
                begun + wanted.time_s * (1 + GRACE) + GRACE_S,
                random.Random(wanted.seed),  # noqa: S311 - an order of trials, no secret
                lambda what: show(what, min(1.0, (time.perf_counter() - begun) / wanted.time_s)),
            )
            found = search(arena, what, knobs, tuning, begun + share * wanted.time_s)
            tuning = found.tuning
            gains += [found.gain] if found.gain else []
            attempts += found.attempts
            needed = enough_s + processes(knobs) * arena.cost_s
            enough_s = max(needed, processes(knobs) * arena.cost_s / share)
    spent_s = time.perf_counter() - begun
    manifest = named.bundle.manifest
    return Outcome(manifest, tuning, tuple(gains), tuple(attempts), spent_s, enough_s)


def _check(named: Named, wanted: Wanted) -> Case:
    """Refuse what cannot be; return the case of the longest audio."""
    matrix = Matrix(
        graphs=(wanted.graph,),
        seconds=wanted.seconds,
        threads=wanted.threads,
        providers=(wanted.provider,),
    )
    return max(make_cases([named], matrix), key=lambda case: (case.seconds, case.threads))


def _goals(wanted: Wanted) -> list[tuple[str, list[Knob], float]]:
    """Return what is timed, what is set for it, and when it is to be done, of all the time."""
    sessions, batches = session_knobs(wanted.provider, wanted.threads), batch_knob(wanted.provider)
    if wanted.scenario == "offline":
        return [(LISTS, [*sessions, batches], 1.0)]
    return [(QUERIES, sessions, QUERIES_SHARE), (LISTS, [batches], 1.0)]


def _case_of(case: Case, what: str) -> Case:
    return case if what == QUERIES else replace(case, scenario="offline", seconds=UTTERANCE_S)


def _inputs(what: str, wanted: Wanted, speech: Speech) -> list[Tensors]:
    if what == QUERIES:
        return [x for s in wanted.seconds for x in waveform_inputs(speech.excerpts(s), 1)]
    # More than the largest batch has room for: what is called a batch of so much is one.
    usual = BATCH_SECONDS.get(wanted.provider, ACCELERATOR_BATCH_SECONDS)
    most = max(usual, *map(float, batch_knob(wanted.provider).values))
    count = math.ceil(1.2 * most / UTTERANCE_S)
    sizes = np.linspace(UTTERANCE_S, 1.1 * UTTERANCE_S, count) * speech.rate
    starts = np.linspace(0, len(speech.samples), count, endpoint=False)
    pieces = [
        speech.samples.take(np.arange(start, start + size, dtype=int), mode="wrap")
        for start, size in zip(starts.astype(int), sizes.astype(int), strict=True)
    ]
    return [tensors for piece in pieces for tensors in waveform_inputs([piece], 1)]

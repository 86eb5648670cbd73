"""What is to be measured: the cases of a matrix, all checked before the first is begun."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from w2v_edge.bundle import Bundle
from w2v_edge.errors import GraphMissingError, InputError, ProviderError
from w2v_edge.latency.report import BundleRecord, Case, Driver, Scenario
from w2v_edge.latency.scenarios import MULTI
from w2v_edge.names import Power
from w2v_edge.providers import choose, usable_cores
from w2v_edge.runtime.stream import check_graphs
from w2v_edge.runtime.window import STREAM_WINDOW, check_window

GRAPHS = ("encoder", "tokenizer", "frontend", "context", "quantizer")
USUAL = ("encoder", "tokenizer")
MOST_SECONDS = 3600.0
MOST_OF_A_BATCH = 4 * 3600.0
"""Seconds of audio that are run at once: what is more is larger than memories are."""


@dataclass(frozen=True)
class Matrix:
    """What is varied; each value is combined with each other.

    Attributes:
        graphs: none for the encoder, and the tokenizer where there is one.
        seconds: of audio.
        threads: none for all cores.
        batches: utterances at once.
        providers: their names.
        provider_options: for the one provider that is named.
        power: as for `w2v_edge.load`.
        scenarios: how queries come.
        driver: who issues them.
        block_ms: of a stream's blocks.
    """

    graphs: tuple[str, ...] = ()
    seconds: tuple[float, ...] = (1.0, 10.0)
    threads: tuple[int, ...] = ()
    batches: tuple[int, ...] = (1,)
    providers: tuple[str, ...] = ("cpu",)
    provider_options: Mapping[str, str] = field(default_factory=dict)
    power: Power = "high"
    scenarios: tuple[Scenario, ...] = ("single",)
    driver: Driver = "w2v-edge"
    block_ms: float = 320.0


@dataclass(frozen=True)
class Named:
    """A bundle and the name it has in the report."""

    bundle: Bundle
    record: BundleRecord


def open_bundles(folders: Sequence[Path]) -> list[Named]:
    """Open bundles and name them after their folders.

    Raises:
        BundleError: one is none.
    """
    names: set[str] = set()
    opened = []
    for folder in folders:
        bundle = Bundle.open(folder)
        folder_name = bundle.folder.resolve().name
        numbered = (f"{folder_name}-{number}" for number in itertools.count(2))
        name = next(x for x in itertools.chain([folder_name], numbered) if x not in names)
        names.add(name)
        manifest = bundle.manifest
        record = BundleRecord(
            name,
            manifest.sha256,
            str(manifest.config.get("architecture", "")),
            manifest.precision,
            manifest.target,
            round(sum(file.size for file in manifest.files.values()) / 1e6, 3),
        )
        opened.append(Named(bundle, record))
    return opened


def make_cases(named: Sequence[Named], matrix: Matrix) -> list[Case]:
    """Combine all values; bundles and providers that share the others are neighbours.

    Raises:
        ProviderError: one does not run here, or more threads than there are cores.
        GraphMissingError: a bundle has not the graph that was asked for.
        InputError: audio too short for a frame, or too long for one run.
    """
    cases: list[Case] = []
    threads = matrix.threads or (1 if matrix.power == "low" else usable_cores(),)
    for provider, count in itertools.product(matrix.providers, threads):
        _check_execution(provider, count, matrix)
    for scenario in matrix.scenarios:
        _check_scenario(scenario, matrix)
    for scenario, seconds, batch, count in itertools.product(
        matrix.scenarios, matrix.seconds, matrix.batches, threads
    ):
        for one, provider in itertools.product(named, matrix.providers):
            for graph in _graphs(one, matrix.graphs, scenario):
                _check_length(one, graph, seconds, scenario)
                cases.append(
                    Case(
                        one.record.name,
                        graph,
                        provider,
                        dict(sorted(matrix.provider_options.items())),
                        count,
                        matrix.power,
                        float(seconds),
                        batch,
                        scenario,
                        matrix.driver,
                        matrix.block_ms if scenario == "streaming" else 0.0,
                    )
                )
    return list({repr(case): case for case in cases}.values())


def _check_execution(provider: str, threads: int, matrix: Matrix) -> None:
    cores = usable_cores()
    if threads > cores:
        raise ProviderError(
            f"found {threads} threads, expected at most the {cores} cores that there are: "
            "threads without a core only wait"
        )
    if matrix.power == "low" and threads > 1:
        raise ProviderError(
            f"found {threads} threads with low power, which is one thread; leave out one of them"
        )
    if matrix.provider_options and len(matrix.providers) > 1:
        raise ProviderError(
            f"found provider options with providers {', '.join(matrix.providers)}; "
            "name one provider with them"
        )
    choose((provider, matrix.provider_options), threads, allow_fallback=False, power=matrix.power)


def _check_scenario(scenario: Scenario, matrix: Matrix) -> None:
    """Refuse what a scenario cannot be asked."""
    loadgen = matrix.driver == "loadgen"
    if scenario == "streaming":
        if loadgen:
            raise InputError("MLPerf LoadGen has no scenario streaming; leave out --loadgen")
        if matrix.batches != (1,):
            raise InputError("a stream has no batches; leave out --batch")
        if min(matrix.seconds) * 1e3 < matrix.block_ms:
            raise InputError(
                f"found {min(matrix.seconds):g} s of audio, expected at least a block of "
                f"{matrix.block_ms:g} ms"
            )
    for batch in matrix.batches:
        if batch * max(matrix.seconds) > MOST_OF_A_BATCH:
            raise InputError(
                f"found batches of {batch} times {max(matrix.seconds):g} s, expected at most "
                f"{MOST_OF_A_BATCH:g} s of audio at once; use a smaller --batch"
            )
        if scenario == "multi" and MULTI % batch:
            raise InputError(
                f"found a batch of {batch} in the scenario multi, expected 1, 2, 4 or 8: its "
                f"queries have {MULTI} utterances"
            )
        if scenario == "single" and loadgen and batch > 1:
            raise InputError(
                f"found a batch of {batch}, but LoadGen's single stream is of single utterances"
            )


def _graphs(one: Named, asked: tuple[str, ...], scenario: Scenario) -> list[str]:
    there = one.bundle.manifest.graphs
    if scenario == "streaming":
        check_graphs(one.bundle.manifest)
        if "tokenizer" not in asked:
            check_window(STREAM_WINDOW, one.bundle.manifest)
        wrong = [graph for graph in asked if graph not in USUAL]
        if wrong:
            raise InputError(
                f"found graph {wrong[0]!r} in the scenario streaming, expected encoder (context "
                "and codes) or tokenizer (codes)"
            )
    for graph in asked:
        if graph not in there:
            raise GraphMissingError(
                f"{one.bundle.folder}: has no graph {graph!r}; it has: {', '.join(there)}"
            )
    return list(asked or (graph for graph in USUAL if graph in there))


def _check_length(one: Named, graph: str, seconds: float, scenario: Scenario) -> None:
    manifest = one.bundle.manifest
    fewest = manifest.min_samples / manifest.sample_rate
    most = MOST_SECONDS
    if graph in {"encoder", "context"} and scenario != "streaming":
        most = min(most, manifest.longest_context_seconds)
    if not fewest <= seconds <= most:
        raise InputError(
            f"{one.bundle.folder}: found {seconds:g} s of audio for {graph!r}, expected "
            f"{fewest:g} to {most:g} s"
        )

"""The plan: all combinations of the requested values, checked before anything is measured."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from w2v_edge.bundle import Bundle
from w2v_edge.errors import GraphMissingError, InputError, ProviderError
from w2v_edge.latency.report.records import (
    MULTI_UTTERANCES,
    BenchmarkCase,
    BundleRecord,
    Driver,
    Scenario,
)
from w2v_edge.names import Power
from w2v_edge.providers import choose, default_threads, usable_cores
from w2v_edge.runtime.stream import check_graphs
from w2v_edge.runtime.window import STREAM_WINDOW, Window, check_window

GRAPHS = ("encoder", "tokenizer", "frontend", "context", "quantizer")
DEFAULT_GRAPHS = ("encoder", "tokenizer")
MAX_SECONDS = 3600.0
MAX_BATCH_SECONDS = 4 * 3600.0
"""Longest audio and largest batch, in seconds: more would exceed the memory of any device."""


@dataclass(frozen=True)
class Matrix:
    """The values to combine into cases.

    Attributes:
        graphs: graphs; empty for the encoder and, if the bundle has one, the tokenizer.
        seconds: lengths of audio.
        threads: numbers of threads; empty for all cores.
        batches: batch sizes, in utterances.
        providers: execution providers.
        provider_options: options of the provider; only with a single provider.
        power: as for `w2v_edge.load`.
        scenarios: scenarios.
        driver: what issues the queries.
        block_ms: block size of the scenario streaming, in ms of audio.
        windows: windows of attention of the scenario streaming; empty for the default.
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
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True)
class NamedBundle:
    """A bundle and its record in the report.

    Attributes:
        bundle: the opened bundle.
        record: its name and description.
    """

    bundle: Bundle
    record: BundleRecord


def open_bundles(folders: Sequence[Path]) -> list[NamedBundle]:
    """Open bundles and name them after their folders; equal names get a number.

    Raises:
        BundleError: a folder is not a valid bundle.
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
            round(bundle.size / 1e6, 3),
        )
        opened.append(NamedBundle(bundle, record))
    return opened


def default_seconds(named: Sequence[NamedBundle]) -> tuple[float, ...]:
    """Return the lengths of audio to measure: 1 and 10 s, or those of the first fixed shapes."""
    for one in named:
        if one.bundle.manifest.shapes:
            rate = one.bundle.manifest.sample_rate
            return tuple(shape.samples / rate for shape in one.bundle.manifest.shapes)
    return 1.0, 10.0


def make_cases(named: Sequence[NamedBundle], matrix: Matrix) -> list[BenchmarkCase]:
    """Return all cases; cases that differ in bundle or provider only are neighbours.

    Raises:
        ProviderError: a provider does not run here, or there are more threads than cores.
        GraphMissingError: a bundle lacks a requested graph.
        InputError: the audio is too short or too long, or a scenario cannot run as requested.
    """
    cases: list[BenchmarkCase] = []
    threads = matrix.threads or (1 if matrix.power == "low" else default_threads(),)
    for provider, count in itertools.product(matrix.providers, threads):
        _check_execution(provider, count, matrix)
    for scenario in matrix.scenarios:
        _check_scenario(scenario, matrix)
    for scenario, seconds, batch, count in itertools.product(
        matrix.scenarios, matrix.seconds, matrix.batches, threads
    ):
        for one, provider in itertools.product(named, matrix.providers):
            graphs = _graphs(one, matrix, scenario)
            for graph, window in itertools.product(graphs, _windows(matrix, scenario)):
                _check_length(one, graph, seconds, scenario)
                cases.append(
                    BenchmarkCase(
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
                        window,
                    )
                )
    return list({repr(case): case for case in cases}.values())


def _check_execution(provider: str, threads: int, matrix: Matrix) -> None:
    cores = usable_cores()
    if threads > cores:
        raise ProviderError(
            f"found {threads} threads, expected at most {cores}, the number of usable cores"
        )
    if matrix.power == "low" and threads > 1:
        raise ProviderError(
            f"found {threads} threads with low power, expected 1; leave out one of the options"
        )
    if matrix.provider_options and len(matrix.providers) > 1:
        raise ProviderError(
            f"found provider options with providers {', '.join(matrix.providers)}; "
            "name one provider with them"
        )
    choose((provider, matrix.provider_options), threads, allow_fallback=False, power=matrix.power)


def _check_scenario(scenario: Scenario, matrix: Matrix) -> None:
    """Check that a scenario supports the requested driver, batch sizes and lengths."""
    if matrix.windows and "streaming" not in matrix.scenarios:
        raise InputError("a window is for streams; add --scenario streaming")
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
        if batch * max(matrix.seconds) > MAX_BATCH_SECONDS:
            raise InputError(
                f"found batches of {batch} times {max(matrix.seconds):g} s, expected at most "
                f"{MAX_BATCH_SECONDS:g} s of audio in a batch; use a smaller --batch"
            )
        if scenario == "multi" and MULTI_UTTERANCES % batch:
            raise InputError(
                f"found a batch of {batch} in the scenario multi, expected 1, 2, 4 or 8: its "
                f"queries have {MULTI_UTTERANCES} utterances"
            )
        if scenario == "single" and loadgen and batch > 1:
            raise InputError(
                f"found a batch of {batch}, expected 1: LoadGen's single stream "
                "has single utterances"
            )


def _windows(matrix: Matrix, scenario: Scenario) -> list[tuple[float, ...]]:
    if scenario != "streaming":
        return [()]
    return [(x.step, x.left, x.right) for x in matrix.windows] or [()]


def _graphs(one: NamedBundle, matrix: Matrix, scenario: Scenario) -> list[str]:
    requested = matrix.graphs
    available = one.bundle.manifest.graphs
    if scenario == "streaming":
        check_graphs(one.bundle.manifest)
        if "tokenizer" not in requested:
            for window in matrix.windows or (STREAM_WINDOW,):
                check_window(window, one.bundle.manifest)
        unsupported = [graph for graph in requested if graph not in DEFAULT_GRAPHS]
        if unsupported:
            raise InputError(
                f"found graph {unsupported[0]!r} in the scenario streaming, expected encoder "
                "(context and codes) or tokenizer (codes)"
            )
    for graph in requested:
        if graph not in available:
            raise GraphMissingError(
                f"{one.bundle.folder}: has no graph {graph!r}; it has: {', '.join(available)}"
            )
    return list(requested or (graph for graph in DEFAULT_GRAPHS if graph in available))


def _check_length(one: NamedBundle, graph: str, seconds: float, scenario: Scenario) -> None:
    manifest = one.bundle.manifest
    shortest = manifest.min_samples / manifest.sample_rate
    longest = MAX_SECONDS
    whole = graph in {"encoder", "context"} or manifest.shapes
    if whole and scenario != "streaming":
        longest = min(longest, manifest.longest_context_seconds)
    if not shortest <= seconds <= longest:
        raise InputError(
            f"{one.bundle.folder}: found {seconds:g} s of audio for {graph!r}, expected "
            f"{shortest:g} to {longest:g} s"
        )

"""A fit from end to end: bundles and budgets in, measured points and a choice out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from w2v_edge.errors import InputError
from w2v_edge.latency.benchmark import DEFAULT_SETTINGS, benchmark
from w2v_edge.latency.budget import METRICS, SECONDS, TIME, Budget, check_used, estimate_of
from w2v_edge.latency.fit.choice import (
    FORMAT,
    VERSION,
    Fit,
    FitPoint,
    check,
    choose,
    nearest,
    on_front,
    wanted,
    worst,
)
from w2v_edge.latency.fit.similarity import (
    Setting,
    Similarity,
    describe,
    layers_of,
    measure_similarity,
)
from w2v_edge.latency.measure.inputs import Speech
from w2v_edge.latency.measure.plan import (
    Matrix,
    NamedBundle,
    default_seconds,
    make_cases,
    open_bundles,
)
from w2v_edge.latency.measure.schedule import CaseProgress, ShowProgress
from w2v_edge.latency.measure.trial import TRIAL
from w2v_edge.latency.report.records import (
    BenchmarkCase,
    BenchmarkReport,
    BenchmarkSettings,
    CaseResult,
)
from w2v_edge.latency.statistics import summarise

Key = tuple[str, str, int, tuple[float, ...]]
"""What a point is: bundle, provider, threads and window."""


@dataclass(frozen=True)
class Candidates:
    """The bundles of a fit, and their similarity to the references.

    Attributes:
        bundles: by name.
        similarity: by bundle and window.
        budgets: the budgets.
        picture: metric and length in s of the latency that is drawn.
    """

    bundles: dict[str, NamedBundle]
    similarity: dict[Setting, Similarity]
    budgets: Sequence[Budget]
    picture: tuple[str, float]

    def points(self, results: Sequence[CaseResult]) -> list[FitPoint]:
        """Return the point of each configuration, in the order of the results."""
        groups: dict[Key, list[CaseResult]] = {}
        for result in results:
            groups.setdefault(key_of(result.case), []).append(result)
        return [self._point(key, group) for key, group in groups.items()]

    def _point(self, key: Key, results: Sequence[CaseResult]) -> FitPoint:
        name, provider, threads, window = key
        manifest = self.bundles[name].bundle.manifest
        similarity = self.similarity[name, window]
        checks = tuple(x for x in (check(b, results) for b in self.budgets) if x is not None)
        failure = next((x.failure for x in results if x.failure), "")
        metric, seconds = self.picture
        drawn = (estimate_of(metric, x) for x in results if x.case.seconds == seconds)
        return FitPoint(
            name,
            manifest.precision,
            layers_of(manifest),
            provider,
            threads,
            window,
            similarity.value,
            similarity.reference,
            None if failure else next(drawn, None),
            checks,
            "failed" if failure else worst(checks),
            failure=failure,
        )

    def select(
        self, progresses: Sequence[CaseProgress], settings: BenchmarkSettings
    ) -> list[CaseProgress]:
        """Return the cases of points whose verdict is unclear and matters."""
        results = [
            CaseResult(
                x.case,
                tuple(x.trials),
                summarise(x.case, x.trials, seed=settings.seed),
                install=x.install,
            )
            for x in progresses
        ]
        points = self.points(results)
        keys = list(dict.fromkeys(key_of(x.case) for x in progresses))
        left = {keys[i] for i in wanted(points)}
        return [x for x in progresses if key_of(x.case) in left]


def fit(
    bundles: Sequence[Path],
    budgets: Sequence[Budget],
    matrix: Matrix,
    *,
    time_s: float,
    audio: Sequence[Path] = (),
    command: str = "",
    show: ShowProgress = lambda _what, _done: None,
    task: str = TRIAL,
) -> Fit:
    """Measure bundles; choose the one with the most similar outputs that meets the budgets.

    Args:
        bundles: folders of bundles of one checkpoint.
        budgets: limits; lengths that they name are measured.
        matrix: threads, windows and other settings to choose from, with one graph and scenario.
        time_s: time limit in seconds.
        audio: audio files or folders of them; empty for the shipped clips.
        command: the command line, for the report.
        show: called with what is being done and the fraction of all work that is done.
        task: `module:function` that a trial's process runs; tests pass others.

    Raises:
        InputError: bundles of different checkpoints, or a budget on what a fit chooses; others as
            for `benchmark`.
    """
    named = open_bundles(bundles)
    _check_source(named)
    lengths = _lengths(budgets)
    matrix = replace(
        matrix, seconds=tuple(sorted({*matrix.seconds, *lengths})) or default_seconds(named)
    )
    cases = make_cases(named, matrix)
    _check_conditions(budgets, matrix)
    check_used(list(budgets), cases)
    (graph,), (scenario,) = matrix.graphs, matrix.scenarios
    show("similarity", 0.0)
    windows = tuple(dict.fromkeys(case.window for case in cases))
    speech = Speech.read(audio, named[0].bundle.manifest.sample_rate)
    streaming = scenario == "streaming"
    similarity = measure_similarity(named, windows, graph, speech, streaming=streaming)
    by_name = {one.record.name: one for one in named}
    picture, limit_ms = _picture(budgets, matrix.seconds)
    candidates = Candidates(by_name, similarity, budgets, picture)
    report = benchmark(
        bundles,
        matrix,
        replace(DEFAULT_SETTINGS, time_s=time_s),
        audio=audio,
        command=command,
        show=show,
        task=task,
        select=candidates.select,
    )
    points = candidates.points(report.cases)
    points = [replace(x, pareto=on_front(x, points)) for x in points]
    points.sort(key=lambda x: (*(-y for y in x.rank), x.excess))
    what = f"{describe(graph)}{', of streams' if streaming else ''}"
    return Fit(
        FORMAT,
        VERSION,
        tuple(budget.text for budget in budgets),
        what,
        f"{picture[0]} at {picture[1]:g} s",
        limit_ms,
        tuple(points),
        choose(points),
        nearest(points),
        tuple(doubts(points, by_name, report)),
        report,
    )


def key_of(case: BenchmarkCase) -> Key:
    """Return the point that a case belongs to."""
    return case.bundle, case.provider, case.threads, case.window


def _check_source(named: Sequence[NamedBundle]) -> None:
    first = named[0]
    for other in named[1:]:
        sources = [x.bundle.manifest.source for x in (first, other)]
        if sources[0].sha256 != sources[1].sha256:
            raise InputError(
                f"{first.record.name} is of the checkpoint {sources[0].name} "
                f"({sources[0].sha256[:12]}), {other.record.name} of {sources[1].name} "
                f"({sources[1].sha256[:12]}); expected bundles of one checkpoint, whose outputs "
                "can be compared"
            )


def _lengths(budgets: Sequence[Budget]) -> list[float]:
    """Return the lengths of audio that budgets name, in s."""
    words = itertools.chain.from_iterable(budget.where for budget in budgets)
    return [float(found[1]) for word in words if (found := SECONDS.fullmatch(word))]


def _check_conditions(budgets: Sequence[Budget], matrix: Matrix) -> None:
    allowed = {*matrix.graphs, *matrix.scenarios}
    for budget in budgets:
        for word in budget.where:
            if word not in allowed and not SECONDS.fullmatch(word):
                raise InputError(
                    f"found budget {budget.text!r:.60} with {word!r:.30}, expected a length such "
                    "as 0.5s: bundles, providers and threads are what is chosen"
                )


def _picture(
    budgets: Sequence[Budget], seconds: Sequence[float]
) -> tuple[tuple[str, float], float | None]:
    """Return metric, length and limit of the latency to draw, of the first budget on one."""
    longest = max(seconds)
    for budget in budgets:
        if METRICS[budget.metric][2] == TIME and budget.sign.startswith("<"):
            found = _lengths([budget])
            return (budget.metric, found[0] if found else longest), budget.limit
    return ("p50", longest), None


def doubts(
    points: Sequence[FitPoint], named: dict[str, NamedBundle], report: BenchmarkReport
) -> list[str]:
    """Return remarks on the points that the user should know."""
    remarks = []
    layers = {point.layers for point in points}
    if len(layers) > 1:
        remarks.append(
            f"bundles keep {', '.join(map(str, sorted(layers)))} layers: their outputs have "
            "different meanings, so that each is compared with the most exact one of its own "
            "layers, and more layers come first"
        )
    for name in sorted({x.reference for x in points}):
        manifest = named[name].bundle.manifest
        if manifest.precision != "fp32":
            remarks.append(
                f"no fp32 bundle of {layers_of(manifest)} layers was given: similarity is to "
                f"{name}, in {manifest.precision}"
            )
    chosen = choose(points)
    for i in wanted(points):
        better = "" if chosen is None else "its outputs are more similar; "
        remarks.append(
            f"{label(points[i])}: unclear whether it meets the budgets; {better}measure longer "
            "with --time"
        )
    if any(x.unstable for x in report.cases):
        remarks.append("the machine was disturbed; the report shows when")
    return remarks


def label(point: FitPoint) -> str:
    """Return a short name of a point."""
    window = ",".join(f"{x:g}" for x in point.window)
    threads = f"{point.threads} thread{'s' if point.threads != 1 else ''}"
    return f"{point.bundle}, {threads}" + (f", window {window}" if window else "")

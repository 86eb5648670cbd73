"""`w2v-edge compare`: find latency regressions between reports."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge.cli.options import (
    check_reports_writable,
    deprecated,
    json_option,
    list_option,
    markdown_option,
    report_option,
    verb,
)
from w2v_edge.cli.output import console, markdown_table, print_json, print_table, to_json
from w2v_edge.errors import InputError, RegressionError
from w2v_edge.latency.compare_reports import METRICS

if TYPE_CHECKING:
    from w2v_edge.latency.compare_reports import CaseComparison, ReportComparison
    from w2v_edge.latency.report.records import BenchmarkCase, BenchmarkReport

MANY = 2


class Fraction(click.ParamType[Any]):
    """A fraction, written `0.05` or `5%`."""

    name = "fraction"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the fraction."""
        text = str(value).strip()
        try:
            fraction = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            fraction = math.nan
        if not 0 <= fraction < math.inf:
            self.fail(f"found {text!r:.40}, expected a fraction such as 0.05 or 5%", param, ctx)
        return fraction


@verb("compare", {"--force": "--across-devices"})
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    type=Fraction(),
    default="5%",
    help="Maximum increase of a metric, as 0.05 or 5%.",
)
@list_option(
    "--metric",
    of=click.Choice(list(METRICS)),
    default="p50",
    help="Metrics to compare; throughput as time per second of audio.",
)
@click.option(
    "--across-devices", is_flag=True, help="Allow reports of different devices or bundles."
)
@report_option("json", "markdown")
@json_option
@markdown_option
def command(
    reports: tuple[Path, ...],
    threshold: float,
    metric: tuple[str, ...],
    across_devices: bool,
    reports_to: list[tuple[Path, str]],
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Compare REPORTS of `w2v-edge bench --report FILE.json`; the first is the baseline.

    With two reports, the cases of both are compared: the exit code is 4 if a case is significantly
    slower, by more than the threshold, or fails now. More reports, such as those of several
    devices, are shown in one table.
    """
    from w2v_edge.latency.compare_reports import compare
    from w2v_edge.latency.report.files import read_report
    from w2v_edge.latency.report.wording import clean

    if len(reports) < MANY:
        raise click.UsageError("Give two reports or more; the first is the baseline.")
    if len(reports) > MANY and (metric != ("p50",) or across_devices):
        raise click.UsageError("--metric and --across-devices apply to two reports only.")
    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown cannot be combined.")
    if as_markdown:
        deprecated("--markdown", "--report FILE.md")
    check_reports_writable(reports_to)
    read = [read_report(path) for path in reports]
    output = _Output(reports_to, as_json=as_json, as_markdown=as_markdown)
    if len(read) > MANY:
        _print_across(reports, read, output)
        return
    try:
        found = compare(
            read[0], read[1], metrics=metric, threshold=threshold, across_devices=across_devices
        )
    except InputError as error:
        # Names in a report may hold control characters.
        raise InputError(clean(str(error))) from error
    result = {"threshold": threshold, "regressions": len(found.regressions), **vars(found)}
    text = "\n\n".join([markdown_table(HEAD, _rows(found.pairs)), *_notes(found)])
    if not output.give(result, text):
        _print(found, threshold)
    if found.regressions:
        raise RegressionError(_worst(found))


class _Output:
    """Destinations of a comparison: report files, and stdout unless tables are printed there."""

    def __init__(
        self, reports_to: list[tuple[Path, str]], *, as_json: bool, as_markdown: bool
    ) -> None:
        self._reports_to = reports_to
        self._as_json, self._as_markdown = as_json, as_markdown

    def give(self, result: Any, markdown: str) -> bool:
        """Write the reports and print the result if asked to; return whether it was printed."""
        from w2v_edge.latency.report.files import write

        for path, name in self._reports_to:
            write(path, (to_json(result, indent=2) if name == "json" else markdown) + "\n")
        if self._as_json:
            print_json(result)
        elif self._as_markdown:
            click.echo(markdown)
        return self._as_json or self._as_markdown


HEAD = ("case", "metric", ">before", ">after", ">machine", ">ratio", "95 %", ">p", "")


def _print(found: ReportComparison, threshold: float) -> None:
    print_table(f"after / before, threshold {threshold:.3g}", HEAD, _rows(found.pairs))
    for note in _notes(found):
        console().print(note)


def _notes(found: ReportComparison) -> list[str]:
    """Return remarks on differences between the reports."""
    from w2v_edge.latency.report.wording import clean

    notes = [f"note: {difference}" for difference in found.differences]
    for which, cases in (("first", found.only_before), ("second", found.only_after)):
        if cases:
            such = label(cases[0])
            notes.append(f"only in the {which} report: {len(cases)} cases, such as {such}")
    if any(pair.unstable for pair in found.pairs):
        notes.append("~ too few undisturbed trials; the reports show what disturbed them")
    return [clean(note) for note in notes]


def _rows(pairs: tuple[CaseComparison, ...]) -> list[tuple[str, ...]]:
    from w2v_edge.latency.report.wording import labels_of

    names = labels_of([pair.case for pair in pairs])
    return [_row(name, pair) for name, pair in zip(names, pairs, strict=True)]


def _row(label: str, pair: CaseComparison) -> tuple[str, ...]:
    name = ("~ " if pair.unstable else "") + label
    if pair.failure:
        return name, pair.metric, "", "", "", "", "", "", f"{pair.verdict}: {pair.failure}"
    low, high = pair.ratio.low, pair.ratio.high
    return (
        name,
        pair.metric,
        f"{pair.before:.4g}",
        f"{pair.after:.4g}",
        f"{pair.machine:.3f}",
        f"{pair.ratio.value:.3f}",
        f"{low:.3f} to {high:.3f}",
        f"{pair.p:.2g}",
        pair.verdict,
    )


def label(case: BenchmarkCase) -> str:
    """Return the full name of a case."""
    from w2v_edge.latency.report.wording import labels_of

    return labels_of([case], everything=True)[0]


def _worst(found: ReportComparison) -> str:
    failed = [pair for pair in found.regressions if pair.verdict == "failed"]
    count = f"{len(found.regressions)} of {len(found.pairs)} comparisons"
    if failed:
        return f"regression in {count}: {label(failed[0].case)} fails now: {failed[0].failure}"
    worst = max(found.regressions, key=lambda pair: pair.ratio.value)
    return (
        f"regression in {count}: {label(worst.case)} takes {worst.ratio.value:.3f} times its "
        f"{worst.metric} ({worst.ratio.low:.3f} to {worst.ratio.high:.3f})"
    )


def _print_across(paths: tuple[Path, ...], reports: list[BenchmarkReport], output: _Output) -> None:
    """Print medians of all reports, a column per report, with ratios to the first."""
    from w2v_edge.latency.report.across import across
    from w2v_edge.latency.report.wording import clean, labels_of

    rows = across(reports)
    stems = [path.stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise click.UsageError("found one report twice; name each once")
    head = ("case", *(f">{name}" for name in names))
    labels = labels_of([row.case for row in rows])
    cells = [(name, *row.cells) for name, row in zip(labels, rows, strict=True)]
    result = [
        {"case": row.case, "p50_ms": dict(zip(names, row.p50_ms, strict=True))} for row in rows
    ]
    if output.give(result, markdown_table(head, cells)):
        return
    for name, report in zip(names, reports, strict=True):
        cpu = report.device.cpu
        device = f"{cpu.model}, {cpu.usable_cores} cores ({report.device.identity})"
        console().print(clean(f"{name}: {device}"))
    print_table("median latency, and ratio to the first report", head, cells)

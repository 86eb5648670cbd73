"""`w2v-edge compare`: did it become slower?"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge.cli.lists import ListOf
from w2v_edge.cli.output import console, json_option, print_json, print_table
from w2v_edge.errors import InputError, RegressionError
from w2v_edge.latency.compare_reports import METRICS

if TYPE_CHECKING:
    from w2v_edge.latency.compare_reports import CaseComparison, ReportComparison
    from w2v_edge.latency.report.records import BenchmarkCase, BenchmarkReport

MANY = 2


class Share(click.ParamType[Any]):
    """A share: `0.05`, or `5%`."""

    name = "share"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the share."""
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = math.nan
        if not 0 <= share < math.inf:
            self.fail(f"found {text!r:.40}, expected a share such as 0.05 or 5%", param, ctx)
        return share


@click.command("compare")
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    type=Share(),
    default="5%",
    show_default=True,
    help="What a figure may grow by, as 0.05 or 5%.",
)
@click.option(
    "--metric",
    type=ListOf(click.Choice(list(METRICS))),
    default="p50",
    show_default=True,
    help="What is compared; throughput as time for a second of audio.",
)
@click.option("--force", is_flag=True, help="Compare other devices or bundles with each other.")
@json_option
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown.")
def command(
    reports: tuple[Path, ...],
    threshold: float,
    metric: tuple[str, ...],
    force: bool,
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Compare REPORTS that `w2v-edge bench --json FILE` wrote, the first being the baseline.

    Of two reports, cases that are in both are compared: the exit code is 4 if one became slower
    by more than the threshold and that is no chance, or fails now. More reports make one table,
    for instance of several devices.
    """
    from w2v_edge.latency.compare_reports import compare
    from w2v_edge.latency.report.files import read_report
    from w2v_edge.latency.report.wording import clean

    if len(reports) < MANY:
        raise InputError("found one report, expected two or more; the first is the baseline")
    read = [read_report(path) for path in reports]
    if len(read) > MANY:
        if metric != ("p50",) or force:
            raise InputError("--metric and --force are for two reports; leave them out for a table")
        _print_across(reports, read, as_json=as_json, as_markdown=as_markdown)
        return
    try:
        found = compare(read[0], read[1], metrics=metric, threshold=threshold, force=force)
    except InputError as error:
        raise InputError(clean(str(error))) from error
    if as_json:
        print_json({"threshold": threshold, "regressions": len(found.regressions), **vars(found)})
    elif as_markdown:
        click.echo(_markdown(HEAD, _rows(found.pairs)))
        for note in _notes(found):
            click.echo(f"\n{note}")
    else:
        _print(found, threshold)
    if found.regressions:
        raise RegressionError(_worst(found))


HEAD = ("case", "metric", ">before", ">after", ">machine", ">ratio", "95 %", ">p", "")


def _print(found: ReportComparison, threshold: float) -> None:
    print_table(f"after / before, threshold {threshold:.3g}", HEAD, _rows(found.pairs))
    for note in _notes(found):
        console().print(note)


def _notes(found: ReportComparison) -> list[str]:
    """Say what has to be known beside the table."""
    from w2v_edge.latency.report.wording import clean

    notes = [f"note: {difference}" for difference in found.differences]
    for which, cases in (("first", found.only_before), ("second", found.only_after)):
        if cases:
            such = label(cases[0])
            notes.append(f"only in the {which} report: {len(cases)} cases, such as {such}")
    if any(pair.unstable for pair in found.pairs):
        notes.append("~ too few trials were undisturbed; the reports say by what and when")
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
    """Name a case by all that it is."""
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


def _print_across(
    paths: tuple[Path, ...], reports: list[BenchmarkReport], *, as_json: bool, as_markdown: bool
) -> None:
    """Print medians of all reports, a column each, with ratios to the first."""
    from w2v_edge.latency.report.tables import across
    from w2v_edge.latency.report.wording import clean, labels_of

    rows = across(reports)
    stems = [path.stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise InputError("found one report twice; name each once")
    if as_json:
        print_json(
            [
                {"case": row.case, "p50_ms": dict(zip(names, row.p50_ms, strict=True))}
                for row in rows
            ]
        )
        return
    head = ("case", *(f">{name}" for name in names))
    labels = labels_of([row.case for row in rows])
    cells = [(name, *row.cells) for name, row in zip(labels, rows, strict=True)]
    if as_markdown:
        click.echo(_markdown(head, cells))
        return
    for name, report in zip(names, reports, strict=True):
        cpu = report.device.cpu
        device = f"{cpu.model}, {cpu.usable_cores} cores ({report.device.identity})"
        console().print(clean(f"{name}: {device}"))
    print_table("median latency, and times that of the first", head, cells)


def _markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [[x.lstrip(">") for x in head], ["--:" if x[:1] == ">" else "---" for x in head]]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""`w2v-edge compare`: find latency regressions between reports."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge.cli.measuring_options import (
    check_reports_writable,
    markdown_option,
    report_option,
    schema_option,
)
from w2v_edge.cli.options import (
    OneOf,
    deprecated,
    json_option,
    list_option,
    verb,
)
from w2v_edge.cli.output import console, print_json, to_json
from w2v_edge.errors import InputError, RegressionError
from w2v_edge.latency.budget import METRICS as FLEET_METRICS
from w2v_edge.latency.compare_reports import METRICS

if TYPE_CHECKING:
    from w2v_edge.latency.compare_reports import ReportComparison
    from w2v_edge.latency.report.records import BenchmarkReport

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


class Price(click.ParamType[Any]):
    """A price of a device, written NAME=AMOUNT."""

    name = "price"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, float]:
        """Return the name and the price."""
        name, _, text = str(value).rpartition("=")
        try:
            price = float(text)
        except ValueError:
            price = math.nan
        if not name or not 0 < price < math.inf:
            self.fail(f"found {value!r:.60}, expected NAME=AMOUNT, such as pi4=75", param, ctx)
        return name, price


METRIC = OneOf(list(FLEET_METRICS), "METRIC")


def _schema() -> str:
    from w2v_edge.latency.report.schema import fleet_schema, to_text

    return to_text(fleet_schema())


@verb("compare", {"--force": "--across-devices"}, short_help="Compare reports of bench.")
@click.argument("reports", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    type=Fraction(),
    default="5%",
    help="Maximum increase of a metric, as 0.05 or 5%.",
)
@list_option(
    "--metric",
    of=METRIC,
    default="p50",
    help=f"Metrics to compare: {METRIC.listed}. With two reports, throughput is time per second of "
    f"audio, and {', '.join(x for x in FLEET_METRICS if x not in METRICS)} cannot be compared.",
)
@click.option(
    "--across-devices", is_flag=True, help="Allow reports of different devices or bundles."
)
@click.option(
    "--fleet",
    is_flag=True,
    help="Show the reports side by side, a row per device, without a verdict; always so with three "
    "reports and more. Devices have the names of the files.",
)
@click.option(
    "--price",
    "prices",
    type=Price(),
    multiple=True,
    metavar="NAME=AMOUNT",
    help="Price of a device of a fleet, for a chart of latency by price; may be repeated.",
)
@report_option("json", "markdown", "html", "openmetrics")
@json_option
@markdown_option
@schema_option(_schema, "a fleet")
def command(
    reports: tuple[Path, ...],
    threshold: float,
    metric: tuple[str, ...],
    across_devices: bool,
    fleet: bool,
    prices: tuple[tuple[str, float], ...],
    reports_to: list[tuple[Path, str]],
    as_json: bool,
    as_markdown: bool,
) -> None:
    """Compare REPORTS of `w2v-edge bench --report FILE.json`; the first is the baseline.

    With two reports, the cases of both are compared: the exit code is 4 if a case is significantly
    slower, by more than the threshold, or fails now. More reports, such as those of several
    devices, are shown side by side.

    \b
    w2v-edge compare old.json new.json
    w2v-edge compare pi4.json pi5.json --price pi4=55 --price pi5=80
    w2v-edge compare pi4.json pi5.json jetson.json --report fleet.html
    """  # noqa: D301 - the escape is click's
    from w2v_edge.latency.compare_reports import compare
    from w2v_edge.latency.report.comparison import comparison_notes, comparison_tables
    from w2v_edge.latency.report.files import read_report
    from w2v_edge.latency.report.markdown import table_markdown
    from w2v_edge.latency.report.terminal import show_table
    from w2v_edge.latency.report.wording import clean

    fleet = fleet or len(reports) > MANY
    _check_options(len(reports), fleet=fleet, metrics=metric, prices=prices, reports_to=reports_to)
    if fleet and across_devices:
        raise click.UsageError("--across-devices applies to two reports only.")
    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown cannot be combined.")
    if as_markdown:
        deprecated("--markdown", "--report FILE.md")
    check_reports_writable(reports_to)
    read = [read_report(path) for path in reports]
    output = _Output(reports_to, as_json=as_json, as_markdown=as_markdown)
    if fleet:
        _give_fleet(dict(zip(names_of(reports), read, strict=True)), dict(prices), metric, output)
        return
    try:
        found = compare(
            read[0], read[1], metrics=metric, threshold=threshold, across_devices=across_devices
        )
    except InputError as error:
        # Names in a report may hold control characters.
        raise InputError(clean(str(error))) from error
    result = {
        "format": "w2v-edge-comparison",
        "version": 1,
        "threshold": threshold,
        "regressions": len(found.regressions),
        **vars(found),
    }
    tables, notes = comparison_tables(found, threshold), comparison_notes(found)
    text = "\n\n".join([*map(table_markdown, tables), *notes]) + "\n"
    if not output.give(result, {"markdown": lambda: text}):
        for table in tables:
            show_table(console(), table)
        for note in notes:
            console().print(note)
    if found.regressions:
        raise RegressionError(_worst(found))


def _check_options(
    reports: int,
    *,
    fleet: bool,
    metrics: tuple[str, ...],
    prices: tuple[tuple[str, float], ...],
    reports_to: list[tuple[Path, str]],
) -> None:
    """Check options that only a fleet has."""
    if fleet:
        return
    if reports < MANY:
        raise click.UsageError("Give two reports or more; the first is the baseline.")
    if prices or any(name in {"html", "openmetrics"} for _, name in reports_to):
        raise click.UsageError("Prices, HTML and OpenMetrics are for fleets; add --fleet.")
    others = [name for name in metrics if name not in METRICS]
    if others:
        raise click.UsageError(f"--metric {others[0]} is for fleets; add --fleet.")


class _Output:
    """Destinations of a comparison: report files, and stdout unless tables are printed there."""

    def __init__(
        self, reports_to: list[tuple[Path, str]], *, as_json: bool, as_markdown: bool
    ) -> None:
        self._reports_to = reports_to
        self._as_json, self._as_markdown = as_json, as_markdown

    def give(self, result: Any, texts: Mapping[str, Callable[[], str]]) -> bool:
        """Write the reports and print the result if asked to; return whether it was printed.

        Args:
            result: for JSON.
            texts: the other formats.
        """
        from w2v_edge.latency.report.files import write

        for path, name in self._reports_to:
            write(path, to_json(result, indent=2) + "\n" if name == "json" else texts[name]())
        if self._as_json:
            print_json(result)
        elif self._as_markdown:
            click.echo(texts["markdown"]().rstrip())
        return self._as_json or self._as_markdown


def _worst(found: ReportComparison) -> str:
    from w2v_edge.latency.report.comparison import full_label

    failed = [pair for pair in found.regressions if pair.verdict == "failed"]
    count = f"{len(found.regressions)} of {len(found.pairs)} comparisons"
    if failed:
        return f"regression in {count}: {full_label(failed[0].case)} fails now: {failed[0].failure}"
    worst = max(found.regressions, key=lambda pair: pair.ratio.value)
    return (
        f"regression in {count}: {full_label(worst.case)} takes {worst.ratio.value:.3f} times its "
        f"{worst.metric} ({worst.ratio.low:.3f} to {worst.ratio.high:.3f})"
    )


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return the names of the devices in report files: their stems, or paths if they are equal.

    Raises:
        UsageError: one file is given twice.
    """
    stems = [path.stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise click.UsageError("found one report twice; name each once")
    return names


def _give_fleet(
    reports: dict[str, BenchmarkReport],
    prices: dict[str, float],
    metrics: tuple[str, ...],
    output: _Output,
) -> None:
    """Show reports side by side."""
    from w2v_edge.latency.report.fleet import make_fleet
    from w2v_edge.latency.report.fleet_page import fleet_page, fleet_tables
    from w2v_edge.latency.report.markdown import table_markdown
    from w2v_edge.latency.report.openmetrics import openmetrics
    from w2v_edge.latency.report.terminal import show_table

    unknown = [name for name in prices if name not in reports]
    if unknown:
        raise click.BadParameter(
            f"found a price of {unknown[0]!r:.60}, expected one of: {', '.join(reports)}",
            param_hint="'--price'",
        )
    fleet = make_fleet(reports, prices)
    tables = fleet_tables(fleet, metrics)
    texts = {
        "markdown": lambda: "\n\n".join(map(table_markdown, tables)) + "\n",
        "html": lambda: fleet_page(fleet),
        "openmetrics": lambda: openmetrics(reports),
    }
    if not output.give(fleet, texts):
        for table in tables:
            show_table(console(), table)

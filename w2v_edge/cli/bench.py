"""`w2v-edge bench`: measure the latency of bundles on this device, with intervals."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from w2v_edge.cli.bench_on import file_of, measure_on, print_side_by_side
from w2v_edge.cli.measuring_options import (
    audio_option,
    block_option,
    check_reports_writable,
    markdown_option,
    providers_option,
    report_option,
    schema_option,
    time_option,
    windows_option,
)
from w2v_edge.cli.on import OnDevices, audio_tree, bundle_tree, remote_verb
from w2v_edge.cli.options import (
    POSITIVE,
    deprecated,
    json_option,
    list_option,
    power_option,
    read_options,
)
from w2v_edge.cli.output import console, print_line, print_table, progress, require, warn
from w2v_edge.errors import BudgetError, InputError, W2VEdgeError
from w2v_edge.latency.budget import METRICS, UNITS
from w2v_edge.latency.measure.plan import GRAPHS
from w2v_edge.latency.report.records import Scenario

if TYPE_CHECKING:
    from w2v_edge.latency.budget import Budget, Check
    from w2v_edge.latency.report.records import BenchmarkReport


class Megabytes(click.ParamType[Any]):
    """A size such as 300MB or 1.5GB, in 10^6 bytes."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the size in 10^6 bytes."""
        found = re.fullmatch(r"(\d{1,9}(?:\.\d*)?) *([kmg]b)", str(value).strip().lower())
        size = float(found[1]) * UNITS[found[2]] if found else 0.0
        if size <= 0:
            self.fail(f"found {str(value)!r:.40}, expected a size such as 300MB", param, ctx)
        return size


def _schema() -> str:
    from w2v_edge.latency.report.schema import shipped

    return shipped()


def _on_devices(devices: OnDevices) -> None:
    """Measure on other devices, and show their reports as if they had been made here."""
    from w2v_edge.latency.report.files import render_report

    given = devices.ctx.params
    budgets = _prepare(given)
    reports, errors = measure_on(devices)
    several = len(devices.names) > 1
    for name, report in reports.items():
        mine = dict(given)
        if several:
            mine["reports_to"] = [(file_of(path, name), x) for path, x in given["reports_to"]]
            if not given["as_json"]:
                console().print(f"\n{name}", style="bold")
        try:
            _give(report, mine, budgets, printed=not (several and given["as_json"]))
        except W2VEdgeError as error:
            errors.append(error)
    if several and given["as_json"]:
        found = ",\n".join(render_report(x, ".json").rstrip() for x in reports.values())
        click.echo(f"[{found}]")
    elif len(reports) > 1:
        print_side_by_side(reports)
    for other in errors[1:]:
        warn(str(other))
    if errors:
        raise errors[0]


@remote_verb(
    "bench",
    short_help="Measure latency and memory on this device.",
    inputs={"bundles": bundle_tree, "audio": audio_tree},
    local=("budgets", "reports_to", "details", "as_json", "as_markdown"),
    on=_on_devices,
    renamed={
        "--precision": "--interval",
        "--steady": "--min-steady-seconds",
        "--json": "--report",
        "--markdown": "--report",
        "--html": "--report",
    },
)
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@list_option(
    "--seconds",
    of=POSITIVE,
    show_default="1,10; 10 with streaming; the fixed shapes of a bundle",
    help="Lengths of audio.",
)
@list_option(
    "--threads",
    of=click.IntRange(min=1),
    show_default="all usable cores",
    help="Numbers of threads per operator.",
)
@list_option("--batch", of=click.IntRange(min=1), default="1", help="Batch sizes.")
@providers_option("Execution providers of onnxruntime")
@click.option(
    "--provider-option",
    metavar="KEY=VALUE",
    multiple=True,
    callback=read_options,
    help="Option of the execution provider, as onnxruntime names it; may be repeated.",
)
@list_option(
    "--graph",
    of=click.Choice(GRAPHS),
    show_default="encoder, and tokenizer if the bundle has one",
    help="Graphs to measure.",
)
@power_option
@list_option(
    "--scenario",
    of=click.Choice(get_args(Scenario)),
    default="single",
    help="single: one query after another (judge by p90); multi: queries of 8 utterances (p99); "
    "offline: one batch of all (throughput); streaming: blocks at real-time pace (late blocks).",
)
@block_option
@windows_option
@click.option(
    "--loadgen",
    is_flag=True,
    help="Issue the queries with MLPerf LoadGen; extra mlperf.",
)
@audio_option
@time_option(40, "at least five rounds are run")
@click.option(
    "--interval",
    type=click.FloatRange(min=0, max=1),
    default=0.02,
    help="Stop when the 95 % interval of every median is this narrow: half its width over the "
    "median.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=3, max=10_000),
    help="Number of processes per case, regardless of --time and --interval.",
)
@click.option(
    "--min-steady-seconds",
    type=click.FloatRange(min=0.01, max=3600),
    default=0.5,
    help="Minimum duration of the steady state in each process.",
)
@click.option("--profile", is_flag=True, help="Also show the time of each operator type.")
@click.option(
    "--limit",
    is_flag=True,
    help="Also measure the highest speed of matrix products here, and show each case's and "
    "operator's time over the least that its products need; implies --profile. CPU only.",
)
@click.option(
    "--memory-limit",
    "memory_limit_mb",
    type=Megabytes(),
    metavar="SIZE",
    help="Limit on the memory of a trial, such as 300MB; a case above it fails. A control group "
    "holds trials to it where one can be made; otherwise their peaks are compared with it.",
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="METRIC<LIMIT[@CASE]",
    help="Limit such as 'p99<50ms@1s', 'rss<200MB', 'install<150MB'; may be repeated. The "
    "exit code is 5 when one is missed; limits within the interval are marked. "
    f"Metrics: {', '.join(METRICS)}. Cases by length, graph, bundle, provider, scenario, "
    "threads=N, batch=N.",
)
@click.option(
    "--details",
    is_flag=True,
    help="Also print all percentiles, storage, operators, conditions and the device, as reports.",
)
@report_option("json", "markdown", "html", "openmetrics")
@json_option
@markdown_option
@schema_option(_schema, "reports")
def command(bundles: tuple[Path, ...], **given: Any) -> None:
    """Measure the latency of BUNDLES on this device, side by side, on recorded speech.

    Each case runs in several processes, in rounds of shuffled order: start, imports, loading, first
    query, warm-up, steady state, and peak memory. Intervals are 95 % over processes. Other load on
    the machine is recorded, and disturbed cases are marked.

    \b
    w2v-edge bench ckpt-fp32 ckpt-int8 --seconds 1,10,30 --report report.html
    w2v-edge bench ckpt-int8 --scenario streaming --graph tokenizer
    w2v-edge bench ckpt-int8 --report new.json; w2v-edge compare old.json new.json
    w2v-edge bench ckpt-int8 --memory-limit 300MB --budget 'install<200MB'
    w2v-edge bench ckpt-int8 --on pi@pi4 --report pi4.json
    """  # noqa: D301 - the escape is click's
    require("measuring", "cpu", "audio", "cli")
    budgets = _prepare(given)
    _give(_measure(bundles, given, budgets), given, budgets)


def _prepare(given: dict[str, Any]) -> list[Budget]:
    """Check what can be checked before the measurement, and return the budgets."""
    if given["as_json"] and given["as_markdown"]:
        raise click.UsageError("--json and --markdown cannot be combined.")
    budgets = _parse_budgets(given["budgets"])
    check_reports_writable(given["reports_to"])
    return budgets


def _give(
    report: BenchmarkReport, given: dict[str, Any], budgets: list[Budget], *, printed: bool = True
) -> None:
    """Write and print a report, and raise the error of a failed case or a missed budget."""
    from w2v_edge.latency.budget import check_budgets
    from w2v_edge.latency.report.files import render_report, write_report

    for path, _ in given["reports_to"]:
        write_report(report, path)
    checks = check_budgets(report, budgets)
    if not printed:
        pass
    elif given["as_json"]:
        click.echo(render_report(report, ".json").rstrip())
    elif given["as_markdown"]:
        deprecated("--markdown", "--report FILE.md")
        click.echo(render_report(report, ".md").rstrip())
    else:
        written = [path for path, _ in given["reports_to"]]
        _print(report, written, checks, details=given["details"])
    _finish(report, checks)


def _parse_budgets(texts: tuple[str, ...]) -> list[Budget]:
    from w2v_edge.latency.budget import Budget

    try:
        return [Budget.parse(text) for text in texts]
    except InputError as error:
        raise click.BadParameter(str(error), param_hint="'--budget'") from error


def _measure(
    bundles: tuple[Path, ...], given: dict[str, Any], budgets: list[Budget]
) -> BenchmarkReport:
    from w2v_edge.latency.benchmark import DEFAULT_SETTINGS, benchmark
    from w2v_edge.latency.budget import check_used
    from w2v_edge.latency.measure.plan import (
        Matrix,
        default_seconds,
        make_cases,
        open_bundles,
    )

    if given["loadgen"]:
        require("MLPerf LoadGen", "mlperf")
    named = open_bundles(bundles)
    default = (10.0,) if "streaming" in given["scenario"] else default_seconds(named)
    matrix = Matrix(
        graphs=given["graph"],
        seconds=given["seconds"] or default,
        threads=given["threads"],
        batches=given["batch"],
        providers=given["provider"],
        provider_options=given["provider_option"],
        power=given["power"],
        scenarios=given["scenario"],
        driver="loadgen" if given["loadgen"] else "w2v-edge",
        block_ms=given["block_ms"],
        windows=given["windows"],
    )
    cases = make_cases(named, matrix)
    try:
        check_used(budgets, cases)
    except InputError as error:
        raise click.BadParameter(str(error), param_hint="'--budget'") from error
    settings = replace(
        DEFAULT_SETTINGS,
        steady_s=given["min_steady_seconds"],
        precision=given["interval"],
        time_s=given["time_s"],
        memory_limit_mb=given["memory_limit_mb"],
    )
    with progress("bench") as show:
        return benchmark(
            bundles,
            matrix,
            settings,
            audio=given["audio"],
            rounds=given["rounds"],
            profile=given["profile"],
            limit=given["limit"],
            command=shlex.join(["w2v-edge", *sys.argv[1:]]),
            show=show,
        )


def _print(
    report: BenchmarkReport, written: list[Path], checks: list[Check], *, details: bool
) -> None:
    from w2v_edge.latency.report.terminal import print_report
    from w2v_edge.latency.report.wording import labels_of

    print_report(report, console(), details=details)
    if checks:
        names = labels_of([check.case for check in checks])
        rows = [
            (
                check.budget.text,
                name,
                check.found,
                ("met" if check.met else "missed")
                + ("" if check.sure else ", within the interval"),
            )
            for name, check in zip(names, checks, strict=True)
        ]
        print_table("budgets", ("budget", "case", ">found", ""), rows)
    for path in written:
        print_line(f"written: {path}")


def _finish(report: BenchmarkReport, checks: list[Check]) -> None:
    failed = [result for result in report.cases if result.failure]
    if failed and len(failed) == len(report.cases):
        raise InputError(failed[0].failure)
    missed = [check for check in checks if not check.met]
    if missed:
        first = missed[0]
        more = f"; {len(missed) - 1} more" if len(missed) > 1 else ""
        raise BudgetError(
            f"budget {first.budget.text} missed by {first.case.bundle} {first.case.graph} "
            f"{first.case.seconds:g} s: found {first.found}{more}"
        )
    if failed:
        raise InputError(f"{len(failed)} of {len(report.cases)} cases failed: {failed[0].failure}")

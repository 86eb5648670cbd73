"""`w2v-edge bench`: how long does a bundle take on this device, and how sure is that?"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from w2v_edge.cli.lists import ListOf, OptionalFile
from w2v_edge.cli.options import audio_option, power_option, read_options
from w2v_edge.cli.output import console, print_table, progress, require
from w2v_edge.errors import BudgetError, InputError
from w2v_edge.latency.budget import METRICS
from w2v_edge.latency.measure.plan import GRAPHS
from w2v_edge.latency.report.records import Scenario
from w2v_edge.names import Provider

if TYPE_CHECKING:
    from w2v_edge.latency.budget import Budget, Check
    from w2v_edge.latency.report.records import BenchmarkReport


MOST_EMBEDDED = 500_000
"""Samples that a page carries for those who want them; it would load slowly with more."""


def _print_schema(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    from w2v_edge.latency.report.schema import shipped

    if wanted:
        click.echo(shipped().rstrip())
        ctx.exit()


@click.command("bench")
@click.argument("bundles", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--seconds",
    type=ListOf(click.FloatRange(min=0, min_open=True)),
    help="Lengths of audio, such as 1,10,30.  [default: 1,10; with streaming: 10]",
)
@click.option("--threads", type=ListOf(click.IntRange(min=1)), help="Default: the cores there are.")
@click.option("--batch", type=ListOf(click.IntRange(min=1)), default="1", show_default=True)
@click.option(
    "--provider", type=ListOf(click.Choice(get_args(Provider))), default="cpu", show_default=True
)
@click.option(
    "--provider-option",
    metavar="KEY=VALUE",
    multiple=True,
    callback=read_options,
    help="An option of the one provider's, in onnxruntime's words; may be repeated.",
)
@click.option(
    "--graph",
    type=ListOf(click.Choice(GRAPHS)),
    help="Default: encoder, and tokenizer where there is one.",
)
@power_option
@click.option(
    "--scenario",
    type=ListOf(click.Choice(get_args(Scenario))),
    default="single",
    show_default=True,
    help="single: a query after the other (p90 counts); multi: queries of 8 utterances (p99); "
    "offline: all at once (throughput); streaming: blocks at the pace of time (late ones).",
)
@click.option(
    "--block-ms",
    type=click.FloatRange(min=1, max=10_000),
    default=320,
    show_default=True,
    help="Audio in a block of the scenario streaming.",
)
@click.option(
    "--loadgen",
    is_flag=True,
    help="Let MLPerf LoadGen issue the queries: pip install 'w2v-edge[mlperf]'.",
)
@audio_option
@click.option(
    "--time",
    "time_s",
    type=click.FloatRange(min=0, max=86_400),
    default=40,
    show_default=True,
    help="Seconds for all of it, if five rounds fit.",
)
@click.option(
    "--precision",
    type=click.FloatRange(min=0, max=1),
    default=0.02,
    show_default=True,
    help="End sooner when all medians are as sure: half of the interval, relative to them.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=3, max=10_000),
    help="Exactly so many processes, whatever --time and --precision say.",
)
@click.option(
    "--steady",
    type=click.FloatRange(min=0.01, max=3600),
    default=0.5,
    show_default=True,
    help="Seconds of the steady state of each process, at least.",
)
@click.option("--profile", is_flag=True, help="Also show what each type of operator takes.")
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="METRIC<LIMIT[@CASE]",
    help="Such as 'p99<50ms@1s', 'rss<200MB', 'speed>20x@tokenizer'; exit code 5 when the figure "
    "misses it; where its interval holds the limit, that is said. "
    f"Metrics: {', '.join(METRICS)}. Cases by length, graph, bundle, provider, scenario, "
    "threads=N, batch=N.",
)
@click.option(
    "--json",
    "json_file",
    type=OptionalFile(),
    is_flag=False,
    flag_value="-",
    help="Write the report with every sample as JSON, to FILE or standard output.",
)
@click.option(
    "--markdown",
    "markdown_file",
    type=OptionalFile(),
    is_flag=False,
    flag_value="-",
    help="Write the tables as Markdown, likewise.",
)
@click.option(
    "--html",
    "html_file",
    type=click.Path(path_type=Path),
    help="Write one self-contained page with charts.",
)
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON Schema of reports and exit.",
)
def command(bundles: tuple[Path, ...], **given: Any) -> None:
    """Measure BUNDLES on this device, side by side, on real speech.

    Each case is measured in several processes of its own, in rounds of shuffled order: start,
    imports, loading, first query, warm-up, steady state, and the most memory that it took.
    Intervals are 95 % over processes. What else the machine did is watched, and a case that was
    disturbed is marked.

    \b
    w2v-edge bench ckpt-fp32 ckpt-int8 --seconds 1,10,30 --html report.html
    w2v-edge bench ckpt-int8 --scenario streaming --graph tokenizer
    w2v-edge bench ckpt-int8 --json new.json && w2v-edge compare old.json new.json
    """  # noqa: D301 - the escape is click's
    require("measuring", "cpu", "audio", "cli")
    from w2v_edge.latency.budget import Budget, check_budgets
    from w2v_edge.latency.report.files import to_json, write
    from w2v_edge.latency.report.html import page
    from w2v_edge.latency.report.markdown import markdown

    bundles, given = _reclaim(bundles, given)
    if not bundles:
        raise click.UsageError("Missing argument 'BUNDLES...'.")
    budgets = [Budget.parse(text) for text in given["budgets"]]
    outputs = {name: given[f"{name}_file"] for name in ("json", "markdown", "html")}
    _refuse_unwritable([path for path in outputs.values() if path])
    report = _measure(bundles, given, budgets)
    made: dict[str, Callable[[BenchmarkReport], str]] = {
        "json": to_json,
        "markdown": markdown,
        "html": lambda report: page(report, raw=_samples(report) <= MOST_EMBEDDED),
    }
    for name, path in outputs.items():
        if path and str(path) != "-":
            write(Path(path), made[name](report))
    printed = [name for name, path in outputs.items() if str(path) == "-"]
    for name in printed:
        click.echo(made[name](report).rstrip())
    checks = check_budgets(report, budgets)
    if not printed:
        _print(report, outputs, checks)
    _finish(report, checks)


def _samples(report: BenchmarkReport) -> int:
    return sum(len(trial.latencies_ms) for result in report.cases for trial in result.trials)


def _measure(
    bundles: tuple[Path, ...], given: dict[str, Any], budgets: list[Budget]
) -> BenchmarkReport:
    from w2v_edge.latency.benchmark import DEFAULT_SETTINGS, benchmark
    from w2v_edge.latency.budget import check_used
    from w2v_edge.latency.measure.plan import Matrix, make_cases, open_bundles

    if given["loadgen"]:
        require("MLPerf LoadGen", "mlperf")
    streaming = "streaming" in given["scenario"]
    matrix = Matrix(
        graphs=given["graph"] or (),
        seconds=given["seconds"] or ((10.0,) if streaming else (1.0, 10.0)),
        threads=given["threads"] or (),
        batches=given["batch"],
        providers=given["provider"],
        provider_options=given["provider_option"],
        power=given["power"],
        scenarios=given["scenario"],
        driver="loadgen" if given["loadgen"] else "w2v-edge",
        block_ms=given["block_ms"],
    )
    check_used(budgets, make_cases(open_bundles(bundles), matrix))
    settings = replace(
        DEFAULT_SETTINGS,
        steady_s=given["steady"],
        precision=given["precision"],
        time_s=given["time_s"],
    )
    with progress("bench") as show:
        return benchmark(
            bundles,
            matrix,
            settings,
            audio=given["audio"],
            rounds=given["rounds"],
            profile=given["profile"],
            command=shlex.join(["w2v-edge", *sys.argv[1:]]),
            show=show,
        )


def _reclaim(
    bundles: tuple[Path, ...], given: dict[str, Any]
) -> tuple[tuple[Path, ...], dict[str, Any]]:
    """Take a folder behind `--json` for the bundle that it is, and not for a file to write."""
    for name in ("json_file", "markdown_file"):
        if given[name] not in {None, "-"} and Path(given[name]).is_dir():
            bundles = (*bundles, Path(given[name]))
            given = given | {name: "-"}
    return bundles, given


def _refuse_unwritable(paths: list[str | Path]) -> None:
    """Raise before any work for outputs that could not be written after it."""
    from w2v_edge.files import refuse_unwritable

    if sum(str(path) == "-" for path in paths) > 1:
        raise InputError("found two reports for standard output; name a file for one of them")
    files = [Path(path) for path in paths if str(path) != "-"]
    if len({path.absolute() for path in files}) < len(files):
        raise InputError("found one file for two reports; name another one")
    for path in files:
        refuse_unwritable(path)


def _print(report: BenchmarkReport, outputs: dict[str, Any], checks: list[Check]) -> None:
    from w2v_edge.latency.report.terminal import print_report
    from w2v_edge.latency.report.wording import labels_of

    print_report(report, console())
    if checks:
        names = labels_of([check.case for check in checks])
        rows = [
            (
                check.budget.text,
                name,
                check.found,
                ("met" if check.met else "missed") + ("" if check.sure else ", not surely"),
            )
            for name, check in zip(names, checks, strict=True)
        ]
        print_table("budgets", ("budget", "case", ">found", ""), rows)
    for path in outputs.values():
        if path:
            console().print(f"written: {path}")


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

"""`w2v-edge fit`: choose bundle, threads and window by budgets and by similarity of outputs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge import strict
from w2v_edge.cli.measuring_options import (
    audio_option,
    block_option,
    check_reports_writable,
    graph_option,
    providers_option,
    report_option,
    threads_tried_option,
    time_option,
    windows_option,
)
from w2v_edge.cli.on import OnDevices, audio_tree, bundle_tree, remote_verb
from w2v_edge.cli.options import POSITIVE, json_option, list_option, power_option
from w2v_edge.cli.output import console, print_json, progress, require, to_json
from w2v_edge.errors import BudgetError, InputError

if TYPE_CHECKING:
    from w2v_edge.latency.fit.choice import Fit


def _on_device(devices: OnDevices) -> None:
    """Fit on another device; what it prints and writes comes back."""
    if len(devices.addresses) > 1:
        raise click.UsageError("--on applies once to fit; compare devices with bench.")
    for error in devices.run([devices.call]).values():
        raise error


@remote_verb(
    "fit",
    short_help="Choose a bundle and threads by budgets.",
    inputs={"bundles": bundle_tree, "audio": audio_tree},
    outputs=("reports_to",),
    on=_on_device,
)
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    required=True,
    metavar="METRIC<LIMIT[@SECONDS]",
    help="Limit as of bench, such as 'p99<50ms@0.5s', 'rss<150MB', 'install<200MB'; may be "
    "repeated. Lengths that it names are measured.",
)
@list_option(
    "--seconds",
    of=POSITIVE,
    show_default="lengths that budgets name, else 1,10",
    help="Further lengths of audio.",
)
@threads_tried_option("Numbers of threads to choose from.")
@providers_option("Execution providers to choose from")
@graph_option
@click.option(
    "--scenario",
    type=click.Choice(("single", "streaming")),
    default="single",
    help="single: whole utterances; streaming: blocks at real-time pace.",
)
@block_option
@windows_option
@power_option
@audio_option
@time_option(120, "at least five rounds are run")
@report_option("json", "html")
@json_option
def command(bundles: tuple[Path, ...], **given: Any) -> None:
    """Choose among BUNDLES of one checkpoint, and threads, by budgets on this device.

    Bundles of other precisions, or cut at other layers (export --layer), are the choices. Each is
    measured with each number of threads, and each window of streams; nothing is interpolated. The
    choice meets all budgets with the whole interval of its figures, and is the most like the most
    exact bundle: by the cosine of the context in the worst decile of frames, or by the share of
    equal codes. Points whose verdict is unclear are measured on while the time lasts, if they would
    be better.

    The exit code is 5 if no point surely meets all budgets; the nearest one is named.

    \b
    w2v-edge fit ckpt-fp32 ckpt-int8 --budget 'p99<50ms@0.5s' --budget 'rss<150MB'
    w2v-edge fit ckpt-fp32 ckpt-int8 --budget 'p99<50ms@1s' --on pi@pi4
    """  # noqa: D301 - the escape is click's
    require("measuring", "cpu", "audio", "cli")
    check_reports_writable(given["reports_to"])
    found = _fit(bundles, given)
    _give(found, given)
    from w2v_edge.latency.report.fit_page import conclusion

    if found.nearest is None:
        raise InputError(conclusion(found))
    if found.choice is None:
        raise BudgetError(conclusion(found))


def _fit(bundles: tuple[Path, ...], given: dict[str, Any]) -> Fit:
    from w2v_edge.latency.budget import Budget
    from w2v_edge.latency.fit.fit import fit
    from w2v_edge.latency.measure.plan import Matrix

    try:
        budgets = [Budget.parse(text) for text in given["budgets"]]
    except InputError as error:
        raise click.BadParameter(str(error), param_hint="'--budget'") from error
    matrix = Matrix(
        graphs=(given["graph"],),
        seconds=given["seconds"],
        threads=given["threads"] or _threads(given),
        providers=given["provider"],
        power=given["power"],
        scenarios=(given["scenario"],),
        block_ms=given["block_ms"],
        windows=given["windows"],
    )
    with progress("fit") as show:
        return fit(
            bundles,
            budgets,
            matrix,
            time_s=given["time_s"],
            audio=given["audio"],
            command=shlex.join(["w2v-edge", *sys.argv[1:]]),
            show=show,
        )


def _threads(given: dict[str, Any]) -> tuple[int, ...]:
    """Return the numbers of threads that `tune` tries, and the default one."""
    from w2v_edge.latency.tuning.parameters import session_parameters
    from w2v_edge.providers import default_threads

    if given["power"] == "low":
        return (1,)
    tried = [x.values for x in session_parameters(given["provider"][0]) if x.name == "threads"]
    others = [int(value) for values in tried for value in values]
    return tuple(sorted({default_threads(), *others}))


def _give(found: Fit, given: dict[str, Any]) -> None:
    """Write and print a fit."""
    from w2v_edge.latency.report import wording
    from w2v_edge.latency.report.files import write
    from w2v_edge.latency.report.fit_page import conclusion, fit_page, fit_table
    from w2v_edge.latency.report.terminal import show_table

    for path, name in given["reports_to"]:
        write(path, fit_page(found) if name == "html" else to_json(strict.to_plain(found)) + "\n")
    if given["as_json"]:
        print_json(found)
        return
    show_table(console(), fit_table(found))
    say = console().print
    for remark in found.remarks:
        say(f"note: {wording.clean(remark)}")
    if found.choice is not None:
        point = found.points[found.choice]
        window = ", ".join(f"{x:g}" for x in point.window)
        stream = f".stream(context=w2v_edge.Window({window}))" if window else ""
        say(f"chosen: {conclusion(found)}")
        say(
            f"use it: w2v_edge.load({point.bundle!r}, provider={point.provider!r}, "
            f"threads={point.threads}){stream}",
            soft_wrap=True,
        )
    for path, _ in given["reports_to"]:
        say(f"written: {path}", soft_wrap=True)

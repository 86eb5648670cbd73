"""`w2v-edge tune`: find the fastest runtime settings for this device."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from w2v_edge import strict
from w2v_edge.cli.measuring_options import audio_option, threads_tried_option, time_option
from w2v_edge.cli.options import POSITIVE, PROVIDER, json_option, list_option, verb
from w2v_edge.cli.output import console, print_json, print_table, progress, require

if TYPE_CHECKING:
    from w2v_edge.latency.report.records import Estimate
    from w2v_edge.latency.tuning.tune import TuningOutcome


@verb("tune", short_help="Find the fastest settings for this device.")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--provider",
    type=PROVIDER,
    default="cpu",
    help=f"Execution provider of onnxruntime: {PROVIDER.listed}.",
)
@click.option(
    "--graph",
    type=click.Choice(("encoder", "tokenizer")),
    default="encoder",
    help="Graph to optimise for.",
)
@click.option(
    "--scenario",
    type=click.Choice(("single", "offline")),
    default="single",
    help="single: latency of one utterance, then batches for lists; offline: batches only.",
)
@list_option(
    "--seconds",
    of=POSITIVE,
    default="1,10",
    help="Lengths of single utterances, which count equally.",
)
@threads_tried_option("Thread counts to try besides the default, the cores that are fast.")
@audio_option
@time_option(120, "settings that do not fit are listed as not tried")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    show_default="a user file, which load(..., tuned=True) finds",
    help="File to write, for load(..., tuned=FILE).",
)
@click.option("--dry-run", is_flag=True, help="Write nothing.")
@json_option
def command(bundle: Path, output: Path | None, dry_run: bool, as_json: bool, **given: Any) -> None:
    """Find the fastest settings for BUNDLE on this device; `load(..., tuned=True)` uses them.

    Tries thread counts, spinning, the block size of parallel work, provider options, the audio per
    batch for lists, and on ARM64 onnxruntime without KleidiAI; never settings that make results
    less exact, such as products in bfloat16. The tile length is part of
    the exported graph and is not tuned.

    Candidates and the best settings so far are measured side by side, each in its own process. A
    candidate is accepted only if fresh rounds confirm it (95 %, at least 1 %), and the accepted
    settings are measured against the defaults once more. Otherwise the defaults stay.

    \b
    w2v-edge tune ckpt-fp32
    w2v-edge tune ckpt-int8 --graph tokenizer --seconds 1 --time 60
    """  # noqa: D301 - the escape is click's
    require("measuring", "cpu", "audio", "cli")
    from w2v_edge.bundle import Bundle
    from w2v_edge.files import check_writable
    from w2v_edge.latency.tuning.tune import TuningRequest, tune
    from w2v_edge.providers.tuned import describe, usual_path, write_tuning

    path = output or usual_path(Bundle.open(bundle).manifest, given["provider"])
    if not dry_run:
        check_writable(path, make=output is None)
    wanted = TuningRequest(
        provider=given["provider"],
        graph=given["graph"],
        seconds=given["seconds"],
        threads=given["threads"],
        scenario=given["scenario"],
        time_s=given["time_s"],
    )
    with progress("tune") as show:
        outcome = tune(bundle, wanted, audio=given["audio"], show=show)
    written = None if dry_run else path
    if written is not None:
        created = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
        found = describe(outcome.manifest, wanted.provider, outcome.tuning, outcome.gains, created)
        write_tuning(written, found)
    if as_json:
        plain = strict.to_plain(outcome)
        del plain["manifest"]
        print_json(plain | {"written": written and str(written)})
    else:
        _print(outcome, written, default=output is None)


def _print(outcome: TuningOutcome, written: Path | None, *, default: bool) -> None:
    from w2v_edge.providers.tuning import Tuning

    print_table(
        "tried: speed relative to the best so far; intervals are 95 %",
        ("timed", "setting", "value", ">first look", ">fresh rounds", "result"),
        (
            (x.what, x.knob, x.value, _times(x.explored), _ratio(x.confirmed), x.result)
            for x in outcome.attempts
        ),
    )
    say = console().print
    for attempt in outcome.attempts:
        if attempt.detail:
            say(f"{attempt.knob} {attempt.value}: {attempt.detail}", soft_wrap=True)
    if any(attempt.result == "no time" for attempt in outcome.attempts):
        enough = 10 * int(outcome.enough_s / 10 + 1)
        say(f"not everything could be tried in the time; to try all: --time {enough}")
    chosen = {
        key: value
        for key, value in strict.to_plain(outcome.tuning).items()
        if value != getattr(Tuning(), key)
    }
    if chosen:
        say(f"chosen: {', '.join(f'{key} {value}' for key, value in chosen.items())}")
    else:
        say("chosen: the defaults; no candidate was faster")
    for gain in outcome.gains:
        verdict = "; slower than with the defaults" if gain.high < 1 else ""
        say(
            f"{gain.what}: {gain.times:.3g} times as fast as with the defaults "
            f"({gain.low:.3g} to {gain.high:.3g}, {gain.rounds} fresh rounds){verdict}"
        )
    if written is not None:
        use = "True" if default else f"{str(written)!r}"
        say(f"written: {written}", soft_wrap=True)
        say(f"use it: w2v_edge.load(..., tuned={use})", soft_wrap=True)


def _times(found: float | None) -> str:
    return "" if found is None else f"{found:.3f}"


def _ratio(found: Estimate | None) -> str:
    return f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})" if found else ""

"""Report files: written atomically in the format of their suffix, validated when read.

Programs that measure without this package write raw figures only; statistics and disturbances of
their reports are computed here, so that there is one way to compute them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from w2v_edge import strict
from w2v_edge.errors import ConfigError, InputError
from w2v_edge.files import open_regular, replacing
from w2v_edge.latency.device.disturbances import find_disturbances, unstable
from w2v_edge.latency.report.machine_records import Conditions
from w2v_edge.latency.report.records import (
    FORMAT,
    VERSION,
    BenchmarkReport,
    CaseResult,
    Trial,
)
from w2v_edge.latency.statistics import query_audio_s, summarise

FORMATS = {
    ".json": "json",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".prom": "openmetrics",
}
"""Format of a report by the suffix of its file."""

READABLE = (1, VERSION)
"""Versions that are read. Version 1 lacks keys that have a default in `BenchmarkReport`."""

EXPECTED = "expected a report written by w2v-edge bench --report FILE.json"

MAX_BYTES = 2**28
MAX_FIGURE = 1e12
"""Bound of times in ms (30 years) and of memory in MB."""


def check_suffix(path: Path) -> str:
    """Return the suffix of a report's path in lower case.

    Raises:
        InputError: it is not one of `FORMATS`.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"{path}: found suffix {suffix!r:.20}, expected {' or '.join(FORMATS)}; "
            "rename the report"
        )
    return suffix


def render_report(report: BenchmarkReport, suffix: str) -> str:
    """Return a report as text in the format of a suffix of `FORMATS`."""
    from w2v_edge.latency.report.html import page
    from w2v_edge.latency.report.markdown import markdown
    from w2v_edge.latency.report.openmetrics import openmetrics

    def metrics(report: BenchmarkReport) -> str:
        return openmetrics({report.device.identity: report})

    made = {"json": to_json, "markdown": markdown, "html": page, "openmetrics": metrics}
    return made[FORMATS[suffix]](report)


def write_report(report: BenchmarkReport, path: Path) -> None:
    """Write a report as JSON, Markdown, an HTML page with charts, or OpenMetrics.

    Args:
        report: the report.
        path: the file; its suffix selects the format, see `FORMATS`.

    Raises:
        InputError: another suffix, or a figure that is not finite.
    """
    write(path, render_report(report, check_suffix(path)))


def to_json(report: BenchmarkReport) -> str:
    """Return a report as one JSON document.

    Raises:
        InputError: a figure is not finite, which JSON cannot represent.
    """
    return dumps(strict.to_plain(report)) + "\n"


def dumps(plain: Mapping[str, Any], **options: Any) -> str:
    """Return valid JSON.

    Args:
        plain: dicts, lists and scalars.
        options: of `json.dumps`.

    Raises:
        InputError: a figure is not finite, which JSON cannot represent.
    """
    try:
        return json.dumps(plain, allow_nan=False, **options)
    except ValueError as error:
        raise InputError(f"found a non-finite figure ({error}); measure again") from error


def write(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_report(path: Path) -> BenchmarkReport:
    """Read and validate a JSON report, and complete one of raw figures.

    Raises:
        InputError: the file is missing, has another format or holds impossible figures.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(MAX_BYTES)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no file; {EXPECTED}") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; {EXPECTED}") from error
    return parse_report(content, path)


def parse_report(content: bytes, where: Path | str) -> BenchmarkReport:
    """Validate a JSON report, and complete one of raw figures.

    Args:
        content: JSON.
        where: its file or name, for errors.

    Raises:
        InputError: it has another format or holds impossible figures.
    """
    try:
        data = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON; {EXPECTED}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{where}: not a latency report; {EXPECTED}")
    if data.get("version") not in READABLE:
        raise InputError(
            f"{where}: format version {data.get('version')!r:.20}, expected {VERSION} or 1; "
            "use the release of w2v-edge that wrote it, or measure again"
        )
    try:
        report = strict.from_plain(BenchmarkReport, data | {"version": VERSION})
    except (ConfigError, RecursionError) as error:
        raise InputError(f"{where}: {error}; {EXPECTED}") from error
    _validate(where, report)
    return _completed(report)


def _completed(report: BenchmarkReport) -> BenchmarkReport:
    """Return the report with statistics of all its cases."""
    if not any(map(_is_raw, report.cases)):
        return report
    cores = len(report.device.cpu.affinity) or report.device.cpu.usable_cores
    samples = report.conditions.samples
    conditions = Conditions(samples, find_disturbances(samples, cores))
    cases = (
        replace(
            x,
            summary=summarise(x.case, x.trials, seed=report.settings.seed),
            unstable=unstable(x.trials, conditions),
        )
        if _is_raw(x)
        else x
        for x in report.cases
    )
    return replace(report, conditions=conditions, cases=tuple(cases))


def _is_raw(result: CaseResult) -> bool:
    return bool(result.trials) and not result.summary and not result.failure


def _validate(where: Path | str, report: BenchmarkReport) -> None:
    """Check the figures from which ratios and logarithms are computed."""
    names = {bundle.name for bundle in report.bundles}
    for result in report.cases:
        if result.case.bundle not in names:
            raise InputError(
                f"{where}: a case refers to a bundle that is not listed; measure again"
            )
        if result.summary and not result.trials:
            raise InputError(f"{where}: a case has a summary but no trials; measure again")
        if not all(map(_is_plausible, result.trials)):
            raise InputError(f"{where}: a trial has impossible times; measure again")
        if not all(_is_positive(x.p50_ms) and _is_positive(x.at_s) for x in result.drift):
            raise InputError(f"{where}: a drift has impossible times; measure again")
        if _is_raw(result) and not _is_positive(query_audio_s(result.case, result.trials)):
            raise InputError(f"{where}: a case has queries without audio; measure again")


def _is_plausible(trial: Trial) -> bool:
    positive = (trial.steady_s, trial.audio_s, *trial.latencies_ms, *trial.reference_ms)
    others = (
        trial.start_ms,
        trial.import_ms,
        trial.load_ms,
        trial.first_ms,
        trial.loaded_mb or 0.0,
        trial.peak_mb or 0.0,
        *trial.warm_up_ms,
    )
    return (
        bool(trial.latencies_ms)
        and all(map(_is_positive, positive))
        and all(0 <= x < MAX_FIGURE for x in others)
    )


def _is_positive(figure: float) -> bool:
    return 1 / MAX_FIGURE < figure < MAX_FIGURE


def _refuse(constant: str) -> float:
    raise ValueError(constant)

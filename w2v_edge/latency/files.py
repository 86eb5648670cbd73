"""Reports on disk: written whole or not at all, read only if they are what they claim."""

from __future__ import annotations

import json
from pathlib import Path

from w2v_edge import strict
from w2v_edge.errors import ConfigError, InputError
from w2v_edge.files import open_regular, replacing
from w2v_edge.latency.report import FORMAT, VERSION, Report, Trial

MOST_BYTES = 2**28
MOST = 1e12
"""Of a time in ms, or of megabytes: 30 years, and more than there is."""


def to_json(report: Report) -> str:
    """Write a report as one JSON document."""
    return json.dumps(strict.to_plain(report), allow_nan=False) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_report(path: Path) -> Report:
    """Read a report.

    Raises:
        InputError: there is none, or of another format, or with figures that no benchmark gives.
    """
    expected = "expected a report that w2v-edge bench --json wrote"
    try:
        with open_regular(path) as stream:
            data = json.loads(stream.read(MOST_BYTES), parse_constant=_refuse)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no file; {expected}") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; {expected}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON; {expected}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{path}: not a latency report; {expected}")
    if data.get("version") != VERSION:
        raise InputError(
            f"{path}: format version {data.get('version')!r:.20}, expected {VERSION}; "
            "use the release of w2v-edge that wrote it, or measure again"
        )
    try:
        report = strict.from_plain(Report, data)
    except (ConfigError, RecursionError) as error:
        raise InputError(f"{path}: {error}; {expected}") from error
    _check(path, report)
    return report


def _check(path: Path, report: Report) -> None:
    """Refuse figures that are none: ratios and logarithms are taken of them."""
    names = {bundle.name for bundle in report.bundles}
    for result in report.cases:
        if result.case.bundle not in names:
            raise InputError(f"{path}: a case of a bundle that is not listed; measure again")
        if result.summary and not result.trials:
            raise InputError(f"{path}: a case with figures but no trials; measure again")
        for trial in result.trials:
            if not _plausible(trial):
                raise InputError(f"{path}: a trial with times that are none; measure again")


def _plausible(trial: Trial) -> bool:
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
        and all(1 / MOST < x < MOST for x in positive)
        and all(0 <= x < MOST for x in others)
    )


def _refuse(constant: str) -> float:
    raise ValueError(constant)

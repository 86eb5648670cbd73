"""`w2v-edge bench --on`: measure on other devices, and bring their reports together."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from w2v_edge.cli.on import OnDevices
from w2v_edge.cli.output import console

if TYPE_CHECKING:
    from w2v_edge.latency.report.records import BenchmarkReport

REPORT = "report.json"


def measure_on(devices: OnDevices) -> tuple[dict[str, BenchmarkReport], list[Exception]]:
    """Measure on all devices at the same time.

    Returns:
        The reports by device, and the errors of the devices without one.
    """
    from w2v_edge.latency.report.files import read_report

    verb, *arguments = devices.call.arguments
    with tempfile.TemporaryDirectory() as folder:
        pulled = {name: Path(folder) / f"{i}.json" for i, name in enumerate(devices.names)}
        calls = [
            replace(
                devices.call,
                arguments=[verb, f"--report={REPORT}", *arguments],
                outputs={REPORT: path},
            )
            for path in pulled.values()
        ]
        errors = devices.run(calls, quiet=True)
        reports = {name: read_report(path) for name, path in pulled.items() if path.is_file()}
    named = {name: replace(x, command=devices.command(name)) for name, x in reports.items()}
    # A report with cases that failed says so itself.
    return named, [error for name, error in errors.items() if name not in named]


def file_of(path: Path, name: str) -> Path:
    """Return the file for the report of one device of several."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip("-")
    return path.with_name(f"{path.stem}-{safe}{path.suffix}")


def print_side_by_side(reports: dict[str, BenchmarkReport]) -> None:
    """Print the medians of all devices, with ratios to the first one."""
    from w2v_edge.latency.report.fleet import make_fleet
    from w2v_edge.latency.report.fleet_page import fleet_tables
    from w2v_edge.latency.report.terminal import show_table

    console().print()
    for table in fleet_tables(make_fleet(reports), ("p50",)):
        show_table(console(), table)

"""Reports as OpenMetrics text, for monitors and CI (OpenMetrics 1.0, openmetrics.io)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from w2v_edge.latency.report.fleet import Fleet, FleetResult, make_fleet
from w2v_edge.latency.report.records import BenchmarkReport, Estimate
from w2v_edge.latency.report.wording import case_fields, case_words, clean

Labels = dict[str, str]

SECONDS, BYTES, JOULES, WATTS, RATIO = "seconds", "bytes", "joules", "watts", "ratio"
FACTORS = {SECONDS: 1e-3, BYTES: 1e6, JOULES: 1.0, WATTS: 1.0, RATIO: 1.0}
"""From the unit of a metric, such as ms, to the base unit of OpenMetrics."""


@dataclass
class Family:
    """A family of metrics.

    Attributes:
        name: name, which ends in the unit.
        unit: base unit.
        help: description.
        metrics: metrics of a fleet by the value of the label `label`.
        label: label that tells these metrics apart; empty for a single one.
        samples: labels and values.
    """

    name: str
    unit: str
    help: str
    metrics: Mapping[str, str]
    label: str = ""
    samples: list[tuple[Labels, float]] = field(default_factory=list)


def families() -> list[Family]:
    """Return the families of figures, without samples."""
    percentiles = {x: x for x in ("p50", "p90", "p95", "p99", "max")}
    return [
        Family("w2v_edge_latency_seconds", SECONDS, "Latency of a query.", percentiles,
               "percentile"),
        Family("w2v_edge_start_seconds", SECONDS, "Time of a stage before the steady state.",
               {"import": "import", "load": "load", "first_query": "first", "all": "cold"},
               "stage"),
        Family("w2v_edge_peak_memory_bytes", BYTES, "Peak resident memory.", {"": "rss"}),
        Family("w2v_edge_read_bytes", BYTES, "Bytes read until the model was loaded.",
               {"": "read"}),
        Family("w2v_edge_install_bytes", BYTES, "Size of a minimal installation.",
               {"": "install"}),
        Family("w2v_edge_speed_ratio", RATIO, "Seconds of audio per second, one query at a time.",
               {"": "speed"}),
        Family("w2v_edge_throughput_ratio", RATIO, "Seconds of audio per second.",
               {"": "throughput"}),
        Family("w2v_edge_energy_per_audio_second_joules", JOULES, "Energy per second of audio.",
               {"": "energy"}),
        Family("w2v_edge_power_watts", WATTS, "Mean power in the steady state.", {"": "power"}),
        Family("w2v_edge_missed_blocks_ratio", RATIO, "Blocks of a stream that were late.",
               {"": "missed"}),
    ]  # fmt: skip


def openmetrics(reports: Mapping[str, BenchmarkReport]) -> str:
    """Return reports as OpenMetrics text.

    Args:
        reports: by the name of the device.
    """
    fleet = make_fleet(reports)
    lines: list[str] = []
    for family in families():
        for result in fleet.results:
            family.samples += _samples(fleet, result, family)
        if family.samples:
            lines += _head(family.name, "gauge", family.help, family.unit)
            lines += [_line(family.name, *sample) for sample in family.samples]
    for name, words, truth in (
        ("w2v_edge_failed", "Whether a case has no figures.", lambda x: bool(x.failure)),
        ("w2v_edge_disturbed", "Whether something disturbed a case.", lambda x: x.disturbed),
    ):
        lines += _head(name, "gauge", words)
        lines += [_line(name, _labels(fleet, x), float(truth(x))) for x in fleet.results]
    lines += _head("w2v_edge_report_timestamp_seconds", "gauge", "Start of the run.", SECONDS)
    for device in fleet.devices:
        at = _timestamp(device.created)
        if at is not None:
            where = {"device": device.name}
            lines.append(_line("w2v_edge_report_timestamp_seconds", where, at))
    lines += _head("w2v_edge_device", "info", "The device.")
    lines += [
        _line(
            "w2v_edge_device_info",
            {
                "device": x.name,
                "identity": x.identity,
                "processor": x.processor,
                "architecture": x.architecture,
                "system": x.system,
                "onnxruntime": x.onnxruntime,
            },
            1.0,
        )
        for x in fleet.devices
    ]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _samples(fleet: Fleet, result: FleetResult, family: Family) -> Iterator[tuple[Labels, float]]:
    """Yield the samples of a family for one result: the figure and the ends of its interval."""
    for value, metric in family.metrics.items():
        found = result.figures.get(metric)
        if found is not None:
            labels = _labels(fleet, result) | ({family.label: value} if family.label else {})
            yield from _ends(labels, found, FACTORS[family.unit])


def _ends(labels: Labels, found: Estimate, factor: float) -> Iterator[tuple[Labels, float]]:
    yield labels | {"estimate": "value"}, factor * found.value
    if found.low != found.high:
        yield labels | {"estimate": "low"}, factor * found.low
        yield labels | {"estimate": "high"}, factor * found.high


def _labels(fleet: Fleet, result: FleetResult) -> Labels:
    """Return the labels of a result: the device, and each field of the case."""
    case = fleet.cases[result.case]
    words = case_words(case) | {
        "seconds": f"{case.seconds:g}",
        "block_ms": f"{case.block_ms:g}",
        "batch": str(case.batch),
        "threads": str(result.threads),
        "power": case.power,
    }
    return {"device": result.device} | {x: words[x] for x in case_fields() if words[x]}


def _head(name: str, kind: str, words: str, unit: str = "") -> list[str]:
    made = [f"# TYPE {name} {kind}"]
    return [*made, *([f"# UNIT {name} {unit}"] if unit else []), f"# HELP {name} {words}"]


def _line(name: str, labels: Labels, value: float) -> str:
    pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{pairs}}} {value!r}"


def _escaped(text: str) -> str:
    return clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _timestamp(created: str) -> float | None:
    try:
        return dt.datetime.fromisoformat(created).timestamp()
    except ValueError:
        return None

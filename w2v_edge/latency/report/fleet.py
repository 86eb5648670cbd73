"""Reports of several devices as one document, for tables, pages and dashboards.

Its JSON has a version of its own, and a schema: `w2v-edge compare --schema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from w2v_edge.latency.budget import METRICS, estimate_of
from w2v_edge.latency.report.records import BenchmarkCase, BenchmarkReport, CaseResult, Estimate
from w2v_edge.latency.report.wording import failure
from w2v_edge.latency.statistics import summarise

FORMAT: Final = "w2v-edge-fleet"
VERSION: Final = 1

UNITS = {name: "" if unit in {"%", "x"} else unit for name, (unit, *_) in METRICS.items()}
"""Unit of each metric; shares are fractions, MB are 10^6 bytes."""


@dataclass(frozen=True)
class FleetDevice:
    """A device.

    Attributes:
        name: name of the device, unique in the document.
        identity: hash of what makes the device, as in its report.
        processor: model of its processor.
        architecture: such as `x86_64` or `aarch64`.
        cores: cores that the benchmark could keep busy.
        memory_mb: memory of the device, in 10^6 bytes; null if it is not reported.
        system: operating system.
        onnxruntime: version of onnxruntime.
        created: start of its benchmark, ISO 8601, in UTC.
        price: its price, in the currency of all prices; null if it was not given.
    """

    name: str
    identity: str
    processor: str
    architecture: str
    cores: int
    memory_mb: float | None
    system: str
    onnxruntime: str
    created: str
    price: float | None


@dataclass(frozen=True)
class FleetResult:
    """The figures of one case on one device.

    Attributes:
        device: name of the device.
        case: index of the case in the document's list.
        threads: threads on this device.
        figures: figures by metric, in the document's units; metrics without a figure are absent,
            and the ends of a figure without an interval are equal to it.
        disturbed: whether something disturbed the trials.
        failure: reason why there are no figures; empty otherwise.
    """

    device: str
    case: int
    threads: int
    figures: dict[str, Estimate]
    disturbed: bool
    failure: str


@dataclass(frozen=True)
class Fleet:
    """Reports of several devices.

    Attributes:
        format: always `w2v-edge-fleet`.
        version: version of the format; it changes when a key changes its meaning or goes away.
        units: unit of each metric; empty for plain numbers and fractions.
        devices: the devices, in the order given.
        cases: the cases of all devices. If each device has one number of threads, that of a case is
            the first device's.
        results: a result for each case that a device has.
    """

    format: Literal["w2v-edge-fleet"]
    version: Literal[1]
    units: dict[str, str]
    devices: tuple[FleetDevice, ...]
    cases: tuple[BenchmarkCase, ...]
    results: tuple[FleetResult, ...]


def make_fleet(
    reports: Mapping[str, BenchmarkReport], prices: Mapping[str, float] | None = None
) -> Fleet:
    """Bring reports together; bundles are matched by name.

    Args:
        reports: by the name of the device.
        prices: prices of devices by name, in one currency.
    """
    single = all(len({x.case.threads for x in r.cases}) <= 1 for r in reports.values())
    cases: dict[str, BenchmarkCase] = {}
    results = []
    for name, report in reports.items():
        for result in report.cases:
            key = repr(replace(result.case, threads=0) if single else result.case)
            cases.setdefault(key, result.case)
            results.append(_result(name, list(cases).index(key), result, report.settings.seed))
    devices = tuple(_device(x, y, (prices or {}).get(x)) for x, y in reports.items())
    return Fleet(FORMAT, VERSION, UNITS, devices, tuple(cases.values()), tuple(results))


def _device(name: str, report: BenchmarkReport, price: float | None) -> FleetDevice:
    it = report.device
    return FleetDevice(
        name,
        it.identity,
        it.cpu.model,
        it.cpu.architecture,
        it.cpu.usable_cores,
        it.memory_mb,
        it.system,
        it.onnxruntime,
        report.created,
        price,
    )


def _result(name: str, case: int, result: CaseResult, seed: int) -> FleetResult:
    if result.summary:
        # All statistics are computed in one way, whatever release wrote the report.
        result = replace(result, summary=summarise(result.case, result.trials, seed=seed))
    found = {metric: estimate_of(metric, result) for metric in METRICS}
    return FleetResult(
        name,
        case,
        result.case.threads,
        {metric: x for metric, x in found.items() if x is not None},
        bool(result.unstable),
        failure(result),
    )

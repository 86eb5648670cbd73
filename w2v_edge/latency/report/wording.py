"""Texts of a report: labels of cases, figures with units, the device, the conditions."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence

from w2v_edge.latency.report.machine_records import Disturbance, MachineSample
from w2v_edge.latency.report.records import (
    BenchmarkCase,
    BenchmarkReport,
    CaseResult,
    Estimate,
)
from w2v_edge.latency.statistics import CORRELATION

SCALES: Mapping[str, tuple[tuple[float, str], ...]] = {
    "ms": ((1e-3, "µs"), (1.0, "ms"), (1e3, "s")),
    "MB": ((1.0, "MB"), (1e3, "GB")),
    "J": ((1e-3, "mJ"), (1.0, "J"), (1e3, "kJ")),
    "W": ((1e-3, "mW"), (1.0, "W"), (1e3, "kW")),
}
"""Scales of a unit, smallest first."""

NOT_AVAILABLE = "not available"
MAX_LINES = 12
"""Disturbances that are listed one by one."""

KEY_METRICS = {"single": "p90", "multi": "p99", "offline": "throughput", "streaming": "p99"}
"""The metric of each scenario, as in MLPerf; for streaming, the miss rate counts too."""

TIMES = "\N{MULTIPLICATION SIGN}"

NO_BREAK = "\N{NO-BREAK SPACE}"
NUMBER_AND_UNIT = re.compile(r"(?<=\d) (?=(?:µs|us|ms|s|threads?)\b)")
"""The space between a number and its unit in a label."""

MAX_NAMES = 3
"""Cases that are listed by name."""

FACTS = (
    (
        "Brackets are 95 % confidence intervals over processes: they include the variation from "
        "process to process, and assume that consecutive processes are correlated "
        f"({CORRELATION:g})."
    ),
    (
        "The interval of a maximum, or of p99 with fewer than 100 queries, predicts another run of "
        "this length; it is not a worst-case bound."
    ),
    (
        "Percentiles are nearest ranks: of 30 queries, p99 is the largest. Bold is the key metric "
        "of the scenario."
    ),
    "Energy is that of all components the counter covers, which is more than this process.",
)


def keep_units(text: str) -> str:
    """Return a text that is not broken between a number and its unit."""
    return NUMBER_AND_UNIT.sub(NO_BREAK, text)


def clean(text: str) -> str:
    """Escape characters that would control a terminal or reorder a line."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def figure(value: float | None, unit: str = "") -> str:
    """Format a figure with three digits in a suitable unit, such as `3.55 ms`."""
    if value is None:
        return NOT_AVAILABLE
    factor, name = _scale(value, unit)
    return f"{_digits(value / factor)} {name}".rstrip()


def interval(estimate: Estimate | None, unit: str = "") -> str:
    """Format an estimate with its interval, such as `3.55 [3.48, 3.61] ms`."""
    if estimate is None:
        return NOT_AVAILABLE
    factor, name = _scale(estimate.value, unit)
    value, low, high = (_digits(x / factor) for x in dataclasses.astuple(estimate))
    return f"{value} [{low}, {high}] {name}".rstrip()


def percent(share: float | None) -> str:
    """Format a fraction, such as `12.5 %`."""
    return NOT_AVAILABLE if share is None else f"{_digits(100 * share)} %"


def count(number: int, thing: str, several: str = "") -> str:
    """Format a count, such as `1 trial` and `2 trials`."""
    return f"{number} {thing}" if number == 1 else f"{number} {several or f'{thing}s'}"


def labels(report: BenchmarkReport, *, everything: bool = False) -> tuple[str, ...]:
    """Label each case by the fields that differ between cases, or by all fields."""
    return labels_of([result.case for result in report.cases], everything=everything)


def labels_of(cases: Sequence[BenchmarkCase], *, everything: bool = False) -> tuple[str, ...]:
    """Label these cases by the fields that differ between them, or by all fields."""
    words = [case_words(case) for case in cases]
    differing = {key for key in case_fields() if len({w[key] for w in words}) > 1}
    shown = set(case_fields()) if everything else differing or {"bundle", "graph", "seconds"}
    return tuple(_join({k: v for k, v in w.items() if k in shown}) for w in words)


def shared(report: BenchmarkReport) -> str:
    """Describe the fields that are equal in all cases; empty if there are none."""
    words = [case_words(result.case) for result in report.cases]
    same = {k: words[0][k] for k in case_fields() if words and len({w[k] for w in words}) == 1}
    return ", ".join(word for word in same.values() if word)


def case_fields() -> tuple[str, ...]:
    """Return the fields of a case in the order of labels."""
    return (
        "bundle graph seconds scenario block_ms window batch threads power provider "
        "provider_options driver"
    ).split()  # type: ignore[return-value]


def case_words(case: BenchmarkCase) -> dict[str, str]:
    """Return a self-explanatory text for each field of a case."""
    options = " ".join(f"{key}={value}" for key, value in case.provider_options.items())
    words = {
        "bundle": case.bundle,
        "graph": case.graph,
        "seconds": f"{case.seconds:g} s",
        "scenario": case.scenario,
        "block_ms": f"{case.block_ms:g} ms blocks" if case.block_ms else "",
        "window": window_words(case.window),
        "batch": f"batch {case.batch}",
        "threads": count(case.threads, "thread"),
        "power": f"{case.power} power" if case.power else "",
        "provider": case.provider.removesuffix("ExecutionProvider"),
        "provider_options": options,
        "driver": "LoadGen" if case.driver == "loadgen" else "",
    }
    return {key: clean(word) for key, word in words.items()}


def window_words(window: tuple[float, ...]) -> str:
    """Describe a window of attention; empty for the default."""
    parts = zip(("step", "left", "right"), window, strict=False)
    return f"window {','.join(f'{name}={x:g}' for name, x in parts)}" if window else ""


def device(report: BenchmarkReport) -> tuple[str, str]:
    """Describe the device in two lines: the machine and its software."""
    it = report.device
    cpu = it.cpu
    machine = [
        f"{cpu.model} ({cpu.architecture}), {cpu.usable_cores} of {count(cpu.cores, 'core')}",
        f"to {cpu.max_mhz / 1000:.2f} GHz" if cpu.max_mhz else "",
        f"governor {cpu.governor}" if cpu.governor else "",
        f"{figure(it.memory_mb, 'MB')} of memory" if it.memory_mb else "",
        f"limited to {figure(it.memory_limit_mb, 'MB')}" if it.memory_limit_mb else "",
        *(f"{gpu.name} (driver {gpu.driver})" for gpu in it.gpus),
        "virtual" if it.virtual else "",
        f"in {it.container}" if it.container else "",
    ]
    software = [
        it.system,
        f"Python {it.python}" if it.python else "",
        f"onnxruntime {it.onnxruntime}",
        *(f"{name} {version}" for name, version in it.packages.items() if name != "onnxruntime"),
    ]
    return _listed(machine), _listed(software)


def conditions(report: BenchmarkReport) -> tuple[str, ...]:
    """Describe whether the machine was quiet, its disturbances, and its state."""
    found = report.conditions.disturbances
    told = [_disturbance(report, d) for d in found[:MAX_LINES]]
    if len(found) > MAX_LINES:
        told.append(f"and {len(found) - MAX_LINES} more")
    first, *more = verdict(report)
    return (first, *told, *more, *_state(report.conditions.samples))


def verdict(report: BenchmarkReport) -> tuple[str, ...]:
    """Say whether the machine was quiet, then drifts and the limit of memory if there are any."""
    found = report.conditions.disturbances
    doubtful = sum(bool(result.unstable) for result in report.cases)
    if doubtful:
        quiet = f"Disturbed: {doubtful} of {count(len(report.cases), 'case')}."
    elif found:
        quiet = "Disturbed, but outside all trials."
    elif all(x.others is None for x in report.conditions.samples):
        quiet = "Unknown whether other load disturbed the benchmark: none was recorded."
    else:
        quiet = "Stable: nothing disturbed the benchmark."
    return (quiet, *_drifts(report), *_limited(report))


def _drifts(report: BenchmarkReport) -> Iterator[str]:
    """Describe how latency changed in long runs without a pause."""
    for label, result in zip(labels(report), report.cases, strict=True):
        if len(result.drift) > 1:
            first, last = result.drift[0], result.drift[-1]
            yield (
                f"Drift of {label}: median {figure(first.p50_ms, 'ms')} at first, "
                f"{figure(last.p50_ms, 'ms')} after {last.at_s:g} s without a pause "
                f"({100 * (last.p50_ms / first.p50_ms - 1):+.1f} %)."
            )


def unstable(report: BenchmarkReport) -> tuple[tuple[str, str], ...]:
    """Return the disturbed cases and the description of each disturbance."""
    cases: dict[str, list[str]] = {}
    for label, result in zip(labels(report), report.cases, strict=True):
        for why in result.unstable:
            cases.setdefault(clean(why), []).append(label)
    every = len(report.cases)
    return tuple(
        (f"all {every} cases" if 1 < len(names) == every else _some(names), why)
        for why, names in cases.items()
    )


def _some(names: list[str]) -> str:
    """List the first names and the number of further ones."""
    more = len(names) - MAX_NAMES
    return "; ".join(names) if more <= 1 else f"{'; '.join(names[:MAX_NAMES])} and {more} more"


def speedups(report: BenchmarkReport) -> tuple[str, ...]:
    """Say how many times as fast as the first bundle each other one is; see `compare_bundles`."""
    from w2v_edge.latency.compare_bundles import compare_bundles

    found = tuple(compare_bundles(report))
    bare = [dataclasses.replace(x.case, bundle="") for x in found]
    names = labels_of(bare) if len(set(map(repr, bare))) > 1 else [""] * len(bare)
    return tuple(
        ("~ " if pair.unstable else "")
        + clean(f"{name}: " if name else "")
        + f"{clean(pair.case.bundle)} {_speed(pair.speed)} {clean(pair.base)} "
        + f"[{_digits(pair.speed.low)}, {_digits(pair.speed.high)}]"
        for name, pair in zip(names, found, strict=True)
    )


def _speed(speed: Estimate) -> str:
    """Say how fast a bundle is, before the name of the other one."""
    if speed.low <= 1 <= speed.high:
        return f"has no clear difference in speed, {_digits(speed.value)} times that of"
    return f"is {_digits(speed.value)} times as fast as"


def failures(report: BenchmarkReport) -> tuple[tuple[str, str], ...]:
    """Return label and reason of each failed case."""
    pairs = zip(labels(report), report.cases, strict=True)
    return tuple((label, why) for label, result in pairs if (why := failure(result)))


def failure(result: CaseResult) -> str:
    """Return the reason why a case has no figures; empty if it has them."""
    if result.failure:
        return clean(result.failure)
    if result.summary is None:
        return "no figures: no trial was completed" if not result.trials else "no figures"
    return ""


def _disturbance(report: BenchmarkReport, found: Disturbance) -> str:
    names = []
    trials = 0
    for label, result in zip(labels(report), report.cases, strict=True):
        hit = [
            str(number)
            for number, trial in enumerate(result.trials, 1)
            if trial.begin_s <= found.end_s and trial.end_s >= found.begin_s
        ]
        trials += len(hit)
        if hit:
            names.append(f"{label}: trial {', '.join(hit)}")
    if 1 < trials == sum(len(result.trials) for result in report.cases):
        names = ["all trials"]
    more = f" and {count(len(names) - 3, 'case')} more" if len(names) > 3 else ""  # noqa: PLR2004
    during = f" ({'; '.join(names[:3])}{more})" if names else ""
    detail = clean(found.detail)
    return f"{found.begin_s:.1f} s to {found.end_s:.1f} s, {found.kind}: {detail}{during}"


def _state(samples: tuple[MachineSample, ...]) -> tuple[str, ...]:
    ranges = (
        ("mhz", "frequency", "MHz", 0),
        ("temperature_c", "temperature", "°C", 0),
        ("others", "other processes", "cores", 2),
        ("steal", "steal", "cores", 2),
        ("gpu_mhz", "GPU frequency", "MHz", 0),
        ("gpu_temperature_c", "GPU temperature", "°C", 0),
    )
    told = []
    for name, word, unit, decimals in ranges:
        found = [x for sample in samples if (x := getattr(sample, name)) is not None]
        if found:
            low, high = f"{min(found):.{decimals}f}", f"{max(found):.{decimals}f}"
            told.append(f"{word} {low if low == high else f'{low} to {high}'} {unit}")
    if any(sample.on_battery for sample in samples):
        told.append("on battery")
    return ("State: " + "; ".join(told) + ".",) if told else ()


def _limited(report: BenchmarkReport) -> tuple[str, ...]:
    """Say how the memory of trials was limited, if it was."""
    limit, how = report.settings.memory_limit_mb, report.settings.memory_limit_by
    if limit is None:
        return ()
    held = {
        "control group": "a control group held each trial to",
        "peak": "no control group could be made here; the peak of each trial was compared with",
    }
    return (
        f"Memory limit: {held.get(how, 'unknown whether anything held trials to')} {limit:.4g} MB.",
    )


def _listed(words: list[str]) -> str:
    return ", ".join(clean(word) for word in words if word)


def _join(words: dict[str, str]) -> str:
    """Join bundle, graph and length, then the other fields."""
    what = " ".join(words[k] for k in ("bundle", "graph", "seconds") if words.get(k))
    how = [word for k, word in words.items() if k not in {"bundle", "graph", "seconds"} and word]
    return ", ".join(x for x in (what, *how) if x) or "case"


def _scale(value: float, unit: str) -> tuple[float, str]:
    """Return the largest scale in which the rounded figure is at least 1."""
    scales = SCALES.get(unit, ((1.0, unit),))
    # 0.123 ms reads better than 123 µs; zero keeps the given unit.
    least = 0.0995 if unit == "ms" else 0.9995
    if not math.isfinite(value) or value == 0:
        return 1.0, unit
    fitting = [s for s in scales if abs(value) / s[0] >= (least if s[0] == 1 else 0.9995)]
    return fitting[-1] if fitting else scales[0]


def _digits(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    rounded = float(f"{value:.2e}")
    if rounded == 0:
        return "0"
    if abs(rounded) < 1e-4:  # noqa: PLR2004
        return f"{rounded:.2e}"
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"

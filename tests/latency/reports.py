"""Reports of many kinds from synthetic samples, for tests of renderers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from w2v_edge.latency.report.machine_records import (
    Conditions,
    Cpu,
    Device,
    Disturbance,
    Gpu,
    InstalledPart,
    MachineSample,
)
from w2v_edge.latency.report.records import (
    AudioRecord,
    BenchmarkCase,
    BenchmarkReport,
    BenchmarkSettings,
    BundleRecord,
    CaseResult,
    Estimate,
    Operator,
    Summary,
    Trial,
)

HOSTILE = (
    "<script>alert(1)</script x> | [bold]x[/bold] `a` ](http://x.y) \x1b[31m\n\u202e--> "
    "<!-- &amp; \"'"
)
CASE = BenchmarkCase(
    "tiny-fp32", "encoder", "CPUExecutionProvider", {}, 1, "normal", 1.0, 1, "single"
)
INSTALL = (
    InstalledPart("onnxruntime", "package", 80.0, needed=True),
    InstalledPart("encoder.onnx", "file", 12.0, needed=True),
    InstalledPart("click", "package", 1.0, needed=False),
)


def trials(
    case: BenchmarkCase, number: int, queries: int, seed: int = 0, base_ms: float = 0
) -> list[Trial]:
    """Return trials whose queries are log-normal with a tail, and differ from trial to trial."""
    rng = np.random.default_rng(seed)
    base = base_ms or 3.5 * case.seconds**1.1 * case.batch / case.threads**0.7
    base *= 0.55 if "int8" in case.bundle else 1.0
    made = []
    for index in range(number):
        level = base * rng.normal(1, 0.015)
        ms = level * rng.lognormal(0, 0.03, queries)
        ms[rng.random(queries) < 0.02] *= rng.uniform(1.3, 2.2)
        begin = 4.0 * (index * 3 + seed)
        made.append(
            Trial(
                begin_s=begin,
                end_s=begin + 3.5,
                start_ms=float(rng.normal(21, 1)),
                import_ms=float(rng.normal(130, 4)),
                load_ms=float(rng.normal(48, 2)),
                first_ms=float(level * 2.4),
                warm_up_ms=tuple((level * rng.normal(1.05, 0.01, 5)).tolist()),
                latencies_ms=tuple(ms.tolist()),
                steady_s=float(ms.sum() / 1000),
                audio_s=queries * case.seconds * case.batch,
                loaded_mb=float(rng.normal(82, 1)),
                peak_mb=float(rng.normal(97, 1)),
                energy_j=float(queries * base * 0.02),
                energy_source="RAPL package-0",
                late=int((ms > case.block_ms).sum()) if case.block_ms else 0,
                behind_ms=float(max(0, ms.max() - case.block_ms)) if case.block_ms else 0.0,
                read_mb=7.5,
                storage_mb=0.0,
                stage_peaks_mb={"import": 58.0, "load": 83.0, "first": 97.0, "steady": 96.0},
                peaks_reset=index % 2 == 0,
            )
        )
    return made


def summary(case: BenchmarkCase, made: list[Trial]) -> Summary:
    """Return a summary that is right but for its intervals."""
    ms = np.sort(np.concatenate([t.latencies_ms for t in made]))

    def around(value: float) -> Estimate:
        return Estimate(float(value), float(value) * 0.982, float(value) * 1.017)

    def rank(share: float) -> Estimate:
        return around(float(ms[max(0, int(np.ceil(share * len(ms))) - 1)]))

    def median(name: str) -> Estimate:
        return around(float(np.median([getattr(t, name) for t in made])))

    audio = (case.block_ms / 1000) or case.seconds * case.batch
    factor = rank(0.5).value / 1000 / audio
    streaming = case.scenario == "streaming"
    energy = made[0].energy_j
    return Summary(
        queries=len(ms),
        p50_ms=rank(0.5),
        p90_ms=rank(0.9),
        p95_ms=rank(0.95),
        p99_ms=rank(0.99),
        max_ms=rank(1),
        real_time_factor=around(factor),
        speed=around(1 / factor),
        throughput=around(0.93 / factor),
        start_ms=median("start_ms"),
        import_ms=median("import_ms"),
        load_ms=median("load_ms"),
        first_ms=median("first_ms"),
        warm_up_ms=around(float(np.median([sum(t.warm_up_ms) for t in made]))),
        loaded_mb=made[0].loaded_mb,
        peak_mb=made[0].peak_mb,
        energy_j=None if energy is None else around(energy / made[0].audio_s),
        energy_source=made[0].energy_source,
        miss_rate=sum(t.late for t in made) / len(ms) if streaming else None,
        behind_ms=max(t.behind_ms for t in made) if streaming else None,
        read_mb=made[0].read_mb,
        storage_mb=made[0].storage_mb,
        stage_peaks_mb=made[0].stage_peaks_mb,
    )


def result(
    case: BenchmarkCase = CASE,
    number: int = 3,
    queries: int = 200,
    seed: int = 0,
    base_ms: float = 0,
) -> CaseResult:
    """Return the result of a case, with its summary."""
    made = trials(case, number, queries, seed, base_ms)
    return CaseResult(case, tuple(made), summary(case, made), install=INSTALL)


def report(*cases: CaseResult, disturbances: tuple[Disturbance, ...] = ()) -> BenchmarkReport:
    """Return a report of cases on a device that is well known."""
    end = max((t.end_s for c in cases for t in c.trials), default=10.0)
    rng = np.random.default_rng(1)
    samples = tuple(
        MachineSample(
            float(at),
            mhz=float(2400 + 300 * rng.random()),
            temperature_c=float(51 + at / end * 6),
            others=float(0.05 * rng.random()),
            steal=0.0,
            available_mb=5000.0,
            on_battery=False,
        )
        for at in np.linspace(0, end, 60)
    )
    names = dict.fromkeys(c.case.bundle for c in cases)
    cpu = Cpu(
        "Cortex-A76",
        "aarch64",
        ("asimd", "asimddp"),
        4,
        4,
        2,
        (0, 1),
        None,
        "performance",
        600.0,
        2400.0,
    )
    return BenchmarkReport(
        format="w2v-edge-latency",
        version=2,
        created="2026-11-23T04:00:00Z",
        command="w2v-edge bench tiny-fp32 tiny-int8 --seconds 1,5,20",
        device=Device(
            "3f9c0b1a",
            cpu,
            8192.0,
            None,
            (Gpu("Some GPU", "550.1", 8000.0),),
            "Linux 6.6.31",
            "docker",
            False,
            "3.11.7",
            "1.32.0",
            "Release",
            ("CPU",),
            {"w2v-edge": "0.1.0", "numpy": "2.4.0"},
        ),
        bundles=tuple(
            BundleRecord(n, "ab12" * 16, "tiny", "int8" if "int8" in n else "fp32", "cpu", 12.3)
            for n in names
        ),
        audio=AudioRecord("shipped clips", 5, 43.2, "cd34" * 16),
        settings=BenchmarkSettings(3, 2.0, 0.02, 120.0, 0.95, 0),
        conditions=Conditions(samples, disturbances),
        cases=cases,
    )


def change(of: CaseResult, **fields: object) -> CaseResult:
    """Return a result with other fields."""
    return dataclasses.replace(of, **fields)  # type: ignore[arg-type]


def usual() -> BenchmarkReport:
    """Two bundles, three lengths, threads, a stream, a profile, one unstable and one failed."""
    cases: list[CaseResult] = []
    for bundle in ("tiny-fp32", "tiny-int8"):
        for seconds in (1.0, 5.0, 20.0):
            case = dataclasses.replace(CASE, bundle=bundle, seconds=seconds)
            cases.append(result(case, 5, 240, len(cases)))
        for threads in (2, 4):
            case = dataclasses.replace(CASE, bundle=bundle, threads=threads)
            cases.append(result(case, 5, 240, len(cases)))
    stream = dataclasses.replace(CASE, scenario="streaming", block_ms=80.0, seconds=10.0)
    cases.append(result(stream, 3, 125, len(cases), base_ms=42.0))
    operators = (
        Operator("MatMul", "CPUExecutionProvider", 24, 1.9, 0.55),
        Operator("Conv", "CPUExecutionProvider", 7, 1.1, 0.32),
        Operator("Softmax", "CPUExecutionProvider", 4, 0.45, 0.13),
    )
    cases[0] = change(cases[0], operators=operators, nodes={"CPUExecutionProvider": 210})
    cases[5] = change(cases[5], operators=operators[::-1])
    cases[3] = change(cases[3], unstable=("trial 2: 0.8 cores busy with others from 41 s to 48 s",))
    lost = dataclasses.replace(CASE, provider="CUDAExecutionProvider")
    cases.append(CaseResult(lost, (), None, failure="no CUDA device was found; use --provider cpu"))
    busy = Disturbance(41.0, 48.0, "load", "0.8 cores busy with others, 0.1 allowed")
    return report(*cases, disturbances=(busy,))


def large(number: int = 60, processes: int = 20, queries: int = 500) -> BenchmarkReport:
    """Many cases with many samples."""
    each = (
        dataclasses.replace(CASE, bundle=f"bundle-{i % 6}", seconds=float(1 + i % 10))
        for i in range(number)
    )
    return report(*(result(case, processes, queries, i) for i, case in enumerate(each)))


def hostile() -> BenchmarkReport:
    """A report whose texts try to break the format that shows them."""
    case = dataclasses.replace(
        CASE, bundle=HOSTILE, graph=HOSTILE, provider=HOSTILE, provider_options={HOSTILE: HOSTILE}
    )
    found = change(
        result(case),
        unstable=(HOSTILE,),
        nodes={HOSTILE: 3},
        operators=(Operator(HOSTILE, HOSTILE, 1, 0.5, 1.0),),
        install=(InstalledPart(HOSTILE, "file", 1.0, needed=False),),
    )
    failed = CaseResult(dataclasses.replace(case, threads=2), (), None, failure=HOSTILE)
    made = report(found, failed, disturbances=(Disturbance(0, 5, "load", HOSTILE),))
    record = BundleRecord(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1.0)
    device = dataclasses.replace(
        made.device,
        identity=HOSTILE,
        cpu=dataclasses.replace(made.device.cpu, model=HOSTILE, governor=HOSTILE),
        system=HOSTILE,
        container=HOSTILE,
        packages={HOSTILE: HOSTILE},
        gpus=(Gpu(HOSTILE, HOSTILE, None),),
    )
    return dataclasses.replace(
        made,
        command=HOSTILE,
        created=HOSTILE,
        device=device,
        bundles=(record,),
        audio=AudioRecord(HOSTILE, 1, 1.0, HOSTILE),
    )


def single_sample() -> BenchmarkReport:
    """One case of one trial of one query."""
    return report(result(CASE, 1, 1))


def nothing_known() -> BenchmarkReport:
    """A report of a program without Python, on a system that reads no memory, energy or state."""
    bare: dict[str, Any] = {"loaded_mb": None, "peak_mb": None}
    bare |= {"energy_j": None, "energy_source": None}
    bare |= {"read_mb": None, "storage_mb": None, "stage_peaks_mb": {}}
    made = [dataclasses.replace(t, **bare) for t in trials(CASE, 2, 30)]
    found = CaseResult(CASE, tuple(made), summary(CASE, made))
    plain = report(found)
    device = dataclasses.replace(plain.device, python="", packages={})
    return dataclasses.replace(plain, device=device, conditions=Conditions((), ()))


def no_trials() -> BenchmarkReport:
    """Two cases of which no trial was made, and one without a word why."""
    other = dataclasses.replace(CASE, threads=2)
    return report(CaseResult(CASE, (), None, failure="time was up"), CaseResult(other, (), None))


def empty() -> BenchmarkReport:
    """No case at all."""
    return report()


KINDS: dict[str, Callable[[], BenchmarkReport]] = {
    "usual": usual,
    "hostile": hostile,
    "single sample": single_sample,
    "nothing known": nothing_known,
    "no trials": no_trials,
    "empty": empty,
}

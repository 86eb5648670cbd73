"""The data classes of a latency report: the contract between measuring and displaying.

One report is one JSON document with a schema (`report.schema.json`) generated from these classes
and their docstrings. All raw samples are kept, so every summary can be computed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

FORMAT: Final = "w2v-edge-latency"
VERSION: Final = 2

Scenario = Literal["single", "multi", "offline", "streaming"]
Driver = Literal["w2v-edge", "loadgen"]
DisturbanceKind = Literal["load", "steal", "frequency", "quota", "temperature", "battery"]

MULTI_UTTERANCES = 8
"""Utterances in a query of the scenario multi, as in MLPerf's multi-stream."""

OFFLINE_UTTERANCES = 24
"""Utterances the latency of the scenario offline refers to; at least this many are run at once."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its confidence interval.

    Attributes:
        value: the figure.
        low: lower end of its 95 % confidence interval.
        high: upper end of its 95 % confidence interval.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Cpu:
    """The processor.

    Attributes:
        model: model name.
        architecture: such as `x86_64` or `aarch64`.
        features: instruction sets that matter for matrix products, by the system's names.
        cores: logical cores of the machine.
        physical_cores: physical cores; null if the system does not report them.
        usable_cores: cores this process may keep busy, by affinity and quota.
        affinity: numbers of the cores this process may run on; empty without affinity support.
        quota: cores allowed by control groups; null if unlimited.
        governor: frequency governor; null if the system does not report it.
        min_mhz: lowest frequency in MHz; null if the system does not report it.
        max_mhz: highest frequency in MHz; null if the system does not report it.
    """

    model: str
    architecture: str
    features: tuple[str, ...]
    cores: int
    physical_cores: int | None
    usable_cores: int
    affinity: tuple[int, ...]
    quota: float | None
    governor: str | None
    min_mhz: float | None
    max_mhz: float | None


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: product name.
        driver: version of its driver.
        memory_mb: its memory, in 10^6 bytes; null if it is not reported.
    """

    name: str
    driver: str
    memory_mb: float | None


@dataclass(frozen=True)
class Device:
    """The machine and the software the benchmark ran on.

    Attributes:
        identity: hash of processor, usable cores, GPUs and operating system; tuned settings are
            keyed by the same hash.
        cpu: the processor.
        memory_mb: memory of the machine, in 10^6 bytes; null if the system does not report it.
        memory_limit_mb: memory limit of control groups, in 10^6 bytes; null if unlimited.
        gpus: the GPUs.
        system: operating system with its release.
        container: kind of container, such as `docker`; null if none was detected.
        virtual: whether the processor reports a hypervisor; null if it cannot tell.
        python: version of Python; empty for a program without it.
        onnxruntime: version of onnxruntime.
        onnxruntime_build: build information of onnxruntime.
        providers: available execution providers.
        packages: versions of w2v-edge, numpy and the wheels that provide onnxruntime.
    """

    identity: str
    cpu: Cpu
    memory_mb: float | None
    memory_limit_mb: float | None
    gpus: tuple[Gpu, ...]
    system: str
    container: str | None
    virtual: bool | None
    python: str
    onnxruntime: str
    onnxruntime_build: str
    providers: tuple[str, ...]
    packages: dict[str, str]


@dataclass(frozen=True)
class MachineSample:
    """The state of the machine at one time; null for values the system does not report.

    Attributes:
        at_s: time of the sample, in seconds since the benchmark began.
        mhz: frequency of the fastest usable core in MHz; idle cores would lower a mean.
        temperature_c: hottest sensor of the processor, in degrees Celsius.
        others: cores kept busy by other processes since the previous sample.
        own: cores kept busy by this benchmark's processes since the previous sample.
        steal: core time the hypervisor gave to other guests since the previous sample, in cores.
        throttled_ms: time for which a CPU quota throttled this control group since the previous
            sample.
        thermal_events: thermal throttling events since the previous sample.
        available_mb: available memory, in 10^6 bytes.
        on_battery: whether the machine runs on its battery.
        gpu_mhz: frequency of the measured GPU, or else of the first one, in MHz.
        gpu_temperature_c: temperature of that GPU, in degrees Celsius.
        gpu_busy: utilization of that GPU just before the sample, from 0 to 1.
    """

    at_s: float
    mhz: float | None = None
    temperature_c: float | None = None
    others: float | None = None
    own: float | None = None
    steal: float | None = None
    throttled_ms: float | None = None
    thermal_events: int | None = None
    available_mb: float | None = None
    on_battery: bool | None = None
    gpu_mhz: float | None = None
    gpu_temperature_c: float | None = None
    gpu_busy: float | None = None


@dataclass(frozen=True)
class Disturbance:
    """An event that makes figures unreliable.

    Attributes:
        begin_s: begin, in seconds since the benchmark began.
        end_s: end, in seconds since the benchmark began.
        kind: kind of event.
        detail: description with figures.
    """

    begin_s: float
    end_s: float
    kind: DisturbanceKind
    detail: str


@dataclass(frozen=True)
class Conditions:
    """The state of the machine during the benchmark.

    Attributes:
        samples: its state over time, from before the first trial to after the last one.
        disturbances: events in these samples that make figures unreliable; computed with
            `summary`.
    """

    samples: tuple[MachineSample, ...]
    disturbances: tuple[Disturbance, ...]


@dataclass(frozen=True)
class BenchmarkCase:
    """One measured configuration. Cases that are equal in all fields are comparable.

    Attributes:
        bundle: name of the bundle, as in the report's list of bundles.
        graph: measured graph; in the scenario streaming, `encoder` means context and codes, and
            `tokenizer` codes only.
        provider: execution provider.
        provider_options: options given to the provider, by onnxruntime's names.
        threads: intra-op threads.
        power: `high`, or `low` for one thread that does not spin.
        seconds: audio in each utterance; in the scenario streaming, audio in each trial.
        batch: batch size, in utterances.
        scenario: `single`, one query after another; `multi`, queries of 8 utterances; `offline`,
            all utterances at once; `streaming`, blocks in real time.
        driver: what issues the queries: this benchmark or MLPerf LoadGen.
        block_ms: block size of the scenario streaming, in ms of audio; otherwise 0.
    """

    bundle: str
    graph: str
    provider: str
    provider_options: dict[str, str]
    threads: int
    power: str
    seconds: float
    batch: int
    scenario: Scenario
    driver: Driver = "w2v-edge"
    block_ms: float = 0.0


@dataclass(frozen=True)
class Trial:
    """One process that measured one case.

    Times before the steady state that were not measured are 0.

    Attributes:
        begin_s: start of the process, in seconds since the benchmark began.
        end_s: end of the process, in seconds since the benchmark began.
        start_ms: from the start of the process to its first line of Python.
        import_ms: import of the package, numpy and onnxruntime.
        load_ms: opening of the bundle and the session, including the check of hashes.
        first_ms: the first query.
        warm_up_ms: each further query before the steady state.
        latencies_ms: latency of each query of the steady state; in the scenario streaming from
            the arrival of a block's last sample; in the scenario offline the time of 24
            utterances at the measured throughput.
        steady_s: wall-clock time of the steady state.
        audio_s: audio processed in the steady state.
        reference_ms: a fixed matrix product, just before and just after the process.
        loaded_mb: resident memory after loading, in 10^6 bytes; null if it is not reported.
        peak_mb: peak resident memory of the process, in 10^6 bytes; null if it is not reported.
        energy_j: energy used in the steady state, in joules, by all that the counter covers; null
            without a counter.
        energy_source: name of the energy counter.
        late: scenario streaming: blocks that missed their deadline, the arrival of the next block.
        behind_ms: scenario streaming: longest time a block waited before it was processed.
        loadgen: summary of MLPerf LoadGen, by its own names.
    """

    begin_s: float
    end_s: float
    start_ms: float
    import_ms: float
    load_ms: float
    first_ms: float
    warm_up_ms: tuple[float, ...]
    latencies_ms: tuple[float, ...]
    steady_s: float
    audio_s: float
    reference_ms: tuple[float, ...] = ()
    loaded_mb: float | None = None
    peak_mb: float | None = None
    energy_j: float | None = None
    energy_source: str | None = None
    late: int = 0
    behind_ms: float = 0.0
    loadgen: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Summary:
    """Statistics over all trials of a case; latencies are those of the steady state.

    Percentiles are nearest ranks: of 30 queries, p99 is the largest. Intervals are computed over
    trials, so they include the variation from process to process.

    Attributes:
        queries: number of queries in the steady state of all trials.
        p50_ms: median latency.
        p90_ms: 90th percentile of latency.
        p95_ms: 95th percentile of latency.
        p99_ms: 99th percentile of latency.
        max_ms: latency of the slowest query.
        real_time_factor: median latency divided by the audio in a query.
        speed: inverse of the real-time factor: seconds of audio per second.
        throughput: seconds of audio per second over the whole steady state.
        start_ms: from the start of a process to its first line of Python.
        import_ms: import time.
        load_ms: time to open the bundle and the session.
        first_ms: latency of the first query.
        warm_up_ms: total time of the queries between the first one and the steady state.
        loaded_mb: resident memory after loading, in 10^6 bytes; maximum over trials.
        peak_mb: peak resident memory, in 10^6 bytes; maximum over trials.
        energy_j: energy per second of audio, in joules.
        energy_source: name of the energy counter, which covers more than this process.
        miss_rate: scenario streaming: fraction of blocks that missed their deadline.
        behind_ms: scenario streaming: longest time a block waited before it was processed.
    """

    queries: int
    p50_ms: Estimate
    p90_ms: Estimate
    p95_ms: Estimate
    p99_ms: Estimate
    max_ms: Estimate
    real_time_factor: Estimate
    speed: Estimate
    throughput: Estimate
    start_ms: Estimate
    import_ms: Estimate
    load_ms: Estimate
    first_ms: Estimate
    warm_up_ms: Estimate
    loaded_mb: float | None = None
    peak_mb: float | None = None
    energy_j: Estimate | None = None
    energy_source: str | None = None
    miss_rate: float | None = None
    behind_ms: float | None = None


@dataclass(frozen=True)
class Operator:
    """Time of one operator type, from profiled runs outside the trials.

    Attributes:
        operator: operator type.
        provider: execution provider that ran it.
        runs: executions in one run of the graph.
        time_ms: total time in one run of the graph.
        share: fraction of the time of all operators.
        arithmetic: type of the numbers in its products of matrices, such as `int8`; empty if it
            has none.
        multiplications: multiply-adds of its products in one run of the graph; null if its shapes
            do not tell them.
    """

    operator: str
    provider: str
    runs: float
    time_ms: float
    share: float
    arithmetic: str = ""
    multiplications: float | None = 0.0


@dataclass(frozen=True)
class Peaks:
    """The highest speeds that this device reached, for the least time of a case.

    Attributes:
        threads: threads per operator.
        float32: multiply-adds of float32 matrices in a second, by onnxruntime.
        int8: multiply-adds of matrices of bytes (unsigned times signed) in a second, likewise.
        memory: bytes of a large matrix that were read in a second.
    """

    threads: int
    float32: float
    int8: float
    memory: float


@dataclass(frozen=True)
class CaseResult:
    """The result of one case.

    Attributes:
        case: the measured configuration.
        trials: raw figures.
        summary: statistics over the trials; null if the case failed, and from a program that
            records trials only: `read_report` computes it.
        unstable: disturbances during its trials, with their times; empty for a quiet run.
        nodes: number of operators by the provider that ran them, from a profiled run.
        operators: time by operator type, longest first; only with `--profile` and `--limit`.
        failure: reason why there are no figures; empty otherwise.
        weights_mb: size of the graph and its weights, in 10^6 bytes; 0 without `--limit`.
    """

    case: BenchmarkCase
    trials: tuple[Trial, ...]
    summary: Summary | None
    unstable: tuple[str, ...] = ()
    nodes: dict[str, int] = field(default_factory=dict)
    operators: tuple[Operator, ...] = ()
    failure: str = ""
    weights_mb: float = 0.0


@dataclass(frozen=True)
class BundleRecord:
    """A measured bundle.

    Attributes:
        name: name of its folder; further bundles of one name get a number.
        sha256: hash of its manifest, which includes the hashes of all files.
        model: architecture or preset.
        precision: precision of the weights.
        target: export target.
        size_mb: total size of its files, in 10^6 bytes.
    """

    name: str
    sha256: str
    model: str
    precision: str
    target: str
    size_mb: float


@dataclass(frozen=True)
class AudioRecord:
    """The speech the models were run on.

    Attributes:
        source: `shipped clips`, or the names of the given files and folders.
        recordings: number of recordings.
        seconds: total duration.
        sha256: hash of the samples.
    """

    source: str
    recordings: int
    seconds: float
    sha256: str


@dataclass(frozen=True)
class BenchmarkSettings:
    """Settings of the benchmark.

    Attributes:
        rounds: trials of each case.
        steady_s: minimum duration of a trial's steady state.
        precision: requested half-width of the median's interval, relative to the median.
        time_s: time limit of the benchmark.
        confidence: confidence level of all intervals.
        seed: seed of the order of trials and of resampling.
    """

    rounds: int
    steady_s: float
    precision: float
    time_s: float
    confidence: float
    seed: int


@dataclass(frozen=True)
class BenchmarkReport:
    """One run of the benchmark.

    Attributes:
        format: always `w2v-edge-latency`.
        version: version of the format; it changes when a key does.
        created: start date and time, ISO 8601, in UTC.
        command: the command line.
        device: the machine and its software.
        bundles: the measured bundles.
        audio: the speech they were run on.
        settings: settings of the benchmark.
        conditions: state of the machine during the benchmark.
        cases: the results.
        peaks: highest speeds, one for each number of threads; only with `--limit`.
    """

    format: Literal["w2v-edge-latency"]
    version: Literal[2]
    created: str
    command: str
    device: Device
    bundles: tuple[BundleRecord, ...]
    audio: AudioRecord
    settings: BenchmarkSettings
    conditions: Conditions
    cases: tuple[CaseResult, ...]
    peaks: tuple[Peaks, ...] = ()

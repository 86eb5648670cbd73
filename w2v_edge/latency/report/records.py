"""The data classes of a latency report: the contract between measuring and displaying.

One report is one JSON document with a schema (`report.schema.json`) generated from these classes
and their docstrings. All raw samples are kept, so every summary can be computed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from w2v_edge.latency.report.machine_records import Conditions, Device, InstalledPart

FORMAT: Final = "w2v-edge-latency"
VERSION: Final = 2

Scenario = Literal["single", "multi", "offline", "streaming"]
Driver = Literal["w2v-edge", "loadgen"]

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
        window: scenario streaming: window of attention in seconds, as step, left and right; empty
            for the default.
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
    window: tuple[float, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One process, in a browser one worker, that measured one case.

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
        peak_mb: peak resident memory of the process, in 10^6 bytes; null if it is not reported. In
            a browser, the memory of WebAssembly; `loaded_mb` too.
        energy_j: energy used in the steady state, in joules, by all that the counter covers; null
            without a counter.
        energy_source: name of the energy counter.
        late: scenario streaming: blocks that missed their deadline, the arrival of the next block.
        behind_ms: scenario streaming: longest time a block waited before it was processed.
        loadgen: summary of MLPerf LoadGen, by its own names.
        read_mb: bytes read by system calls until the model was loaded, Python's modules and the
            bundle's files among them, in 10^6 bytes; null if they are not reported.
        storage_mb: bytes that came from storage until then, and not from the page cache, in 10^6
            bytes; null if they are not reported.
        stage_peaks_mb: peak resident memory of the stages `import`, `load`, `first` (query) and
            `steady` (with warm-up), in 10^6 bytes; empty if it is not reported.
        peaks_reset: whether the peak was reset before each stage; otherwise a stage's peak is that
            of the process so far.
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
    read_mb: float | None = None
    storage_mb: float | None = None
    stage_peaks_mb: dict[str, float] = field(default_factory=dict)
    peaks_reset: bool = False


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
        read_mb: bytes read until the model was loaded, in 10^6 bytes; maximum over trials.
        storage_mb: bytes that came from storage until then, in 10^6 bytes; maximum over trials.
        stage_peaks_mb: peak resident memory of each stage, in 10^6 bytes; maximum over trials.
        power_w: mean power in the steady state, in watts, of all that the counter covers.
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
    read_mb: float | None = None
    storage_mb: float | None = None
    stage_peaks_mb: dict[str, float] = field(default_factory=dict)
    power_w: Estimate | None = None


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
class DriftPoint:
    """Latency in one interval of a long run without a pause.

    Attributes:
        at_s: end of the interval, in seconds since the run began.
        p50_ms: median latency of the queries that ended in the interval.
        queries: number of these queries.
    """

    at_s: float
    p50_ms: float
    queries: int


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
        install: files of the bundle and packages, as installed here; empty if not known.
        drift: latency over a long run without a pause, outside the trials, in order of time; empty
            if there was none.
    """

    case: BenchmarkCase
    trials: tuple[Trial, ...]
    summary: Summary | None
    unstable: tuple[str, ...] = ()
    nodes: dict[str, int] = field(default_factory=dict)
    operators: tuple[Operator, ...] = ()
    failure: str = ""
    weights_mb: float = 0.0
    install: tuple[InstalledPart, ...] = ()
    drift: tuple[DriftPoint, ...] = ()

    @property
    def install_mb(self) -> float | None:
        """Size of a minimal installation, without Python, in 10^6 bytes; None if not known."""
        return sum(x.size_mb for x in self.install if x.needed) if self.install else None


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
        memory_limit_mb: limit on the resident memory of a trial, in 10^6 bytes; null without one.
        memory_limit_by: `control group`, in which the system held the trials to the limit, or
            `peak`, only compared with the peak after each trial; empty without a limit.
    """

    rounds: int
    steady_s: float
    precision: float
    time_s: float
    confidence: float
    seed: int
    memory_limit_mb: float | None = None
    memory_limit_by: Literal["", "control group", "peak"] = ""


@dataclass(frozen=True)
class BenchmarkReport:
    """One run of the benchmark.

    Attributes:
        format: always `w2v-edge-latency`.
        version: version of the format; it changes when a key does. Keys with a default may be
            absent.
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

"""The report of a benchmark: THE contract between what measures and what shows.

One report is one JSON document, `Report.to_json`, described by the schema that is shipped beside
this file, `report.schema.json`, which is made from these classes. Raw samples are kept, all of
them: every summary can be computed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from w2v_edge.latency.conditions import Conditions
from w2v_edge.latency.device import Device

FORMAT: Final = "w2v-edge-latency"
VERSION: Final = 1

Scenario = Literal["single", "multi", "offline", "streaming"]
Driver = Literal["w2v-edge", "loadgen"]


@dataclass(frozen=True)
class Estimate:
    """A figure and how sure it is.

    Attributes:
        value: the figure.
        low: lower end of its 95 % confidence interval.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Case:
    """One thing that is measured. Cases that are equal in all of this may be compared.

    Attributes:
        bundle: name of the bundle, as in the report's list of bundles.
        graph: the graph that is run; `encoder` in the scenario streaming means codes and context,
            `tokenizer` codes alone.
        provider: execution provider.
        provider_options: those given, by onnxruntime's names.
        threads: threads of one operator.
        power: `low` for one thread that sleeps while it waits.
        seconds: of audio in each utterance; of each trial in the scenario streaming.
        batch: utterances that are run at once.
        scenario: `single`, one query after the other; `multi`, queries of several utterances;
            `offline`, all utterances at once; `streaming`, blocks at the pace of time.
        driver: what issues the queries: this benchmark, or MLPerf LoadGen.
        block_ms: of audio in a block of the scenario streaming, else 0.
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
    """One process that was started for one case, measured, and ended.

    Times before the steady state that were not measured are 0.

    Attributes:
        begin_s: when it was started, in seconds since the benchmark began.
        end_s: when it had ended.
        start_ms: from the start of the process to the first line of Python.
        import_ms: importing the package, numpy and onnxruntime.
        load_ms: opening the bundle and the session, hashes checked.
        first_ms: the first query.
        warm_up_ms: each further query before the steady state.
        latencies_ms: each query of the steady state, from its being issued (scenario streaming:
            from its last sample being there) to its result; scenario offline: the time of 24
            utterances, at the pace of all that were there at once.
        steady_s: wall-clock time of the steady state.
        audio_s: audio worked on in the steady state.
        reference_ms: a fixed matrix product, just before the process and just after it.
        loaded_mb: resident memory after loading, in 10^6 bytes; null where the system does not say.
        peak_mb: the highest resident memory of the process's life, likewise.
        energy_j: joules in the steady state, of all that the counter covers; null without one.
        energy_source: which counter it was.
        late: scenario streaming: blocks that were not done when the next one was there.
        behind_ms: scenario streaming: at worst, how long a block waited before it was begun.
        loadgen: what MLPerf LoadGen says of it, by its own names.
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
    """What the trials of a case say together; latencies are those of the steady state.

    Percentiles are nearest ranks: of 30 queries p99 is the largest. Intervals are over trials, so
    that what differs from process to process is within them.

    Attributes:
        queries: of the steady state, in all trials.
        p50_ms: half of the queries took no longer.
        p90_ms: of ten queries nine took no longer.
        p95_ms: likewise 19 of 20.
        p99_ms: likewise 99 of 100.
        max_ms: the slowest query.
        real_time_factor: median time of a query by the audio in it.
        speed: its inverse: seconds of audio in a second.
        throughput: seconds of audio in a second over the whole steady state.
        start_ms: from the start of a process to its first line of Python.
        import_ms: importing.
        load_ms: opening the bundle and the session.
        first_ms: the first query.
        warm_up_ms: all queries between the first and the steady state.
        loaded_mb: resident memory after loading, in 10^6 bytes, the most of any trial.
        peak_mb: the highest resident memory, likewise.
        energy_j: joules for a second of audio.
        energy_source: what counted them; it covers more than this process.
        miss_rate: scenario streaming: share of blocks that were late.
        behind_ms: scenario streaming: how long a block waited at worst.
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
    """What one type of operator takes, by onnxruntime's profile of runs apart from the trials.

    Attributes:
        operator: its type.
        provider: where it ran.
        runs: how often, in one run of the graph.
        time_ms: in one run of the graph.
        share: of the time of all operators.
    """

    operator: str
    provider: str
    runs: float
    time_ms: float
    share: float


@dataclass(frozen=True)
class CaseResult:
    """What was found of one case.

    Attributes:
        case: what was measured.
        trials: raw figures.
        summary: what they say; null where the case failed.
        unstable: what disturbed its trials, and when; empty for a quiet run.
        nodes: operators by the provider that ran them, in a profiled run of this graph.
        operators: what takes the time, longest first; of `--profile` only.
        failure: why there are no figures; empty where there are.
    """

    case: Case
    trials: tuple[Trial, ...]
    summary: Summary | None
    unstable: tuple[str, ...] = ()
    nodes: dict[str, int] = field(default_factory=dict)
    operators: tuple[Operator, ...] = ()
    failure: str = ""


@dataclass(frozen=True)
class BundleRecord:
    """A bundle that was measured.

    Attributes:
        name: of its folder; bundles of one name are numbered.
        sha256: of its manifest, and so of all its files.
        model: what it is: architecture or preset.
        precision: of its weights.
        target: what it was exported for.
        size_mb: of its files, in 10^6 bytes.
    """

    name: str
    sha256: str
    model: str
    precision: str
    target: str
    size_mb: float


@dataclass(frozen=True)
class AudioRecord:
    """The speech that was worked on.

    Attributes:
        source: `shipped clips`, or the folder's name.
        recordings: how many.
        seconds: how much in all.
        sha256: of its samples.
    """

    source: str
    recordings: int
    seconds: float
    sha256: str


@dataclass(frozen=True)
class Settings:
    """How it was measured.

    Attributes:
        rounds: processes that were started for each case.
        steady_s: shortest steady state of a trial.
        precision: half of the interval of the median, relative to it, that was to be reached.
        time_s: seconds that the benchmark was to take at most.
        confidence: of all intervals.
        seed: of the order of trials and of resampling.
    """

    rounds: int
    steady_s: float
    precision: float
    time_s: float
    confidence: float
    seed: int


@dataclass(frozen=True)
class Report:
    """One run of the benchmark.

    Attributes:
        format: always `w2v-edge-latency`.
        version: of the format, a whole number; it changes when a key does.
        created: date and time of its beginning, ISO 8601, in UTC.
        command: what was typed.
        device: the machine.
        bundles: what was measured.
        audio: on what speech.
        settings: how.
        conditions: what else the machine did.
        cases: what was found.
    """

    format: Literal["w2v-edge-latency"]
    version: Literal[1]
    created: str
    command: str
    device: Device
    bundles: tuple[BundleRecord, ...]
    audio: AudioRecord
    settings: Settings
    conditions: Conditions
    cases: tuple[CaseResult, ...]

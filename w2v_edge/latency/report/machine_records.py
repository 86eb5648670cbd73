"""The data classes of a report for the machine: its hardware and software, and its state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DisturbanceKind = Literal[
    "load", "steal", "frequency", "quota", "temperature", "battery", "background"
]


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
class InstalledPart:
    """A file of the bundle or an installed package.

    Attributes:
        name: name of the file or the package.
        kind: `file` of the bundle or `package`.
        size_mb: size of its files, in 10^6 bytes.
        needed: whether the case opened or imported it; otherwise it could be left out.
    """

    name: str
    kind: Literal["file", "package"]
    size_mb: float
    needed: bool


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
        in_background: in a browser, whether the page was hidden since the previous sample.
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
    in_background: bool | None = None


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

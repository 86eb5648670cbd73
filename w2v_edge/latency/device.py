"""What identifies a device: the record that a report keeps of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cpu:
    """The processor.

    Attributes:
        model: its name.
        architecture: such as `x86_64` or `aarch64`.
        features: instruction sets that matter to matrix products, as the system names them.
        cores: logical ones of the machine.
        physical_cores: null where the system does not say.
        usable_cores: those this process may keep busy, by affinity and quota.
        affinity: numbers of the cores it may run on; empty where the system has no such thing.
        quota: cores that control groups allow; null for all.
        governor: what sets the frequency; null where the system does not say.
        min_mhz: lowest frequency; null likewise.
        max_mhz: highest frequency; null likewise.
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
        name: its name.
        driver: its driver's version.
        memory_mb: of its own, in 10^6 bytes; null where it does not say.
    """

    name: str
    driver: str
    memory_mb: float | None


@dataclass(frozen=True)
class Device:
    """What it was measured on.

    Attributes:
        identity: hash of what makes a device another one: processor, cores that may be used,
            memory, GPUs, operating system.
        cpu: the processor.
        memory_mb: of the machine, in 10^6 bytes; null where the system does not say.
        memory_limit_mb: of control groups; null for none.
        gpus: the GPUs.
        system: operating system with its release.
        container: such as `docker`; null for none that shows.
        virtual: whether the processor says that it is a virtual one; null where it does not say.
        python: version.
        onnxruntime: version.
        onnxruntime_build: what it says of its build.
        providers: execution providers that it has.
        packages: versions of w2v-edge, numpy, and the wheels that bring onnxruntime.
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

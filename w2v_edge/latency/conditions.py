"""What a machine did while it was measured: the record that a report keeps of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["load", "steal", "frequency", "quota", "temperature", "battery"]


@dataclass(frozen=True)
class Sample:
    """The state of the machine at one time; null for what the system does not say.

    Attributes:
        at_s: seconds since the benchmark began.
        mhz: frequency of the fastest core that may be used, and so of a busy one: the mean would
            be that of idle ones.
        temperature_c: the hottest sensor of the processor, in degrees Celsius.
        others: cores kept busy by other processes since the sample before.
        own: cores kept busy by this benchmark meanwhile, by all of its processes.
        steal: cores' time that the host gave to other guests meanwhile.
        throttled_ms: time that a quota held this control group back meanwhile.
        thermal_events: how often the processor slowed down for heat meanwhile.
        available_mb: memory that can be had, in 10^6 bytes.
        on_battery: whether it runs on its battery.
        gpu_mhz: frequency of the first GPU.
        gpu_temperature_c: its temperature.
        gpu_busy: share of the time just before in which it worked.
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
    """Something that makes figures doubtful.

    Attributes:
        begin_s: from when, in seconds since the benchmark began.
        end_s: until when.
        kind: of what.
        detail: in words, with figures.
    """

    begin_s: float
    end_s: float
    kind: Kind
    detail: str


@dataclass(frozen=True)
class Conditions:
    """What the machine did meanwhile.

    Attributes:
        samples: its state, first before the first trial and last after the last one.
        disturbances: what was too much in it.
    """

    samples: tuple[Sample, ...]
    disturbances: tuple[Disturbance, ...]

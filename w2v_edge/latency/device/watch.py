"""A thread that samples the state of the machine twice a second during a benchmark."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from w2v_edge.latency.device import nvidia
from w2v_edge.latency.device.disturbances import find_disturbances
from w2v_edge.latency.device.fingerprint import affinity_cores
from w2v_edge.latency.device.sensors import (
    MachineTime,
    OwnTime,
    Sensors,
    available_mb,
    machine_time,
    own_time,
)
from w2v_edge.latency.report.machine_records import Conditions, MachineSample
from w2v_edge.providers.machine import throttle_files, throttled_s, usable_cores

INTERVAL_S = 0.5
"""Clocks of CPU time tick 100 times a second: their resolution is 2 % of a core here."""

INHERITS_CHILD_TIME = sys.platform != "win32"
"""Whether a process's CPU time is added to its parent's when it has ended."""


@dataclass(frozen=True)
class _Counters:
    """Monotonic counters at one time; a sample holds their increase."""

    at: float
    machine: MachineTime | None
    own: OwnTime | None
    throttled: float | None
    thermal: int | None


class Watch:
    """Samples of the machine's state while the context is entered.

        with Watch(clock) as watch:
            ...
        report(watch.conditions())

    A value that the system does not report is None in each sample.

    Args:
        clock: returns the seconds since the benchmark began.
        interval_s: time between samples.
        gpu: NVML handle of the GPU to watch; None for no GPU.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        interval_s: float = INTERVAL_S,
        gpu: Any | None = None,
    ) -> None:
        self._clock = clock
        self._interval = interval_s
        self._affinity = affinity_cores()
        self._sensors = Sensors(self._affinity or tuple(range(usable_cores())))
        self._throttles = throttle_files()
        self._gpu = gpu
        self._samples: list[MachineSample] = []
        self._before: _Counters | None = None
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.cpu_s = 0.0
        """CPU time spent on sampling, in seconds."""

    def __enter__(self) -> Self:
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Wait for the last sample until its interval is over: a shorter one would be noisy."""
        self._leaving.set()
        self._thread.join()

    def conditions(self) -> Conditions:
        """Return the samples so far and the disturbances in them."""
        samples = tuple(self._samples)
        return Conditions(samples, find_disturbances(samples, self.cores))

    @property
    def cores(self) -> int:
        """Number of watched cores: those this process may run on."""
        return len(self._affinity) or usable_cores()

    def _run(self) -> None:
        due = time.monotonic() + self._interval
        last = False
        while not last:
            # After a suspend, missed samples are not made up for.
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic()) + self._interval
            last = self._leaving.is_set()
            self._sample()

    def _sample(self) -> None:
        begin = time.thread_time()
        sensors, now, gpu = self._sensors, self._counters(), self._gpu
        before, self._before = self._before or now, now
        others, own, steal = _load(before, now)
        throttled = _increase(before.throttled, now.throttled)
        thermal = _increase(before.thermal, now.thermal)
        self._samples.append(
            MachineSample(
                at_s=self._clock(),
                mhz=sensors.mhz(),
                temperature_c=sensors.temperature_c(),
                others=others,
                own=own,
                steal=steal,
                throttled_ms=None if throttled is None else throttled * 1e3,
                thermal_events=None if thermal is None else int(thermal),
                available_mb=available_mb(),
                on_battery=sensors.on_battery(),
                gpu_mhz=None if gpu is None else nvidia.clock_mhz(gpu),
                gpu_temperature_c=None if gpu is None else nvidia.temperature_c(gpu),
                gpu_busy=None if gpu is None else nvidia.utilization(gpu),
            )
        )
        self.cpu_s += time.thread_time() - begin

    def _counters(self) -> _Counters:
        # Own time is subtracted from the machine's, so both are read next to each other.
        return _Counters(
            at=time.monotonic(),
            machine=machine_time(self._affinity),
            own=own_time(),
            throttled=throttled_s(self._throttles),
            thermal=self._sensors.thermal_events(),
        )


def _load(before: _Counters, now: _Counters) -> tuple[float | None, float | None, float | None]:
    """Return cores busy with other processes, cores busy with this benchmark, and steal."""
    if before.machine is None or now.machine is None or now.at <= before.at:
        return None, None, None
    passed = now.at - before.at
    steal = max(0.0, now.machine.steal - before.machine.steal) / passed
    if now.machine.total <= before.machine.total:  # a sandbox whose kernel does not count
        return None, None, None
    if before.own is None or now.own is None:
        return None, None, steal
    if not INHERITS_CHILD_TIME and before.own.living - now.own.living:
        return None, None, steal
    own = max(0.0, now.own.seconds - before.own.seconds) / passed
    busy = (now.machine.busy - before.machine.busy) / passed
    return max(0.0, busy - own), own, steal


def _increase(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None else max(0.0, now - before)

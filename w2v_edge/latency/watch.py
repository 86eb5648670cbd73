"""A look at the machine, twice a second, while a benchmark runs on it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from w2v_edge.latency import nvidia
from w2v_edge.latency.conditions import Conditions, Sample
from w2v_edge.latency.cpu_time import MachineTime, OwnTime, machine_time, own_time
from w2v_edge.latency.disturbances import find_disturbances
from w2v_edge.latency.processor import affinity_cores
from w2v_edge.latency.sensors import Sensors, available_mb
from w2v_edge.providers.machine import throttle_files, throttled_s, usable_cores

INTERVAL_S = 0.5
"""Clocks of CPU time tick 100 times a second: over half of one, that is 2 % of a core."""

KEEPS_ACCOUNT = sys.platform != "win32"
"""Whether a process's time is its parent's once it has ended."""


@dataclass(frozen=True)
class _Counters:
    """What only grows, at one time: a sample has what it grew by."""

    at: float
    machine: MachineTime | None
    own: OwnTime | None
    throttled: float | None
    thermal: int | None


class Watch:
    """Samples of the machine's state from entering to leaving the context.

        with Watch(clock) as watch:
            ...
        report(watch.conditions())

    A source that the system does not have, or keeps to itself, is None in each sample.

    Args:
        clock: seconds since the benchmark began.
        interval_s: time from one sample to the next.
    """

    def __init__(self, clock: Callable[[], float], interval_s: float = INTERVAL_S) -> None:
        self._clock = clock
        self._interval = interval_s
        self._affinity = affinity_cores()
        self._sensors = Sensors(self._affinity or tuple(range(usable_cores())))
        self._throttles = throttle_files()
        self._gpu = next(iter(nvidia.handles()), None)
        self._samples: list[Sample] = []
        self._before: _Counters | None = None
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.cpu_s = 0.0
        """CPU time that the samples themselves took."""

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
        """Take the last sample when its interval is over: a shorter one would say little."""
        self._leaving.set()
        self._thread.join()

    def conditions(self) -> Conditions:
        """Return the samples so far, and what was too much in them."""
        samples = tuple(self._samples)
        return Conditions(samples, find_disturbances(samples, self.cores))

    @property
    def cores(self) -> int:
        """Cores whose load is watched: those that this process may run on."""
        return len(self._affinity) or usable_cores()

    def _run(self) -> None:
        due = time.monotonic() + self._interval
        last = False
        while not last:
            # A machine that slept does not get the samples that it missed.
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic()) + self._interval
            last = self._leaving.is_set()
            self._sample()

    def _sample(self) -> None:
        begin = time.thread_time()
        sensors, now = self._sensors, self._counters()
        before, self._before = self._before or now, now
        others, own, steal = _load(before, now)
        throttled = _grown(before.throttled, now.throttled)
        thermal = _grown(before.thermal, now.thermal)
        self._samples.append(
            Sample(
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
                gpu_mhz=None if self._gpu is None else nvidia.clock_mhz(self._gpu),
                gpu_temperature_c=None if self._gpu is None else nvidia.temperature_c(self._gpu),
                gpu_busy=None if self._gpu is None else nvidia.busy(self._gpu),
            )
        )
        self.cpu_s += time.thread_time() - begin

    def _counters(self) -> _Counters:
        # The machine's time and the own time are subtracted: they are read next to each other.
        return _Counters(
            at=time.monotonic(),
            machine=machine_time(self._affinity),
            own=own_time(),
            throttled=throttled_s(self._throttles),
            thermal=self._sensors.thermal_events(),
        )


def _load(before: _Counters, now: _Counters) -> tuple[float | None, float | None, float | None]:
    """Return cores kept busy by others and by this benchmark, and cores taken by the host."""
    if before.machine is None or now.machine is None or now.at <= before.at:
        return None, None, None
    passed = now.at - before.at
    steal = max(0.0, now.machine.steal - before.machine.steal) / passed
    if now.machine.total <= before.machine.total:  # a sandbox whose kernel does not count
        return None, None, None
    if before.own is None or now.own is None:
        return None, None, steal
    if not KEEPS_ACCOUNT and before.own.living - now.own.living:
        return None, None, steal
    own = max(0.0, now.own.seconds - before.own.seconds) / passed
    busy = (now.machine.busy - before.machine.busy) / passed
    return max(0.0, busy - own), own, steal


def _grown(before: float | None, now: float | None) -> float | None:
    return None if before is None or now is None else max(0.0, now - before)

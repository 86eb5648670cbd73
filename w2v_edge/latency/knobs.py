"""What `w2v-edge tune` tries, one thing at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from w2v_edge.providers import usable_cores
from w2v_edge.providers.table import TABLE
from w2v_edge.providers.tuning import Tuning

BATCHES = {"cpu": (0.0, 3.0, 12.0), "openvino": (0.0, 6.0, 40.0), "xnnpack": (0.0, 6.0, 40.0)}
ACCELERATOR_BATCHES = (0.0, 40.0, 80.0, 320.0)
"""Seconds of audio in a batch, besides those of `w2v_edge.runtime.model`."""

Spinning = Literal["in_runs", "never"]


@dataclass(frozen=True)
class Knob:
    """Something to set.

    Attributes:
        name: what it is called.
        values: those to try, as they are shown.
        set: gives a tuning another value.
    """

    name: str
    values: tuple[str, ...]
    set: Callable[[Tuning, str], Tuning]


def session_knobs(provider: str, threads: Sequence[int] = ()) -> list[Knob]:
    """Return what sessions may be opened with; what gains most is first.

    Args:
        provider: execution provider.
        threads: counts to try; none for powers of two and half of the cores.
    """
    cores = usable_cores()
    counts = threads or sorted({cores // 2, *(2**i for i in range(cores.bit_length()))})
    knobs = [
        Knob("threads", tuple(str(x) for x in counts if 0 < x < cores), _threads),
        *(_option(key, values) for key, values in TABLE[provider].tunable.items()),
    ]
    if provider == "cpu":
        # Other providers have threads of their own; those of the session only wait.
        knobs.append(Knob("spinning", ("in_runs", "never"), _spinning))
        knobs.append(Knob("block_base", ("4",), _block_base))
    return [knob for knob in knobs if knob.values]


def batch_knob(provider: str) -> Knob:
    """Return the knob of how much audio is run at once where a list is given."""
    values = BATCHES.get(provider, ACCELERATOR_BATCHES)
    return Knob("batch_seconds", tuple(f"{x:g}" for x in values), _batch_seconds)


def _threads(tuning: Tuning, value: str) -> Tuning:
    return replace(tuning, threads=int(value))


def _spinning(tuning: Tuning, value: str) -> Tuning:
    chosen: Spinning = "never" if value == "never" else "in_runs"
    return replace(tuning, spinning=chosen)


def _block_base(tuning: Tuning, value: str) -> Tuning:
    assert value == "4"
    return replace(tuning, block_base=4)


def _batch_seconds(tuning: Tuning, value: str) -> Tuning:
    return replace(tuning, batch_seconds=float(value))


def _option(key: str, values: tuple[str, ...]) -> Knob:
    def given(tuning: Tuning, value: str) -> Tuning:
        return replace(tuning, provider_options=tuning.provider_options | {key: value})

    return Knob(key, values, given)

"""The parameters that `w2v-edge tune` searches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from w2v_edge.providers import default_threads, usable_cores
from w2v_edge.providers.machine import is_arm64
from w2v_edge.providers.table import TABLE
from w2v_edge.providers.tuning import Tuning

BATCHES = {"cpu": (0.0, 3.0, 12.0), "openvino": (0.0, 6.0, 40.0), "xnnpack": (0.0, 6.0, 40.0)}
ACCELERATOR_BATCHES = (0.0, 40.0, 80.0, 320.0)
"""Candidate batch sizes in seconds of audio, besides the defaults of `w2v_edge.runtime.model`."""


@dataclass(frozen=True)
class Parameter:
    """A parameter with candidate values.

    Attributes:
        name: name of the parameter.
        values: candidate values, as text.
        set: returns a tuning with a value changed.
    """

    name: str
    values: tuple[str, ...]
    set: Callable[[Tuning, str], Tuning]


def session_parameters(provider: str, threads: Sequence[int] = ()) -> list[Parameter]:
    """Return the parameters of sessions, those with the largest gains first.

    Args:
        provider: execution provider.
        threads: numbers of threads; empty for powers of two, half of the cores, and all.
    """
    cores, default = usable_cores(), default_threads()
    counts = threads or sorted({cores // 2, cores, *(2**i for i in range(cores.bit_length()))})
    others = [count for count in counts if 0 < count <= cores and count != default]
    parameters = [
        Parameter("threads", tuple(str(x) for x in others), _threads),
        *(_option(key, values) for key, values in TABLE[provider].tunable.items()),
    ]
    if provider == "cpu":
        if is_arm64():
            parameters.append(Parameter("kleidiai", ("off",), _kleidiai))
        # Other providers have their own threads; those of the session are idle.
        parameters.append(Parameter("spinning", ("in_runs", "never"), _spinning))
        parameters.append(Parameter("block_base", ("4",), _block_base))
    return [parameter for parameter in parameters if parameter.values]


def batch_parameter(provider: str) -> Parameter:
    """Return the parameter of the batch size for lists, in seconds of audio."""
    values = BATCHES.get(provider, ACCELERATOR_BATCHES)
    return Parameter("batch_seconds", tuple(f"{x:g}" for x in values), _batch_seconds)


def _threads(tuning: Tuning, value: str) -> Tuning:
    return replace(tuning, threads=int(value))


def _spinning(tuning: Tuning, value: str) -> Tuning:
    return replace(tuning, spinning="never" if value == "never" else "in_runs")


def _kleidiai(tuning: Tuning, value: str) -> Tuning:
    return replace(tuning, kleidiai=value != "off")


def _block_base(tuning: Tuning, value: str) -> Tuning:
    return replace(tuning, block_base=4 if value == "4" else 0)


def _batch_seconds(tuning: Tuning, value: str) -> Tuning:
    return replace(tuning, batch_seconds=float(value))


def _option(key: str, values: tuple[str, ...]) -> Parameter:
    def with_value(tuning: Tuning, value: str) -> Tuning:
        return replace(tuning, provider_options=tuning.provider_options | {key: value})

    return Parameter(key, values, with_value)

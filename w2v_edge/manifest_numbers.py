"""Bounds of what a manifest says, so that no program that believes it runs out of memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from w2v_edge.errors import ConfigError

HIGHEST_RATE = 10_000_000
"""Hz."""

LONGEST_SPAN = 2**24
"""Samples that a frame sees, or from one frame to the next."""

LARGEST_FILE = 2**50
"""Bytes."""

GEOMETRY = {
    "sample_rate": (1, HIGHEST_RATE),
    "hop": (1, LONGEST_SPAN),
    "receptive_field": (1, LONGEST_SPAN),
    "min_samples": (1, LONGEST_SPAN),
    "left_padding": (0, LONGEST_SPAN),
    "right_padding": (0, LONGEST_SPAN),
}
ADAPTER = {"layers": (1, 8), "kernel": (1, 64), "stride": (1, 64), "padding": (0, 64)}
"""Of the convolutions that a context network may end in."""

PARITY: dict[str, type] = {
    "passed": bool,
    "comparisons": int,
    "codes_compared": int,
    "codes_tied": int,
    "codes_wrong": int,
    "distinct_codes": list,
}


def check_range(where: str, found: Any, least: int, most: int) -> None:
    """Refuse what is no whole number from `least` to `most`.

    Raises:
        ConfigError: it is not.
    """
    whole = isinstance(found, int) and not isinstance(found, bool)
    if not whole or not least <= found <= most:
        raise ConfigError(
            f"{where}: expected a whole number from {least} to {most}, found {found!r:.40}"
        )


def check_config(config: Mapping[str, Any]) -> None:
    """Check the part of a model's configuration that times of frames are worked out from.

    Raises:
        ConfigError: it is not what a configuration has there.
    """
    context = config.get("context", {})
    if not isinstance(context, Mapping):
        raise ConfigError(f"config.context: expected a mapping, found {context!r:.40}")
    adapter = context.get("adapter")
    if adapter is None:
        return
    if not isinstance(adapter, Mapping):
        raise ConfigError(f"config.context.adapter: expected a mapping, found {adapter!r:.40}")
    for name, bounds in ADAPTER.items():
        check_range(f"config.context.adapter.{name}", adapter.get(name), *bounds)


def check_parity(parity: Mapping[str, Any]) -> None:
    """Check the part of a parity report that is shown.

    Raises:
        ConfigError: a figure is missing or of another type.
    """
    for name, kind in PARITY.items():
        if type(parity.get(name)) is not kind:
            raise ConfigError(
                f"parity.{name}: expected {kind.__name__}, found {parity.get(name)!r:.40}"
            )

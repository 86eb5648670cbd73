"""bfloat16: where the float32 graphs of a bundle with precision `bf16` are computed in it.

OpenVINO does so on its own CPU device, if its inference precision hint says so and the processor
has instructions for it. Without them OpenVINO would emulate bfloat16, slower than float32.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

from w2v_edge.providers.choice import Arithmetic, Execution
from w2v_edge.providers.instructions import instructions
from w2v_edge.providers.machine import ROOT
from w2v_edge.providers.table import TABLE, ProviderInfo

BF16: Literal["bf16"] = "bf16"
"""The precision of such bundles, and OpenVINO's name of the type."""

INSTRUCTIONS = ("avx512_bf16", "amx_bf16")
"""Instruction sets for bfloat16 that OpenVINO uses, by Linux's names in /proc/cpuinfo."""


def has_bfloat16(root: Path = ROOT) -> bool:
    """Whether this processor has bfloat16 instructions; False where /proc/cpuinfo is missing."""
    return any(name in instructions(root) for name in INSTRUCTIONS)


def why_float32(execution: Execution, running: ProviderInfo) -> str | None:
    """Return why a provider computes bf16 bundles in float32; None if it uses bfloat16.

    Args:
        execution: how the bundle is run.
        running: the provider that runs it.
    """
    device = execution.options_of(running).get("device_type", "CPU")
    if not running.bfloat16 or device != "CPU":
        name = next(name for name, row in TABLE.items() if row is running)
        where = f"provider {name!r}" + (f" on {device}" if device != "CPU" else "")
        return f"{where} does not compute in bfloat16, provider 'openvino' on the CPU does"
    if not has_bfloat16():
        return f"found no bfloat16 instructions on this processor ({' or '.join(INSTRUCTIONS)})"
    return None


def choose_arithmetic(execution: Execution, running: ProviderInfo) -> Arithmetic:
    """Return the type that a bf16 bundle is computed in, with a warning if it is float32."""
    why = why_float32(execution, running)
    if why is None:
        return "bf16"
    warnings.warn(
        f"this bundle was exported in bf16 and is computed in float32: {why}; results are at "
        "least as exact, and not faster",
        stacklevel=2,
    )
    return "f32"

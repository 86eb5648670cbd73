"""The provider that an export measures its graphs on: OpenVINO for bf16, the CPU's for all else."""

from __future__ import annotations

from dataclasses import replace

from w2v_edge.errors import ProviderError
from w2v_edge.names import Provider
from w2v_edge.providers import Execution, choose
from w2v_edge.providers.bfloat16 import BF16, INSTRUCTIONS, has_bfloat16


def measuring_provider(precision: str) -> Provider:
    """Return the name of the provider that computes a precision."""
    return "openvino" if precision == BF16 else "cpu"


def measuring_execution(precision: str) -> Execution:
    """Return how the graphs of a precision are run, with the default number of threads.

    Raises:
        ProviderError: bf16 cannot be computed here, so that nothing could be measured.
    """
    try:
        found = choose(measuring_provider(precision), None, allow_fallback=False)
    except ProviderError as error:
        raise ProviderError(f"--precision bf16 is measured on OpenVINO: {error}") from error
    if precision != BF16:
        return found
    if not has_bfloat16():
        raise ProviderError(
            "--precision bf16 is measured in bfloat16: found a processor without instructions for "
            f"it, expected {' or '.join(INSTRUCTIONS)} in /proc/cpuinfo; export on one that has "
            "them, or in another precision"
        )
    return replace(found, arithmetic=BF16)

"""Tensors for a graph, checked by name and shape: onnxruntime would broadcast what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle import TensorInfo
from w2v_edge.errors import InputError

LENGTHS: Mapping[str, str] = {"lengths": "samples", "frame_lengths": "frames"}
"""Inputs that say how much of an axis is valid, and that axis."""


def check_inputs(
    graph: str, expected: Sequence[TensorInfo], given: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Refuse tensors that do not belong together.

    Args:
        graph: its name, for the error.
        expected: the graph's inputs.
        given: tensors by name.

    Raises:
        InputError: a name is missing or too much, axes differ from those expected or from each
            other, a batch is empty, or a length is not between 0 and the size of its axis.
    """
    names = {tensor.name for tensor in expected}
    if names != given.keys():
        raise InputError(
            f"graph {graph!r}: found the inputs {_listed(given)}, expected {_listed(names)}"
        )
    sizes: dict[str, int] = {}
    for tensor in expected:
        shape = np.shape(given[tensor.name])
        if not _fits(shape, tensor.axes, sizes):
            known = (f"{axis}={sizes[axis]}" for axis in tensor.axes if axis in sizes)
            wanted = ", ".join(map(str, tensor.axes))
            told = f" with {', '.join(known)}" if sizes else ""
            raise InputError(
                f"graph {graph!r}: found {tensor.name!r} of shape {shape}, "
                f"expected ({wanted}){told}"
            )
    if sizes.get("batch") == 0:
        raise InputError(f"graph {graph!r}: found a batch of no utterances, expected one or more")
    for name, axis in LENGTHS.items():
        if name in given and axis in sizes:
            _check_lengths(graph, name, given[name], axis, sizes[axis])


def _fits(shape: tuple[int, ...], axes: Sequence[int | str], sizes: dict[str, int]) -> bool:
    """Tell whether a shape has these axes; sizes of those that have names are noted."""
    if len(shape) != len(axes):
        return False
    found = [
        sizes.setdefault(axis, size) if isinstance(axis, str) else axis
        for size, axis in zip(shape, axes, strict=True)
    ]
    return tuple(found) == shape


def _check_lengths(graph: str, name: str, lengths: npt.NDArray[Any], axis: str, size: int) -> None:
    low, high = int(np.min(lengths)), int(np.max(lengths))
    if low < 0 or high > size:
        found = low if low < 0 else high
        raise InputError(
            f"graph {graph!r}: found {found} in {name!r}, expected 0 to {size}, the {axis}"
        )


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"

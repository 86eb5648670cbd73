"""Checks of a graph's inputs by name and shape: onnxruntime would broadcast shapes that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from w2v_edge.bundle import TensorInfo
from w2v_edge.errors import InputError

LENGTHS: Mapping[str, str] = {"lengths": "samples", "frame_lengths": "frames"}
"""Inputs that hold valid lengths, and the axis that they refer to."""


def check_inputs(graph: str, expected: Sequence[TensorInfo], given: Mapping[str, Any]) -> None:
    """Check that tensors fit a graph and each other.

    Args:
        graph: its name, for the error.
        expected: the graph's inputs.
        given: by name, numpy arrays or `onnxruntime.OrtValue`s. A batch of 0 rows is allowed.

    Raises:
        InputError: a name is missing or unknown, axes differ from those expected or from each
            other, or a length is not between 0 and the size of its axis.
    """
    names = {tensor.name for tensor in expected}
    if names != given.keys():
        raise InputError(
            f"graph {graph!r}: found the inputs {_listed(given)}, expected {_listed(names)}"
        )
    sizes: dict[str, int] = {}
    for tensor in expected:
        shape = _shape(given[tensor.name])
        if not _fits(shape, tensor.axes, sizes):
            known = (f"{axis}={sizes[axis]}" for axis in tensor.axes if axis in sizes)
            wanted = ", ".join(map(str, tensor.axes))
            where = f" with {', '.join(known)}" if sizes else ""
            raise InputError(
                f"graph {graph!r}: found {tensor.name!r} of shape {shape}, "
                f"expected ({wanted}){where}"
            )
    for name, axis in LENGTHS.items():
        if name in given and axis in sizes:
            _check_lengths(graph, name, given[name], axis, sizes[axis])


def _shape(tensor: Any) -> tuple[int, ...]:
    shape = tensor.shape
    return tuple(shape() if callable(shape) else shape)


def _fits(shape: tuple[int, ...], axes: Sequence[int | str], sizes: dict[str, int]) -> bool:
    """Whether a shape has these axes; the sizes of named axes are recorded."""
    if len(shape) != len(axes):
        return False
    found = [
        sizes.setdefault(axis, size) if isinstance(axis, str) else axis
        for size, axis in zip(shape, axes, strict=True)
    ]
    return tuple(found) == shape


def _check_lengths(graph: str, name: str, lengths: Any, axis: str, size: int) -> None:
    values = lengths if isinstance(lengths, np.ndarray) else lengths.numpy()
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > size:
        found = low if low < 0 else high
        raise InputError(
            f"graph {graph!r}: found {found} in {name!r}, expected 0 to {size}, the {axis}"
        )


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"

"""The weights that the graphs of a bundle hold in fewer bits, as float32 again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge_export.weight_quantization.four_bits import CENTRE

Arrays = Mapping[str, npt.NDArray[Any]]


def stored_weight(
    initializers: Arrays, name: str, shape: tuple[int, ...]
) -> npt.NDArray[np.float32] | None:
    """Return a quantized weight as its float original is laid out; None where it is not stored.

    Args:
        initializers: of a graph.
        name: of the original, such as `context.blocks.0.attention.query.weight`.
        shape: of the original: (k, n), or (d, c, 1, kernel) of a grouped convolution.
    """
    if f"{name}.fp16" in initializers:
        return initializers[f"{name}.fp16"].astype(np.float32)
    if f"{name}.int4" in initializers:
        return _four_bits(initializers[f"{name}.int4"], initializers[f"{name}.scale"], shape)
    if f"{name}.int8" not in initializers:
        return None
    values = initializers[f"{name}.int8"].astype(np.float32)
    scale = initializers[f"{name}.scale"]
    if len(shape) == len(("d", "c", "height", "kernel")):
        return _first_of_band(values, shape)
    weight = values[: shape[0]] * scale
    if f"{name}.balance" in initializers:
        # Inputs are multiplied by it, a channel's alike in every frame of the window.
        balance = initializers[f"{name}.balance"]
        weight = weight * np.tile(balance, shape[0] // len(balance))[:, np.newaxis]
    return weight.astype(np.float32)


def _four_bits(
    packed: npt.NDArray[np.uint8], scale: npt.NDArray[np.float32], shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Unpack (n, blocks, bytes), two inputs a byte, to (k, n)."""
    values = np.stack([packed & 15, packed >> 4], axis=3).reshape(*packed.shape[:2], -1)
    blocks = (values.astype(np.float32) - CENTRE) * scale.reshape(*packed.shape[:2], 1)
    weight: npt.NDArray[np.float32] = blocks.reshape(len(packed), -1)[:, : shape[0]].T
    return weight


def _first_of_band(
    values: npt.NDArray[np.float32], shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """Read (d, c, 1, kernel) off the first frame's columns of a band, up to each one's scale."""
    outputs, width, _, kernel = shape
    first = values[:, : kernel * width, :width].reshape(-1, kernel, width, width)
    # (groups, kernel, in, out) -> (groups * out, in, 1, kernel)
    weight = first.transpose(0, 3, 2, 1).reshape(outputs, width, 1, kernel)
    return weight.astype(np.float32)

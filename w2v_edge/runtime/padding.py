"""Padding of tensors to lengths that a provider or a graph takes, and its removal from outputs.

`lengths` tells a graph which samples are valid, so the results are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle import FixedShape, Manifest, TensorInfo, Tensors
from w2v_edge.errors import InputError
from w2v_edge.runtime.encoding import FrameTimes

SHORTEST_BUCKET = 0.5
"""Seconds."""

Sizes = Mapping[str, int]
"""Lengths of axes by their names."""


def sizes_of(tensors: Sequence[TensorInfo], shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return the length of each named axis of tensors, given the shape of each by its name."""
    return {
        axis: size
        for tensor in tensors
        for axis, size in zip(tensor.axes, shapes[tensor.name], strict=True)
        if isinstance(axis, str)
    }


def choose_shape(graph: str, shapes: Sequence[FixedShape], sizes: Sizes) -> FixedShape:
    """Return the smallest fixed shape that holds tensors with these lengths of axes.

    Raises:
        InputError: they are larger than every shape.
    """
    for shape in shapes:
        if shape.holds(sizes):
            return shape
    axis = next(x for x in sizes if x != "batch")
    raise InputError(
        f"graph {graph!r}: found {sizes[axis]} {axis.replace('_', ' ')}, expected at most "
        f"{shapes[-1].axes[axis]}, the largest shape of this bundle; encode takes longer audio, or "
        "export with larger --samples"
    )


def pad_batches(
    tensors: Sequence[TensorInfo], inputs: Tensors, shape: FixedShape
) -> Iterator[Tensors]:
    """Yield the rows of inputs in batches of a fixed shape, padded with zeros and empty rows."""
    rows = len(next(iter(inputs.values())))
    for first in range(0, rows, shape.batch):
        yield {
            x.name: _padded(inputs[x.name][first : first + shape.batch], x, shape) for x in tensors
        }


def _padded(values: npt.NDArray[Any], tensor: TensorInfo, shape: FixedShape) -> npt.NDArray[Any]:
    wanted = [x if isinstance(x, int) else shape.axes[x] for x in tensor.axes]
    if list(values.shape) == wanted:
        return values
    padded = np.zeros(wanted, values.dtype)
    padded[tuple(map(slice, values.shape))] = values
    return padded


def bucket_samples(samples: int, sample_rate: int) -> int:
    """Return the padded length of a waveform for providers that compile or tune for each length.

    Lengths are 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, ... seconds: the padding is at most half of the
    samples, and an hour has 26 lengths.
    """
    bucket = max(1, int(SHORTEST_BUCKET * sample_rate))
    while bucket < samples:
        if bucket * 3 // 2 >= samples:
            return bucket * 3 // 2
        bucket *= 2
    return bucket


def pad_to_bucket(inputs: Tensors, sample_rate: int) -> Tensors:
    """Pad waveforms to one of a few lengths; other inputs stay as they are."""
    waveform = inputs.get("waveform")
    if waveform is None or waveform.ndim != len(("batch", "samples")):
        return inputs
    samples = waveform.shape[1]
    more = bucket_samples(samples, sample_rate) - samples
    return inputs | {"waveform": np.pad(waveform, ((0, 0), (0, more)))}


def trim(manifest: Manifest, graph: str, outputs: Tensors, sizes: Sizes) -> Tensors:
    """Cut outputs to the rows and frames of inputs with these lengths of axes before padding."""
    kept = dict(sizes)
    if "samples" in kept:
        kept["frames"] = manifest.geometry.frames(kept["samples"])
    if "frames" in kept:
        frames = FrameTimes.of_manifest(manifest).context_frames(kept["frames"])
        kept["context_frames"] = frames
    return {
        tensor.name: outputs[tensor.name][tuple(slice(kept.get(str(axis))) for axis in tensor.axes)]
        for tensor in manifest.graphs[graph].outputs
    }

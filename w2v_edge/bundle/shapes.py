"""Fixed shapes: the lengths of all axes of a bundle's graphs, for devices that take no other.

Such a bundle has each graph once for every shape, in files `GRAPH-SAMPLES.onnx`. `lengths` stays an
input, so that shorter utterances are padded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from w2v_edge.bundle.geometry import Geometry
from w2v_edge.errors import ConfigError

MOST_SHAPES = 32

LARGEST_BATCH = 2**28
"""Maximum number of samples in a batch: 1 GB."""


@dataclass(frozen=True)
class FixedShape:
    """Length of each axis that other bundles leave open, by the axis' name.

    Attributes:
        batch: utterances.
        samples: of each utterance, padding included.
        frames: feature frames of these samples.
        context_frames: context frames of these frames.
    """

    batch: int
    samples: int
    frames: int
    context_frames: int

    @property
    def axes(self) -> dict[str, int]:
        """The lengths by the names of the axes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether tensors with these sizes of axes can be padded to this shape, batch aside."""
        return all(sizes[axis] <= self.axes[axis] for axis in sizes.keys() - {"batch"})


def file_stem(graph: str, shape: FixedShape | None) -> str:
    """Return the name of a graph's file without its ending; None for open axes."""
    return graph if shape is None else f"{graph}-{shape.samples}"


def check_shapes(shapes: Sequence[FixedShape], geometry: Geometry) -> None:
    """Check the shapes of a bundle.

    Raises:
        ConfigError: too many or too large, out of order, of several batch sizes, or without a
            frame.
    """
    if len(shapes) > MOST_SHAPES:
        raise ConfigError(f"shapes: expected at most {MOST_SHAPES}, found {len(shapes)}")
    last = 0
    for i, shape in enumerate(shapes):
        if min(shape.axes.values()) < 1 or shape.batch * shape.samples > LARGEST_BATCH:
            raise ConfigError(
                f"shapes[{i}]: expected lengths of at least 1, and at most {LARGEST_BATCH} samples "
                f"in a batch, found {shape.batch} x {shape.samples}"
            )
        if shape.samples <= last or shape.batch != shapes[0].batch:
            raise ConfigError(f"shapes[{i}]: expected one batch size, and more samples than before")
        if shape.frames != geometry.frames(shape.samples):
            raise ConfigError(
                f"shapes[{i}].frames: expected {geometry.frames(shape.samples)}, found "
                f"{shape.frames}"
            )
        if shape.context_frames > shape.samples:
            raise ConfigError(f"shapes[{i}].context_frames: more than samples")
        last = shape.samples

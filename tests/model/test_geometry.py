"""Frame geometry: the closed form equals the layers."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from w2v_edge.bundle.geometry import Geometry
from w2v_edge.model.padding import frame_lengths

Layer = tuple[int, int, int]


@st.composite
def convolutions(draw: st.DrawFn) -> list[Layer]:
    """Stacks of up to five (kernel, stride, padding)."""
    layers = []
    for _ in range(draw(st.integers(1, 5))):
        kernel = draw(st.integers(1, 12))
        padding = draw(st.integers(0, (kernel - 1) // 2))
        layers.append((kernel, draw(st.integers(1, 6)), padding))
    return layers


def _compose(layers: list[Layer], steps: int) -> int:
    """Return the number of outputs of the layers in turn."""
    for kernel, stride, padding in layers:
        steps = max(0, (steps + 2 * padding - kernel) // stride + 1) if steps else 0
    return steps


def _reach(layers: list[Layer], frame: int) -> tuple[int, int]:
    """The first and the last input step that an output sees, padding included."""
    first = last = frame
    for kernel, stride, padding in reversed(layers):
        first = first * stride - padding
        last = last * stride - padding + kernel - 1
    return first, last


@given(layers=convolutions(), samples=st.integers(0, 5000))
def test_frames_are_those_of_the_layers_in_turn(layers: list[Layer], samples: int) -> None:
    """The closed form gives the frames of the convolutions in turn."""
    assert Geometry.of_convolutions(layers).frames(samples) == _compose(layers, samples)


@given(layers=convolutions())
def test_min_samples_is_the_smallest_that_gives_a_frame(layers: list[Layer]) -> None:
    """One sample less than `min_samples` gives no frame."""
    geometry = Geometry.of_convolutions(layers)
    assert geometry.min_samples >= 1
    assert geometry.frames(geometry.min_samples) == 1
    assert geometry.frames(geometry.min_samples - 1) == 0


@given(layers=convolutions(), frame=st.integers(0, 50))
def test_a_frame_sees_what_the_geometry_says(layers: list[Layer], frame: int) -> None:
    """Hop, receptive field and left padding place each frame over the samples."""
    geometry = Geometry.of_convolutions(layers)
    start = frame * geometry.hop - geometry.left_padding
    assert _reach(layers, frame) == (start, start + geometry.receptive_field - 1)


@given(layers=convolutions(), samples=st.integers(0, 5000))
def test_the_formula_in_words_is_the_arithmetic(layers: list[Layer], samples: int) -> None:
    """The formula in the manifest gives the result of `frames`."""
    geometry = Geometry.of_convolutions(layers)
    names = {"floor": math.floor, "samples": samples}
    # The words happen to be a Python expression.
    condition, formula = geometry.formula.removeprefix("0 if ").split(" else ")
    said = 0 if eval(condition, {}, names) else eval(formula, {}, names)  # noqa: S307
    assert said == geometry.frames(samples)


@given(layers=convolutions(), lengths=st.lists(st.integers(0, 5000), max_size=8))
def test_frame_lengths_of_a_batch_are_those_of_its_utterances(
    layers: list[Layer], lengths: list[int]
) -> None:
    """The tensor form agrees with the scalar form at every length."""
    geometry = Geometry.of_convolutions(layers)
    found = frame_lengths(geometry, torch.tensor(lengths, dtype=torch.int64))
    assert found.tolist() == [geometry.frames(length) for length in lengths]
    assert found.dtype == torch.int64

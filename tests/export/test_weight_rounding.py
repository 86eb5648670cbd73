"""Weights become int8 values that no processor's sums saturate, and that suit real inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from w2v_edge.model import load_checkpoint
from w2v_edge_export import reference
from w2v_edge_export.weight_quantization.rounding import (
    DAMPING,
    LIMITS,
    Int8Weight,
    inverse_factor,
    round_weight,
)

Floats = npt.NDArray[np.float32]

PairsFit = Callable[[npt.NDArray[Any]], None]

KINDS = ("gaussian", "uniform", "heavy tails", "constant", "alternating", "one value")


def _draw(kind: str, inputs: int, outputs: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    shape = inputs, outputs
    signs = np.where(np.arange(inputs) % 2, -1.0, 1.0)[:, np.newaxis]
    drawn = {
        "gaussian": rng.standard_normal(shape),
        "uniform": rng.uniform(-1, 1, shape),
        "heavy tails": rng.standard_cauchy(shape),
        "constant": np.broadcast_to(rng.standard_normal(outputs), shape),
        "alternating": np.broadcast_to(rng.standard_normal(outputs), shape) * signs,
        "one value": np.arange(inputs)[:, np.newaxis] == rng.integers(0, inputs, outputs),
    }
    return torch.from_numpy(drawn[kind].astype(np.float32))


def _gram(kind: str, inputs: int, seed: int) -> Tensor | None:
    """Return a Gram matrix of inputs: correlated, rank-deficient, or zero."""
    rng = np.random.default_rng(seed)
    rows = {
        "correlated": rng.standard_normal((300, inputs)).cumsum(axis=1),
        "few": rng.standard_normal((2, inputs)),
        "silent": np.zeros((5, inputs)),
    }
    if kind not in rows:
        return None
    x = torch.from_numpy(rows[kind].astype(np.float32))
    return x.T @ x


# Around the block of inputs that are rounded together too.
weights = st.builds(
    _draw,
    st.sampled_from(KINDS),
    st.integers(1, 24) | st.integers(126, 131),
    st.integers(1, 5),
    st.integers(0, 99),
)


def _factor(gram: Tensor | None) -> Tensor | None:
    return None if gram is None else inverse_factor(gram)


@settings(max_examples=60)
@given(weights, st.sampled_from(["none", "correlated", "few", "silent"]), st.integers(-12, 12))
@example(_draw("constant", 7, 3, 0), "none", 0)
@example(_draw("gaussian", 1, 1, 0), "few", 0)
@example(_draw("heavy tails", 130, 4, 3), "correlated", 0)
def test_sums_of_pairs_never_saturate(
    assert_pairs_fit: PairsFit, weight: Tensor, gram: str, magnitude: int
) -> None:
    """Two neighbouring weights times two bytes never exceed 16 bits."""
    weight = weight * 10.0**magnitude
    rounded = round_weight(weight, _factor(_gram(gram, len(weight), 1)))
    assert rounded.values.dtype == torch.int8
    assert rounded.values.shape == weight.shape
    assert rounded.scale.shape == weight.shape[1:]
    assert torch.isfinite(rounded.scale).all()
    assert (rounded.scale > 0).all()
    assert_pairs_fit(rounded.values.numpy())


@settings(max_examples=30)
@given(weights)
def test_the_narrowest_range_fits_any_neighbours(
    assert_pairs_fit: PairsFit, weight: Tensor
) -> None:
    """Rounded to the first range, any two neighbours fit."""
    values = round_weight(weight, None, LIMITS[:1]).values
    for shift in range(1, min(4, len(values))):
        both = torch.stack([values, values.roll(shift, dims=0)], dim=1).flatten(0, 1)
        assert_pairs_fit(both.numpy())


@settings(max_examples=30)
@given(weights, st.sampled_from(["none", "correlated", "silent"]), st.data())
def test_silent_columns_stay_silent(weight: Tensor, gram: str, data: st.DataObject) -> None:
    """A column of zeros gives zeros and a finite scale, and the others are as without it."""
    column = data.draw(st.integers(0, weight.shape[1] - 1))
    factor = _factor(_gram(gram, len(weight), 2))
    before = round_weight(weight, factor)
    weight = weight.clone()
    weight[:, column] = 0
    rounded = round_weight(weight, factor)
    assert (rounded.values[:, column] == 0).all()
    assert torch.isfinite(rounded.scale).all()
    assert torch.isfinite(rounded.dequantized).all()
    others = [x for x in range(weight.shape[1]) if x != column]
    near = rounded.dequantized[:, others] - before.dequantized[:, others]
    assert (near.abs() <= 2 * before.scale[others]).all()


@settings(max_examples=40)
@given(weights)
def test_every_value_is_the_nearest(weight: Tensor) -> None:
    """With no inputs to go by, a value is off by half a step, or as its neighbour makes it."""
    rounded = round_weight(weight, None)
    values = rounded.values.to(torch.float64)
    steps = weight.to(torch.float64) / rounded.scale
    off = (values - steps).abs() > 0.5 + 1e-4
    first, second = values[: len(values) // 2 * 2].view(-1, 2, values.shape[1]).unbind(1)
    full = torch.zeros_like(off)
    # The second of a pair gives way, and no further than the sum of 128 asks for.
    full[1 : len(first) * 2 : 2] = (first * second >= 0) & ((first + second).abs() == 128)
    assert not (off & ~full).any()
    assert (values.abs() <= steps.abs() + 0.5 + 1e-4).all()


def _windows(x: Tensor, kernel: int, step: int) -> Tensor:
    """Lay `kernel` neighbouring frames of x (n, c) side by side, every `step` frames."""
    return x.unfold(0, kernel, step).transpose(1, 2).flatten(1)


@pytest.fixture(scope="session")
def inputs(
    speech: dict[str, Floats], checkpoint: Callable[[str], Path]
) -> Callable[[str], tuple[Tensor, Tensor]]:
    """`inputs(kind)`: inputs (r, k) of products on speech, for rounding and for testing."""

    def windows_of(kind: str, clip: Floats) -> Tensor:
        if kind == "samples":
            return _windows(torch.from_numpy(clip).unsqueeze(1), 33, 16)
        model = load_checkpoint(checkpoint("base-small"))
        return _windows(
            torch.from_numpy(reference.encode(model, clip).arrays["features"].astype(np.float32)),
            3,
            1,
        )

    def make(kind: str) -> tuple[Tensor, Tensor]:
        seen = [windows_of(kind, clip) for clip in speech.values()]
        halves = [(x[: len(x) // 2], x[len(x) // 2 :]) for x in seen]
        first, second = (torch.cat(x) for x in zip(*halves, strict=True))
        return first, second

    return make


def _power(rows: Tensor, rounded: Int8Weight, weight: Tensor) -> Tensor:
    """Return the power of the error of each output on rows of inputs."""
    return (rows @ (rounded.dequantized - weight)).square().mean(dim=0)


@pytest.mark.parametrize(("kind", "gain"), [("samples", 4), ("features", 1.2)])
def test_errors_make_up_for_each_other(
    kind: str, gain: float, inputs: Callable[[str], tuple[Tensor, Tensor]]
) -> None:
    """Going by real inputs, outputs on other speech suffer less than with each value rounded."""
    rows, others = inputs(kind)
    weight = _draw("gaussian", rows.shape[1], 64, 5)
    simple, careful = round_weight(weight, None), round_weight(weight, _factor(rows.T @ rows))
    assert _power(rows, careful, weight).sum() * gain < _power(rows, simple, weight).sum()
    assert _power(others, careful, weight).sum() * gain < _power(others, simple, weight).sum()


@settings(max_examples=20)
@given(weights, st.sampled_from(["none", "correlated"]))
def test_each_column_has_the_better_range(weight: Tensor, gram: str) -> None:
    """Of two ranges, no column is worse off than with either alone."""
    assume(weight.any(dim=0).all())
    given_gram = _gram(gram, len(weight), 3)
    metric = torch.eye(len(weight))
    if given_gram is not None:
        metric = given_gram + DAMPING * given_gram.diagonal().mean() * metric

    def cost(*ranges: int) -> Tensor:
        error = (round_weight(weight, _factor(given_gram), ranges).dequantized - weight).double()
        return (error * (metric.double() @ error)).sum(dim=0)

    narrow, wide = LIMITS[0], LIMITS[-1]
    best = torch.minimum(cost(narrow), cost(wide))
    assert (cost(narrow, wide) <= best * 1.001 + 1e-12 * metric.diagonal().max()).all()


def test_more_ranges_help_on_speech(inputs: Callable[[str], tuple[Tensor, Tensor]]) -> None:
    """The two ranges tried of all six are nearly as good as all six tried."""
    rows, _ = inputs("features")
    weight = _draw("gaussian", rows.shape[1], 64, 5)
    factor = inverse_factor(rows.T @ rows)
    each = torch.stack([_power(rows, round_weight(weight, factor, [x]), weight) for x in LIMITS])
    found = _power(rows, round_weight(weight, factor), weight).sum()
    assert found < 1.01 * each.amin(dim=0).sum()
    assert found < 0.95 * each[0].sum()

"""Units: codes without repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import w2v_edge
from w2v_edge import data
from w2v_edge.runtime.units import Units

CODES = st.integers(1, 3).flatmap(
    lambda groups: st.lists(st.lists(st.integers(0, 2), min_size=groups, max_size=groups)).map(
        lambda rows: np.array(rows, dtype=np.int64).reshape(-1, groups)
    )
)


@given(CODES)
def test_durations_give_the_codes_back(codes: Any) -> None:
    """No two neighbours are equal in all groups, and every frame is in a unit."""
    units = Units.of(codes)
    np.testing.assert_array_equal(units.repeated(), codes)
    assert units.codes.dtype == units.durations.dtype == np.int64
    assert units.codes.shape == (len(units.durations), codes.shape[1])
    assert (units.durations > 0).all()
    assert (units.codes[1:] != units.codes[:-1]).any(axis=1).all()


def test_a_unit_lasts_while_all_groups_do() -> None:
    """A change in one group begins a unit."""
    units = Units.of(np.array([[7, 1], [7, 1], [7, 2], [8, 2], [8, 2]]))
    assert units.codes.tolist() == [[7, 1], [7, 2], [8, 2]]
    assert units.durations.tolist() == [2, 1, 2]


def test_a_model_gives_units(speech: dict[str, Any]) -> None:
    """Those of its codes, for one recording and for lists."""
    model = w2v_edge.load(data.TINY_INT8)
    waveforms = [x[:30_000] for x in list(speech.values())[:2]]
    codes = model.tokenize(waveforms)
    units = model.tokenize(waveforms, deduplicate=True)
    for found, expected in zip(units, codes, strict=True):
        np.testing.assert_array_equal(found.repeated(), expected)
    one = model.tokenize(waveforms[0], deduplicate=True)
    np.testing.assert_array_equal(one.codes, units[0].codes)


def test_a_model_without_codes_has_no_units(ctc_bundle: Any) -> None:
    """The error is that of codes."""
    with pytest.raises(w2v_edge.W2VEdgeError, match="no quantizer"):
        w2v_edge.load(ctc_bundle).tokenize(np.zeros(16_000, np.float32), deduplicate=True)

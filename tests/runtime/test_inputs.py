"""Tensors that do not fit each other are refused before onnxruntime runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import w2v_edge
from w2v_edge import Model, data
from w2v_edge.errors import InputError


@pytest.fixture(scope="module")
def model() -> Model:
    """The one that ships."""
    return w2v_edge.load(data.TINY_INT8)


def _batch(rows: int, samples: int, *lengths: int) -> dict[str, Any]:
    return {
        "waveform": np.zeros((rows, samples), np.float32),
        "lengths": np.array(lengths, np.int64),
    }


def test_inputs_that_do_not_fit_are_refused(model: Model) -> None:
    """Inputs that do not fit are one line with what was found and expected."""
    cases: list[tuple[dict[str, Any], str]] = [
        (_batch(2, 8000, 9000, 8000), "found 9000 in 'lengths', expected 0 to 8000, the samples"),
        (_batch(2, 8000, -5, 8000), "found -5 in 'lengths'"),
        (_batch(2, 8000, 8000), r"'lengths' of shape \(1,\), expected \(batch\) with batch=2"),
        (_batch(2, 8000, 8000, 8000, 8000), r"'lengths' of shape \(3,\)"),
        (
            {"waveform": np.zeros(8000, np.float32), "lengths": np.array([8000])},
            r"'waveform' of shape \(8000,\), expected \(batch, samples\)",
        ),
        ({"waveform": np.zeros((1, 8000), np.float32)}, "inputs waveform, expected lengths, wav"),
        ({**_batch(1, 8000, 8000), "more": np.zeros(1)}, "inputs lengths, more, waveform"),
        ({}, "inputs none"),
    ]
    for given, words in cases:
        with pytest.raises(InputError, match=words) as refused:
            model.run("tokenizer", **given)
        assert "\n" not in str(refused.value)


def test_frames_are_checked(model: Model) -> None:
    """Width and valid lengths of features are checked."""
    features = np.zeros((1, 10, 128), np.float32)
    with pytest.raises(InputError, match=r"expected \(batch, frames, 128\)"):
        model.run("quantizer", features=features[:, :, :64])
    with pytest.raises(InputError, match="found 11 in 'frame_lengths', expected 0 to 10"):
        model.run("context", features=features, frame_lengths=np.array([11]))
    assert model.run("context", features=features, frame_lengths=np.array([10]))


def test_fitting_inputs_run(model: Model) -> None:
    """Rows may have any valid length, also 0."""
    found = model.run("tokenizer", **_batch(2, 8000, 0, 8000))
    assert found["frame_lengths"].tolist() == [0, 24]

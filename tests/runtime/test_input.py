"""Waveforms: valid ones in any form are accepted, invalid ones are refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import w2v_edge
from w2v_edge import Model
from w2v_edge.errors import InputError, SampleRateError

GOOD = (np.sin(np.arange(4_000) / 9) / 2).astype(np.float32)


def _with(value: float, at: int = 7) -> npt.NDArray[np.float32]:
    spoilt = GOOD.copy()
    spoilt[at] = value
    return spoilt


BAD: dict[str, tuple[Any, str]] = {
    "empty": (GOOD[:0], "0 samples.*400"),
    "ten samples": (GOOD[:10], "10 samples.*400"),
    "nan": (_with(np.nan), "nan at sample 7.*finite"),
    "inf": (_with(np.inf), "inf at sample 7.*finite"),
    "beyond float32": (_with(1.0).astype(np.float64) * 1e300, "inf at sample.*finite"),
    "integers as floats": (GOOD * 6e4, r"\[-1, 1\].*32768"),
    "no axis": (GOOD[0], r"shape \(\)"),
    "one row": (GOOD[None], r"shape \(1, 4000\)"),
    "stereo": (np.stack([GOOD, GOOD], axis=1), r"shape \(4000, 2\).*average"),
    "path": ("speech.wav", "path 'speech.wav'.*AudioFile"),
    "three axes": (GOOD[None, None], r"shape \(1, 1, 4000\)"),
    "int32": (np.zeros(4_000, np.int32), "int32.*int16"),
    "uint8": (np.zeros(4_000, np.uint8), "uint8.*int16"),
    "uint16": (np.zeros(4_000, np.uint16), "uint16.*int16"),
    "bool": (GOOD > 0, "bool.*int16"),
    "complex": (GOOD + 0j, "complex64.*int16"),
    "times": (np.zeros(4_000, "datetime64[s]"), "datetime64"),
    "objects": (np.array([GOOD, GOOD[:9]], dtype=object), "ndarray, expected an array"),
    "ragged numbers": ([0.5, [0.5]], "expected an array of samples"),
    "ragged within a list": ([[0.5, [0.5]]], "expected an array of samples"),
    "ragged within a list's list": ([[[0.5], [0.5, 0.5]]], "expected an array of samples"),
    "text": ("speech.wav", "expected"),
    "texts": (["a.wav", "b.wav"], "expected"),
    "bytes": (b"\0\0" * 4_000, "expected"),
    "none": (None, "expected"),
    "list of none": ([None], "expected"),
    "a mapping": ({"waveform": GOOD}, "expected"),
    "a generator": ((x for x in GOOD), "expected"),
    "one bad of two": ([GOOD, GOOD[:10]], "10 samples.*400"),
}


@pytest.fixture(scope="session")
def model(bundle: Callable[[str], Path]) -> Model:
    """A model with a receptive field of 400 samples."""
    return w2v_edge.load(bundle("base-small"))


def test_invalid_waveforms(model: Model) -> None:
    """Anything but a finite 1-D waveform in range is refused in one line."""
    for waveform, words in BAD.values():
        for call in (model.encode, model.tokenize):
            with pytest.raises(InputError, match=words) as refused:
                call(waveform)
            assert "\n" not in str(refused.value)
            assert len(str(refused.value)) < 300
            assert isinstance(refused.value, ValueError)


def test_invalid_sample_rates(model: Model) -> None:
    """A sample rate is a whole number of Hz within bounds."""
    cases: list[Any] = [
        0,
        -16_000,
        8_000.0,
        15_999.5,
        float("nan"),
        "16000",
        True,
        [8_000],
        {},
        10**12,
    ]
    for rate in cases:
        with pytest.raises(SampleRateError, match=r"sample rate") as refused:
            model.encode(GOOD, sample_rate=rate)
        assert "\n" not in str(refused.value)


def test_floats_of_any_kind(model: Model) -> None:
    """Other precisions, byte orders, strides and lists give the results of float32."""
    cases: list[Callable[[Any], Any]] = [
        lambda x: x.astype(np.float64),
        lambda x: x.astype(">f4"),
        lambda x: np.repeat(x, 2)[::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: x.tolist(),
        list,
        lambda x: x.astype(np.longdouble),
    ]
    expected = model.encode(GOOD)
    for convert in cases:
        assert np.array_equal(model.encode(convert(GOOD)).context, expected.context)


def test_int16_is_scaled(model: Model) -> None:
    """16-bit PCM is divided by 32768."""
    pcm = np.round(GOOD * 32767).astype(np.int16)
    pcm[:2] = (-32768, 32767)
    expected = model.encode(pcm.astype(np.float32) / 32768)
    for waveform in (pcm, np.repeat(pcm, 2)[::2], pcm.astype(pcm.dtype.newbyteorder())):
        assert np.array_equal(model.encode(waveform).context, expected.context)


def test_silence_and_clipping(model: Model) -> None:
    """Digital silence and clipped audio are accepted."""
    for waveform in (np.zeros(4_000, np.float32), GOOD * 8):
        assert np.isfinite(model.encode(waveform).context).all()


def test_an_encoding_prints_shapes(model: Model) -> None:
    """An encoding in an interactive session is one line, however long the audio."""
    encoding = model.encode(GOOD)
    assert f"context: {encoding.context.shape}" in repr(encoding)
    assert "layers" not in repr(encoding)
    assert len(repr(encoding)) < 300


def test_an_empty_list(model: Model) -> None:
    """A list of no waveforms gives a list of no results."""
    assert model.encode([]) == []
    assert model.tokenize([]) == []

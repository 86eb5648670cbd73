"""Embeddings: alone, in batches, of long audio, and their cosine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import w2v_edge
from w2v_edge import AudioFile, Model, Window, data
from w2v_edge.errors import HeadMissingError, InputError
from w2v_edge.runtime.embedding import cosine

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def model(voice_bundle: Path) -> Model:
    """A bundle with mean and standard deviation of the context."""
    return w2v_edge.load(voice_bundle)


def test_one_or_several(model: Model, speech: dict[str, Floats], tmp_path: Path) -> None:
    """A waveform, a file and a list give (dim,) float32: those of `encode`, in any batch."""
    clip = speech["es-demo-abouttotry"]
    waveforms = [clip[:n] for n in (16_000, 15_999, 400, 16_320)] + [clip]
    alone = [model.embed(x) for x in waveforms]
    assert {(x.shape, x.dtype) for x in alone} == {((96,), np.dtype(np.float32))}
    spread = float(np.std(alone, axis=0).mean())
    for found, wanted in zip(model.embed(waveforms), alone, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4 * spread, rtol=0)
    for waveform, wanted in zip(waveforms, alone, strict=True):
        embedding: Any = model.encode(waveform).embedding
        np.testing.assert_array_equal(embedding, wanted)
    soundfile.write(tmp_path / "a.wav", clip, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(model.embed(AudioFile(tmp_path / "a.wav", 16_000)), alone[-1])
    assert model.embed([]) == []


@settings(max_examples=10)
@given(st.lists(st.integers(400, 9_000), min_size=1, max_size=3), st.integers(0, 100_000))
def test_any_lengths(lengths: list[int], start: int) -> None:
    """Whatever else is in the batch."""
    model, clip = EXAMPLES
    waveforms = [clip[start : start + n] for n in lengths]
    for found, waveform in zip(model.embed(waveforms), waveforms, strict=True):
        alone = model.embed(waveform)
        np.testing.assert_allclose(found, alone, atol=1e-4 * alone.std(), rtol=0)


@pytest.fixture(scope="module", autouse=True)
def examples(model: Model, speech: dict[str, Floats]) -> None:
    """Give hypothesis what fixtures cannot."""
    EXAMPLES[:] = [model, np.concatenate(list(speech.values()))]


EXAMPLES: list[Any] = []


def test_long_recordings(model: Model, speech: dict[str, Floats]) -> None:
    """In windows, mean and deviation are over the frames of all of them."""
    clip, window = speech["es-demo-abouttotry"], Window(step=2, left=1, right=1)
    pieces = [x.context for x in model.encode_blocks(clip, window=window)]
    context = np.concatenate(pieces).astype(np.float64)
    wanted = np.concatenate([context.mean(axis=0), context.std(axis=0, ddof=1)])
    np.testing.assert_allclose(model.embed(clip, window=window), wanted, atol=1e-5)
    assert np.abs(model.embed(clip) - wanted).max() > 1e-3


def test_models_without_an_embedding() -> None:
    """The error names what gives one, whatever the audio."""
    with pytest.raises(HeadMissingError, match=r"no embedding.*--pool mean.*WavLMForXVector"):
        w2v_edge.load(data.TINY_INT8).embed([])


def test_audio_that_cannot_be_used(model: Model) -> None:
    """Errors are those of `encode`, and name the item of a list."""
    with pytest.raises(InputError, match=r"item 1 of the list"):
        model.embed([np.zeros(400, np.float32), np.zeros(399, np.float32)])
    with pytest.raises(InputError, match="nan"):
        model.embed(np.full(400, np.nan, np.float32))


def test_cosine() -> None:
    """It is that of the angle, at any scale; what has no direction is refused."""
    assert cosine([3.0, 4.0], [4.0, 3.0]) == pytest.approx(0.96)
    for scale in (1e-30, 1e30, 5e-324, 1e308):
        assert cosine([scale, 0.0], [0.0, scale]) == 0
        assert cosine([scale, scale], [1.0, 1.0]) == pytest.approx(1)
        assert cosine([scale, scale], [-1.0, -1.0]) == pytest.approx(-1)
    for wrong, words in (
        ([0.0, 0.0], "zeros"),
        ([], "zeros"),
        ([1.0, np.nan], "not finite"),
        ([np.inf, 1.0], "not finite"),
        ([1.0, 2.0, 3.0], "2 and 3"),
        ([[1.0, 2.0]], r"\(1, 2\)"),
    ):
        with pytest.raises(InputError, match=words):
            cosine([1.0, 1.0], wrong)

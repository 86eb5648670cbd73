"""Lists of recordings: the order is kept, memory is bounded, and batches change no result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import w2v_edge
from w2v_edge import Model
from w2v_edge.audio import Waveform
from w2v_edge.errors import InputError
from w2v_edge.runtime.recordings import (
    MAX_PADDING,
    Audio,
    AudioSource,
    Batch,
    batches,
    plan_batches,
    prepare,
)

Floats = npt.NDArray[np.float32]


@dataclass
class _Source:
    """A waveform that is read in blocks."""

    waveform: Floats

    def blocks(self) -> Iterator[Waveform]:
        yield from np.array_split(self.waveform, 3)


@pytest.fixture(scope="session")
def loaded(bundle: Callable[[str], Path]) -> Callable[[str], Model]:
    """`loaded(name)`: a small model."""
    return lambda name: w2v_edge.load(bundle(name))


@pytest.fixture(scope="session")
def clip(speech: dict[str, Floats]) -> Floats:
    """Eight seconds of speech."""
    return speech["en-demo-abouttotry"][: 8 * 16_000]


@given(lengths=st.lists(st.integers(1, 100_000), max_size=40), samples=st.integers(1, 300_000))
def test_batches_are_bounded(lengths: list[int], samples: int) -> None:
    """Each utterance is in one batch, within the limits of batch size and padding."""
    planned = plan_batches(lengths, samples)
    assert sorted(i for batch in planned for i in batch) == list(range(len(lengths)))
    for batch in planned:
        size = len(batch) * max(lengths[i] for i in batch)
        total = sum(lengths[i] for i in batch)
        assert len(batch) == 1 or size <= samples
        assert size - total <= MAX_PADDING * size + 1e-6


@pytest.mark.parametrize("name", ["tutorial-small", "base-small", "large-small"])
@settings(max_examples=8)
@given(lengths=st.lists(st.integers(400, 40_000), max_size=9))
def test_a_list_is_one_after_the_other(
    name: str, lengths: list[int], loaded: Callable[[str], Model], clip: Floats
) -> None:
    """A list of any lengths gives a list in the same order, with the results of single calls."""
    model = loaded(name)
    waveforms = [clip[i * 1_000 : i * 1_000 + n] for i, n in enumerate(lengths)]
    encodings, codes = model.encode(waveforms), model.tokenize(tuple(waveforms))
    features = model.features(waveforms)
    assert isinstance(features, list)
    for waveform, encoding, tokens, latent in zip(
        waveforms, encodings, codes, features, strict=True
    ):
        alone = model.encode(waveform)
        for array in ("features", "context"):
            found, expected = getattr(encoding, array), getattr(alone, array)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, expected.std()))
        np.testing.assert_allclose(encoding.times, alone.times)
        assert np.array_equal(encoding.codes, alone.codes)  # type: ignore[arg-type]
        assert np.array_equal(tokens, model.tokenize(waveform))
        expected = model.features(waveform)
        np.testing.assert_allclose(latent, expected, atol=1e-4 * max(1, expected.std()))


def test_batches_in_int8(int8_bundle: Callable[[str], Path], clip: Floats) -> None:
    """In int8, a batch changes results by rounding only."""
    model = w2v_edge.load(int8_bundle("base-small"))
    waveforms = [clip[i * 3_000 : i * 3_000 + 16_000 + 100 * i] for i in range(12)]
    for found, waveform in zip(model.encode(waveforms), waveforms, strict=True):
        alone = model.encode(waveform)
        norms = np.linalg.norm(found.context, axis=1) * np.linalg.norm(alone.context, axis=1)
        assert ((found.context * alone.context).sum(axis=1) / norms).min() >= 0.9999
        assert np.mean(found.codes == alone.codes) >= 0.999


def test_texts_of_many(ctc_bundle: Path, clip: Floats) -> None:
    """Transcriptions of a list are those of single calls."""
    model = w2v_edge.load(ctc_bundle)
    waveforms = [clip[i * 3_000 : i * 3_000 + 16_000 + 50 * i] for i in range(8)]
    alone = [model.transcribe(waveform).text for waveform in waveforms]
    assert [found.text for found in model.transcribe(waveforms)] == alone
    assert len(set(alone)) > 4


def test_short_and_long_in_one_list(loaded: Callable[[str], Model], clip: Floats) -> None:
    """Recordings run in blocks, whole, or from a source keep their place in the list."""
    model = loaded("large-small")
    long = np.resize(clip, 61 * 16_000)
    audio: list[Audio] = [clip[:8_000], long, _Source(clip[:9_000]), clip[:7_000]]
    lengths = [len(codes) for codes in model.tokenize(audio)]
    assert lengths == [model.manifest.geometry.frames(n) for n in (8_000, len(long), 9_000, 7_000)]


def test_no_more_is_read_ahead_than_allowed(
    loaded: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recordings are read as batches are taken, within the limit of buffered audio."""
    monkeypatch.setattr("w2v_edge.runtime.recordings.BUFFERED_SECONDS", 1.0)
    read = 0

    class Counted(_Source):
        def blocks(self) -> Iterator[Waveform]:
            nonlocal read
            read += 1
            return super().blocks()

    sources: list[AudioSource] = [Counted(np.zeros(1_600, np.float32)) for _ in range(100)]
    recordings = prepare(sources, None, loaded("base-small").manifest)
    assert read == 0
    taken = 0
    for batch in batches(recordings, max_samples=16_000, batch_samples=4_800):
        assert isinstance(batch, Batch)
        taken += len(batch.indices)
        assert taken <= read <= taken + 10
    assert taken == read == 100


def test_invalid_items_are_named(loaded: Callable[[str], Model], clip: Floats) -> None:
    """Waveforms are checked before any is run, and the error names the item."""
    model = loaded("base-small")
    with pytest.raises(InputError, match="item 2 of the list"):
        model.encode([clip, clip, clip[:10]])
    assert model.placement == {}
    assert model.encode([]) == []
    assert model.tokenize(()) == []

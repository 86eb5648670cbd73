"""Many recordings at once: order kept, memory bounded, and results those of one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from w2v_edge.runtime.recordings import ArraySource, Audio, BatchLimits, map_batches, plan

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="session")
def loaded(bundle: Callable[[str], Path]) -> Callable[[str], Model]:
    """`loaded(name)`: a small model."""
    return lambda name: w2v_edge.load(bundle(name))


@pytest.fixture(scope="session")
def clip(speech: dict[str, Floats]) -> Floats:
    """Eight seconds of speech."""
    return speech["en-demo-abouttotry"][: 8 * 16_000]


@given(
    lengths=st.lists(st.integers(1, 100_000), max_size=40),
    samples=st.integers(1, 300_000),
    padding=st.floats(0, 0.5),
)
def test_batches_are_bounded(lengths: list[int], samples: int, padding: float) -> None:
    """Each utterance is in one batch, and no batch is larger or emptier than allowed."""
    batches = plan(lengths, BatchLimits(samples, padding))
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        total = sum(lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= samples
        assert len(batch) * longest - total <= padding * len(batch) * longest + 1e-6


@pytest.mark.parametrize("name", ["tutorial-small", "base-small", "large-small"])
@settings(max_examples=8)
@given(lengths=st.lists(st.integers(400, 40_000), max_size=9))
def test_a_list_is_one_after_the_other(
    name: str, lengths: list[int], loaded: Callable[[str], Model], clip: Floats
) -> None:
    """A list of any lengths gives a list in its order, each as if it were alone."""
    model = loaded(name)
    waveforms = [clip[i * 1_000 : i * 1_000 + n] for i, n in enumerate(lengths)]
    encodings, codes = model.encode(waveforms), model.tokenize(tuple(waveforms))
    assert len(encodings) == len(codes) == len(waveforms)
    for waveform, encoding, tokens in zip(waveforms, encodings, codes, strict=True):
        alone = model.encode(waveform)
        for array in ("features", "context"):
            found, expected = getattr(encoding, array), getattr(alone, array)
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, expected.std()))
        np.testing.assert_allclose(encoding.times, alone.times)
        assert np.array_equal(encoding.codes, alone.codes)  # type: ignore[arg-type]
        assert np.array_equal(tokens, model.tokenize(waveform))


def test_in_int8_too(int8_bundle: Callable[[str], Path], clip: Floats) -> None:
    """With weights of 8 bits, company leaves at most flips of rounding."""
    model = w2v_edge.load(int8_bundle("base-small"))
    waveforms = [clip[i * 3_000 : i * 3_000 + 16_000 + 100 * i] for i in range(12)]
    for found, waveform in zip(model.encode(waveforms), waveforms, strict=True):
        alone = model.encode(waveform)
        norms = np.linalg.norm(found.context, axis=1) * np.linalg.norm(alone.context, axis=1)
        assert ((found.context * alone.context).sum(axis=1) / norms).min() >= 0.9999
        assert np.mean(found.codes == alone.codes) >= 0.999


def test_texts_of_many(ctc_bundle: Path, clip: Floats) -> None:
    """Transcriptions of a batch are those of its utterances."""
    model = w2v_edge.load(ctc_bundle)
    waveforms = [clip[i * 3_000 : i * 3_000 + 16_000 + 50 * i] for i in range(8)]
    alone = [model.transcribe(waveform).text for waveform in waveforms]
    assert [found.text for found in model.transcribe(waveforms)] == alone
    assert len(set(alone)) > 4


def test_short_and_long_in_one_list(loaded: Callable[[str], Model], clip: Floats) -> None:
    """What is run in pieces, whole, or read from a source keeps its place."""
    model = loaded("large-small")
    long = np.resize(clip, 61 * 16_000)
    audio: list[Audio] = [clip[:8_000], long, ArraySource(clip[:9_000], 16_000), clip[:7_000]]
    lengths = [len(codes) for codes in model.tokenize(audio)]
    assert lengths == [model.manifest.geometry.frames(n) for n in (8_000, len(long), 9_000, 7_000)]


def test_no_more_is_read_ahead_than_allowed() -> None:
    """Waveforms are asked for as results are taken, within the limit of what may wait."""
    asked = 0

    def waveforms() -> Iterator[Waveform]:
        nonlocal asked
        for _ in range(100):
            asked += 1
            yield np.zeros(1_000, np.float32)

    limits = BatchLimits(samples=3_000, waiting=10_000)
    results = map_batches(lambda batch: [len(x) for x in batch], waveforms(), limits)
    for taken, length in enumerate(results, start=1):
        assert length == 1_000
        assert asked <= taken + 10
    assert asked == 100


def test_an_item_that_is_wrong_is_named(loaded: Callable[[str], Model], clip: Floats) -> None:
    """Waveforms are checked before any is run, and the error says which one it is."""
    model = loaded("base-small")
    with pytest.raises(InputError, match="item 2 of the list"):
        model.encode([clip, clip, clip[:10]])
    assert model.placement == {}
    assert model.encode([]) == []
    assert model.tokenize(()) == []

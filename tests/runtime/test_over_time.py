"""Classes over time: windows of a recording are utterances of their own."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import w2v_edge
from w2v_edge import AudioFile, Model, data
from w2v_edge.bundle import read_manifest
from w2v_edge.errors import HeadMissingError, InputError
from w2v_edge.runtime.over_time import Hops
from w2v_edge.runtime.recordings import Recording

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def model(voice_bundle: Path) -> Model:
    """A classifier of utterances."""
    return w2v_edge.load(voice_bundle)


def test_each_window_is_an_utterance(
    model: Model, speech: dict[str, Floats], tmp_path: Path
) -> None:
    """Scores and times are those of `classify` of its samples; the last ends with the recording."""
    clip = speech["es-demo-abouttotry"][: 16_000 * 7 + 1_234]
    found: Any = model.classify(clip, every=1.5, window=2.0)
    assert found.starts.tolist() == [0.0, 1.5, 3.0, 4.5, len(clip) / 16_000 - 2]
    np.testing.assert_allclose(found.ends - found.starts, 2)
    for i, start in enumerate(np.round(found.starts * 16_000).astype(int)):
        alone: Any = model.classify(clip[start : start + 32_000])
        np.testing.assert_allclose(found.scores[i], alone.scores, atol=1e-5)
        assert found[i].label == found.labels[found.indices[i]] == alone.label
    assert len({found[i].label for i in range(len(found))} | {"sad", "angry"}) >= 2
    assert np.ptp(found.scores, axis=0).max() > 0.05
    soundfile.write(tmp_path / "a.wav", clip, 16_000, subtype="FLOAT")
    file: Any = model.classify(AudioFile(tmp_path / "a.wav", 16_000), every=1.5, window=2.0)
    np.testing.assert_array_equal(file.scores, found.scores)
    both: Any = model.classify([clip, clip[:400]], every=1.5, window=2.0)
    np.testing.assert_array_equal(both[0].scores, found.scores)
    assert model.classify([], every=1.0) == []


def test_a_recording_shorter_than_a_window(model: Model, speech: dict[str, Floats]) -> None:
    """It is one window: what `classify` gives, by default for up to 5 s."""
    clip = speech["en-conf-getpin"]
    found: Any = model.classify(clip, every=1.0)
    alone: Any = model.classify(clip)
    np.testing.assert_array_equal(found.scores[0], alone.scores)
    assert (found.starts.tolist(), found.ends.tolist()) == ([0.0], [len(clip) / 16_000])
    longer: Any = model.classify(speech["es-demo-abouttotry"], every=6.0)
    np.testing.assert_allclose(longer.ends - longer.starts, 6)


@given(
    st.integers(400, 30_000),
    st.integers(320, 12_000),
    st.integers(400, 12_000),
    st.integers(50, 9_000),
)
def test_windows_cover_a_recording(samples: int, hop: int, length: int, block: int) -> None:
    """Starts are multiples of the hop, all but the last; blocks of any size change nothing."""
    waveform: Floats = np.arange(1, samples + 1, dtype=np.float32) / np.float32(2**15)

    class Blocks:
        def blocks(self) -> Iterator[Floats]:
            yield from (waveform[i : i + block] for i in range(0, samples, block))

    manifest = read_manifest(data.TINY_INT8)
    hops = Hops.of(hop / 16_000, length / 16_000, manifest)
    found = [(start, x.copy()) for start, x in hops.cut(Recording(Blocks(), manifest))]
    size = min(length, samples)
    for i, (start, window) in enumerate(found):
        assert start == (i * hop if i * hop + length <= samples else samples - size)
        np.testing.assert_array_equal(window, waveform[start : start + size])
    starts = [start for start, _ in found]
    assert starts == sorted(set(starts))
    # Nothing is left behind the last window but what is shorter than the gap between two.
    assert samples - (starts[-1] + size) <= max(0, hop - length)


def test_hours_are_classified_in_flat_memory(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source of two hours is held for no longer than a window and a block."""

    class Hours:
        def blocks(self) -> Iterator[Floats]:
            block = np.zeros(160_000, np.float32)
            for i in range(720):
                block[:] = i / 1000
                yield block

    def logits(_: Any, graph: str, inputs: dict[str, Any]) -> dict[str, Any]:
        assert graph == "encoder"
        first = inputs["waveform"][:, :5]
        return {"logits": first, "frame_lengths": inputs["lengths"]}

    monkeypatch.setattr("w2v_edge.runtime.session.Session.run", logits)
    tracemalloc.start()
    found: Any = model.classify(Hours(), every=1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found) == 7_196
    assert peak < 30e6


def test_what_is_refused(
    model: Model, speech: dict[str, Floats], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds out of range, models without the classifier, and a window of the other kind."""
    clip = speech["en-activated"]
    wrong: tuple[Any, ...] = (0, -1.0, 0.001, float("nan"), float("inf"), "1s", True)
    for every in wrong:
        with pytest.raises(InputError, match=r"every: found.*at least 0\.02"):
            model.classify(clip, every=every)
    for window in (*wrong, 183.0, w2v_edge.Window(1, 0, 0)):
        with pytest.raises(InputError, match=r"window: found.*at least 0\.025 and at most 182"):
            model.classify(clip, every=1.0, window=cast("float", window))
    with pytest.raises(InputError, match="for a window"):
        model.classify(clip, window=cast("Any", 3.0))
    with pytest.raises(InputError, match=r"item 1 of the list"):
        model.classify([clip, clip[:10]], every=1.0)
    with pytest.raises(HeadMissingError):
        w2v_edge.load(data.TINY_INT8).classify(clip, every=1.0)
    frames = ("batch", "frames", "labels")
    monkeypatch.setitem(model.manifest.__dict__, "logits_axes", frames)
    with pytest.raises(InputError, match=r"classifies each frame.*leave every out"):
        model.classify(clip, every=1.0)

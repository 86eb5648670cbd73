"""Streams: frames equal those of the whole, for any blocks, as early as possible."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import w2v_edge
from w2v_edge import Encoding, Model
from w2v_edge.bundle import Tensors
from w2v_edge.errors import InferenceError, InputError
from w2v_edge.runtime.session import Session
from w2v_edge.runtime.statistics import RunningStatistics
from w2v_edge.runtime.stream import Stream
from w2v_edge.runtime.window import Window

Floats = npt.NDArray[np.float32]

MODELS = ("tutorial-small", "base-small", "large-small")
ARRAYS = ("features", "codes", "vectors", "times", "context", "context_times")
WINDOW = Window(step=0.2, left=1.0, right=0.1)


@pytest.fixture(scope="session")
def loaded(bundle: Callable[[str], Path]) -> Callable[[str], Model]:
    """`loaded(name)`: a small model."""
    return lambda name: w2v_edge.load(bundle(name))


@pytest.fixture(scope="session")
def talk(speech: dict[str, Floats]) -> Floats:
    """Twelve seconds of speech by several speakers."""
    return np.concatenate([clip[: 3 * 16_000] for clip in speech.values()])[: 12 * 16_000]


def _cut(waveform: Floats, sizes: Iterable[int]) -> list[Floats]:
    """Cut a waveform into blocks of these sizes, again and again."""
    blocks: list[Floats] = []
    sizes = list(sizes)
    while len(waveform):
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(waveform[:size])
        waveform = waveform[size:]
    return blocks


def _pushed(stream: Stream, blocks: Iterable[Floats]) -> dict[str, npt.NDArray[Any]]:
    """Push blocks and flush, and return all outputs as one."""
    pieces = [stream.push(block) for block in blocks]
    return _joined([*pieces, stream.flush()])


def _joined(pieces: list[Encoding]) -> dict[str, npt.NDArray[Any]]:
    return {x: np.concatenate([getattr(piece, x) for piece in pieces]) for x in ARRAYS}


sizes = st.lists(st.integers(1, 40_000), min_size=1, max_size=5).filter(lambda x: sum(x) > 500)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=12)
@given(sizes=sizes, samples=st.integers(1, 12 * 16_000))
@example(sizes=[1], samples=3_000)
@example(sizes=[100_000], samples=12 * 16_000)
@example(sizes=[320], samples=16_000)
@example(sizes=[50], samples=399)
def test_any_chunking_equals_the_whole(
    name: str, sizes: list[int], samples: int, loaded: Callable[[str], Model], talk: Floats
) -> None:
    """With frozen statistics, any blocks give the features and codes of the whole."""
    model, waveform = loaded(name), talk[:samples]
    frames = model.manifest.geometry.frames(samples)
    stream = model.stream(statistics=model.statistics(talk), context=False)
    found = _pushed(stream, _cut(waveform, sizes))
    assert len(found["features"]) == len(found["codes"]) == frames
    np.testing.assert_allclose(found["times"], model.times(frames))
    if not frames:
        return
    whole = model.stream(statistics=model.statistics(talk), context=False)
    expected = _pushed(whole, [waveform])
    deviation = np.abs(found["features"] - expected["features"]).max()
    assert deviation <= 1e-5 * expected["features"].std()
    assert np.array_equal(found["codes"], expected["codes"])
    if samples == len(talk):
        features = model.features(waveform)
        assert np.abs(found["features"] - features).max() <= 1e-5 * features.std()
        assert np.array_equal(found["codes"], model.tokenize(waveform))


def test_in_int8_too(int8_bundle: Callable[[str], Path], talk: Floats) -> None:
    """With weights of 8 bits, rounding flips hardly ever."""
    model = w2v_edge.load(int8_bundle("base-small"))
    stream = model.stream(statistics=model.statistics(talk), context=False)
    found = _pushed(stream, _cut(talk, [1_237, 320, 5]))
    features, codes = model.features(talk), model.tokenize(talk)
    norms = np.linalg.norm(features, axis=1) * np.linalg.norm(found["features"], axis=1)
    assert ((features * found["features"]).sum(axis=1) / norms).min() >= 0.9999
    assert (found["codes"] == codes).mean() >= 0.999


@pytest.mark.parametrize("name", ["base-small", "large-small"])
@settings(max_examples=8)
@given(sizes=sizes)
def test_context_does_not_depend_on_the_blocks(
    name: str, sizes: list[int], loaded: Callable[[str], Model], talk: Floats
) -> None:
    """Steps of context are the same for any blocks: each frame is given once, in order."""
    model, waveform = loaded(name), talk[:80_000]
    statistics = model.statistics(waveform)
    stream = model.stream(statistics=statistics, context=WINDOW)
    found = _pushed(stream, _cut(waveform, sizes))
    expected = _pushed(model.stream(statistics=statistics, context=WINDOW), [waveform])
    assert len(found["context"]) == len(found["features"]) == 249
    np.testing.assert_allclose(found["context"], expected["context"], atol=1e-4)
    np.testing.assert_allclose(found["context_times"], model.context_times(249))


@pytest.mark.parametrize("name", ["base-small", "large-small"])
def test_a_window_over_everything_is_full_attention(
    name: str, loaded: Callable[[str], Model], talk: Floats
) -> None:
    """Where the window sees all of the recording, context is that of `encode`."""
    model, waveform = loaded(name), talk[:80_000]
    window = Window(step=1.0, left=5.0, right=5.0)
    stream = model.stream(statistics=model.statistics(waveform), context=window)
    found = _pushed(stream, _cut(waveform, [5_000]))
    expected = model.encode(waveform)
    deviation = np.abs(found["context"] - expected.context).max()
    assert deviation <= 1e-4 * expected.context.std()


def test_context_sees_its_window_and_no_more(loaded: Callable[[str], Model], talk: Floats) -> None:
    """A step's context depends on its window only."""
    model = loaded("large-small")
    window = Window(step=0.4, left=0.6, right=0.2)  # 20, 30 and 10 frames
    waveform = talk[: 16_000 * 4]

    def context(samples: Floats) -> Floats:
        return _pushed(model.stream(context=window), [samples])["context"]

    expected = context(waveform)
    spoilt = waveform.copy()
    spoilt[100 * 320 + 200] += 0.5  # frame 100, and nothing beside it by more than its edges
    changed = np.flatnonzero(np.abs(context(spoilt) - expected).max(axis=1) > 1e-6)
    # Steps that begin at 80 to 130: 80 + 20 + 10 reaches 100, and so does 120 - 30.
    assert changed.min() in range(80, 100)
    assert changed.max() in range(100, 140)


@pytest.mark.parametrize("name", MODELS)
def test_frames_come_as_soon_as_they_are_final(
    name: str, loaded: Callable[[str], Model], talk: Floats
) -> None:
    """A frame is given with the last sample it sees, after the stated latency."""
    model = loaded(name)
    geometry = model.manifest.geometry
    stream = model.stream(statistics=model.statistics(talk), context=False)
    given = []
    for i in range(0, 2_400, 40):
        piece = stream.push(talk[i : i + 40])
        given += [(i + 40, time) for time in piece.times]
    for f, (samples, time) in enumerate(given):
        last = f * geometry.hop - geometry.left_padding + geometry.receptive_field
        assert samples - 40 < last <= samples
        assert last / 16 - 1000 * time == pytest.approx(stream.latency_ms, abs=0.1)
    assert len(given) >= 3


def test_latency_of_context_is_what_it_says(loaded: Callable[[str], Model], talk: Floats) -> None:
    """No frame of the context waits longer than stated, and the first of a step as long."""
    model = loaded("large-small")
    stream = model.stream(context=WINDOW)
    waits = []
    for i in range(0, 48_000, 80):
        piece = stream.push(talk[i : i + 80])
        waits += [(i + 80) / 16 - 1000 * time for time in piece.context_times]
    assert stream.context_latency_ms is not None
    assert max(waits) == pytest.approx(stream.context_latency_ms, abs=5.1)
    assert max(waits) > 1000 * (WINDOW.step + WINDOW.right) - 20


@settings(max_examples=8)
@given(sizes=sizes, period=st.sampled_from([0.25, 1.0, 3.0]))
def test_running_statistics_do_not_depend_on_the_blocks(
    sizes: list[int], period: float, loaded: Callable[[str], Model], talk: Floats
) -> None:
    """Running statistics are updated by audio time, for any blocks."""
    model = loaded("base-small")
    running = RunningStatistics(period)
    found = _pushed(model.stream(statistics=running, context=False), _cut(talk, sizes))
    expected = _pushed(model.stream(statistics=running, context=False), [talk])
    np.testing.assert_allclose(found["features"], expected["features"], atol=1e-4)
    assert len(found["features"]) == model.manifest.geometry.frames(len(talk))


def test_running_statistics_are_of_what_was_heard(
    loaded: Callable[[str], Model], talk: Floats
) -> None:
    """Frames of the first period wait for it and use its statistics; later ones, those before."""
    model = loaded("base-small")
    stream = model.stream(statistics=RunningStatistics(1.0), context=False)
    assert stream.start_ms == 1000
    assert len(stream.push(talk[:15_999]).features) == 0
    first = stream.push(talk[15_999:16_000]).features
    frozen = model.stream(statistics=model.statistics(talk[:16_000]), context=False)
    np.testing.assert_allclose(first, frozen.push(talk[:16_000]).features, atol=1e-5)
    # The second period still goes by the first, the third by both.
    second = stream.push(talk[16_000:32_000]).features
    np.testing.assert_allclose(second, frozen.push(talk[16_000:32_000]).features, atol=1e-5)
    third = stream.push(talk[32_000:48_000]).features
    frozen = model.stream(statistics=model.statistics(talk[:32_000]), context=False)
    frozen.push(talk[:32_000])
    np.testing.assert_allclose(third, frozen.push(talk[32_000:48_000]).features, atol=1e-5)


def test_a_short_stream_uses_what_there_is(loaded: Callable[[str], Model], talk: Floats) -> None:
    """A stream shorter than the first period gives the result of the whole."""
    model = loaded("base-small")
    found = _pushed(model.stream(statistics="running", context=True), [talk[:9_000]])
    expected = model.encode(talk[:9_000])
    np.testing.assert_allclose(found["features"], expected.features, atol=1e-5)
    np.testing.assert_allclose(found["context"], expected.context, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_flush_and_reset(name: str, loaded: Callable[[str], Model], talk: Floats) -> None:
    """After `flush` the stream is closed; after `reset` it starts again."""
    model = loaded(name)
    context = None if name == "tutorial-small" else True
    with model.stream(statistics="running", context=context) as stream:
        first = _pushed(stream, _cut(talk[:40_000], [3_000]))
        assert len(stream.flush().features) == 0
        with pytest.raises(InputError, match=r"reset\(\)"):
            stream.push(talk[:10])
        stream.reset()
        assert stream.samples == 0
        again = _pushed(stream, _cut(talk[:40_000], [7_000]))
    for x in ARRAYS:
        np.testing.assert_allclose(first[x], again[x], atol=1e-4)
    with pytest.raises(InputError, match=r"reset\(\)"):
        stream.push(talk[:10])


def test_empty_and_tiny_blocks(loaded: Callable[[str], Model], talk: Floats) -> None:
    """Empty blocks give empty frames of the right shape."""
    model = loaded("base-small")
    stream = model.stream(statistics="running", context=True)
    piece = stream.push(np.zeros(0, np.float32))
    assert piece.features.shape == (0, 32)
    assert piece.context.shape == (0, 48)
    assert piece.codes is not None
    assert piece.codes.shape == (0, 2)
    assert piece.codes.dtype == np.int64
    stream.push(talk[:399])
    assert len(stream.flush().features) == 0


def test_integers_and_a_block_that_is_filled_again(
    loaded: Callable[[str], Model], talk: Floats
) -> None:
    """A microphone's int16 block may be overwritten as soon as `push` returns."""
    model = loaded("large-small")
    pcm = np.round(talk[:32_000] * 32_767).astype(np.int16)
    stream, block, pieces = model.stream(), np.zeros(333, np.int16), []
    for begin in range(0, len(pcm), 333):
        part = pcm[begin : begin + 333]
        block[: len(part)] = part
        pieces.append(stream.push(block[: len(part)]))
        block[:] = 12_345
    found = _joined([*pieces, stream.flush()])
    assert np.array_equal(found["codes"], model.tokenize(pcm))


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_other_sample_rates(rate: int, loaded: Callable[[str], Model], talk: Floats) -> None:
    """A stream at another rate, in any blocks, is the recording resampled at once."""
    from w2v_edge.audio import resample

    model, given_at = loaded("large-small"), resample(talk, 16_000, rate)
    found = _pushed(model.stream(sample_rate=rate), _cut(given_at, [777, 3]))
    expected = model.tokenize(resample(given_at, rate, 16_000))
    assert np.array_equal(found["codes"], expected)
    for wrong in (0, 3, -16_000):
        with pytest.raises(InputError, match="sample rate"):
            model.stream(sample_rate=wrong)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_latency_at_other_rates(rate: int, loaded: Callable[[str], Model], talk: Floats) -> None:
    """No frame waits longer than stated, resampling included, and some nearly as long."""
    stream = loaded("large-small").stream(sample_rate=rate)
    block, waits = rate // 1_000, []
    for i in range(1_500):
        piece = stream.push(talk[i * block : (i + 1) * block])
        heard = (i + 1) * block / rate
        waits += [1000 * (heard - time) for time in piece.times]
    assert stream.latency_ms - 25 <= max(waits) <= stream.latency_ms + 1


def test_streams_of_one_model_are_apart(loaded: Callable[[str], Model], talk: Floats) -> None:
    """Two streams over one model, pushed to in turns, do not hear each other."""
    model = loaded("base-small")
    one, two = (model.stream(statistics="running") for _ in range(2))
    pieces: tuple[list[Encoding], list[Encoding]] = ([], [])
    for begin in range(0, 48_000, 4_000):
        pieces[0].append(one.push(talk[begin : begin + 4_000]))
        pieces[1].append(two.push(talk[96_000 + begin : 100_000 + begin]))
    alone = _pushed(model.stream(statistics="running"), _cut(talk[:48_000], [4_000]))
    assert np.array_equal(_joined([*pieces[0], one.flush()])["features"], alone["features"])
    alone = _pushed(model.stream(statistics="running"), _cut(talk[96_000:144_000], [4_000]))
    assert np.array_equal(_joined([*pieces[1], two.flush()])["features"], alone["features"])


def test_a_stream_that_failed_says_so(loaded: Callable[[str], Model], talk: Floats) -> None:
    """After a failed run, a stream is refused until it is reset."""
    model, failing = loaded("large-small"), [False]

    class Failing(Session):
        def run(self, graph: str, inputs: Tensors) -> Tensors:
            if failing[0]:
                raise InferenceError("no memory")
            return super().run(graph, inputs)

    stream = Stream(Failing(model.bundle, model.session.execution), None, None)
    stream.push(talk[:16_000])
    failing[0] = True
    with pytest.raises(InferenceError):
        stream.push(talk[16_000:32_000])
    failing[0] = False
    with pytest.raises(InputError, match=r"failed before.*reset"):
        stream.push(talk[:10])
    with pytest.raises(InputError, match=r"failed before.*reset"):
        stream.flush()
    stream.reset()
    assert len(stream.push(talk[:16_000]).features) == 49


def test_what_is_not_said_is_asked_for(loaded: Callable[[str], Model], talk: Floats) -> None:
    """Statistics must be chosen where they are needed; windows must be ones the model can have."""
    model = loaded("base-small")
    for statistics in (None, "frozen", np.ones(3, np.float32)):
        with pytest.raises(InputError, match=r"running.*model.statistics"):
            model.stream(statistics=statistics)
    with pytest.raises(InputError, match="tutorial"):
        loaded("tutorial-small").stream(context=True)
    longest = model.manifest.longest_context_seconds
    for window in ((0, 1, 1), (1, -1, 0), (1, 0, float("nan")), (longest, 1, 1)):
        with pytest.raises(InputError, match="found a window"):
            model.stream(statistics="running", context=Window(*window))
    with pytest.raises(InputError, match="period"):
        RunningStatistics(0.0)
    frozen = model.statistics(talk)
    for spoilt in (frozen * np.nan, -frozen, frozen[:, None]):
        with pytest.raises(InputError, match=f"needs {len(frozen)} statistics"):
            model.stream(statistics=spoilt)
    stream = loaded("large-small").stream(statistics="running")
    for samples in (np.zeros((2, 5), np.float32), np.array([np.nan]), np.zeros(3, np.int64)):
        with pytest.raises(InputError):
            stream.push(samples)
    assert len(stream.push(talk[:16_000]).features) == 49

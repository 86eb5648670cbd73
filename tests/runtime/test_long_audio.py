"""Recordings of any length: exact where that can be, in memory that does not grow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

import w2v_edge
from w2v_edge import AudioFile, Model
from w2v_edge.bundle import StatisticsInfo
from w2v_edge.errors import InputError, SampleRateError
from w2v_edge.runtime.statistics import GrowingStatistics
from w2v_edge.runtime.window import Window
from w2v_edge.text.decoding import GreedyDecoder

Floats = npt.NDArray[np.float32]

MODELS = ("tutorial-small", "base-small", "large-small")


@pytest.fixture(scope="session")
def loaded(bundle: Callable[[str], Path]) -> Callable[[str], Model]:
    """`loaded(name)`: a small model."""
    return lambda name: w2v_edge.load(bundle(name))


@pytest.fixture(scope="session")
def minutes(speech: dict[str, Floats]) -> Floats:
    """Two minutes of speech and a bit, with an offset."""
    clips = np.concatenate(list(speech.values()))
    return np.resize(clips, 120 * 16_000 + 777) * np.float32(0.9) + np.float32(0.01)


@dataclass
class _Source:
    """A waveform in blocks, like an audio file; counts its readings."""

    waveform: Floats
    size: int = 12_345
    readings: int = 0

    def blocks(self) -> Iterator[Floats]:
        self.readings += 1
        for begin in range(0, len(self.waveform), self.size):
            yield self.waveform[begin : begin + self.size].copy()


@pytest.mark.parametrize("name", MODELS)
def test_codes_and_features_are_exact(
    name: str, loaded: Callable[[str], Model], minutes: Floats
) -> None:
    """Minutes of audio, in memory or from a source, give the result of one run."""
    model = loaded(name)
    batch = {"waveform": minutes[None], "lengths": np.array([len(minutes)])}
    expected = model.run("encoder", **batch)["features"][0]
    codes = model.run("tokenizer", **batch)["codes"][0]
    for audio in (minutes, _Source(minutes)):
        features = model.features(audio)
        assert np.abs(features - expected).max() <= 1e-5 * expected.std()
        assert np.array_equal(model.tokenize(audio), codes)


def test_a_source_is_read_as_often_as_needed(
    loaded: Callable[[str], Model], minutes: Floats
) -> None:
    """Once for statistics where there are any, once for frames."""
    for name, seconds, readings in (
        ("large-small", 200, 1),
        ("base-small", 200, 2),
        # Up to the longest full-attention length it is in memory after the statistics.
        ("base-small", 120, 1),
    ):
        source = _Source(np.resize(minutes, seconds * 16_000))
        loaded(name).tokenize(source)
        assert source.readings == readings
    short = _Source(minutes[:80_000])
    loaded("base-small").tokenize(short)
    assert short.readings == 1


@pytest.mark.parametrize("name", ["base-small", "large-small"])
def test_windows_that_see_enough_are_near_full_attention(
    name: str, loaded: Callable[[str], Model], minutes: Floats
) -> None:
    """Windows give every frame once, at its time, and more to the sides brings them nearer."""
    model, waveform = loaded(name), minutes[: 40 * 16_000]
    expected = model.encode(waveform)
    far = []
    for side in (0.0, 8.0):
        found = model.encode(waveform, window=Window(step=8.0, left=side, right=side))
        assert found.context.shape == expected.context.shape
        for array in ("times", "context_times"):
            np.testing.assert_allclose(getattr(found, array), getattr(expected, array))
        assert np.array_equal(found.codes, expected.codes)  # type: ignore[arg-type]
        np.testing.assert_allclose(found.features, expected.features, atol=1e-4)
        far.append(np.abs(found.context - expected.context).mean())
    assert far[1] < far[0] < expected.context.std()


def test_beyond_the_longest_context(loaded: Callable[[str], Model], minutes: Floats) -> None:
    """Attention is windowed beyond `longest_context_seconds`, and only there."""
    model = loaded("base-small")
    longest = model.manifest.longest_context_seconds
    hours = np.resize(minutes, round((longest + 1) * 16_000))
    found = model.encode(hours)
    moved = model.encode(hours, window=Window(20, 5, 5))
    assert np.array_equal(found.context, moved.context)
    assert len(found.context) == len(found.features) == model.manifest.geometry.frames(len(hours))


def test_tutorial_refuses_windows(loaded: Callable[[str], Model], minutes: Floats) -> None:
    """The tutorial's attention cannot be windowed, so long audio is refused."""
    model = loaded("tutorial-small")
    longest = model.manifest.longest_context_seconds
    with pytest.raises(InputError, match=r"tutorial.*tokenize takes any length"):
        model.encode(np.resize(minutes, round((longest + 1) * 16_000)))
    with pytest.raises(InputError, match="tutorial"):
        model.encode(minutes, window=Window(20, 5, 5))
    pieces = list(model.encode_blocks(minutes, context=False))
    assert sum(len(piece.features) for piece in pieces) == len(model.features(minutes))


def test_blocks_are_the_long_encoding(loaded: Callable[[str], Model], minutes: Floats) -> None:
    """Concatenated, the blocks are `encode` with the same window."""
    model, window = loaded("base-small"), Window(8, 2, 2)
    expected = model.encode(minutes, window=window)
    pieces = list(model.encode_blocks(_Source(minutes), window=window))
    assert len(pieces) > 10
    for name in ("features", "context", "codes", "times", "context_times"):
        found = np.concatenate([getattr(piece, name) for piece in pieces])
        assert np.array_equal(found, getattr(expected, name)), name


def test_logits_and_text_of_long_recordings(ctc_bundle: Path, minutes: Floats) -> None:
    """A transcription by windows is that of the windows' logits in a row: times run on."""
    model, window = w2v_edge.load(ctc_bundle), Window(10, 4, 4)
    encoding = model.encode(minutes, window=window)
    assert encoding.logits is not None
    assert len(encoding.logits) == len(encoding.context)
    found = model.transcribe(_Source(minutes), window=window)
    assert 110 < found.words[-1].end <= len(minutes) / 16_000
    decoder = GreedyDecoder(model.spelling)
    assert found == decoder.decode(encoding.logits, model.context_frame_seconds)


@settings(max_examples=30)
@given(
    cuts=st.lists(st.integers(0, 20_000), max_size=6),
    kernel=st.integers(1, 12),
    most=st.none() | st.integers(36, 5_000),
)
def test_statistics_of_pieces(
    cuts: list[int], kernel: int, most: int | None, minutes: Floats
) -> None:
    """Merged statistics of chunks equal the recording's; a graph may take `most` samples."""
    stride = 5
    weight = np.random.default_rng(kernel).standard_normal((kernel, 3))

    def measure(samples: Floats) -> Floats:
        assert most is None or len(samples) <= most or len(samples) == len(waveform)
        windows = np.lib.stride_tricks.sliding_window_view(samples, kernel)[::stride] @ weight
        return np.concatenate([windows.mean(axis=0), windows.var(axis=0)]).astype(np.float32)

    waveform = minutes[: 20_000 + kernel]
    session = SimpleNamespace(
        manifest=SimpleNamespace(
            statistics=StatisticsInfo(True, 3, kernel, stride), most_samples=most
        ),
        run=lambda _, inputs: {"statistics": measure(inputs["waveform"][0])[np.newaxis]},
    )
    growing = GrowingStatistics(session)  # type: ignore[arg-type]
    for piece in np.split(waveform, sorted(cuts)):
        growing.add(piece)
    exact = waveform.astype(np.float64)
    expected = np.concatenate([[exact.mean(), exact.var()], measure(waveform)])
    np.testing.assert_allclose(growing.value(), expected, rtol=2e-5, atol=1e-8)


def test_statistics_are_those_of_the_graph(loaded: Callable[[str], Model], minutes: Floats) -> None:
    """`statistics` gives the result of statistics.onnx on the whole."""
    model = loaded("base-small")
    batch = {"waveform": minutes[None], "lengths": np.array([len(minutes)])}
    expected = model.run("statistics", **batch)["statistics"][0]
    for audio in (minutes, _Source(minutes)):
        assert np.array_equal(model.statistics(audio), expected)
    longer = np.resize(minutes, round((model.manifest.longest_context_seconds + 2) * 16_000))
    batch = {"waveform": longer[None], "lengths": np.array([len(longer)])}
    expected = model.run("statistics", **batch)["statistics"][0]
    np.testing.assert_allclose(model.statistics(longer), expected, rtol=1e-5, atol=1e-9)
    assert loaded("large-small").statistics(minutes).shape == (0,)


def test_normalised_group_norm_in_pieces(loaded: Callable[[str], Model], minutes: Floats) -> None:
    """Normalisation before a group norm gives the same in chunks."""
    model = loaded("base-normalised-small")
    assert model.manifest.statistics is not None
    assert model.manifest.statistics.waveform
    batch = {"waveform": minutes[None], "lengths": np.array([len(minutes)])}
    expected = model.run("encoder", **batch)["features"][0]
    found = model.features(_Source(minutes))
    assert np.abs(found - expected).max() <= 1e-5 * expected.std()


def test_too_short_a_source(loaded: Callable[[str], Model]) -> None:
    """A source without a frame is the error that a waveform would be, named in a list."""
    model = loaded("base-small")
    empty = _Source(np.zeros(0, np.float32))
    for call in (model.encode, model.tokenize, model.features):
        with pytest.raises(InputError, match="0 samples"):
            call(empty)
    with pytest.raises(InputError, match="0 samples"):
        list(model.encode_blocks(empty))
    with pytest.raises(InputError, match="item 1"):
        model.encode([_Source(np.ones(8_000, np.float32)), empty])


@pytest.mark.parametrize("seconds", [2, 70])
def test_blocks_of_a_source_are_checked(
    seconds: int, loaded: Callable[[str], Model], minutes: Floats
) -> None:
    """Blocks may be int16 or float64; anything but PCM is an error."""
    model, waveform = loaded("base-small"), minutes[: seconds * 16_000] * np.float32(0.5)
    pcm = np.round(waveform * 32_768).astype(np.int16)
    expected = model.tokenize(pcm)
    floats: Any = pcm.astype(np.float64) / 32_768
    for same in (_Source(pcm), _Source(floats)):  # type: ignore[arg-type]
        assert np.array_equal(model.tokenize(same), expected)
    spoilt = waveform.copy()
    spoilt[20_001] = np.nan
    with pytest.raises(InputError, match="nan at sample 20001"):
        model.tokenize(_Source(spoilt))
    for wrong in (waveform * 30_000, pcm.astype(np.int32), waveform[:, None]):
        with pytest.raises(InputError):
            model.encode(_Source(wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("seconds", [2, 70])
def test_a_block_may_be_filled_again(
    seconds: int, loaded: Callable[[str], Model], minutes: Floats
) -> None:
    """A source may reuse its buffer for every block."""

    class Reusing(_Source):
        def blocks(self) -> Iterator[Floats]:
            buffer = np.empty(self.size, np.float32)
            for block in super().blocks():
                buffer[: len(block)] = block
                yield buffer[: len(block)]
                buffer[:] = 0.5

    model, waveform = loaded("base-small"), minutes[: seconds * 16_000]
    assert np.array_equal(model.tokenize(Reusing(waveform)), model.tokenize(waveform))


def test_a_source_has_to_begin_anew(loaded: Callable[[str], Model], minutes: Floats) -> None:
    """One that can be read once, or is another the second time, is an error, not other codes."""

    class Once(_Source):
        def __init__(self, waveform: Floats) -> None:
            super().__init__(waveform)
            self.left = super().blocks()

        def blocks(self) -> Iterator[Floats]:
            return self.left

    class Shorter(_Source):
        def blocks(self) -> Iterator[Floats]:
            self.waveform = self.waveform[: 3 * len(self.waveform) // 4]
            return super().blocks()

    class Other(_Source):
        def blocks(self) -> Iterator[Floats]:
            self.waveform = self.waveform[::-1]
            return super().blocks()

    longer = np.resize(minutes, 300 * 16_000)
    silence = np.zeros_like(longer)
    for source in (Once(longer), Once(silence), Shorter(longer), Other(longer)):
        with pytest.raises(InputError, match="start from the beginning"):
            loaded("base-small").tokenize(source)
    # A model without statistics reads it once.
    large = loaded("large-small")
    assert np.array_equal(large.tokenize(Once(minutes)), large.tokenize(minutes))


def test_a_source_of_another_rate(loaded: Callable[[str], Model], tmp_path: Path) -> None:
    """A file opened for another model's rate is refused, and so is a rate beside a source."""
    soundfile.write(tmp_path / "clip.wav", np.zeros(16_000), 16_000)
    model = loaded("base-small")
    with pytest.raises(SampleRateError, match=r"8000 Hz.*model\.sample_rate"):
        model.tokenize(AudioFile(tmp_path / "clip.wav", 8_000))
    with pytest.raises(InputError, match="leave it out"):
        model.tokenize(AudioFile(tmp_path / "clip.wav", 16_000), 44_100)
    with (
        soundfile.SoundFile(tmp_path / "clip.wav") as file,
        pytest.raises(InputError, match="AudioFile"),
    ):
        model.tokenize(file)
    with pytest.raises(InputError, match="one at a time"):
        model.statistics([np.zeros(16_000)] * 2)  # type: ignore[arg-type]


def test_a_long_item_that_fails_is_named(loaded: Callable[[str], Model], minutes: Floats) -> None:
    """An error late in a list item names the item."""
    spoilt = minutes.copy()
    spoilt[100 * 16_000] = np.inf
    with pytest.raises(InputError, match=r"item 1 of the list: .*sample 1600000"):
        loaded("large-small").tokenize([minutes, _Source(spoilt)])


def test_invalid_windows(loaded: Callable[[str], Model], minutes: Floats) -> None:
    """Invalid windows are refused at once, for recordings of any length."""
    model, clip = loaded("base-small"), minutes[:16_000]
    too_long = Window(1_000, 1, 1)
    for window in ((1, 1, 1), too_long):
        with pytest.raises(InputError, match="window"):
            model.encode(clip, window=window)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="window"):
            model.stream(statistics="running", context=window)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="window"):
            model.encode_blocks(clip, window=window)  # type: ignore[arg-type]
    model.encode(clip, window=Window(np.float32(0.3), np.int64(1), 0))  # type: ignore[arg-type]


PEAK = """
import resource, sys
import numpy as np
import w2v_edge
from w2v_edge.runtime.window import Window

class Source:
    def __init__(self, seconds):
        self.seconds = seconds
    def blocks(self):
        noise = np.random.default_rng(0)
        for _ in range(self.seconds):
            yield (0.1 * noise.standard_normal(16_000)).astype(np.float32)

model = w2v_edge.load(sys.argv[1], threads=1)
task, window = getattr(model, sys.argv[2]), Window(8, 2, 2)
held = task(Source(int(sys.argv[3])), window=window)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.parametrize("task", ["tokenize", "encode"])
def test_memory_does_not_grow(task: str, bundle: Callable[[str], Path]) -> None:
    """Half an hour needs the memory of two minutes, plus its frames."""

    def peak(seconds: int) -> int:
        command = [sys.executable, "-c", PEAK, str(bundle("base-small")), task, str(seconds)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return 1024 * int(output)

    frames = 50 * 1_800
    row: dict[str, Any] = {"tokenize": 2 * 8, "encode": 4 * (32 + 48 + 2 * 16) + 2 * 8 + 2 * 8}
    assert peak(1_800) <= 1.1 * peak(120) + frames * row[task]

"""The microphone, with an object in place of sounddevice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from w2v_edge.cli import live
from w2v_edge.errors import InputError

RATE, SIZE = 16_000, 160


class PortAudioError(Exception):
    pass


@pytest.fixture
def recording(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """`recording(*blocks)`: a microphone that gives blocks of (ADC seconds, overflow), then ends.

    A block None is the end that PortAudio reports; without it the device falls silent.
    """
    closed = []

    def make(*blocks: tuple[float, bool] | None, error: Exception | None = None) -> Any:
        class InputStream:
            def __init__(self, **options: Any) -> None:
                self.options = options

            def start(self) -> None:
                if error is not None:
                    raise error
                for number, block in enumerate(blocks):
                    if block is None:
                        self.options["finished_callback"]()
                        continue
                    at, overflow = block
                    data = np.full((SIZE, 1), number + 1, np.float32)
                    times = SimpleNamespace(inputBufferAdcTime=at)
                    status = SimpleNamespace(input_overflow=overflow)
                    self.options["callback"](data, SIZE, times, status)

            def close(self) -> None:
                closed.append(True)

        module = SimpleNamespace(InputStream=InputStream, PortAudioError=PortAudioError)
        monkeypatch.setitem(sys.modules, "sounddevice", module)
        return live.microphone(None, RATE, SIZE)

    yield make
    assert closed


def test_lost_samples_become_silence(
    recording: Callable[..., Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Lost samples are replaced by silence and reported, so that times stay correct."""
    with recording((5.0, False), (5.01, False), (5.05, True), None) as blocks:
        found = [next(blocks).samples for _ in range(6)]
    assert [block[0] for block in found] == [1, 2, 0, 0, 0, 3]
    assert sum(map(len, found)) == 6 * SIZE
    assert "warning: 0.03 s of audio were lost after 0.02 s" in capfd.readouterr().err


def test_the_queue_is_bounded(
    recording: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a slow model the queue stays bounded, and the end is still reached."""
    monkeypatch.setattr(live, "QUEUED_SECONDS", 5 * SIZE / RATE)
    with recording(*[(0.0, False)] * 100, None) as blocks:
        assert [next(blocks).samples[0] for _ in range(5)] == [1, 2, 3, 4, 5]
        with pytest.raises(InputError, match="no more audio"):
            next(blocks)


@pytest.mark.parametrize("ends", [(None,), ()], ids=["reported", "silent"])
def test_an_unplugged_microphone_ends_the_recording(
    recording: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, ends: tuple[None, ...]
) -> None:
    """After unplugging, the recorded part is given, then an error."""
    monkeypatch.setattr(live, "SILENT_SECONDS", 0.05)
    with recording((0.0, False), *ends) as blocks:
        assert len(next(blocks).samples) == SIZE
        with pytest.raises(InputError, match="plugged in"):
            next(blocks)


def test_errors_of_the_consumer_are_its_own(recording: Callable[..., Any]) -> None:
    """Only a microphone that cannot be opened is reported as one."""

    def consume() -> None:
        with recording((0.0, False)) as blocks:
            next(blocks)
            raise ValueError("of the consumer")

    with pytest.raises(ValueError, match="of the consumer"):
        consume()
    for error in (PortAudioError("no device"), ValueError("no name")):
        with pytest.raises(InputError, match="no microphone could be opened"):
            recording(error=error).__enter__()

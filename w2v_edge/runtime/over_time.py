"""Classes over time: windows of a recording, each classified as an utterance of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from numbers import Real

import numpy as np
import numpy.typing as npt

from w2v_edge.audio.waveform import Waveform
from w2v_edge.bundle import HeadInfo, Manifest
from w2v_edge.errors import InputError
from w2v_edge.runtime.buffers import Buffer, GrowingArray
from w2v_edge.runtime.classification import WindowedClassification, classify_utterance
from w2v_edge.runtime.inference import run_batch
from w2v_edge.runtime.recordings import BLOCK_SECONDS, Recording, collate
from w2v_edge.runtime.session import Session

WINDOW_SECONDS = 5.0
"""Default length of a window: shorter ones leave little to classify, longer ones blur changes."""


@dataclass(frozen=True)
class Hops:
    """Windows of one length, which begin at regular times.

    Attributes:
        every: from the start of one to the start of the next, in seconds.
        length: of each, in samples.
    """

    every: float
    length: int

    @classmethod
    def of(cls, every: object, seconds: object, manifest: Manifest) -> Hops:
        """Check times in seconds against a model; the default length is 5 s, or `every` if longer.

        Raises:
            InputError: not a number of seconds, less than a frame, or a window longer than the
                model's full attention.
        """
        rate, longest = manifest.sample_rate, manifest.longest_context_seconds
        every = _check_seconds("every", every, manifest.hop / rate, math.inf)
        if seconds is None:
            seconds = min(max(every, WINDOW_SECONDS), longest)
        seconds = _check_seconds("window", seconds, manifest.min_samples / rate, longest)
        return cls(every, round(seconds * rate))

    def cut(self, recording: Recording) -> Iterator[tuple[int, Waveform]]:
        """Yield the first sample and the samples (t,) of each window, in flat memory.

        The last window ends with the recording; a recording shorter than a window is one.
        """
        rate = recording.manifest.sample_rate
        audio = Buffer(np.zeros(0, dtype=np.float32))
        count = start = 0
        for block in recording.blocks(round(BLOCK_SECONDS * rate)):
            audio.push(block)
            while start + self.length <= audio.end:
                yield start, audio.view(start, start + self.length)
                count += 1
                start = round(count * self.every * rate)
            # The end may come at once, and the last window goes back from there.
            audio.release(min(start, audio.end - self.length))
        recording.check_length(audio.end)
        covered = round((count - 1) * self.every * rate) + self.length if count else 0
        if covered < audio.end and start < audio.end:
            first = max(0, audio.end - self.length)
            yield first, audio.view(first, audio.end)


def _check_seconds(name: str, value: object, least: float, most: float) -> float:
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not least <= float(value) <= most or not math.isfinite(value):  # type: ignore[arg-type]
        limit = f" and at most {most:g}" if math.isfinite(most) else ""
        raise InputError(
            f"{name}: found {value!r:.60}, expected seconds, at least {least:.3g}{limit}"
        )
    return float(value)  # type: ignore[arg-type]


def classify_windows(
    session: Session,
    recording: Recording,
    hops: Hops,
    heads: dict[str, HeadInfo],
    batch_seconds: float,
) -> dict[str, WindowedClassification]:
    """Classify each window of a recording, in memory that does not grow beyond the result.

    Args:
        session: of the bundle.
        recording: prepared.
        hops: the windows.
        heads: the classifiers of utterances, by the names of their outputs.
        batch_seconds: audio in a batch.

    Returns:
        The result of each classifier, by the name of its output.

    Raises:
        InputError: the recording cannot be read, or is shorter than a frame.
    """
    rate = session.manifest.sample_rate
    size = max(1, int(batch_seconds * rate // hops.length))
    scores = {name: GrowingArray() for name in heads}
    spans: list[tuple[int, int]] = []
    windows = hops.cut(recording)
    while batch := list(islice(windows, size)):
        spans += [(first, first + len(waveform)) for first, waveform in batch]
        rows = run_batch(session, "logits", collate([waveform for _, waveform in batch]))
        for name, head in heads.items():
            found = [classify_utterance(row[name], head) for row in rows]
            scores[name].append(np.stack([x.scores for x in found]))
    times = np.array(spans, dtype=np.float64).T / rate
    return {name: _collect(rows.take(), heads[name], times) for name, rows in scores.items()}


def _collect(
    scores: npt.NDArray[np.float32], head: HeadInfo, times: npt.NDArray[np.float64]
) -> WindowedClassification:
    labels = head.labels or tuple(map(str, range(scores.shape[1])))
    return WindowedClassification(labels, scores, scores.argmax(axis=1), *times)

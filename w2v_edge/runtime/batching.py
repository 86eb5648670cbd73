"""Batches of utterances of like length, bounded in what they take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from w2v_edge.audio import Waveform

T = TypeVar("T")


@dataclass(frozen=True)
class BatchLimits:
    """How large a batch may be.

    Attributes:
        samples: rows times the longest, at most; a longer utterance is alone.
        padding: share of a batch that may be padding.
        waiting: samples that are held while like lengths are looked for.
    """

    samples: int
    padding: float = 0.1
    waiting: int = 2**24


def plan(lengths: Sequence[int], limits: BatchLimits) -> list[list[int]]:
    """Put indices of utterances of `lengths` samples into batches; each is in one."""
    batches: list[list[int]] = []
    filled = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        filled += lengths[i]
        batch = batches[-1] if batches else []
        size = (len(batch) + 1) * lengths[batch[0]] if batch else 0
        if batch and size <= limits.samples and size - filled <= limits.padding * size:
            batch.append(i)
        else:
            batches.append([i])
            filled = lengths[i]
    return batches


def collate(waveforms: Sequence[Waveform]) -> dict[str, npt.NDArray[Any]]:
    """Pad waveforms with zeros to the inputs `waveform` (batch, samples) and `lengths` (batch,)."""
    lengths = np.array([len(x) for x in waveforms], dtype=np.int64)
    if len(waveforms) == 1:
        return {"waveform": waveforms[0][np.newaxis], "lengths": lengths}
    padded = np.zeros((len(waveforms), lengths.max()), dtype=np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return {"waveform": padded, "lengths": lengths}


def map_batches(
    run: Callable[[list[Waveform]], Sequence[T]],
    waveforms: Iterable[Waveform | Callable[[], T]],
    limits: BatchLimits,
) -> Iterator[T]:
    """Yield what `run` makes of each waveform, in their order, batch by batch.

    What is no waveform is called where its turn comes, to give its own result.
    """
    waiting: list[Waveform | Callable[[], T]] = []
    samples = 0
    for item in waveforms:
        waiting.append(item)
        samples += 0 if callable(item) else len(item)
        if callable(item) or samples >= limits.waiting:
            yield from _flush(run, waiting, limits)
            waiting, samples = [], 0
    yield from _flush(run, waiting, limits)


def _flush(
    run: Callable[[list[Waveform]], Sequence[T]],
    items: list[Waveform | Callable[[], T]],
    limits: BatchLimits,
) -> Iterator[T]:
    short = {i: x for i, x in enumerate(items) if not callable(x)}
    indices = list(short)
    results: dict[int, T] = {}
    for batch in plan([len(short[i]) for i in indices], limits):
        chosen = [indices[i] for i in batch]
        made = run([short[i] for i in chosen])
        results.update(zip(chosen, made, strict=True))
    for i, item in enumerate(items):
        yield item() if callable(item) else results.pop(i)

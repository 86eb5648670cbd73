"""Recordings of any length, in memory that does not grow with it, beyond what is returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.audio import check_length
from w2v_edge.bundle import Manifest
from w2v_edge.runtime.batching import collate
from w2v_edge.runtime.context_window import ContextWindow
from w2v_edge.runtime.encoding import Encoding
from w2v_edge.runtime.frontend_stream import Graphs, growing_statistics
from w2v_edge.runtime.growing import GrowingArray
from w2v_edge.runtime.sources import BLOCK_SECONDS, AudioSource, in_pieces, read_whole
from w2v_edge.runtime.statistics import Statistics
from w2v_edge.runtime.stream import Stream


def measure_statistics(run: Graphs, manifest: Manifest, source: AudioSource) -> Statistics | None:
    """Read a recording for its statistics (k,); None for a front end that needs none.

    Up to the longest context they are, to the last bit, those that the encoder's own graph takes.
    """
    if "statistics" not in manifest.graphs:
        return None
    most = round(manifest.longest_context_seconds * manifest.sample_rate)
    waveform = read_whole(source, most)
    if waveform is not None:
        check_length(len(waveform), manifest.geometry, manifest.sample_rate)
        statistics: Statistics = run("statistics", collate([waveform]))["statistics"][0]
        return statistics
    growing = growing_statistics(run, manifest)
    for piece in in_pieces(source.blocks(), round(BLOCK_SECONDS * manifest.sample_rate)):
        growing.add(piece)
    return growing.value()


def encode_blocks(
    run: Graphs, manifest: Manifest, source: AudioSource, window: ContextWindow | None
) -> Iterator[Encoding]:
    """Yield a recording's encoding in pieces; the last one has the embedding, if there is one.

    Without a window, the context network is not run.

    Raises:
        InputError: the recording is shorter than a frame.
    """
    # A choice that cannot be is refused now, not at the first piece.
    open_stream = partial(Stream, run, manifest, window=window)
    open_stream(None)
    return _pieces(run, manifest, source, open_stream)


def _pieces(
    run: Graphs,
    manifest: Manifest,
    source: AudioSource,
    open_stream: Callable[[Statistics | None], Stream],
) -> Iterator[Encoding]:
    stream = open_stream(measure_statistics(run, manifest, source))
    for piece in in_pieces(source.blocks(), round(BLOCK_SECONDS * manifest.sample_rate)):
        yield stream.push(piece)
    check_length(stream.samples, manifest.geometry, manifest.sample_rate)
    last, means = stream.flush(), stream.means()
    embedding = means.get("embedding")
    logits = means.get("logits", last.logits)
    yield replace(last, embedding=embedding, logits=logits)


def encode(run: Graphs, manifest: Manifest, source: AudioSource, window: ContextWindow) -> Encoding:
    """Encode a recording; arguments and errors as for `encode_blocks`."""
    grown: dict[str, GrowingArray] = {}
    layers: dict[int, GrowingArray] = {}
    by_frame = "frames" in manifest.logits_axes
    last: Encoding | None = None
    for piece in encode_blocks(run, manifest, source, window):
        for name in ARRAYS if by_frame else ARRAYS - {"logits"}:
            values = getattr(piece, name)
            if values is not None:
                grown.setdefault(name, GrowingArray()).append(values)
        for layer, values in piece.layers.items():
            layers.setdefault(layer, GrowingArray()).append(values)
        last = piece
    assert last is not None
    arrays: dict[str, Any] = {name: rows.take() for name, rows in grown.items()}
    return replace(last, **arrays, layers={layer: rows.take() for layer, rows in layers.items()})


ARRAYS = frozenset({"context", "features", "codes", "vectors", "times", "context_times", "logits"})


def codes_of(
    run: Graphs, manifest: Manifest, source: AudioSource, window: ContextWindow | None
) -> npt.NDArray[np.int64]:
    """Compute the codes (frames, groups); arguments and errors as for `encode_blocks`."""
    return _gather("codes", encode_blocks(run, manifest, source, window))


def features_of(run: Graphs, manifest: Manifest, source: AudioSource) -> npt.NDArray[np.float32]:
    """Compute the features (frames, channels); arguments and errors as for `encode_blocks`."""
    return _gather("features", encode_blocks(run, manifest, source, None))


def logits_of(
    run: Graphs, manifest: Manifest, source: AudioSource, window: ContextWindow
) -> npt.NDArray[np.float32]:
    """Compute logits (frames, labels), or (labels,) of the utterance as a whole.

    Those of the whole are the mean over windows, weighed by their frames. Arguments and errors as
    for `encode_blocks`.
    """
    pieces = encode_blocks(run, manifest, source, window)
    if "frames" in manifest.logits_axes:
        return _gather("logits", pieces)
    logits = None
    for piece in pieces:
        logits = piece.logits
    assert logits is not None
    return logits


def _gather(name: str, pieces: Iterator[Encoding]) -> npt.NDArray[Any]:
    grown = GrowingArray()
    for piece in pieces:
        grown.append(getattr(piece, name))
    return grown.take()

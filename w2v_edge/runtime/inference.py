"""From prepared recordings to outputs: batches of short ones, long ones block by block.

prepare (recordings.py) -> batches -> run a session -> cut each row to its own frames
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle import Manifest, Tensors
from w2v_edge.errors import InputError
from w2v_edge.runtime.buffers import GrowingArray
from w2v_edge.runtime.encoding import Encoding
from w2v_edge.runtime.recordings import (
    BLOCK_SECONDS,
    LongRecording,
    Recording,
    batches,
    collate,
)
from w2v_edge.runtime.session import Session
from w2v_edge.runtime.statistics import GrowingStatistics, Statistics
from w2v_edge.runtime.stream import SplitEncoder, Stream, check_graphs
from w2v_edge.runtime.window import FrameWindow, Window, remark_on_windows

OUTPUTS: dict[str, frozenset[str]] = {
    "tokenizer": frozenset({"codes"}),
    "frontend": frozenset({"features"}),
    "encoder": frozenset(),
    "embedding": frozenset({"embedding"}),
}
"""Outputs of each task; the encoder's are all that the model has. `logits` depends on the model."""

OF_ENCODER = frozenset({"encoder", "logits", "embedding"})
"""Tasks that run the graph `encoder`."""


def run_recordings(
    session: Session,
    recordings: Sequence[Recording],
    task: str,
    *,
    max_seconds: float,
    batch_seconds: float,
    window: Window | None,
) -> Iterator[tuple[int, Tensors]]:
    """Run recordings and yield the index of each with its outputs (frames, ...) by name.

    Args:
        session: of the bundle.
        recordings: prepared; they are read as they are reached.
        task: of `OUTPUTS`, or `logits` for the outputs of the head alone. An x-vector of too few
            frames is an error of the tasks `encoder` and `embedding`.
        max_seconds: a longer recording is run block by block.
        batch_seconds: audio in a batch, padding included.
        window: of attention in long recordings; None for tasks that do not run it.

    Raises:
        InputError: a recording cannot be read, or cannot be run in windows.
    """
    rate = session.manifest.sample_rate
    for item in batches(recordings, round(max_seconds * rate), round(batch_seconds * rate)):
        if isinstance(item, LongRecording):
            with item.recording.naming_errors():
                names = _outputs(session.manifest, task)
                outputs = run_long(session, item.recording, names, window)
                if task == "embedding" and not outputs:
                    _check_window(session.manifest, window)
            yield item.index, outputs
            continue
        if task in {"encoder", "embedding"}:
            for index, waveform in zip(item.indices, item.waveforms, strict=True):
                with recordings[index].naming_errors():
                    _check_embedding(session.manifest, len(waveform))
        yield from zip(item.indices, run_batch(session, task, item.tensors()), strict=True)


def run_batch(session: Session, task: str, inputs: Tensors) -> list[Tensors]:
    """Run a padded batch and return the outputs of each row, cut to its own frames."""
    manifest = session.manifest
    if task == "frontend" and "statistics" in manifest.graphs:
        inputs |= session.run("statistics", inputs)
    outputs = session.run("encoder" if task in OF_ENCODER else task, inputs)
    if task in {"logits", "embedding"}:
        by_frame = task == "logits" and "frames" in manifest.logits_axes
        valid = outputs.get("context_lengths", outputs["frame_lengths"]) if by_frame else None
        names = sorted(_outputs(manifest, task))
        cut = (_cut(outputs[name], valid) for name in names)
        return [dict(zip(names, row, strict=True)) for row in zip(*cut, strict=True)]
    if task == "encoder" and manifest.quantizer_input is not None:
        source = manifest.quantizer_input
        outputs |= session.run("quantizer", {source: outputs[source]})
    rows: list[Tensors] = [{} for _ in outputs["frame_lengths"]]
    for name, lengths_name in _lengths_by_output(manifest, outputs).items():
        lengths = None if lengths_name is None else outputs[lengths_name]
        for row, values in zip(rows, _cut(outputs[name], lengths), strict=True):
            row[name] = values
    return rows


def run_long(
    session: Session, recording: Recording, names: frozenset[str], window: Window | None
) -> Tensors:
    """Run a recording of any length in memory that does not grow with it, beyond the result.

    Args:
        session: of the bundle.
        recording: prepared.
        names: outputs to return; empty for all.
        window: of attention; None to leave the context network out.

    Raises:
        GraphMissingError: the bundle lacks a split graph.
        InputError: the recording cannot be read, or the context cannot be computed in windows.
    """
    check_graphs(session.manifest)
    frames = None if window is None else FrameWindow.of(window, session.manifest)
    remark_on_windows(session.manifest, window)
    statistics, recording = measure_statistics(session, recording)
    encoder = SplitEncoder(session, statistics, frames)
    grown: dict[str, GrowingArray] = {}
    for outputs in _encode(encoder, recording):
        for name, values in outputs.items():
            if name in names or not names:
                grown.setdefault(name, GrowingArray()).append(values)
    whole = {name: rows.take() for name, rows in grown.items()}
    return whole | {x: mean for x, mean in encoder.means().items() if x in names or not names}


def _encode(encoder: SplitEncoder, recording: Recording) -> Iterator[Tensors]:
    for block in recording.blocks(round(BLOCK_SECONDS * recording.manifest.sample_rate)):
        yield from encoder.push(block)
    recording.check_length(encoder.frontend.samples)
    yield from encoder.flush()


def encode_blocks(
    session: Session, recording: Recording, window: Window | None
) -> Iterator[Encoding]:
    """Yield a recording's encoding block by block; the last one has the pooled outputs.

    Arguments and errors as for `run_long`.
    """
    check_graphs(session.manifest)
    if window is not None:
        FrameWindow.of(window, session.manifest)
        remark_on_windows(session.manifest, window)
    return _blocks(session, recording, window)


def _blocks(session: Session, recording: Recording, window: Window | None) -> Iterator[Encoding]:
    statistics, recording = measure_statistics(session, recording)
    stream = Stream(session, statistics, window)
    for block in recording.blocks(round(BLOCK_SECONDS * recording.manifest.sample_rate)):
        yield stream.push(block)
    recording.check_length(stream.samples)
    last, means = stream.flush(), stream.means()
    yield last.with_pooled(means)


def logit_blocks(
    session: Session, recording: Recording, max_seconds: float, window: Window
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the logits (frames, labels) of a recording, in one block up to `max_seconds`.

    Longer ones are run in windows, and their blocks are those of `run_recordings` in parts. Errors
    as for `run_long`.
    """
    waveform = recording.read(round(max_seconds * session.manifest.sample_rate))
    if waveform is not None:
        yield run_batch(session, "logits", collate([waveform]))[0]["logits"]
        return
    for encoding in encode_blocks(session, recording, window):
        if encoding.logits is not None:
            yield encoding.logits


def measure_statistics(
    session: Session, recording: Recording
) -> tuple[Statistics | None, Recording]:
    """Read a recording for the statistics (k,) of its front end; None if it needs none.

    Up to the longest full-attention length they are bit-equal to those of the encoder graph.

    Returns:
        The statistics, and the recording to go on with: in memory if it was read whole.
    """
    manifest = session.manifest
    if "statistics" not in manifest.graphs:
        return None, recording
    waveform = recording.read(round(manifest.longest_context_seconds * manifest.sample_rate))
    if waveform is not None:
        outputs = session.run("statistics", collate([waveform]))
        return outputs["statistics"][0], recording.in_memory(waveform)
    growing = GrowingStatistics(session)
    for block in recording.blocks(round(BLOCK_SECONDS * manifest.sample_rate)):
        growing.add(block)
    return growing.value(), recording


def _check_embedding(manifest: Manifest, samples: int) -> None:
    """Raise `InputError` if an utterance has too few frames for the model's x-vector."""
    fewest, frames = manifest.embedding_min_frames, manifest.geometry.frames(samples)
    if fewest is not None and frames < fewest:
        raise InputError(
            f"found audio of {frames} frames, expected at least {fewest}, or "
            f"{_xvector_seconds(manifest, fewest):.3g} s, for the embedding of a speaker"
        )


def _check_window(manifest: Manifest, window: Window | None) -> None:
    """Raise `InputError` where no window of a long recording had enough frames for an x-vector."""
    found = 0.0 if window is None else window.seconds
    fewest = _xvector_seconds(manifest, manifest.embedding_min_frames or 1)
    raise InputError(
        f"found a window of {found:g} s, expected at least {fewest:.3g} s for the embedding of a "
        "speaker; choose a longer step, left or right"
    )


def _xvector_seconds(manifest: Manifest, frames: int) -> float:
    return ((frames - 1) * manifest.hop + manifest.receptive_field) / manifest.sample_rate


def _outputs(manifest: Manifest, task: str) -> frozenset[str]:
    """Return the names of a task's outputs; those of `logits` are the model's heads."""
    if task == "logits":
        return frozenset(f"logits_{name}" for name in manifest.heads) or frozenset({"logits"})
    return OUTPUTS[task]


def _lengths_by_output(manifest: Manifest, outputs: Tensors) -> dict[str, str | None]:
    """Return the tensor with the valid lengths of each output; None for one vector per row."""
    lengths = {"features": "frame_lengths", **manifest.context_outputs}
    of_codes = "frame_lengths"
    if manifest.quantizer_input == "context" and "context_lengths" in outputs:
        of_codes = "context_lengths"
    lengths |= {"codes": of_codes, "vectors": of_codes}
    return {name: lengths[name] for name in outputs if name in lengths}


def _cut(batch: npt.NDArray[Any], lengths: npt.NDArray[np.int64] | None) -> list[npt.NDArray[Any]]:
    """Cut the rows of (batch, frames, ...) to their lengths; copied, so that none keeps others."""
    ends = [None] * len(batch) if lengths is None else lengths.tolist()
    rows = [row[:end] for row, end in zip(batch, ends, strict=True)]
    return rows if len(rows) == 1 else [row.copy() for row in rows]

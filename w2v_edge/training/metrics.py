"""Metrics of a run: the log, TensorBoard, and checks for divergence and codebook collapse."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from w2v_edge.errors import MissingExtraError, TrainingError

COLLAPSE_PERPLEXITY = 1.5
"""Perplexity of a group's codes below which the codebook counts as collapsed."""

PATIENCE = 50
"""Updates in a row before a collapse is reported: a single batch may be silence."""


class MetricsLog:
    """Writes metrics to a JSON Lines file and to TensorBoard; a context that closes both."""

    def __init__(self, log: Path, board: Path, *, update: int) -> None:
        """Open the files.

        Args:
            log: JSON Lines file, appended to.
            board: folder for TensorBoard.
            update: last update that is saved; what earlier runs logged after it is dropped.

        Raises:
            MissingExtraError: tensorboard is not installed.
        """
        if log.is_file():
            kept = [line for line in read_log(log) if line["update"] <= update]
            log.write_text("".join(_json_line(line) for line in kept), "utf-8")
        self._log = log.open("a", encoding="utf-8")
        self._board = _TensorBoard(board, update + 1)

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        """Log metrics by name; a `/` in names makes groups."""
        rounded = {name: float(f"{value:.6g}") for name, value in metrics.items()}
        self._log.write(_json_line({"update": update, **rounded}))
        self._log.flush()
        self._board.write(update, metrics)

    def __enter__(self) -> Self:
        """Return the log."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        self._log.close()
        self._board.close()


class _TensorBoard:
    """A TensorBoard file of scalars.

    TensorBoard's own writer has a thread, which does not report a full disk; this one does.
    """

    def __init__(self, folder: Path, first: int) -> None:
        """Begin a file; TensorBoard hides what other files have from update `first` on."""
        try:
            from tensorboard.compat.proto.event_pb2 import Event, SessionLog
            from tensorboard.compat.proto.summary_pb2 import Summary
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise MissingExtraError("training", "tensorboard", "train") from error
        folder.mkdir(parents=True, exist_ok=True)
        self._event, self._summary = Event, Summary
        name = f"events.out.tfevents.{time.time():.6f}.{os.getpid()}"
        self._records = RecordWriter((folder / name).open("wb"))
        self._add(file_version="brain.Event:2")
        self._add(step=first, session_log=SessionLog(status=SessionLog.START))

    def write(self, update: int, metrics: Mapping[str, float]) -> None:
        scalar = self._summary.Value
        values = [scalar(tag=name, simple_value=value) for name, value in metrics.items()]
        self._add(step=update, summary=self._summary(value=values))
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _add(self, **fields: Any) -> None:
        event = self._event(wall_time=time.time(), **fields)
        self._records.write(event.SerializeToString())


def read_log(log: Path) -> list[dict[str, float]]:
    """Return the lines of a log; a line that is cut off by a killed process is skipped.

    Values that were not finite are left out.
    """
    found = []
    for line in log.read_text("utf-8").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        found.append({name: x for name, x in values.items() if x is not None})
    return found


def check_finite(metrics: Mapping[str, float], update: int, saved: str) -> None:
    """Check that training has not diverged.

    Args:
        metrics: values by name.
        update: number of updates done.
        saved: what there is to go back to, for the message.

    Raises:
        TrainingError: a value is not finite.
    """
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise TrainingError(
                f"{name} is {value} at update {update}: training has diverged; {saved}; "
                "try a lower learning rate, or --dtype bf16 or fp32 instead of fp16"
            )


class CollapseAlarm:
    """Reports codebook collapse once, and again after a recovery."""

    def __init__(self) -> None:
        self._updates = 0
        self._reported = False

    def watch(self, perplexities: Mapping[str, float], updates: int = 1) -> str:
        """Return a warning if a codebook has been collapsed for `PATIENCE` updates, else "".

        Args:
            perplexities: perplexity of the codes by group.
            updates: updates since the last call.
        """
        if not perplexities:
            return ""
        name, lowest = min(perplexities.items(), key=lambda x: x[1])
        if lowest > COLLAPSE_PERPLEXITY:
            self._updates, self._reported = 0, False
            return ""
        self._updates += updates
        if self._reported or self._updates < PATIENCE:
            return ""
        self._reported = True
        return (
            f"codebook collapse: {name} has been below {COLLAPSE_PERPLEXITY:g} for {self._updates} "
            "updates, the loss means nothing; try a higher diversity weight, a higher temperature "
            "for longer, or a lower learning rate"
        )


def _json_line(values: Mapping[str, float]) -> str:
    """Return a line of JSON; null stands for a value that is not finite, as fp16 overflows."""
    finite = {name: x if math.isfinite(x) else None for name, x in values.items()}
    return json.dumps(finite, allow_nan=False) + "\n"

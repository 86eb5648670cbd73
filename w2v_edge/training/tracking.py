"""Where figures of a run go: a log that anything reads, TensorBoard, and who watches."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from w2v_edge.errors import MissingExtraError

Show = Callable[[str, float], None]
"""Told what is done, and what share of all."""


class Tracker(AbstractContextManager["Tracker"]):
    """Writes figures by update; what was logged after `update` by a run before is dropped."""

    def __init__(self, log: Path, board: Path, *, update: int) -> None:
        _drop_after(log, update)
        self._log = log.open("a", encoding="utf-8")
        self._board = Board(board, update + 1)

    def write(self, update: int, figures: Mapping[str, float]) -> None:
        """Log figures by name; a `/` makes groups."""
        rounded = {name: float(f"{value:.6g}") for name, value in figures.items()}
        self._log.write(json.dumps({"update": update, **rounded}) + "\n")
        self._log.flush()
        self._board.write(update, figures)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close both."""
        self._log.close()
        self._board.close()


class Board:
    """A file of scalars for TensorBoard.

    Its own writer has a thread, which cannot tell that a disk is full; this one can.
    """

    def __init__(self, folder: Path, first: int) -> None:
        """Begin a file; TensorBoard forgets what other files have from update `first` on."""
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

    def write(self, update: int, figures: Mapping[str, float]) -> None:
        """Add figures by name."""
        scalar = self._summary.Value
        values = [scalar(tag=name, simple_value=value) for name, value in figures.items()]
        self._add(step=update, summary=self._summary(value=values))
        self._records.flush()

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _add(self, **what: Any) -> None:
        event = self._event(wall_time=time.time(), **what)
        self._records.write(event.SerializeToString())


def read_log(log: Path) -> list[dict[str, float]]:
    """Return the lines of a log; one that was cut short by the end of a process is passed over."""
    found = []
    for line in log.read_text("utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _drop_after(log: Path, update: int) -> None:
    if log.is_file():
        kept = [line for line in read_log(log) if line["update"] <= update]
        log.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")

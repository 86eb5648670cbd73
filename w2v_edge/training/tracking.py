"""Where figures of a run go: a log that anything reads, TensorBoard, and who watches."""

from __future__ import annotations

import json
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
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("training", "tensorboard", "train") from error
        _drop_after(log, update)
        self._log = log.open("a", encoding="utf-8")
        self._board: Any = SummaryWriter(str(board), purge_step=update + 1)

    def write(self, update: int, figures: Mapping[str, float]) -> None:
        """Log figures by name; a `/` makes groups."""
        rounded = {name: float(f"{value:.6g}") for name, value in figures.items()}
        self._log.write(json.dumps({"update": update, **rounded}) + "\n")
        self._log.flush()
        for name, value in figures.items():
            self._board.add_scalar(name, value, update)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close both."""
        self._log.close()
        self._board.close()


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

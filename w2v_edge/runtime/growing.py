"""Arrays that grow at one end, and are forgotten at the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Buffer:
    """Rows of a signal, known by their index in the whole of it.

    Pushing does not copy: blocks are put in one piece when they are looked at.
    """

    def __init__(self, empty: Array) -> None:
        """Begin with `empty` (0, ...), which gives the type and the other axes."""
        self._blocks: list[Array] = [empty]
        self.begin = 0
        """Index of the first row that is held."""
        self.end = 0
        """Index behind the last row that was pushed."""

    def push(self, rows: Array) -> None:
        """Add what comes next."""
        skipped = min(len(rows), max(0, self.begin - self.end))
        self.end += len(rows)
        if len(rows) > skipped:
            self._blocks.append(rows[skipped:])

    def view(self, begin: int, end: int) -> Array:
        """Return rows, all of which are held."""
        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks)]
        return self._blocks[0][begin - self.begin : end - self.begin]

    def forget(self, before: int) -> None:
        """Let go of the rows before an index, which may lie ahead of what was pushed."""
        if before > self.begin:
            # A copy, so that a few rows do not keep all the others in memory.
            held = self.view(min(before, self.end), self.end).copy()
            self._blocks, self.begin = [held], before


class GrowingArray:
    """Rows that are appended without ever being held twice, and taken at the end."""

    def __init__(self) -> None:
        self._rows: Array | None = None
        self._count = 0

    def append(self, rows: Array) -> None:
        """Add rows (n, ...); all have the type and the axes of the first."""
        if self._rows is None:
            self._rows = np.empty_like(rows)
        needed = self._count + len(rows)
        if needed > len(self._rows):
            # In place where the allocator can move pages; new room is filled with zeros, so that
            # much of it would be memory held for nothing.
            self._rows.resize((needed + needed // 64, *rows.shape[1:]), refcheck=False)
        self._rows[self._count : needed] = rows
        self._count = needed

    def take(self) -> Array:
        """Return all rows of the one or more blocks that were appended. Append no more."""
        assert self._rows is not None
        self._rows.resize((self._count, *self._rows.shape[1:]), refcheck=False)
        return self._rows

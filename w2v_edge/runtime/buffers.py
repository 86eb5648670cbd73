"""Arrays that grow at one end and are released at the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Buffer:
    """Rows of a signal, addressed by their index in the whole signal.

    Pushing does not copy: blocks are concatenated when they are viewed.
    """

    def __init__(self, empty: Array) -> None:
        """Start an empty buffer.

        Args:
            empty: (0, ...), which gives the type and the other axes.
        """
        self._blocks: list[Array] = [empty]
        self.begin = 0
        """Index of the first row held."""
        self.end = 0
        """Index after the last row pushed."""

    def push(self, rows: Array) -> None:
        """Append rows (n, ...)."""
        skipped = min(len(rows), max(0, self.begin - self.end))
        self.end += len(rows)
        if len(rows) > skipped:
            self._blocks.append(rows[skipped:])

    def view(self, begin: int, end: int) -> Array:
        """Return rows [begin, end), all of which are held."""
        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks)]
        return self._blocks[0][begin - self.begin : end - self.begin]

    def release(self, before: int) -> None:
        """Release the rows before an index, which may lie beyond the rows pushed so far."""
        if before > self.begin:
            # A copy, so that a few rows do not keep all others in memory.
            held = self.view(min(before, self.end), self.end).copy()
            self._blocks, self.begin = [held], before


class GrowingArray:
    """Rows that are appended without being held twice."""

    def __init__(self) -> None:
        self._rows: Array | None = None
        self._count = 0

    def append(self, rows: Array) -> None:
        """Append rows (n, ...) of the type and axes of the first."""
        if self._rows is None:
            self._rows = np.empty_like(rows)
        needed = self._count + len(rows)
        if needed > len(self._rows):
            # In place where the allocator can move pages. New space is zero-filled, so more than
            # this would be memory held for nothing.
            self._rows.resize((needed + needed // 64, *self._rows.shape[1:]), refcheck=False)
        self._rows[self._count : needed] = rows
        self._count = needed

    def take(self) -> Array:
        """Return all rows. At least one block was appended; append no more.

        Raises:
            ValueError: nothing was appended.
        """
        if self._rows is None:
            raise ValueError("found no rows, expected at least one block")
        self._rows.resize((self._count, *self._rows.shape[1:]), refcheck=False)
        return self._rows

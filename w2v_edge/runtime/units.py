"""Units: codes without repeats, and their durations."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Units:
    """Codes of one recording, each run of equal frames once.

    Two frames are equal if the codes of all their groups are.

    Attributes:
        codes: (units, groups) int64; neighbours differ.
        durations: (units,) int64 frames that each lasts, 1 or more.
    """

    codes: npt.NDArray[np.int64]
    durations: npt.NDArray[np.int64]

    @classmethod
    def of(cls, codes: npt.NDArray[np.int64]) -> Units:
        """Remove the repeats of codes (frames, groups)."""
        changes = (codes[1:] != codes[:-1]).any(axis=1)
        starts = np.flatnonzero(np.concatenate([np.ones(min(1, len(codes)), bool), changes]))
        return cls(codes[starts], np.diff(starts, append=len(codes)).astype(np.int64))

    def repeated(self) -> npt.NDArray[np.int64]:
        """Return the codes (frames, groups), each repeated for its duration."""
        frames: npt.NDArray[np.int64] = np.repeat(self.codes, self.durations, axis=0)
        return frames

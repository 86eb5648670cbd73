"""How far quantized weights move the labels of a transcript in time.

Word times suffer before the text does: a label may stay the best one and be emitted elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.text.alignment import align_labels

PERCENTILE = 99.0
"""Of all labels, the share of which moves less than what is reported."""


def label_shifts(
    found: npt.NDArray[Any], expected: npt.NDArray[Any], blank: int
) -> npt.NDArray[np.intp]:
    """Return by how many frames each label of the expected transcript moves, (labels,).

    Args:
        found: (frames, size) logits with quantized weights.
        expected: (frames, size) logits without, whose best labels are the transcript.
        blank: index of the CTC blank.
    """
    best = expected.argmax(axis=1)
    begins = np.append(True, best[1:] != best[:-1]) if len(best) else np.zeros(0, bool)
    labels = best[begins & (best != blank)]
    sides = [align_labels(logits, labels, blank).first for logits in (found, expected)]
    shifts: npt.NDArray[np.intp] = np.abs(sides[0] - sides[1])
    return shifts

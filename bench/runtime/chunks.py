"""Streams in blocks of several sizes against the whole recording, given its statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.runtime.deviation import changed, cosines
from w2v_edge import Model

BLOCKS = (77, 1_237, 5_120, 16_000, 100_000)
"""Samples."""


def measure(model: Model, audio: npt.NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return one row per block size; deviations are of features, in standard deviations."""
    features, codes = model.features(audio), model.tokenize(audio)
    frozen = model.statistics(audio) if "statistics" in model.manifest.graphs else None
    rows = []
    for size in BLOCKS:
        stream = model.stream(statistics=frozen, context=False)
        pieces = [stream.push(audio[i : i + size]) for i in range(0, len(audio), size)]
        pieces.append(stream.flush())
        found = np.concatenate([piece.features for piece in pieces])
        found_codes: Any = [piece.codes for piece in pieces]
        rows.append(
            {
                "samples": size,
                "largest_deviation": float(np.abs(found - features).max() / features.std()),
                "worst_cosine": cosines(found, features)["worst"],
                "codes_changed": changed(np.concatenate(found_codes), codes),
            }
        )
    return rows

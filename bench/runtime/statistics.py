"""Frozen and running statistics of a front end, against the recording's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.runtime.deviation import changed, cosines
from w2v_edge import Model
from w2v_edge.runtime.statistics import RunningStatistics

PERIODS = (0.25, 0.5, 1.0, 2.0)


def measure(model: Model, recordings: Sequence[npt.NDArray[np.float32]]) -> list[dict[str, Any]]:
    """Return one row per choice, over all recordings, each alone.

    Frozen statistics are those of the previous recording; "another microphone" is the same
    recording at a fifth of its level.
    """
    if "statistics" not in model.manifest.graphs:
        return []
    before = [recordings[i - 1] for i in range(len(recordings))]
    choices: dict[str, list[Any]] = {
        f"running, every {period:g} s": [RunningStatistics(period)] * len(recordings)
        for period in PERIODS
    }
    choices["frozen, of another recording"] = [model.statistics(x) for x in before]
    choices["frozen, of the recording itself, at a fifth of its level"] = [
        model.statistics(x / 5) for x in recordings
    ]
    choices["frozen, of the recording itself"] = [model.statistics(x) for x in recordings]
    exact = [model.features(x) for x in recordings]
    codes = [model.tokenize(x) for x in recordings]
    rows = []
    for name, statistics in choices.items():
        found: list[Any] = []
        found_codes: list[Any] = []
        for waveform, chosen in zip(recordings, statistics, strict=True):
            stream = model.stream(statistics=chosen, context=False)
            pieces = [stream.push(waveform), stream.flush()]
            found += [piece.features for piece in pieces]
            found_codes += [piece.codes for piece in pieces]
        rows.append(
            {
                "statistics": name,
                **cosines(np.concatenate(found), np.concatenate(exact)),
                "codes_changed": changed(np.concatenate(found_codes), np.concatenate(codes)),
            }
        )
    return rows

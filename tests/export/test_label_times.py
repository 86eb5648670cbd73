"""Quantized weights are held to what becomes of a transcript: its labels and their times."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from w2v_edge.bundle import read_manifest
from w2v_edge.errors import AccuracyError, ConfigError
from w2v_edge_export.weight_quantization.accuracy import Accuracy
from w2v_edge_export.weight_quantization.label_times import label_shifts
from w2v_edge_export.weight_quantization.search import Budgets

BLANK = 0


def _emits(columns: list[int]) -> Any:
    return 9.0 * np.eye(4)[columns]


def test_shifts_of_labels() -> None:
    """Each label of the transcript moves by as many frames as its emission does."""
    expected = _emits([0, 1, 0, 0, 2, 2, 0, 2, 0])
    assert label_shifts(expected, expected, BLANK).tolist() == [0, 0, 0]
    moved = _emits([0, 0, 1, 0, 0, 2, 0, 0, 2])
    assert label_shifts(moved, expected, BLANK).tolist() == [1, 1, 1]
    # Another best label on the way, or none at all: the transcript is still placed somewhere.
    assert label_shifts(_emits([3] * 9), expected, BLANK).shape == (3,)
    assert label_shifts(expected, _emits([0] * 9), BLANK).shape == (0,)
    assert label_shifts(expected[:0], expected[:0], BLANK).shape == (0,)


def test_budgets_of_labels() -> None:
    """Without them any change passes; with them NaN and more than asked for do not."""
    found = Accuracy(1.0, 1.0, 0.0, 0, label_drift=0.03, label_shift=40.0)
    assert Budgets().problems(found) == []
    (change,) = Budgets(max_label_change=0.02).problems(found)
    assert change == "0.0300 of best labels change, at most 0.02 wanted"
    (shift,) = Budgets(max_shift=20.0).problems(found)
    assert shift == "labels move by 40 ms, at most 20 wanted"
    assert Budgets(max_label_change=0.03, max_shift=40.0).problems(found) == []
    worse = Accuracy(1.0, 1.0, 0.0, 0, label_drift=math.nan, label_shift=math.nan)
    assert len(Budgets(max_label_change=1.0, max_shift=1e9).problems(worse)) == 2
    # Without a transcript there is nothing to hold.
    none = Accuracy(1.0, 1.0, 0.0, 0)
    assert Budgets(max_label_change=0.0, max_shift=0.0).problems(none) == []


def test_an_export_measures_and_holds_them(
    ctc_bundle: Path, shared_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest has what was measured; a budget that cannot be held leaves nothing behind."""
    from w2v_edge_export import export

    assert ctc_bundle.is_dir()
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 1.0)
    source, output = shared_folder / "checkpoints/ctc", tmp_path / "int8"
    int8: dict[str, Any] = {"precision": "int8", "require_speedup": 0.0, "min_cosine": 0.9}
    export(source, output, **int8, max_label_change=0.5, max_shift=60_000.0)
    stated = read_manifest(output).weight_quantization
    assert stated is not None
    assert stated["budgets"]["max_shift"] == 60_000
    measured = stated["measured"]
    assert 0 <= measured["label_shift"] < 60_000
    assert 0 <= measured["label_drift"] <= 0.5
    with pytest.raises(AccuracyError, match=r"labels (move|change)|no layer is left"):
        export(source, tmp_path / "none", **int8, max_label_change=0.0, max_shift=0.0)
    assert not (tmp_path / "none").exists()


def test_models_without_labels(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """Budgets of labels need a CTC head."""
    from w2v_edge_export import export

    with pytest.raises(ConfigError, match="without a CTC head"):
        export(checkpoint("tiny"), tmp_path / "out", precision="int8", max_shift=20.0)
    assert list(tmp_path.iterdir()) == []

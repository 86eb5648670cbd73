"""Files of channel statistics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from w2v_edge.errors import UnsafeCheckpointError, W2VEdgeError
from w2v_edge_export.standardisation import read_channel_statistics

MEAN = np.linspace(-1, 1, 5).astype(np.float32)
STD = np.linspace(0.5, 2, 5).astype(np.float32)

ARRAYS: dict[str, dict[str, Any]] = {
    "mean and std": {"mean": MEAN, "std": STD},
    "mean and var": {"mean": MEAN, "var": STD**2},
    "float64, one row": {"mean": MEAN[None].astype(np.float64), "std": STD[None]},
    "StandardScaler": {
        "mean_": MEAN,
        "scale_": STD,
        "var_": STD**2,
        "n_samples_seen_": np.int64(7),
    },
}


def _save_torch(path: Path, arrays: dict[str, Any]) -> None:
    torch.save({name: torch.from_numpy(np.asarray(x)) for name, x in arrays.items()}, path)


SAVE: dict[str, Callable[[Path, dict[str, Any]], None]] = {
    "stats.npz": lambda path, arrays: np.savez(path, **arrays),
    "stats.safetensors": lambda path, arrays: save_file(
        {name: np.asarray(x) for name, x in arrays.items()}, path
    ),
    "wav2vec2bert_stats.pt": _save_torch,
}


@pytest.mark.parametrize("name", SAVE)
@pytest.mark.parametrize("arrays", ARRAYS)
def test_what_is_read(name: str, arrays: str, tmp_path: Path) -> None:
    """Mean and standard deviation, or variance, by the names that people use."""
    SAVE[name](tmp_path / name, ARRAYS[arrays])
    found = read_channel_statistics(tmp_path / name)
    np.testing.assert_array_equal(found.mean, MEAN)
    np.testing.assert_allclose(found.std, STD, rtol=1e-6)
    assert found.mean.dtype == found.std.dtype == np.float32


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no mean": ({"std": STD}, "expected arrays mean and std"),
    "no std": ({"mean": MEAN, "count": STD}, "found count, mean"),
    "nothing": ({}, "found none"),
    "text": ({"mean": np.array(["a"] * 5), "std": STD}, "found std"),
    "widths": ({"mean": MEAN, "std": STD[1:]}, "one width, found 5 and 4"),
    "a table": ({"mean": np.zeros((5, 5)), "std": STD}, "expected (width,), found (5, 5)"),
    "no width": ({"mean": MEAN[:0], "std": STD[:0]}, "expected (width,)"),
    "zero": ({"mean": MEAN, "std": STD - STD[0]}, "above 0"),
    "below": ({"mean": MEAN, "std": -STD}, "negative"),
    "a variance below 0": ({"mean": MEAN, "var": -STD}, "found mean, var"),
    "nan": ({"mean": MEAN * np.nan, "std": STD}, "finite"),
    "beyond float32": ({"mean": np.full(5, 1e300), "std": STD}, "finite"),
    "two that differ": ({"mean": MEAN, "std": STD, "var": STD}, "leave one out"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    """Anything else is refused in one line that names the file."""
    arrays, message = BAD[case]
    path = tmp_path / "stats.npz"
    np.savez(path, **arrays)
    with pytest.raises(W2VEdgeError) as caught:
        read_channel_statistics(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SAVE)
def test_damage(name: str, tmp_path: Path) -> None:
    """A file that is cut off, of another kind, or absent is refused."""
    path = tmp_path / name
    SAVE[name](path, ARRAYS["mean and std"])
    content = path.read_bytes()
    for damaged in (content[:-7], content[: len(content) // 2], b"<html>", b""):
        path.write_bytes(damaged)
        with pytest.raises(W2VEdgeError, match="stats"):
            read_channel_statistics(path)
    path.unlink()
    with pytest.raises(W2VEdgeError, match="stats"):
        read_channel_statistics(path)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    """A torch file that needs more than tensors is refused unexecuted."""
    path = tmp_path / "stats.pt"
    torch.save({"mean": torch.zeros(5), "std": Path("x")}, path)
    with pytest.raises(UnsafeCheckpointError):
        read_channel_statistics(path)

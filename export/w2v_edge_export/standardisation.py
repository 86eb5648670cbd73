"""Statistics of channels, to standardise an output by: read from files of other projects."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle.npz import read_npz
from w2v_edge.checkpoints.tensors import read_tensors
from w2v_edge.errors import CheckpointError, InputError
from w2v_edge.files import open_regular

MEANS = ("mean", "mean_")
STDS = ("std", "scale_")
VARIANCES = ("var", "var_")
"""Names of the arrays; with an underscore, the attributes of scikit-learn's StandardScaler."""

MOST_APART = 1e-3
"""Relative difference of a standard deviation and a variance that are both given."""


@dataclass(frozen=True)
class ChannelStatistics:
    """Mean and standard deviation of each channel, (d,) float32."""

    mean: npt.NDArray[np.float32]
    std: npt.NDArray[np.float32]

    @property
    def sha256(self) -> str:
        """SHA-256 of both."""
        return hashlib.sha256(self.mean.tobytes() + self.std.tobytes()).hexdigest()


def read_channel_statistics(path: Path) -> ChannelStatistics:
    """Read `mean` and `std`, or `mean` and `var`, from `.npz`, `.safetensors` or a torch file.

    The names `mean_`, `scale_` and `var_` of scikit-learn's StandardScaler are read too. Torch
    files are read without running code; `wav2vec2bert_stats.pt` of IndexTTS2 and MaskGCT is one.

    Raises:
        InputError: a file that cannot be read, or statistics that are missing, of different widths,
            not finite, or with a standard deviation of 0.
        CheckpointError: a damaged torch or safetensors file.
    """
    arrays = _read(path)
    mean = _find(path, arrays, MEANS)
    std, variance = (_find(path, arrays, names) for names in (STDS, VARIANCES))
    if std is None and variance is not None and (variance >= 0).all():
        std = np.sqrt(variance)
    elif std is not None and variance is not None and not _agree(std, variance):
        raise InputError(f"{path}: its std is not the square root of its var; leave one out")
    if mean is None or std is None:
        raise InputError(
            f"{path}: expected arrays mean and std, or mean and var, found "
            f"{', '.join(sorted(arrays))[:120] or 'none'}"
        )
    if mean.shape != std.shape:
        raise InputError(
            f"{path}: expected a mean and a std of one width, found {len(mean)} and {len(std)}"
        )
    with np.errstate(over="ignore"):
        found = ChannelStatistics(mean.astype(np.float32), std.astype(np.float32))
    if not (np.isfinite(found.mean).all() and np.isfinite(found.std).all() and found.std.all()):
        raise InputError(f"{path}: expected finite values, and standard deviations above 0")
    if (found.std < 0).any():
        raise InputError(f"{path}: found a negative standard deviation")
    return found


def _read(path: Path) -> dict[str, npt.NDArray[np.float64]]:
    try:
        if path.suffix == ".npz":
            with open_regular(path) as stream:
                found = read_npz(stream)
        else:
            found = {name: x.double().numpy() for name, x in read_tensors(path).items()}
    except OSError as error:
        raise InputError(f"{path}: expected statistics, found no file to read") from error
    except CheckpointError:
        raise
    except ValueError as error:
        raise InputError(f"{path}: expected an .npz file of arrays ({error!s:.80})") from error
    return {name: x.astype(np.float64) for name, x in found.items() if x.dtype.kind in "fiu"}


def _find(
    path: Path, arrays: dict[str, npt.NDArray[np.float64]], names: tuple[str, ...]
) -> npt.NDArray[np.float64] | None:
    """Return the array (d,) that has one of these names."""
    for name in names:
        array = arrays.get(name)
        if array is not None:
            if array.size == 0 or array.size != max(array.shape, default=0):
                raise InputError(f"{path}: {name}: expected (width,), found {array.shape}")
            return array.reshape(-1)
    return None


def _agree(std: npt.NDArray[np.float64], variance: npt.NDArray[np.float64]) -> bool:
    same_width = std.shape == variance.shape
    return same_width and bool(np.allclose(np.square(std), variance, rtol=MOST_APART, atol=0))

"""Padded batches: valid lengths, and operations that ignore padding."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange, reduce
from torch import Tensor

from w2v_edge.bundle.geometry import Geometry


class Frames(NamedTuple):
    """A padded batch of frames.

    Attributes:
        values: (b, n, d), zero past `lengths`.
        lengths: (b,) valid frames of each utterance, int64.
    """

    values: Tensor
    lengths: Tensor


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """Return a mask (b, steps), true at valid steps, for lengths (b,)."""
    return torch.arange(steps, device=lengths.device) < rearrange(lengths, "b -> b 1")


def zero_padding(values: Tensor, lengths: Tensor) -> Tensor:
    """Return values (b, n, d) with exact zeros past each utterance, even over NaN."""
    valid = rearrange(valid_steps(lengths, values.shape[1]), "b n -> b n 1")
    return torch.where(valid, values, torch.zeros_like(values))


def frame_lengths(geometry: Geometry, lengths: Tensor) -> Tensor:
    """Return the frames (b,) of utterances of `lengths` samples (b,); see `Geometry.frames`."""
    padding = geometry.left_padding + geometry.right_padding
    frames = (lengths + padding - geometry.receptive_field).div(
        geometry.hop, rounding_mode="floor"
    ) + 1
    return torch.where(lengths < geometry.min_samples, torch.zeros_like(frames), frames)


def mean_over_frames(frames: Frames) -> Tensor:
    """Return the mean (b, d) over valid frames (b, n, d); zeros for an utterance without frames."""
    valid = valid_steps(frames.lengths, frames.values.shape[1])
    total = reduce(
        torch.where(rearrange(valid, "b n -> b n 1"), frames.values, 0.0), "b n d -> b d", "sum"
    )
    return total / rearrange(frames.lengths.clamp(min=1), "b -> b 1")


def pool_frames(frames: Frames, *, std: bool) -> Tensor:
    """Return the mean over valid frames (b, n, d), with `std` the standard deviation beside it.

    The standard deviation is unbiased, as in the x-vectors of s3prl and transformers, but 0 for a
    single frame, where theirs is NaN.

    Returns:
        (b, d) or (b, 2 * d); zeros for an utterance without frames.
    """
    mean = mean_over_frames(frames)
    if not std:
        return mean
    valid = valid_steps(frames.lengths, frames.values.shape[1])
    centred = frames.values - rearrange(mean, "b d -> b 1 d")
    squares = torch.where(rearrange(valid, "b n -> b n 1"), centred.square(), 0.0)
    others = rearrange((frames.lengths - 1).clamp(min=1), "b -> b 1")
    variance = reduce(squares, "b n d -> b d", "sum") / others
    return torch.cat((mean, variance.sqrt()), dim=1)


def at_least_float32(x: Tensor) -> Tensor:
    """Return x in float32 if it is in half precision, as under autocast; float64 stays."""
    return x if x.dtype == torch.float64 else x.float()


def normalise(waveform: Tensor, lengths: Tensor, eps: float) -> Tensor:
    """Scale each utterance to zero mean and unit variance.

    Source: `zero_mean_unit_var_norm` of transformers' Wav2Vec2FeatureExtractor (eps 1e-7); fairseq
    applies a layer norm to the whole waveform (eps 1e-5), which is the same arithmetic.

    Args:
        waveform: (b, t); samples past `lengths` are ignored.
        lengths: (b,) valid samples.
        eps: added to the variance.

    Returns:
        (b, t), zero past `lengths`.
    """
    valid = valid_steps(lengths, waveform.shape[1])
    count = rearrange(lengths.clamp(min=1), "b -> b 1")
    waveform = torch.where(valid, waveform, 0.0)
    # float64: in float32 a long sum of squares loses the precision that a quiet recording needs.
    exact = waveform.double()
    mean = reduce(exact, "b t -> b 1", "sum") / count
    centred = torch.where(valid, exact - mean, 0.0)
    variance = reduce(centred.square(), "b t -> b 1", "sum") / count
    return (centred * torch.rsqrt(variance + eps)).to(waveform.dtype)

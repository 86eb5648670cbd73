"""Linear resampling of frames along time."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from w2v_edge.bundle.resampling import Resampling
from w2v_edge.model.padding import Frames, zero_padding


def resample(frames: Frames, resampling: Resampling) -> Frames:
    """Resample each utterance (b, n, d) over its own valid frames; first and last frame stay.

    `F.interpolate(mode="linear", align_corners=True)` of an utterance alone, as talking-head models
    apply it to the output of wav2vec 2.0's convolutions (FaceFormer, arXiv 2112.05329; Hallo,
    arXiv 2406.08801). Positions are computed in whole numbers: in float32 they lose what lies
    between two frames of a long recording.

    Returns:
        (b, m, d) with m and the lengths by `Resampling`, zero at padding.
    """
    values, lengths = frames
    outputs = (lengths * resampling.up + resampling.down - 1).div(
        resampling.down, rounding_mode="floor"
    )
    steps = torch.arange(resampling.frames(values.shape[1]), device=values.device)
    last = rearrange((lengths - 1).clamp(min=0), "b -> b 1")
    span = rearrange((outputs - 1).clamp(min=1), "b -> b 1")
    below = (steps * last).div(span, rounding_mode="floor")
    share = rearrange((steps * last - below * span).to(values.dtype) / span, "b m -> b m 1")
    below = torch.minimum(below, last)
    left, right = _take(values, below), _take(values, torch.minimum(below + 1, last))
    return Frames(zero_padding(left + (right - left) * share, outputs), outputs)


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Return the frames (b, m, d) of values (b, n, d) at index (b, m)."""
    return values.gather(1, rearrange(index, "b m -> b m 1").expand(-1, -1, values.shape[2]))

"""Valid lengths: which steps of a padded batch belong to an utterance."""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
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
    """Return (b, steps) booleans, true inside each utterance; `lengths` is (b,)."""
    return torch.arange(steps, device=lengths.device) < rearrange(lengths, "b -> b 1")


def zero_padding(values: Tensor, lengths: Tensor) -> Tensor:
    """Return (b, n, d) values with exact zeros past each utterance, even over NaN."""
    valid = rearrange(valid_steps(lengths, values.shape[1]), "b n -> b n 1")
    return torch.where(valid, values, torch.zeros_like(values))


def frame_lengths(geometry: Geometry, lengths: Tensor) -> Tensor:
    """Return the frames (b,) of utterances of `lengths` samples (b,); see `Geometry.frames`."""
    padding = geometry.left_padding + geometry.right_padding
    frames = (lengths + padding - geometry.receptive_field).div(
        geometry.hop, rounding_mode="floor"
    ) + 1
    return torch.where(lengths < geometry.min_samples, torch.zeros_like(frames), frames)

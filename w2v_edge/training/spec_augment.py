"""SpecAugment for fine-tuning: spans of frames and of channels that are masked.

Sources: SpecAugment (arXiv 1904.08779), which wav2vec 2.0 (arXiv 2006.11477, appendix B) applies to
the transformer's input. Masks of an utterance are a function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from w2v_edge.errors import ConfigError
from w2v_edge.model.masking import dilate, highest
from w2v_edge.model.padding import Frames
from w2v_edge.model.random import RandomStream, uniform

CHANNEL_SPAN = 64
"""Channels in a span, as in `base`; at most a twelfth of the model's width."""


class Masks(NamedTuple):
    """Masks, true where the input is masked.

    Attributes:
        time: (b, n) frames.
        channels: (b, d) channels.
    """

    time: Tensor
    channels: Tensor

    def to(self, device: torch.device) -> Masks:
        """Return the masks on a device."""
        return Masks(*(x.to(device, non_blocking=True) for x in self))


@dataclass(frozen=True)
class SpecAugment:
    """Draws masks.

    Attributes:
        time: share of the frames in spans, before overlap.
        channels: share of the channels in spans, before overlap.
        span_frames: length of a span in time, in frames.
    """

    time: float = 0.65
    channels: float = 0.25
    span_frames: int = 10

    def __post_init__(self) -> None:
        """Raise `ConfigError` for a share that is not in [0, 1)."""
        for name in ("time", "channels"):
            if not 0 <= getattr(self, name) < 1:
                found = getattr(self, name)
                raise ConfigError(f"found mask_{name} {found:g}, expected 0 to below 1")

    def draw(self, lengths: Tensor, frames: int, dim: int, seeds: Tensor) -> Masks:
        """Draw the masks of utterances.

        Args:
            lengths: (b,) valid frames.
            frames: n, frames of the padded batch.
            dim: d, number of channels.
            seeds: (b,) seeds, on the device of `lengths`.
        """
        widths = torch.full_like(lengths, dim)
        span = max(1, min(CHANNEL_SPAN, dim // 12))
        streams = (RandomStream.TIME_MASK_COUNT, RandomStream.TIME_MASK_STARTS)
        time = _spans(self.time, lengths, frames, self.span_frames, seeds, streams)
        streams = (RandomStream.CHANNEL_MASK_COUNT, RandomStream.CHANNEL_MASK_STARTS)
        return Masks(time, _spans(self.channels, widths, dim, span, seeds, streams))


def apply_masks(frames: Frames, masks: Masks, vector: Tensor | None) -> Frames:
    """Replace masked frames of (b, n, d) by `vector` (d,), or zeros, and masked channels by zeros.

    The vector gets a gradient even if nothing is masked, so that all processes agree on which
    parameters have gradients.
    """
    values, lengths = frames
    fill = values.new_zeros(()) if vector is None else vector
    values = torch.where(rearrange(masks.time, "b n -> b n 1"), fill, values)
    values = values.masked_fill(rearrange(masks.channels, "b d -> b 1 d"), 0.0)
    return Frames(values, lengths)


def _spans(
    share: float,
    lengths: Tensor,
    size: int,
    span: int,
    seeds: Tensor,
    streams: tuple[RandomStream, RandomStream],
) -> Tensor:
    """Draw spans (b, size) that cover a share of `lengths` (b,); none in rows as short as one."""
    chance = rearrange(uniform(seeds, streams[0], 1), "b 1 -> b")
    count = (share * lengths / span + chance * (share > 0)).long()
    scores = uniform(seeds, streams[1], size)
    last = rearrange(torch.where(lengths > span, lengths - span, -1), "b -> b 1")
    scores = scores.masked_fill(torch.arange(size, device=lengths.device) > last, -1.0)
    return dilate(highest(scores, count), span)

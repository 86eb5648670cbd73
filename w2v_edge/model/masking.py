"""Span masking: spans of frames are replaced by one learned vector.

Source: wav2vec 2.0 (arXiv 2006.11477), section 3.1. Spans are drawn from each utterance's seed, in
one batched computation on the device of the lengths; with lengths on the host, masking needs no
device synchronisation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from w2v_edge.model.config import FixedSpansConfig, ProbableSpansConfig
from w2v_edge.model.padding import Frames
from w2v_edge.model.random import RandomStream, fresh_seeds, uniform


class Mask(NamedTuple):
    """The masked frames of a batch.

    Attributes:
        mask: (b, n) booleans, true at masked frames.
        indices: (m, 2) (batch, frame) of each masked frame, in row-major order.
    """

    mask: Tensor
    indices: Tensor

    def to(self, device: torch.device) -> Mask:
        """Copy to a device."""
        return Mask(*(x.to(device, non_blocking=True) for x in self))


class MaskedFrames(NamedTuple):
    """A batch with masked spans.

    Attributes:
        frames: the masked copy (b, n, d) and its lengths.
        mask: (b, n) booleans, true at masked frames.
        indices: (m, 2) (batch, frame) of each masked frame, in row-major order.
    """

    frames: Frames
    mask: Tensor
    indices: Tensor


class SpanMasker(nn.Module):
    """Replaces spans by a learned vector; subclasses draw the starts of the spans."""

    def __init__(self, channels: int, config: FixedSpansConfig | ProbableSpansConfig) -> None:
        """Create the mask vector, `channels` wide."""
        super().__init__()
        self.config = config
        self.vector = nn.Parameter(torch.empty(channels))

    def draw_starts(self, lengths: Tensor, frames: int, seeds: Tensor) -> Tensor:
        """Draw a mask (b, n), true at starts of spans, for frame lengths and seeds (b,)."""
        raise NotImplementedError

    def draw(self, lengths: Tensor, frames: int, seeds: Tensor) -> Mask:
        """Draw a mask inside the valid frames.

        An utterance of `span_frames` frames or fewer is not masked.

        Args:
            lengths: (b,) valid frames of each utterance.
            frames: frames of the padded batch, n.
            seeds: (b,) random seeds, on the device of `lengths`.
        """
        span = self.config.span_frames
        starts = self.draw_starts(lengths, frames, seeds)
        starts &= rearrange(lengths > span, "b -> b 1")
        mask = dilate(starts, span)
        return Mask(mask, mask.nonzero())

    def forward(self, frames: Frames, mask: Mask | None = None) -> MaskedFrames:
        """Mask a copy of frames (b, n, d) with a mask, by default one drawn from fresh seeds."""
        values, lengths = frames
        if mask is None:
            mask = self.draw(lengths, values.shape[1], fresh_seeds(len(values), lengths.device))
        values = torch.where(rearrange(mask.mask, "b n -> b n 1"), self.vector, values)
        return MaskedFrames(Frames(values, lengths), *mask)


class FixedSpanMasker(SpanMasker):
    """A fixed number of spans per utterance, with starts uniform over [0, frames - span)."""

    config: FixedSpansConfig

    def draw_starts(self, lengths: Tensor, frames: int, seeds: Tensor) -> Tensor:
        """Draw `spans` starts for each utterance."""
        room = (lengths - self.config.span_frames).clamp(min=1)
        draws = uniform(seeds, RandomStream.SPAN_STARTS, self.config.spans)
        # float32 can round draws * room up to room itself.
        starts = (draws * rearrange(room, "b -> b 1")).long()
        starts = torch.minimum(starts, rearrange(room - 1, "b -> b 1"))
        mask = torch.zeros(len(lengths), max(frames, 1), dtype=torch.bool, device=lengths.device)
        return mask.scatter_(1, starts, value=True)[:, :frames]


class ProbableSpanMasker(SpanMasker):
    """A share of the frames are starts of spans, drawn without replacement (section 3.1)."""

    config: ProbableSpansConfig

    def draw_starts(self, lengths: Tensor, frames: int, seeds: Tensor) -> Tensor:
        """Draw `probability` * frames starts per utterance, rounded stochastically."""
        expected = self.config.probability * lengths
        chance = rearrange(uniform(seeds, RandomStream.SPAN_COUNT, 1), "b 1 -> b")
        count = (expected + chance).long().clamp(min=1)
        last = rearrange(lengths - self.config.span_frames, "b -> b 1")
        scores = uniform(seeds, RandomStream.SPAN_STARTS, frames)
        scores = scores.masked_fill(torch.arange(frames, device=lengths.device) > last, -1.0)
        return highest(scores, count)


def highest(scores: Tensor, count: Tensor) -> Tensor:
    """Return a mask (b, n) of the `count` (b,) highest scores (b, n), negative scores excluded."""
    rank = scores.argsort(dim=1, descending=True).argsort(dim=1)
    return (rank < rearrange(count, "b -> b 1")) & (scores >= 0)


def dilate(starts: Tensor, span: int) -> Tensor:
    """Return the mask (b, n) of spans of `span` frames that start at `starts` (b, n)."""
    if not starts.numel():
        return starts
    padded = F.pad(rearrange(starts.float(), "b n -> b 1 n"), (span - 1, 0))
    return rearrange(F.max_pool1d(padded, span, stride=1), "b 1 n -> b n") > 0


MASKERS: dict[str, type[SpanMasker]] = {
    "fixed": FixedSpanMasker,
    "probability": ProbableSpanMasker,
}

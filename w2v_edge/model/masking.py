"""Span maskers: replace spans of frames by one learned vector.

Source: wav2vec 2.0 (arXiv 2006.11477), section 3.1. Everything is drawn on the device at once,
without a loop over utterances.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from w2v_edge.model.config import FixedSpansConfig, ProbableSpansConfig
from w2v_edge.model.lengths import Frames


class MaskedFrames(NamedTuple):
    """A batch with spans replaced.

    Attributes:
        frames: the masked copy (b, n, d) and its lengths.
        mask: (b, n) booleans, true where a frame was replaced.
        indices: (m, 2) the (batch, frame) of each replaced frame, in row-major order.
    """

    frames: Frames
    mask: Tensor
    indices: Tensor


class SpanMasker(nn.Module):
    """Replaces spans by `vector`; subclasses draw where the spans start."""

    def __init__(self, channels: int, config: FixedSpansConfig | ProbableSpansConfig) -> None:
        super().__init__()
        self.config = config
        self.vector = nn.Parameter(torch.empty(channels))

    def draw_starts(self, lengths: Tensor, frames: int) -> Tensor:
        """Draw (b, n) booleans, true where a span starts, for utterances of `lengths` (b,)."""
        raise NotImplementedError

    def forward(self, frames: Frames) -> MaskedFrames:
        """Mask a copy of frames (b, n, d).

        Starts are drawn inside each utterance; one of `span_frames` frames or fewer stays whole.
        """
        span = self.config.span_frames
        starts = self.draw_starts(frames.lengths, frames.values.shape[1])
        starts &= rearrange(frames.lengths > span, "b -> b 1")
        mask = spread(starts, span)
        values = torch.where(rearrange(mask, "b n -> b n 1"), self.vector, frames.values)
        return MaskedFrames(Frames(values, frames.lengths), mask, mask.nonzero())


class FixedSpanMasker(SpanMasker):
    """So many spans an utterance, starts uniform over [0, frames - span); they may overlap."""

    config: FixedSpansConfig

    def draw_starts(self, lengths: Tensor, frames: int) -> Tensor:
        """Draw `spans` starts for each utterance."""
        room = (lengths - self.config.span_frames).clamp(min=1)
        draws = torch.rand(len(lengths), self.config.spans, device=lengths.device)
        # float32 can round draws * room up to room itself.
        starts = (draws * rearrange(room, "b -> b 1")).long()
        starts = torch.minimum(starts, rearrange(room - 1, "b -> b 1"))
        mask = torch.zeros(len(lengths), max(frames, 1), dtype=torch.bool, device=lengths.device)
        return mask.scatter_(1, starts, value=True)[:, :frames]


class ProbableSpanMasker(SpanMasker):
    """A share of an utterance's frames become starts, without replacement (section 3.1)."""

    config: ProbableSpansConfig

    def draw_starts(self, lengths: Tensor, frames: int) -> Tensor:
        """Draw `probability` * frames starts for each utterance, the fraction left to chance."""
        device = lengths.device
        expected = self.config.probability * lengths
        count = (expected + torch.rand(len(lengths), device=device)).long().clamp(min=1)
        last = rearrange(lengths - self.config.span_frames, "b -> b 1")
        scores = torch.rand(len(lengths), frames, device=device)
        scores = scores.masked_fill(torch.arange(frames, device=device) > last, -1.0)
        rank = scores.argsort(dim=1, descending=True).argsort(dim=1)
        return (rank < rearrange(count, "b -> b 1")) & (scores >= 0)


def spread(starts: Tensor, span: int) -> Tensor:
    """Return the mask (b, n) of spans of `span` frames that begin at `starts` (b, n)."""
    if not starts.numel():
        return starts
    padded = F.pad(rearrange(starts.float(), "b n -> b 1 n"), (span - 1, 0))
    return rearrange(F.max_pool1d(padded, span, stride=1), "b 1 n -> b n") > 0


MASKERS: dict[str, type[SpanMasker]] = {
    "fixed": FixedSpanMasker,
    "probability": ProbableSpanMasker,
}

"""Span maskers: replace spans of frames by one learned vector.

Source: wav2vec 2.0 (arXiv 2006.11477), section 3.1. Spans are drawn from each utterance's own seed,
for all of them at once, wherever their lengths are: on the host nothing waits for a device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from w2v_edge.model.config import FixedSpansConfig, ProbableSpansConfig
from w2v_edge.model.lengths import Frames
from w2v_edge.model.random import Stream, fresh_seeds, uniform


class Mask(NamedTuple):
    """Which frames of a batch are replaced.

    Attributes:
        mask: (b, n) booleans, true where a frame is replaced.
        indices: (m, 2) the (batch, frame) of each replaced frame, in row-major order.
    """

    mask: Tensor
    indices: Tensor

    def to(self, device: torch.device) -> Mask:
        """Return it on a device."""
        return Mask(*(x.to(device, non_blocking=True) for x in self))


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

    def draw_starts(self, lengths: Tensor, frames: int, seeds: Tensor) -> Tensor:
        """Draw (b, n) booleans, true where a span starts, for utterances of `lengths` (b,)."""
        raise NotImplementedError

    def draw(self, lengths: Tensor, frames: int, seeds: Tensor) -> Mask:
        """Draw the mask of utterances.

        Starts are drawn inside each; one of `span_frames` frames or fewer stays whole.

        Args:
            lengths: (b,) valid frames of each.
            frames: of the padded batch, n.
            seeds: (b,) of each, where `lengths` are.
        """
        span = self.config.span_frames
        starts = self.draw_starts(lengths, frames, seeds)
        starts &= rearrange(lengths > span, "b -> b 1")
        mask = spread(starts, span)
        return Mask(mask, mask.nonzero())

    def forward(self, frames: Frames, drawn: Mask | None = None) -> MaskedFrames:
        """Mask a copy of frames (b, n, d): what was drawn, or spans of fresh seeds."""
        values, lengths = frames
        if drawn is None:
            drawn = self.draw(lengths, values.shape[1], fresh_seeds(len(values), lengths.device))
        values = torch.where(rearrange(drawn.mask, "b n -> b n 1"), self.vector, values)
        return MaskedFrames(Frames(values, lengths), *drawn)


class FixedSpanMasker(SpanMasker):
    """So many spans an utterance, starts uniform over [0, frames - span); they may overlap."""

    config: FixedSpansConfig

    def draw_starts(self, lengths: Tensor, frames: int, seeds: Tensor) -> Tensor:
        """Draw `spans` starts for each utterance."""
        room = (lengths - self.config.span_frames).clamp(min=1)
        draws = uniform(seeds, Stream.SPAN_STARTS, self.config.spans)
        # float32 can round draws * room up to room itself.
        starts = (draws * rearrange(room, "b -> b 1")).long()
        starts = torch.minimum(starts, rearrange(room - 1, "b -> b 1"))
        mask = torch.zeros(len(lengths), max(frames, 1), dtype=torch.bool, device=lengths.device)
        return mask.scatter_(1, starts, value=True)[:, :frames]


class ProbableSpanMasker(SpanMasker):
    """A share of an utterance's frames become starts, without replacement (section 3.1)."""

    config: ProbableSpansConfig

    def draw_starts(self, lengths: Tensor, frames: int, seeds: Tensor) -> Tensor:
        """Draw `probability` * frames starts for each utterance, the fraction left to chance."""
        expected = self.config.probability * lengths
        chance = rearrange(uniform(seeds, Stream.SPAN_COUNT, 1), "b 1 -> b")
        count = (expected + chance).long().clamp(min=1)
        last = rearrange(lengths - self.config.span_frames, "b -> b 1")
        scores = uniform(seeds, Stream.SPAN_STARTS, frames)
        scores = scores.masked_fill(torch.arange(frames, device=lengths.device) > last, -1.0)
        return highest(scores, count)


def highest(scores: Tensor, count: Tensor) -> Tensor:
    """Return (b, n) booleans, true at the `count` (b,) highest of scores (b, n); never below 0."""
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

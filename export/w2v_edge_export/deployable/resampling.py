"""Inference twin of the linear resampling of frames."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from w2v_edge.bundle.resampling import Resampling


class ResamplingTwin(nn.Module):
    """Linear resampling of each utterance over its own valid frames; see `model.resampling`."""

    def __init__(self, source: Resampling) -> None:
        super().__init__()
        self.up, self.down = source.up, source.down

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map x (b, n, d) to other frames (b, m, d), zero at padding.

        Args:
            x: (b, n, d) frames.
            lengths: (b,) valid frames.

        Returns:
            The frames, and their `valid` (b, m, 1), 0 at padding, else 1, and `lengths` (b,).
        """
        batch, frames, _ = x.shape
        outputs = _divide(lengths * self.up + (self.down - 1), torch.tensor(self.down))
        steps = torch.arange((frames * self.up + self.down - 1) // self.down)
        last = torch.clamp(lengths - 1, min=0).unsqueeze(1)
        span = torch.clamp(outputs - 1, min=1).unsqueeze(1)
        below = _divide(steps * last, span)
        share = (steps * last - below * span).to(x.dtype) / span.to(x.dtype)
        first = (torch.arange(batch) * frames).unsqueeze(1)
        rows, below = x.flatten(0, 1), torch.minimum(below, last)
        left = nn.functional.embedding(below + first, rows)
        right = nn.functional.embedding(torch.minimum(below + 1, last) + first, rows)
        valid = (steps < outputs.unsqueeze(1)).unsqueeze(2).to(x.dtype)
        return (left + (right - left) * share.unsqueeze(2)) * valid, valid, outputs


def _divide(x: Tensor, y: Tensor) -> Tensor:
    """Divide whole numbers of at least 0, rounding down.

    In float64, which is exact below 2 ** 53: exporters divide integers in float32.
    """
    return torch.floor(x.double() / y.double()).to(torch.int64)

"""Twin of the quantizers: a hard argmax in place of sampling, and no random operation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from w2v_edge.model.quantizer import VectorQuantizer
from w2v_edge_export.deployable.layers import Linear


class QuantizerTwin(nn.Module):
    """The best entry of each group and its codebook rows side by side."""

    def __init__(self, source: VectorQuantizer) -> None:
        super().__init__()
        self.groups = source.config.groups
        self.entries = source.config.entries
        self.scorer = Linear(_linear(source))
        rows = source.codebook.weight.detach().flatten(0, 1).contiguous()
        self.codebook = nn.Parameter(rows, requires_grad=False)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map what is quantized (b, n, d) to `codes` (b, n, g) int64, `vectors` (b, n, g * d)."""
        logits = self.scorer(frames).unflatten(2, (self.groups, self.entries))
        codes = logits.argmax(dim=3)
        first = torch.arange(self.groups, dtype=torch.int64) * self.entries
        return codes, nn.functional.embedding(codes + first, self.codebook).flatten(2)


def _linear(source: VectorQuantizer) -> nn.Linear:
    weight, bias = source.linear()
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return linear

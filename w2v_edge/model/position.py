"""Position encodings: positional convolutions, and WavLM's relative position bias.

Source: wav2vec 2.0 (arXiv 2006.11477), section 2; the stack of convolutions is data2vec's (arXiv
2202.03555); the gated relative position bias is WavLM's (arXiv 2110.13900), section 3.1, as in its
authors' code and in transformers.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from w2v_edge.model.config import RelativePositionConfig, TransformerContextConfig
from w2v_edge.model.padding import Frames, at_least_float32, zero_padding

GATE_PARTS = 4
"""Linear outputs that are summed to each of the two gates."""


class PositionalConv(nn.Module):
    """A wide grouped convolution over frames and GELU, to be added to its input."""

    def __init__(self, dim: int, kernel: int, groups: int, *, weight_normed: bool) -> None:
        """Create the convolution.

        Args:
            dim: channels in and out.
            kernel: width in frames.
            groups: convolution groups.
            weight_normed: apply weight norm, as in wav2vec 2.0.
        """
        super().__init__()
        conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        self.conv = weight_norm(conv, dim=2) if weight_normed else conv

    def forward(self, frames: Frames) -> Tensor:
        """Map frames (b, n, d), zero at padding, to the same shape."""
        return F.gelu(_convolve_same(self.conv, frames.values))


class BatchNormPositionalConv(PositionalConv):
    """A positional convolution of batch-normed frames, as in some HuBERT checkpoints."""

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        """Create the convolution; see `PositionalConv`."""
        super().__init__(dim, kernel, groups, weight_normed=False)
        self.norm = nn.BatchNorm1d(dim)

    def forward(self, frames: Frames) -> Tensor:
        """Map frames (b, n, d), zero at padding, to the same shape."""
        normed = rearrange(self.norm(rearrange(frames.values, "b n d -> b d n")), "b d n -> b n d")
        # The norm shifts padding away from zero, which the convolution's zero padding must match.
        return super().forward(Frames(zero_padding(normed, frames.lengths), frames.lengths))


class PositionalConvStack(nn.Module):
    """Several convolutions, each with a layer norm without parameters and GELU (data2vec)."""

    def __init__(self, dim: int, kernel: int, groups: int, layers: int) -> None:
        """Create `layers` convolutions; see `PositionalConv`."""
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups) for _ in range(layers)
        )

    def forward(self, frames: Frames) -> Tensor:
        """Map frames (b, n, d), zero at padding, to the same shape."""
        x = frames.values
        for conv in self.layers:
            x = F.gelu(F.layer_norm(_convolve_same(conv, x), x.shape[2:]))
            x = zero_padding(x, frames.lengths)
        return x


def _convolve_same(conv: nn.Module, x: Tensor) -> Tensor:
    """Convolve x (b, n, d) over frames, to the same shape."""
    # oneDNN's grouped bfloat16 convolution with an even kernel silently gives wrong results (torch
    # 2.13, processors with AMX; the error is as large as the values), so autocast is off here.
    with torch.autocast(x.device.type, enabled=False):
        y: Tensor = conv(rearrange(at_least_float32(x), "b n d -> b d n"))
    # An even kernel gives one more frame than its input has.
    return rearrange(y[:, :, : x.shape[1]], "b d n -> b n d")


def build_positional_conv(config: TransformerContextConfig) -> nn.Module:
    """Build the positional convolution of a context network."""
    dim, kernel, groups = config.dim, config.position_kernel, config.position_groups
    if config.position == "output_norm":
        return PositionalConvStack(dim, kernel, groups, config.position_layers)
    if config.position == "batch_norm":
        return BatchNormPositionalConv(dim, kernel, groups)
    return PositionalConv(dim, kernel, groups, weight_normed=True)


class RelativePositionBias(nn.Module):
    """A learned attention bias per head and bucket of distance, shared by all blocks."""

    def __init__(self, heads: int, config: RelativePositionConfig) -> None:
        """Create the table of biases.

        Args:
            heads: attention heads.
            config: number of buckets and the largest distance, in frames.
        """
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.buckets, heads))

    def forward(self, frames: int) -> Tensor:
        """Return the ungated bias (h, n, n), axes head, query, key."""
        index = torch.arange(frames, device=self.weight.device)
        distance = rearrange(index, "k -> 1 k") - rearrange(index, "q -> q 1")
        return rearrange(self.weight[self.buckets(distance)], "q k h -> h q k")

    def buckets(self, distance: Tensor) -> Tensor:
        """Return the bucket of each signed distance from query to key, in frames.

        The first half of the buckets is for keys before the query, the second half for keys after
        it. Within a half, short distances have a bucket each and long ones share logarithmic ones.
        """
        half = self.config.buckets // 2
        exact = half // 2
        size = distance.abs()
        # float32 and this order of operations, as upstream: else a distance at a bucket's edge
        # could round into the neighbouring bucket.
        share = torch.log(size.clamp(min=1).float() / exact) / math.log(
            self.config.max_distance / exact
        )
        far = (exact + share * (half - exact)).long().clamp(max=half - 1)
        return torch.where(size < exact, size, far) + (distance > 0).long() * half


class RelativePositionGate(nn.Module):
    """A factor per query and head that scales the relative position bias."""

    def __init__(self, dim: int, heads: int) -> None:
        """Create the gate of a block, `dim` channels wide, with `heads` attention heads."""
        super().__init__()
        self.heads = heads
        self.linear = nn.Linear(dim // heads, 2 * GATE_PARTS)
        self.scale = nn.Parameter(torch.empty(1, heads, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the factors (b, h, n, 1) for queries x (b, n, d)."""
        parts = self.linear(rearrange(x, "b n (h d) -> b h n d", h=self.heads))
        sums = rearrange(parts, "b h n (g p) -> b h n g p", p=GATE_PARTS).sum(dim=-1)
        update, reset = sums.sigmoid().chunk(2, dim=-1)
        gate: Tensor = update * (reset * self.scale - 1) + 2
        return gate

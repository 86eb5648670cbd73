"""Context networks: features to context vectors, one class a published arithmetic.

Source: wav2vec 2.0 (arXiv 2006.11477), section 2, with fairseq's `TransformerEncoder` (post-norm,
`layer_norm_first=False`) and its pre-norm form; the query-softmax form is the `tutorial`'s own.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from w2v_edge.model.config import QuerySoftmaxContextConfig, TransformerContextConfig
from w2v_edge.model.lengths import Frames, valid_steps, zero_padding


class FeedForward(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        projected: Tensor = self.contract(F.gelu(self.expand(x)))
        return projected


class QuerySoftmaxAttention(nn.Module):
    """Attention whose weights sum to one over the queries of each key.

    Logits are divided by the square root of the model's width, not of a head's.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Attend within x (b, n, d); `valid` (b, n) is false at padding.

        Padded queries leave the softmax and padded keys' values are zeroed.
        """
        dim = x.shape[-1]
        q, k, v = rearrange(self.qkv(x), "b n (s h d) -> s b h n d", s=3, h=self.heads)
        logits = einsum(q, k, "b h q d, b h k d -> b h q k") / math.sqrt(dim)
        queries = rearrange(valid, "b q -> b 1 q 1")
        logits = logits.masked_fill(~queries, torch.finfo(logits.dtype).min)
        v = torch.where(rearrange(valid, "b k -> b 1 k 1"), v, 0.0)
        mixed = einsum(logits.softmax(dim=2), v, "b h q k, b h k d -> b h q d")
        attended: Tensor = self.output(rearrange(mixed, "b h n d -> b n (h d)"))
        return attended


class SelfAttention(nn.Module):
    """Multi-head self-attention over valid keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Attend within x (b, n, d); `valid` (b, n) is false at padding, which no query sees."""
        q, k, v = rearrange(self.qkv(x), "b n (s h d) -> s b h n d", s=3, h=self.heads)
        keys = rearrange(valid, "b k -> b 1 1 k")
        bias = torch.zeros_like(keys, dtype=x.dtype).masked_fill(~keys, torch.finfo(x.dtype).min)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        attended: Tensor = self.output(rearrange(mixed, "b h n d -> b n (h d)"))
        return attended


class PositionalConv(nn.Module):
    """A wide grouped convolution over frames and GELU, to be added to its input."""

    def __init__(self, dim: int, kernel: int, groups: int, *, normed: bool) -> None:
        super().__init__()
        conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        self.conv = weight_norm(conv, dim=2) if normed else conv

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, d), zero at padding, to the same shape."""
        # An even kernel gives one frame more than it got.
        y = self.conv(rearrange(x, "b n d -> b d n"))[:, :, : x.shape[1]]
        return F.gelu(rearrange(y, "b d n -> b n d"))


class QuerySoftmaxBlock(nn.Module):
    """x + ff(attn(x)): no residual around attention alone."""

    def __init__(self, config: QuerySoftmaxContextConfig) -> None:
        super().__init__()
        self.attention = QuerySoftmaxAttention(config.dim, config.heads)
        self.norm = nn.LayerNorm(config.dim)
        self.feed_forward = FeedForward(config.dim, config.feed_forward)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        return x + F.gelu(self.feed_forward(self.norm(self.attention(x, valid))))


class QuerySoftmaxContextNetwork(nn.Module):
    """The `tutorial` architecture's: input convolution, positional convolution, blocks, no norm."""

    def __init__(self, channels: int, config: QuerySoftmaxContextConfig) -> None:
        super().__init__()
        self.config = config
        self.input = nn.Conv1d(channels, config.dim, kernel_size=1)
        self.position = PositionalConv(
            config.dim, config.position_kernel, config.position_groups, normed=False
        )
        self.blocks = nn.ModuleList(QuerySoftmaxBlock(config) for _ in range(config.layers))

    def forward(self, frames: Frames) -> Tensor:
        """Map features (b, n, d) to context (b, n, d), zero past the lengths."""
        x = rearrange(frames.values, "b n d -> b d n")
        # A convolution takes no empty batch of frames; whatever it makes of padding is cut.
        x = self.input(x) if x.shape[2] else x.new_zeros(len(x), self.config.dim, 0)
        x = zero_padding(rearrange(x, "b d n -> b n d"), frames.lengths)
        valid = valid_steps(frames.lengths, x.shape[1])
        x = x + self.position(x) if x.shape[1] else x
        for block in self.blocks:
            x = block(x, valid)
        return zero_padding(x, frames.lengths)


class TransformerBlock(nn.Module):
    """What post-norm and pre-norm blocks share: their parts."""

    def __init__(self, config: TransformerContextConfig) -> None:
        super().__init__()
        self.attention = SelfAttention(config.dim, config.heads)
        self.attention_norm = nn.LayerNorm(config.dim)
        self.feed_forward = FeedForward(config.dim, config.feed_forward)
        self.feed_forward_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)


class PostNormBlock(TransformerBlock):
    """Norms after each residual sum, as in BASE."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        x = self.attention_norm(x + self.dropout(self.attention(x, valid)))
        normed: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return normed


class PreNormBlock(TransformerBlock):
    """Norms before each branch, as in LARGE."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        x = x + self.dropout(self.attention(self.attention_norm(x), valid))
        branch: Tensor = self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return x + branch


class TransformerContextNetwork(nn.Module):
    """Positional convolution and transformer blocks; subclasses say where the norms are."""

    block: type[TransformerBlock]

    def __init__(self, config: TransformerContextConfig) -> None:
        super().__init__()
        self.config = config
        self.position = PositionalConv(
            config.dim, config.position_kernel, config.position_groups, normed=True
        )
        self.norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(self.block(config) for _ in range(config.layers))

    def embed(self, frames: Frames) -> Tensor:
        """Add positions to projected features (b, n, d); padding stays zero."""
        x = zero_padding(frames.values, frames.lengths)
        return x + self.position(x) if x.shape[1] else x

    def run_blocks(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Run x (b, n, d) through the blocks; in training each may be left out (layer drop)."""
        valid = valid_steps(lengths, x.shape[1])
        for block in self.blocks:
            # Drawn on the host, so that skipping a block costs no device synchronisation.
            dropped = self.training and torch.rand(()).item() < self.config.layer_drop
            x = x if dropped else block(x, valid)
        return x


class PostNormContextNetwork(TransformerContextNetwork):
    """BASE's: a norm before the blocks."""

    block = PostNormBlock

    def forward(self, frames: Frames) -> Tensor:
        """Map projected features (b, n, d) to context of the same shape, zero past the lengths."""
        x = self.dropout(self.norm(self.embed(frames)))
        return zero_padding(self.run_blocks(x, frames.lengths), frames.lengths)


class PreNormContextNetwork(TransformerContextNetwork):
    """LARGE's ("stable layer norm"): a norm after the blocks."""

    block = PreNormBlock

    def forward(self, frames: Frames) -> Tensor:
        """Map projected features (b, n, d) to context of the same shape, zero past the lengths."""
        x = self.run_blocks(self.dropout(self.embed(frames)), frames.lengths)
        return zero_padding(self.norm(x), frames.lengths)


CONTEXT_NETWORKS: dict[str, type[TransformerContextNetwork]] = {
    "post_norm": PostNormContextNetwork,
    "pre_norm": PreNormContextNetwork,
}

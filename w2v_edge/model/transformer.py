"""Context networks: features to context representations, one class per published architecture.

Source: wav2vec 2.0 (arXiv 2006.11477), section 2, with fairseq's `TransformerEncoder` (post-norm,
`layer_norm_first=False`) and its pre-norm form; the query-softmax form is from the `tutorial`
architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn

from w2v_edge.model.adapters import LanguageAdapter
from w2v_edge.model.config import QuerySoftmaxContextConfig, TransformerContextConfig
from w2v_edge.model.conformer_config import Activation, AnyConformerConfig
from w2v_edge.model.padding import Frames, valid_steps, zero_padding
from w2v_edge.model.position import (
    PositionalConv,
    RelativePositionBias,
    RelativePositionGate,
    build_positional_conv,
)

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": F.relu,
    "swish": F.silu,
}


class FeedForward(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, dim: int, hidden: int, activation: Activation = "gelu") -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        projected: Tensor = self.contract(ACTIVATIONS[self.activation](self.expand(x)))
        return projected


class QuerySoftmaxAttention(nn.Module):
    """Self-attention with the softmax over queries, not over keys.

    Logits are divided by the square root of the model's width, not of the head's.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Attend within x (b, n, d); `valid` (b, n) is false at padding.

        Padded queries are excluded from the softmax; values of padded keys are zeroed.
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
    """Multi-head self-attention over valid keys, with WavLM's relative position bias if `gated`."""

    def __init__(self, dim: int, heads: int, *, gated: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)
        self.gate = RelativePositionGate(dim, heads) if gated else None

    def forward(self, x: Tensor, valid: Tensor, distances: Tensor | None = None) -> Tensor:
        """Attend within x (b, n, d).

        Args:
            x: (b, n, d).
            valid: (b, n) false at padding; padded keys are masked out.
            distances: (h, n, n) ungated relative position bias, axes head, query, key.
        """
        q, k, v = rearrange(self.qkv(x), "b n (s h d) -> s b h n d", s=3, h=self.heads)
        keys = rearrange(valid, "b k -> b 1 1 k")
        bias = torch.zeros_like(keys, dtype=x.dtype)
        if self.gate is not None and distances is not None:
            bias = bias + self.gate(x) * distances
        bias = bias.masked_fill(~keys, torch.finfo(x.dtype).min)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        attended: Tensor = self.output(rearrange(mixed, "b h n d -> b n (h d)"))
        return attended


class QuerySoftmaxBlock(nn.Module):
    """x + ff(attn(x)): one residual connection around both, none around attention."""

    def __init__(self, config: QuerySoftmaxContextConfig) -> None:
        super().__init__()
        self.attention = QuerySoftmaxAttention(config.dim, config.heads)
        self.norm = nn.LayerNorm(config.dim)
        self.feed_forward = FeedForward(config.dim, config.feed_forward)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        return x + F.gelu(self.feed_forward(self.norm(self.attention(x, valid))))


class QuerySoftmaxContextNetwork(nn.Module):
    """The `tutorial` architecture: input and positional convolutions, blocks, no final norm."""

    def __init__(self, channels: int, config: QuerySoftmaxContextConfig) -> None:
        super().__init__()
        self.config = config
        self.input = nn.Conv1d(channels, config.dim, kernel_size=1)
        self.position = PositionalConv(
            config.dim, config.position_kernel, config.position_groups, weight_normed=False
        )
        self.blocks = nn.ModuleList(QuerySoftmaxBlock(config) for _ in range(config.layers))

    def forward(self, frames: Frames) -> Tensor:
        """Map features (b, n, d) to context (b, n, d), zero past the lengths."""
        x = rearrange(frames.values, "b n d -> b d n")
        # nn.Conv1d refuses an input of zero frames.
        x = self.input(x) if x.shape[2] else x.new_zeros(len(x), self.config.dim, 0)
        x = zero_padding(rearrange(x, "b d n -> b n d"), frames.lengths)
        valid = valid_steps(frames.lengths, x.shape[1])
        x = x + self.position(Frames(x, frames.lengths)) if x.shape[1] else x
        for block in self.blocks:
            x = block(x, valid)
        return zero_padding(x, frames.lengths)


class TransformerBlock(nn.Module):
    """Base of post-norm and pre-norm blocks: attention, feed-forward, norms, language adapter."""

    def __init__(self, config: TransformerContextConfig) -> None:
        super().__init__()
        gated = config.relative_position is not None
        self.attention = SelfAttention(config.dim, config.heads, gated=gated)
        self.attention_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.feed_forward = FeedForward(config.dim, config.feed_forward, config.activation)
        self.feed_forward_norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        hidden = config.language_adapter
        self.language_adapter = None if hidden is None else LanguageAdapter(config.dim, hidden)

    def adapt(self, x: Tensor) -> Tensor:
        """Apply the language adapter, if any, to x (b, n, d)."""
        return x if self.language_adapter is None else x + self.language_adapter(x)


class PostNormBlock(TransformerBlock):
    """Norms after each residual connection, as in BASE."""

    def forward(self, x: Tensor, valid: Tensor, distances: Tensor | None = None) -> Tensor:
        """Map x (b, n, d) to the same shape; see `SelfAttention`."""
        x = self.attention_norm(x + self.dropout(self.attention(x, valid, distances)))
        return self.adapt(self.feed_forward_norm(x + self.dropout(self.feed_forward(x))))


class PreNormBlock(TransformerBlock):
    """Norms before each residual branch, as in LARGE."""

    def forward(self, x: Tensor, valid: Tensor, distances: Tensor | None = None) -> Tensor:
        """Map x (b, n, d) to the same shape; see `SelfAttention`."""
        x = x + self.dropout(self.attention(self.attention_norm(x), valid, distances))
        return self.adapt(x + self.dropout(self.feed_forward(self.feed_forward_norm(x))))


class ContextNetwork(nn.Module):
    """Base of networks of residual blocks, from projected features to context."""

    config: TransformerContextConfig | AnyConformerConfig
    blocks: nn.ModuleList

    def forward(self, frames: Frames) -> Tensor:
        """Map projected features (b, n, d) to context (b, n, d), zero past the lengths."""
        return self.finish(self.states(frames)[-1], frames).values

    def states(self, frames: Frames) -> list[Tensor]:
        """Return the hidden states: the first block's input and each block's output.

        All are (b, n, d), or (b, m, d) where `state_lengths` says so; values at padding are
        undefined.
        """
        raise NotImplementedError

    def state_lengths(self, lengths: Tensor) -> Tensor:
        """Return how many frames of the hidden states (b,) are of `lengths` (b,) frames."""
        return lengths

    def finish(self, x: Tensor, frames: Frames) -> Frames:
        """Return the context (b, n, d), zero at padding.

        Args:
            x: the last hidden state.
            frames: the network's input (b, n, d).
        """
        return Frames(zero_padding(self.normed_state(x), frames.lengths), frames.lengths)

    def normed_state(self, x: Tensor) -> Tensor:
        """Apply the norm after the blocks, if any, to the last hidden state (b, n, d)."""
        return x

    def run(self, x: Tensor, *arguments: Tensor | None) -> list[Tensor]:
        """Return the hidden states of x (b, n, d), with layer drop in training.

        Args:
            x: the first block's input.
            arguments: further arguments of every block.
        """
        states = [x]
        for block in self.blocks:
            # Drawn on the host: no device synchronisation.
            dropped = self.training and torch.rand(()).item() < self.config.layer_drop
            x = x if dropped else block(x, *arguments)
            states.append(x)
        return states


class TransformerContextNetwork(ContextNetwork):
    """Positional convolution and transformer blocks; subclasses place the norms."""

    config: TransformerContextConfig
    block: type[TransformerBlock]

    def __init__(self, config: TransformerContextConfig) -> None:
        super().__init__()
        self.config = config
        self.position = build_positional_conv(config)
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps) if config.final_norm else None
        self.dropout = nn.Dropout(config.dropout)
        relative = config.relative_position
        self.relative_position = (
            None if relative is None else RelativePositionBias(config.heads, relative)
        )
        self.blocks = nn.ModuleList(self.block(config) for _ in range(config.layers))

    def normed(self, x: Tensor) -> Tensor:
        """Apply the network's norm, if any, to x (b, n, d)."""
        return x if self.norm is None else self.norm(x)

    def embed(self, frames: Frames) -> Tensor:
        """Add the positional convolution to projected features (b, n, d); padding stays zero."""
        x = zero_padding(frames.values, frames.lengths)
        return x + self.position(Frames(x, frames.lengths)) if x.shape[1] else x

    def run_blocks(self, x: Tensor, lengths: Tensor) -> list[Tensor]:
        """Return the hidden states of x (b, n, d)."""
        relative = self.relative_position
        distances = None if relative is None else relative(x.shape[1])
        return self.run(x, valid_steps(lengths, x.shape[1]), distances)


class PostNormContextNetwork(TransformerContextNetwork):
    """BASE: a norm before the blocks."""

    block = PostNormBlock

    def states(self, frames: Frames) -> list[Tensor]:
        """Return the hidden states; see `TransformerContextNetwork`."""
        x = self.dropout(self.normed(self.embed(frames)))
        return self.run_blocks(x, frames.lengths)


class PreNormContextNetwork(TransformerContextNetwork):
    """LARGE ("stable layer norm"): a norm after the blocks."""

    block = PreNormBlock

    def states(self, frames: Frames) -> list[Tensor]:
        """Return the hidden states; see `TransformerContextNetwork`."""
        return self.run_blocks(self.dropout(self.embed(frames)), frames.lengths)

    def normed_state(self, x: Tensor) -> Tensor:
        """Norm the last hidden state (b, n, d), unless the network was cut at a block."""
        return self.normed(x)


CONTEXT_NETWORKS: dict[str, type[TransformerContextNetwork]] = {
    "post_norm": PostNormContextNetwork,
    "pre_norm": PreNormContextNetwork,
}

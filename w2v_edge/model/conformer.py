"""Conformer context networks, one class per published architecture.

Source: Conformer (Gulati et al. 2020, arXiv 2005.08100), section 2.2; wav2vec2-Conformer as in
fairseq; w2v-BERT 2.0 (Seamless Communication, arXiv 2312.05187), as in fairseq2; both as in
transformers.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from w2v_edge.model.conformer_attention import build_attention
from w2v_edge.model.conformer_config import (
    AnyConformerConfig,
    CausalConformerContextConfig,
    ConformerContextConfig,
)
from w2v_edge.model.padding import Frames, at_least_float32, valid_steps, zero_padding
from w2v_edge.model.transformer import ACTIVATIONS, ContextNetwork, FeedForward


class ConvolutionModule(nn.Module):
    """Norm, gated linear layer, depthwise convolution, norm, activation, linear layer.

    Attributes:
        left: zeros before the first frame that the convolution sees.
    """

    left: int

    def __init__(self, config: AnyConformerConfig) -> None:
        super().__init__()
        dim = config.dim
        self.activation = config.activation
        self.norm = self.build_norm(config)
        self.gate = nn.Linear(dim, 2 * dim, bias=False)
        self.depthwise = nn.Conv1d(dim, dim, config.kernel, groups=dim, bias=False)
        self.depthwise_norm = self.build_depthwise_norm(config)
        self.output = nn.Linear(dim, dim, bias=False)

    def build_norm(self, config: AnyConformerConfig) -> nn.LayerNorm:
        """Build the norm of the module's input."""
        raise NotImplementedError

    def build_depthwise_norm(self, config: AnyConformerConfig) -> nn.Module:
        """Build the norm of the convolution's output."""
        raise NotImplementedError

    def normed(self, x: Tensor) -> Tensor:
        """Norm the convolution's output (b, d, n), to (b, n, d)."""
        raise NotImplementedError

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape; `valid` (b, n) is false at padding."""
        # Without biases, zeros stay zeros up to the convolution, which pads with zeros.
        x = self.norm(x).masked_fill(~rearrange(valid, "b n -> b n 1"), 0.0)
        x = at_least_float32(F.glu(self.gate(x), dim=2))
        right = self.depthwise.kernel_size[0] - 1 - self.left
        padded = F.pad(rearrange(x, "b n d -> b d n"), (self.left, right))
        # nn.Conv1d refuses an input shorter than its kernel.
        y = self.depthwise(padded) if x.shape[1] else padded[:, :, :0]
        projected: Tensor = self.output(ACTIVATIONS[self.activation](self.normed(y)))
        return projected


class CentredConvolutionModule(ConvolutionModule):
    """A convolution that sees as much to both sides, and batch norm (wav2vec2-Conformer)."""

    def __init__(self, config: AnyConformerConfig) -> None:
        super().__init__(config)
        self.left = config.kernel // 2

    def build_norm(self, config: AnyConformerConfig) -> nn.LayerNorm:
        """Return a layer norm."""
        return nn.LayerNorm(config.dim)

    def build_depthwise_norm(self, config: AnyConformerConfig) -> nn.Module:
        """Return a batch norm."""
        return nn.BatchNorm1d(config.dim)

    def normed(self, x: Tensor) -> Tensor:
        """Norm the convolution's output (b, d, n), to (b, n, d)."""
        normed: Tensor = self.depthwise_norm(x)
        return rearrange(normed, "b d n -> b n d")


class CausalConvolutionModule(ConvolutionModule):
    """A convolution that sees earlier frames only, and layer norm (w2v-BERT 2.0)."""

    def __init__(self, config: AnyConformerConfig) -> None:
        super().__init__(config)
        self.left = config.kernel - 1

    def build_norm(self, config: AnyConformerConfig) -> nn.LayerNorm:
        """Return a layer norm."""
        return nn.LayerNorm(config.dim, eps=config.norm_eps)

    def build_depthwise_norm(self, config: AnyConformerConfig) -> nn.Module:
        """Return a layer norm."""
        return nn.LayerNorm(config.dim, eps=config.norm_eps)

    def normed(self, x: Tensor) -> Tensor:
        """Norm the convolution's output (b, d, n), to (b, n, d)."""
        normed: Tensor = self.depthwise_norm(rearrange(x, "b d n -> b n d"))
        return normed


class ConformerBlock(nn.Module):
    """Half a feed-forward layer, attention, convolution, half a feed-forward layer, norm."""

    def __init__(
        self, config: AnyConformerConfig, convolution: ConvolutionModule, norm_eps: float
    ) -> None:
        super().__init__()
        dim, hidden = config.dim, config.feed_forward
        self.first_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.first = FeedForward(dim, hidden, config.activation)
        self.attention_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.attention = build_attention(dim, config.heads, config.position)
        self.convolution = convolution
        self.second_norm = nn.LayerNorm(dim, eps=norm_eps)
        self.second = FeedForward(dim, hidden, config.activation)
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape; `valid` (b, n) is false at padding."""
        x = x + 0.5 * self.dropout(self.first(self.first_norm(x)))
        x = x + self.dropout(self.attention(self.attention_norm(x), valid))
        x = x + self.dropout(self.convolution(x, valid))
        normed: Tensor = self.norm(x + 0.5 * self.dropout(self.second(self.second_norm(x))))
        return normed


class ConformerNetwork(ContextNetwork):
    """Base of the conformers: blocks over projected features."""

    config: AnyConformerConfig

    def __init__(self, config: AnyConformerConfig, blocks: Iterable[ConformerBlock]) -> None:
        super().__init__()
        self.config = config
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(blocks)

    def states(self, frames: Frames) -> list[Tensor]:
        """Return the hidden states; see `ContextNetwork`."""
        x = self.dropout(zero_padding(frames.values, frames.lengths))
        return self.run(x, valid_steps(frames.lengths, x.shape[1]))


class ConformerContextNetwork(ConformerNetwork):
    """wav2vec2-Conformer: centred convolutions, and a norm after the blocks."""

    def __init__(self, config: ConformerContextConfig) -> None:
        # Norms within the blocks have torch's epsilon, whatever the configuration.
        eps = nn.LayerNorm(1).eps
        blocks = (
            ConformerBlock(config, CentredConvolutionModule(config), eps)
            for _ in range(config.layers)
        )
        super().__init__(config, blocks)
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps) if config.final_norm else None

    def normed_state(self, x: Tensor) -> Tensor:
        """Norm the last hidden state (b, n, d), unless the network was cut at a block."""
        return x if self.norm is None else self.norm(x)


class CausalConformerContextNetwork(ConformerNetwork):
    """w2v-BERT 2.0: causal convolutions, no norm after the blocks."""

    def __init__(self, config: CausalConformerContextConfig) -> None:
        blocks = (
            ConformerBlock(config, CausalConvolutionModule(config), config.norm_eps)
            for _ in range(config.layers)
        )
        super().__init__(config, blocks)

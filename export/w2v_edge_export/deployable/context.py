"""Twins of the context networks."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from w2v_edge.model.speech_model import SpeechModel, TutorialModel, Wav2Vec2Model
from w2v_edge.model.transformer import (
    FeedForward,
    PositionalConv,
    PreNormContextNetwork,
    QuerySoftmaxAttention,
    QuerySoftmaxBlock,
    SelfAttention,
    TransformerBlock,
)
from w2v_edge_export.deployable.layers import Conv, Linear, Norm

MASKED = -1e30
"""Added to the logits of what must not be seen; its exponential is an exact zero, and not NaN."""


class PositionTwin(nn.Module):
    """The positional convolution with its weight norm folded."""

    def __init__(self, source: PositionalConv) -> None:
        super().__init__()
        kernel = source.conv.kernel_size[0]
        # One step of padding more than needed: runtimes refuse a convolution with no output,
        # which an odd kernel would give for an empty batch of frames.
        self.surplus = kernel % 2
        self.conv = Conv(source.conv, padding=kernel // 2 + self.surplus)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, d), zero at padding, to the same shape."""
        y = self.conv(x.transpose(1, 2).unsqueeze(2)).squeeze(2).transpose(1, 2)
        return nn.functional.gelu(y[:, self.surplus : self.surplus + x.shape[1]])


class FeedForwardTwin(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, source: FeedForward) -> None:
        super().__init__()
        self.expand = Linear(source.expand)
        self.contract = Linear(source.contract)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        contracted: Tensor = self.contract(nn.functional.gelu(self.expand(x)))
        return contracted


class AttentionTwin(nn.Module):
    """Fused projections; the scale of the logits is folded into the query's."""

    def __init__(self, source: SelfAttention | QuerySoftmaxAttention, divisor: float) -> None:
        super().__init__()
        self.heads = source.heads
        self.qkv = Linear(source.qkv)
        self.output = Linear(source.output)
        self.scale = 1 / divisor

    def split(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return scaled queries, keys (b, h, d, n) and values (b, h, n, d) of x (b, n, d)."""
        q, k, v = self.qkv(x).chunk(3, dim=2)
        q = q.unflatten(2, (self.heads, -1)).transpose(1, 2) * self.scale
        k = k.unflatten(2, (self.heads, -1)).permute(0, 2, 3, 1)
        v = v.unflatten(2, (self.heads, -1)).transpose(1, 2)
        return q, k, v

    def merge(self, weights: Tensor, v: Tensor) -> Tensor:
        """Mix values (b, h, n, d) by weights (b, h, n, n) into (b, n, d)."""
        merged: Tensor = self.output(torch.matmul(weights, v).transpose(1, 2).flatten(2))
        return merged


class SelfAttentionTwin(AttentionTwin):
    """Softmax over keys."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Attend within x (b, n, d); `valid` (b, n, 1) is 0 at padding, else 1."""
        q, k, v = self.split(x)
        bias = (1 - valid).transpose(1, 2).unsqueeze(1) * MASKED
        return self.merge((torch.matmul(q, k) + bias).softmax(dim=3), v)


class QuerySoftmaxAttentionTwin(AttentionTwin):
    """Softmax over queries: padded ones leave it, and padded keys' values are zeroed."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Attend within x (b, n, d); `valid` (b, n, 1) is 0 at padding, else 1."""
        q, k, v = self.split(x)
        queries = valid.unsqueeze(1)
        logits = torch.matmul(q, k) + (1 - queries) * MASKED
        return self.merge(logits.softmax(dim=2), v * queries)


class QuerySoftmaxBlockTwin(nn.Module):
    """x + ff(attn(x))."""

    def __init__(self, source: QuerySoftmaxBlock) -> None:
        super().__init__()
        dim = source.norm.normalized_shape[0]
        self.attention = QuerySoftmaxAttentionTwin(source.attention, math.sqrt(dim))
        self.norm = Norm(source.norm)
        self.feed_forward = FeedForwardTwin(source.feed_forward)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        branch = self.feed_forward(self.norm(self.attention(x, valid)))
        return x + nn.functional.gelu(branch)


class TransformerBlockTwin(nn.Module):
    """The parts of a transformer block."""

    def __init__(self, source: TransformerBlock) -> None:
        super().__init__()
        head = source.attention.qkv.in_features // source.attention.heads
        self.attention = SelfAttentionTwin(source.attention, math.sqrt(head))
        self.attention_norm = Norm(source.attention_norm)
        self.feed_forward = FeedForwardTwin(source.feed_forward)
        self.feed_forward_norm = Norm(source.feed_forward_norm)


class PostNormBlockTwin(TransformerBlockTwin):
    """Norms after each residual sum."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        x = self.attention_norm(x + self.attention(x, valid))
        normed: Tensor = self.feed_forward_norm(x + self.feed_forward(x))
        return normed


class PreNormBlockTwin(TransformerBlockTwin):
    """Norms before each branch."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        x = x + self.attention(self.attention_norm(x), valid)
        branch: Tensor = self.feed_forward(self.feed_forward_norm(x))
        return x + branch


class ContextTwin(nn.Module):
    """`forward(features (b, n, d), frame_lengths (b,))` gives `context`, zero at padding."""


class TutorialContextTwin(ContextTwin):
    """The `tutorial` architecture's context network; its input convolution is a linear layer."""

    def __init__(self, model: TutorialModel) -> None:
        super().__init__()
        network = model.context_network
        dim, channels, _ = network.input.weight.shape
        linear = nn.Linear(channels, dim)
        linear.load_state_dict(
            {
                "weight": network.input.weight.squeeze(2),
                "bias": network.input.state_dict()["bias"],
            }
        )
        self.input = Linear(linear)
        self.position = PositionTwin(network.position)
        self.blocks = nn.ModuleList(
            QuerySoftmaxBlockTwin(cast("QuerySoftmaxBlock", block)) for block in network.blocks
        )

    def forward(self, features: Tensor, frame_lengths: Tensor) -> Tensor:
        """Map features to context; see `ContextTwin`."""
        features, valid = _clean(features, frame_lengths)
        x = self.input(features) * valid
        x = x + self.position(x)
        for block in self.blocks:
            x = block(x, valid)
        context: Tensor = x * valid
        return context


class Wav2Vec2ContextTwin(ContextTwin):
    """wav2vec 2.0's feature projection and transformer."""

    def __init__(self, model: Wav2Vec2Model) -> None:
        super().__init__()
        network = model.context_network
        self.pre_norm = isinstance(network, PreNormContextNetwork)
        self.feature_projection = Linear(model.feature_projection)
        self.position = PositionTwin(network.position)
        self.norm = Norm(network.norm)
        block = PreNormBlockTwin if self.pre_norm else PostNormBlockTwin
        self.blocks = nn.ModuleList(
            block(cast("TransformerBlock", source)) for source in network.blocks
        )

    def forward(self, features: Tensor, frame_lengths: Tensor) -> Tensor:
        """Map features to context; see `ContextTwin`."""
        features, valid = _clean(features, frame_lengths)
        x = self.feature_projection(features) * valid
        x = x + self.position(x)
        x = x if self.pre_norm else self.norm(x)
        for block in self.blocks:
            x = block(x, valid)
        x = self.norm(x) if self.pre_norm else x
        context: Tensor = x * valid
        return context


def _clean(features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return features with zeros past the lengths, even over NaN, and (b, n, 1) ones and zeros."""
    index = torch.arange(features.shape[1], device=features.device)
    mask = (index < frame_lengths.unsqueeze(1)).unsqueeze(2)
    zero = torch.zeros((), dtype=features.dtype)
    return torch.where(mask, features, zero), mask.to(features.dtype)


def context_twin(model: SpeechModel) -> ContextTwin:
    """Return the twin of the context network of `model`."""
    if isinstance(model, TutorialModel):
        return TutorialContextTwin(model)
    assert isinstance(model, Wav2Vec2Model)
    return Wav2Vec2ContextTwin(model)

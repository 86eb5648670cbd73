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
from w2v_edge_export.deployable.layers import GroupedConv, Linear, Norm
from w2v_edge_export.deployable.ops import MASKED, attend


class PositionTwin(nn.Module):
    """The positional convolution with its weight norm folded."""

    def __init__(self, source: PositionalConv) -> None:
        super().__init__()
        kernel = source.conv.kernel_size[0]
        # One step of padding more than needed: runtimes refuse a convolution with no output,
        # which an odd kernel would give for an empty batch of frames.
        self.surplus = kernel % 2
        self.conv = GroupedConv(source.conv, padding=kernel // 2 + self.surplus)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, d), zero at padding, to the same shape."""
        y = self.conv(x)
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
    """The projections around an attention."""

    def __init__(self, source: SelfAttention | QuerySoftmaxAttention, divisor: float) -> None:
        super().__init__()
        self.heads = source.heads
        self.query, self.key, self.value = (Linear(x) for x in _thirds(source.qkv))
        self.output = Linear(source.output)
        self.scale = 1 / divisor


class SelfAttentionTwin(AttentionTwin):
    """Softmax over keys."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Attend within x (b, n, d); `valid` (b, n, 1) is 0 at padding, else 1."""
        q, k, v = self.query(x), self.key(x), self.value(x)
        mixed: Tensor = self.output(attend(q, k, v, valid, heads=self.heads, scale=self.scale))
        return mixed


class QuerySoftmaxAttentionTwin(AttentionTwin):
    """Softmax over queries: padded ones leave it, and padded keys' values are zeroed."""

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Attend within x (b, n, d); `valid` (b, n, 1) is 0 at padding, else 1."""
        q, k, v = (
            y.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for y in (self.query(x) * self.scale, self.key(x), self.value(x) * valid)
        )
        logits = torch.matmul(q, k.transpose(2, 3)) + (1 - valid.unsqueeze(1)) * MASKED
        mixed: Tensor = self.output(
            torch.matmul(logits.softmax(dim=2), v).transpose(1, 2).flatten(2)
        )
        return mixed


def _thirds(qkv: nn.Linear) -> list[nn.Linear]:
    """Split a fused projection: three products leave nothing to be cut apart afterwards."""
    dim = qkv.in_features
    made = []
    for i in range(3):
        linear = nn.Linear(dim, dim)
        linear.weight = nn.Parameter(qkv.weight.detach()[i * dim : (i + 1) * dim])
        linear.bias = nn.Parameter(qkv.bias.detach()[i * dim : (i + 1) * dim])
        made.append(linear)
    return made


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

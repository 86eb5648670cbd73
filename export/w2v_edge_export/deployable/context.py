"""Inference twins of the context networks."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from w2v_edge.model.adapters import ConvAdapter
from w2v_edge.model.attention_adapter import AttentionAdapter
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.speech_model import TutorialModel, Wav2Vec2Model
from w2v_edge.model.transformer import (
    PreNormContextNetwork,
    QuerySoftmaxBlock,
    TransformerBlock,
    TransformerContextNetwork,
)
from w2v_edge_export.deployable.attention import (
    DistancesTwin,
    QuerySoftmaxAttentionTwin,
    SelfAttentionTwin,
)
from w2v_edge_export.deployable.attention_adapter import AttentionAdapterTwin
from w2v_edge_export.deployable.convolutions import (
    ConvAdapterTwin,
    LanguageAdapterTwin,
    position_twin,
)
from w2v_edge_export.deployable.heads import head_twin, mean_over_frames
from w2v_edge_export.deployable.layers import FeedForwardTwin, Linear, Norm


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
    """Base of the transformer blocks: their submodules."""

    def __init__(self, source: TransformerBlock) -> None:
        super().__init__()
        self.attention = SelfAttentionTwin(source.attention)
        self.attention_norm = Norm(source.attention_norm)
        self.feed_forward = FeedForwardTwin(source.feed_forward)
        self.feed_forward_norm = Norm(source.feed_forward_norm)
        adapter = source.language_adapter
        self.language_adapter = None if adapter is None else LanguageAdapterTwin(adapter)

    def adapt(self, x: Tensor) -> Tensor:
        """Add the output of the language adapter, if any, to x (b, n, d)."""
        return x if self.language_adapter is None else x + self.language_adapter(x)


class PostNormBlockTwin(TransformerBlockTwin):
    """Norms after each residual sum."""

    def forward(self, x: Tensor, valid: Tensor, distances: Tensor | None) -> Tensor:
        """Map x (b, n, d) to the same shape; see `SelfAttentionTwin`."""
        x = self.attention_norm(x + self.attention(x, valid, distances))
        return self.adapt(self.feed_forward_norm(x + self.feed_forward(x)))


class PreNormBlockTwin(TransformerBlockTwin):
    """Norms before each branch."""

    def forward(self, x: Tensor, valid: Tensor, distances: Tensor | None) -> Tensor:
        """Map x (b, n, d) to the same shape; see `SelfAttentionTwin`."""
        x = x + self.attention(self.attention_norm(x), valid, distances)
        return self.adapt(x + self.feed_forward(self.feed_forward_norm(x)))


class ContextTwin(nn.Module):
    """`forward(features (b, n, d), frame_lengths (b,))` returns `outputs`, zero at padding."""

    outputs: tuple[str, ...]


class TutorialContextTwin(ContextTwin):
    """The `tutorial` architecture's context network; its input convolution is a linear layer."""

    def __init__(self, model: TutorialModel) -> None:
        super().__init__()
        self.outputs = context_outputs(model.config)
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
        self.position = position_twin(network.position)
        self.blocks = nn.ModuleList(
            QuerySoftmaxBlockTwin(cast("QuerySoftmaxBlock", block)) for block in network.blocks
        )

    def forward(self, features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, ...]:
        """Map features to context; see `ContextTwin`."""
        features, valid = _clean(features, frame_lengths)
        x = self.input(features) * valid
        x = x + self.position(x, valid)
        for block in self.blocks:
            x = block(x, valid)
        x = x * valid
        return (x, mean_over_frames(x, valid)) if "embedding" in self.outputs else (x,)


class Wav2Vec2ContextTwin(ContextTwin):
    """Feature projection, blocks, adapter and head; subclasses run the blocks."""

    def __init__(self, model: Wav2Vec2Model) -> None:
        super().__init__()
        self.outputs = context_outputs(model.config)
        self.layers = model.config.outputs.layers
        self.pooled = model.config.outputs.pooled
        projection = model.feature_projection
        self.feature_projection = None if projection is None else Linear(projection)
        self.adapter = None if model.adapter is None else _adapter_twin(model.adapter)
        self.head = None if model.head is None else head_twin(model.head)
        projection = model.final_projection
        self.final_projection = None if projection is None else Linear(projection)

    def forward(self, features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, ...]:
        """Map features to the context and further outputs; see `ContextTwin`."""
        features, valid = _clean(features, frame_lengths)
        project = self.feature_projection
        states = self.states(features if project is None else project(features) * valid, valid)
        x = self.finish(states[-1])
        made = {f"layer_{i}": states[i] * valid for i in self.layers}
        x = x * valid
        lengths = frame_lengths
        if self.adapter is not None:
            x, valid, lengths = self.adapter(x, valid, frame_lengths)
        made |= {"context": x, "context_lengths": lengths}
        if self.head is not None:
            made |= self.head(x, states, valid)
        if self.final_projection is not None:
            made["projected"] = self.final_projection(x) * valid
        if self.pooled is not None:
            made["embedding"] = mean_over_frames(x, valid)
        return tuple(made[name] for name in self.outputs)

    def states(self, x: Tensor, valid: Tensor) -> list[Tensor]:
        """Return the first block's input and each block's output, (b, n, d).

        Args:
            x: (b, n, d) projected features, zero at padding.
            valid: (b, n, 1) 0 at padding, else 1.
        """
        raise NotImplementedError

    def finish(self, x: Tensor) -> Tensor:
        """Return the context of the last hidden state (b, n, d)."""
        return x


class TransformerContextTwin(Wav2Vec2ContextTwin):
    """The transformer of wav2vec 2.0 and its variants."""

    def __init__(self, model: Wav2Vec2Model, network: TransformerContextNetwork) -> None:
        super().__init__(model)
        self.pre_norm = isinstance(network, PreNormContextNetwork)
        self.position = position_twin(network.position)
        self.norm = None if network.norm is None else Norm(network.norm)
        relative = network.relative_position
        self.distances: nn.Module | None = None if relative is None else DistancesTwin(relative)
        block = PreNormBlockTwin if self.pre_norm else PostNormBlockTwin
        self.blocks = nn.ModuleList(
            block(cast("TransformerBlock", source)) for source in network.blocks
        )

    def states(self, x: Tensor, valid: Tensor) -> list[Tensor]:
        """Return the hidden states; see `Wav2Vec2ContextTwin`."""
        return self.run(x + self.position(x, valid), valid)

    def run(self, x: Tensor, valid: Tensor) -> list[Tensor]:
        """Return the hidden states of frames and their positions, x (b, n, d)."""
        x = x if self.pre_norm or self.norm is None else self.norm(x)
        distances = None if self.distances is None else self.distances(x)
        states = [x]
        for block in self.blocks:
            states.append(block(states[-1], valid, distances))
        return states

    def finish(self, x: Tensor) -> Tensor:
        """Norm the last hidden state (b, n, d) of a pre-norm network, unless it was cut."""
        return self.norm(x) if self.pre_norm and self.norm is not None else x


def _adapter_twin(source: ConvAdapter | AttentionAdapter) -> nn.Module:
    if isinstance(source, AttentionAdapter):
        return AttentionAdapterTwin(source)
    return ConvAdapterTwin(source)


def _clean(features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return features, zero past the lengths even for NaN, and the mask (b, n, 1) of 1 and 0."""
    index = torch.arange(features.shape[1], device=features.device)
    mask = (index < frame_lengths.unsqueeze(1)).unsqueeze(2)
    zero = torch.zeros((), dtype=features.dtype)
    return torch.where(mask, features, zero), mask.to(features.dtype)


def context_outputs(config: ModelConfig) -> tuple[str, ...]:
    """Return the output names of a context network, in the order of the graphs."""
    return (
        "context",
        *(["context_lengths"] if getattr(config.context, "adapter", None) is not None else []),
        *([] if config.head is None else config.head.outputs),
        *(f"layer_{layer}" for layer in config.outputs.layers),
        *(["projected"] if config.outputs.projected is not None else []),
        *(["embedding"] if config.outputs.pooled is not None else []),
    )

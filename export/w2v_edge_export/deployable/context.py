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
from w2v_edge.names import Pooling
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
from w2v_edge_export.deployable.heads import head_twin, pool_frames
from w2v_edge_export.deployable.layers import FeedForwardTwin, Linear, Norm, StandardisationTwin
from w2v_edge_export.deployable.resampling import ResamplingTwin


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
        self.pooled = model.config.outputs.pooled
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
        return (x,) if self.pooled is None else (x, _pooled(x, valid, self.pooled))


class Wav2Vec2ContextTwin(ContextTwin):
    """Feature projection, blocks, adapter and head; subclasses run the blocks."""

    def __init__(self, model: Wav2Vec2Model) -> None:
        super().__init__()
        self.outputs = context_outputs(model.config)
        outputs = model.config.outputs
        self.layers, self.mixed = outputs.layers, outputs.mixed
        self.main, self.pooled = outputs.main, outputs.pooled
        resampling, norm = model.config.resampling, model.feature_norm
        self.resampling = None if resampling is None else ResamplingTwin(resampling)
        self.feature_norm = None if resampling is None or norm is None else Norm(norm)
        projection = model.feature_projection
        self.feature_projection = None if projection is None else Linear(projection)
        self.adapter = None if model.adapter is None else _adapter_twin(model.adapter)
        self.head = None if model.head is None else head_twin(model.head)
        projection = model.final_projection
        self.final_projection = None if projection is None else Linear(projection)
        standardisation = model.standardisation
        self.standardisation = (
            None if standardisation is None else StandardisationTwin(standardisation)
        )

    def forward(self, features: Tensor, frame_lengths: Tensor) -> tuple[Tensor, ...]:
        """Map features to the context and further outputs; see `ContextTwin`."""
        features, valid = _clean(features, frame_lengths)
        lengths = frame_lengths
        if self.resampling is not None:
            features, valid, lengths = self.resampling(features, frame_lengths)
        features = features if self.feature_norm is None else self.feature_norm(features)
        project = self.feature_projection
        states = self.states(features if project is None else project(features) * valid, valid)
        x = self.finish(states[-1], valid)
        made = {f"layer_{i}": states[i] * valid for i in self.layers}
        if self.mixed:
            made["mixed"] = _mean([states[i] for i in self.mixed]) * valid
        state_valid = valid
        if self.adapter is not None:
            x, valid, lengths = self.adapter(x, valid, lengths)
        made |= {"context": x, "context_lengths": lengths}
        if self.head is not None:
            made |= self.head(x, valid, states, self.valid_states(state_valid))
        if self.final_projection is not None:
            made["projected"] = self.final_projection(x) * valid
        valid = state_valid if self.mixed else valid
        if self.standardisation is not None:
            made[self.main] = self.standardisation(made[self.main], valid)
        if self.pooled is not None:
            made["embedding"] = _pooled(made[self.main], valid, self.pooled)
        return tuple(made[name] for name in self.outputs)

    def states(self, x: Tensor, valid: Tensor) -> list[Tensor]:
        """Return the first block's input and each block's output, (b, n, d) or (b, m, d).

        Args:
            x: (b, n, d) projected features, zero at padding.
            valid: (b, n, 1) 0 at padding, else 1.
        """
        raise NotImplementedError

    def valid_states(self, valid: Tensor) -> Tensor:
        """Return which frames of the hidden states are valid, as `valid` (b, n, 1) of frames."""
        return valid

    def finish(self, x: Tensor, valid: Tensor) -> Tensor:
        """Return the context (b, n, d) of the last hidden state, zero at padding."""
        return self.normed_state(x) * valid

    def normed_state(self, x: Tensor) -> Tensor:
        """Apply the norm after the blocks, if any, to the last hidden state (b, n, d)."""
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

    def normed_state(self, x: Tensor) -> Tensor:
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


def _mean(states: list[Tensor]) -> Tensor:
    """Return the mean of tensors of one shape."""
    total = states[0]
    for state in states[1:]:
        total = total + state
    return total / len(states)


def _pooled(x: Tensor, valid: Tensor, pooling: Pooling) -> Tensor:
    return pool_frames(x, valid, std=pooling == "mean,std")


def context_outputs(config: ModelConfig) -> tuple[str, ...]:
    """Return the output names of a context network, in the order of the graphs."""
    fewer = getattr(config.context, "adapter", None) is not None
    return (
        "context",
        *(["context_lengths"] if fewer or config.resampling is not None else []),
        *([] if config.head is None else config.head.outputs),
        *(f"layer_{layer}" for layer in config.outputs.layers),
        *(["mixed"] if config.outputs.mixed else []),
        *(["projected"] if config.outputs.projected is not None else []),
        *(["embedding"] if config.outputs.pooled is not None else []),
    )

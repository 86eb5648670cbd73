"""Variance-preserving initial weights.

With plain initialisation a deep GELU stack forgets its input: GELU's outputs have a positive mean,
each layer mostly passes on that mean, and after seven layers all frames are nearly equal. Filters
with zero mean over their inputs cancel it and preserve the differences between frames.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from w2v_edge.model.conformer_attention import SinusoidAttention
from w2v_edge.model.disentangled import DistanceEmbedding
from w2v_edge.model.feature_encoder import ConvFeatureEncoder, MaskedChannelNorm
from w2v_edge.model.heads import Head
from w2v_edge.model.masking import SpanMasker
from w2v_edge.model.position import PositionalConv, RelativePositionBias, RelativePositionGate
from w2v_edge.model.quantizer import Codebook, LearnedVectorQuantizer
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.model.standardisation import Standardisation
from w2v_edge.model.transformer import (
    FeedForward,
    TransformerBlock,
    TransformerContextNetwork,
)

GELU_GAIN = 1.7
"""1 / (standard deviation of GELU(x) for a standard normal x)."""

SPEECH_GAIN = 10.0
"""1 / (typical standard deviation of speech, 0.1 of full scale)."""


@torch.no_grad()
def initialise(model: SpeechModel, generator: torch.Generator) -> None:
    """Initialise every parameter of `model` in place, in the order of its modules.

    Raises:
        TypeError: a parameter belongs to a module without an initialisation rule.
    """
    for parameter in model.parameters():
        parameter.fill_(math.nan)
    for module in model.modules():
        _draw(module, generator)
    for module in model.modules():
        _refine(module, generator)
    for name, parameter in model.named_parameters():
        if parameter.isnan().any():
            raise TypeError(
                f"{name}: found no initialisation rule for its module; add one to _draw"
            )


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise a module's own parameters by its class."""
    if isinstance(module, nn.Linear):
        _linear(module, generator)
    elif isinstance(module, nn.Conv1d):
        _conv(module, generator)
    elif isinstance(module, nn.LayerNorm | MaskedChannelNorm):
        module.weight.fill_(1.0)
        module.bias.fill_(0.0)
    elif isinstance(module, Codebook | RelativePositionBias):
        module.weight.normal_(generator=generator)
    elif isinstance(module, SpanMasker):
        module.vector.normal_(generator=generator)
    elif isinstance(module, nn.BatchNorm1d):
        module.reset_running_stats()
        module.weight.fill_(1.0)
        module.bias.fill_(0.0)
    elif isinstance(module, Standardisation):
        module.mean.fill_(0.0)
        module.std.fill_(1.0)
    elif isinstance(module, Head) and module.layer_weights is not None:
        module.layer_weights.fill_(1 / len(module.layer_weights))
    else:
        _draw_position(module, generator)


def _draw_position(module: nn.Module, generator: torch.Generator) -> None:
    """Initialise a module's own parameters if it encodes positions."""
    if isinstance(module, RelativePositionBias | DistanceEmbedding | nn.Embedding):
        module.weight.normal_(generator=generator)
    elif isinstance(module, RelativePositionGate):
        module.scale.fill_(1.0)
    elif isinstance(module, SinusoidAttention):
        module.content_bias.fill_(0.0)
        module.distance_bias.fill_(0.0)


def _refine(module: nn.Module, generator: torch.Generator) -> None:
    """Rescale parameters whose scale depends on the module's place in the model."""
    if isinstance(module, ConvFeatureEncoder):
        module.convolutions[0].weight.mul_(SPEECH_GAIN / GELU_GAIN)
    elif isinstance(module, PositionalConv):
        _positional(module, generator)
    elif isinstance(module, LearnedVectorQuantizer):
        # As in fairseq: logits large enough not to be drowned by Gumbel noise at the start.
        module.scorer.weight.mul_(math.sqrt(module.scorer.in_features))
    elif isinstance(module, FeedForward):
        _centre(module.contract.weight)
    elif isinstance(module, TransformerContextNetwork):
        _scale_branches(module)


def _linear(module: nn.Linear, generator: torch.Generator) -> None:
    module.weight.normal_(std=1 / math.sqrt(module.in_features), generator=generator)
    if module.bias is not None:
        module.bias.fill_(0.0)


def _conv(module: nn.Conv1d, generator: torch.Generator) -> None:
    weight = torch.empty(module.weight.shape)
    weight.normal_(std=GELU_GAIN / math.sqrt(weight[0].numel()), generator=generator)
    if module.in_channels > 1:
        _centre(weight)
    _assign(module, weight)


def _positional(position: PositionalConv, generator: torch.Generator) -> None:
    """Scale the wide kernel to a total gain of two, as in fairseq."""
    conv = position.conv
    assert isinstance(conv, nn.Conv1d)
    std = 2 / math.sqrt(conv.kernel_size[0] * conv.in_channels)
    _assign(conv, torch.empty(conv.weight.shape).normal_(std=std, generator=generator))


def _centre(weight: Tensor) -> None:
    """Subtract the mean of each output's weights (outputs, ...) in place."""
    weight -= weight.mean(dim=tuple(range(1, weight.ndim)), keepdim=True)


def _scale_branches(network: TransformerContextNetwork) -> None:
    """Scale the 2 * layers residual branches to the variance of the residual stream in sum.

    Near-uniform attention adds the same vector to all frames; at full weight it would drown the
    differences between frames.
    """
    scale = 1 / math.sqrt(2 * max(len(network.blocks), 1))
    for block in network.blocks:
        assert isinstance(block, TransformerBlock)
        block.attention.output.weight.mul_(scale)
        block.feed_forward.contract.weight.mul_(scale)


def _assign(conv: nn.Conv1d, weight: Tensor) -> None:
    """Set the weight, through weight norm's parametrization if present, and a zero bias."""
    conv.weight = weight if hasattr(conv, "parametrizations") else nn.Parameter(weight)
    if conv.bias is not None:
        conv.bias.fill_(0.0)

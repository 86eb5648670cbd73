"""Random weights that keep variance through the depth.

Plain initialisation makes a deep GELU stack forget its input: GELU's outputs share a positive
mean, each further layer mostly passes on that mean, and after seven layers all frames look alike.
Filters with zero mean over their inputs cannot see it, so what differs between frames survives.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from w2v_edge.model.feature_encoder import FeatureEncoder, MaskedChannelNorm
from w2v_edge.model.heads import Head
from w2v_edge.model.masking import SpanMasker
from w2v_edge.model.position import PositionalConv
from w2v_edge.model.quantizer import Codebook, LearnedVectorQuantizer
from w2v_edge.model.relative_position import RelativePositionBias, RelativePositionGate
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.model.transformer import (
    FeedForward,
    TransformerBlock,
    TransformerContextNetwork,
)

GELU_GAIN = 1.7
"""1 / (standard deviation of GELU of a standard normal)."""

SPEECH_GAIN = 10.0
"""Speech recorded at a usual level has a standard deviation near 0.1."""


@torch.no_grad()
def initialise(model: SpeechModel, generator: torch.Generator) -> None:
    """Draw every parameter of `model`, in the order of its modules."""
    for module in model.modules():
        _draw(module, generator)
    for module in model.modules():
        _refine(module, generator)


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    """Fill a module's own parameters."""
    if isinstance(module, nn.Linear):
        _linear(module, generator)
    elif isinstance(module, nn.Conv1d):
        _conv(module, generator)
    elif isinstance(module, nn.LayerNorm | MaskedChannelNorm):
        module.weight.fill_(1.0)
        module.bias.fill_(0.0)
    elif isinstance(module, Codebook):
        module.weight.normal_(generator=generator)
    elif isinstance(module, SpanMasker):
        module.vector.normal_(generator=generator)
    elif isinstance(module, nn.BatchNorm1d):
        module.reset_running_stats()
        module.weight.fill_(1.0)
        module.bias.fill_(0.0)
    elif isinstance(module, RelativePositionBias):
        module.weight.normal_(generator=generator)
    elif isinstance(module, RelativePositionGate):
        module.scale.fill_(1.0)
    elif isinstance(module, Head) and module.layer_weights is not None:
        module.layer_weights.fill_(1 / len(module.layer_weights))


def _refine(module: nn.Module, generator: torch.Generator) -> None:
    """Change what a module's place in the model asks for."""
    if isinstance(module, FeatureEncoder):
        module.convolutions[0].weight.mul_(SPEECH_GAIN / GELU_GAIN)
    elif isinstance(module, PositionalConv):
        _positional(module, generator)
    elif isinstance(module, LearnedVectorQuantizer):
        # As in fairseq: logits so wide that Gumbel noise does not drown them from the start.
        module.scorer.weight.mul_(math.sqrt(module.scorer.in_features))
    elif isinstance(module, FeedForward):
        _centre(module.contract.weight)
    elif isinstance(module, TransformerContextNetwork):
        _branches(module)


def _linear(module: nn.Linear, generator: torch.Generator) -> None:
    module.weight.normal_(std=1 / math.sqrt(module.in_features), generator=generator)
    module.bias.fill_(0.0)


def _conv(module: nn.Conv1d, generator: torch.Generator) -> None:
    weight = torch.empty(module.weight.shape)
    weight.normal_(std=GELU_GAIN / math.sqrt(weight[0].numel()), generator=generator)
    if module.in_channels > 1:
        _centre(weight)
    _assign(module, weight)


def _positional(position: PositionalConv, generator: torch.Generator) -> None:
    """As in fairseq: the sum over the wide kernel starts at unit gain, times two."""
    conv = position.conv
    assert isinstance(conv, nn.Conv1d)
    std = 2 / math.sqrt(conv.kernel_size[0] * conv.in_channels)
    _assign(conv, torch.empty(conv.weight.shape).normal_(std=std, generator=generator))


def _centre(weight: Tensor) -> None:
    """Give each output's weights (outputs, ...) zero mean."""
    weight -= weight.mean(dim=tuple(range(1, weight.ndim)), keepdim=True)


def _branches(network: TransformerContextNetwork) -> None:
    """Start with 2 * layers branches that together weigh as much as the residual stream.

    Attention near uniform adds the same vector to all frames; at full weight it would drown what
    differs between them.
    """
    scale = 1 / math.sqrt(2 * max(len(network.blocks), 1))
    for block in network.blocks:
        assert isinstance(block, TransformerBlock)
        block.attention.output.weight.mul_(scale)
        block.feed_forward.contract.weight.mul_(scale)


def _assign(conv: nn.Conv1d, weight: Tensor) -> None:
    """Set the weight, through weight norm's parametrization where there is one."""
    conv.weight = weight if hasattr(conv, "parametrizations") else nn.Parameter(weight)
    if conv.bias is not None:
        conv.bias.fill_(0.0)

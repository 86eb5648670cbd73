"""Layers of the inference twins."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from w2v_edge.model.standardisation import Standardisation
from w2v_edge.model.transformer import ACTIVATIONS, FeedForward
from w2v_edge_export.deployable.ops import grouped_conv, windows
from w2v_edge_export.graph_builder import known


class Linear(nn.Module):
    """A linear layer with its weight as (inputs, outputs): one MatMul, no transpose to fold.

    The weight is a view of the model's, which takes no memory; it is laid out anew when written.
    """

    def __init__(self, source: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(source.weight.detach().T, requires_grad=False)
        bias: Tensor | None = source.bias
        self.bias = (
            None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, inputs) to (b, n, outputs)."""
        y = torch.matmul(x, self.weight)
        return y if self.bias is None else y + self.bias


class FeedForwardTwin(nn.Module):
    """Linear, activation, linear."""

    def __init__(self, source: FeedForward) -> None:
        super().__init__()
        self.expand = Linear(source.expand)
        self.contract = Linear(source.contract)
        self.activation = source.activation

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        contracted: Tensor = self.contract(ACTIVATIONS[self.activation](self.expand(x)))
        return contracted


class Norm(nn.Module):
    """A layer norm over the last axis."""

    def __init__(self, source: nn.LayerNorm) -> None:
        super().__init__()
        self.weight = nn.Parameter(source.weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(source.bias.detach().clone(), requires_grad=False)
        self.eps = source.eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (..., d)."""
        return nn.functional.layer_norm(x, (x.shape[-1],), self.weight, self.bias, self.eps)


class StandardisationTwin(nn.Module):
    """(x - mean) / std per channel."""

    def __init__(self, source: Standardisation) -> None:
        super().__init__()
        self.mean = nn.Parameter(source.mean.detach().clone(), requires_grad=False)
        self.std = nn.Parameter(source.std.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Standardise x (b, n, d); `valid` (b, n, 1) is 0 at padding, else 1."""
        return (x - self.mean) / self.std * valid


class Conv(nn.Module):
    """A 1-D convolution as one matrix product, channels last; its weight is (kernel * in, out).

    It adds no padding: inputs include the samples around them, and their length is a multiple of
    the stride.
    """

    def __init__(self, source: nn.Conv1d) -> None:
        super().__init__()
        weight = source.weight.detach().permute(2, 1, 0).flatten(0, 1).contiguous()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = (
            None
            if source.bias is None
            else nn.Parameter(source.bias.detach().clone(), requires_grad=False)
        )
        self.kernel = source.kernel_size[0]
        self.stride = source.stride[0]

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (b, n, c) to (b, n / stride - ceil(kernel / stride) + 1, d)."""
        y = torch.matmul(windows(x, self.kernel, self.stride), self.weight)
        return y if self.bias is None else y + self.bias


class GroupedConv(nn.Module):
    """A zero-padded grouped convolution, weight norm folded; its weight is (d, c, 1, kernel)."""

    def __init__(self, source: nn.Conv1d, padding: int) -> None:
        super().__init__()
        weight = source.weight.detach().unsqueeze(2).contiguous()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(known(source.bias).detach().clone(), requires_grad=False)
        self.groups = source.groups
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (b, n, d) to (b, n + 2 * padding - kernel + 1, d)."""
        return grouped_conv(x, self.weight, self.bias, groups=self.groups, padding=self.padding)


def valid_steps(lengths: Tensor, first: Tensor, steps: int, stride: int, reach: int) -> Tensor:
    """Return a (b, steps) mask of the steps that lie within the utterances.

    Step i begins at sample (first + i) * stride. It is valid if its index is not negative and the
    next `reach` samples exist. There is no division: exporters divide integers in float32.

    Args:
        lengths: (b,) samples of each utterance.
        first: () index of the first step.
        steps: number of steps.
        stride: samples from one step to the next.
        reach: samples that a step needs, minus the padding that it may see.
    """
    index = torch.arange(steps, device=lengths.device) + first
    return (index >= 0) & (index * stride + reach <= lengths.unsqueeze(1))

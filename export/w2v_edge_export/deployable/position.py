"""Twins of the positional convolutions, weight norm and batch norm folded."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from w2v_edge.model.position import BatchNormPositionalConv, PositionalConv, PositionalConvStack
from w2v_edge_export.deployable.layers import GroupedConv


class _Convolution(nn.Module):
    """A grouped convolution to the length of its input."""

    def __init__(self, source: nn.Conv1d) -> None:
        super().__init__()
        kernel = source.kernel_size[0]
        # One step of padding more than needed: runtimes refuse a convolution with no output,
        # which an odd kernel would give for an empty batch of frames.
        self.surplus = kernel % 2
        self.conv = GroupedConv(source, padding=kernel // 2 + self.surplus)

    def convolve(self, x: Tensor) -> Tensor:
        """Map x (b, n, d), zero at padding, to the same shape."""
        y: Tensor = self.conv(x)
        return y[:, self.surplus : self.surplus + x.shape[1]]


class PositionTwin(_Convolution):
    """One convolution and GELU."""

    def __init__(self, source: PositionalConv) -> None:
        super().__init__(source.conv)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:  # noqa: ARG002
        """Map x (b, n, d), zero at padding, to the same shape; `valid` (b, n, 1) is 0 there."""
        return nn.functional.gelu(self.convolve(x))


class BatchNormPositionTwin(_Convolution):
    """The same over frames that a batch norm scales and shifts."""

    def __init__(self, source: BatchNormPositionalConv) -> None:
        super().__init__(source.conv)
        norm = source.norm
        mean, variance = cast("Tensor", norm.running_mean), cast("Tensor", norm.running_var)
        scale = norm.weight.detach() / torch.sqrt(variance + norm.eps)
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.shift = nn.Parameter(norm.bias.detach() - mean * scale, requires_grad=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape; see `PositionTwin`."""
        return nn.functional.gelu(self.convolve((x * self.scale + self.shift) * valid))


class PositionStackTwin(nn.Module):
    """Several convolutions, each followed by a norm without parameters and GELU."""

    def __init__(self, source: PositionalConvStack) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Convolution(cast("nn.Conv1d", x)) for x in source.layers)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape; see `PositionTwin`."""
        for layer in self.layers:
            y = cast("_Convolution", layer).convolve(x)
            x = nn.functional.gelu(nn.functional.layer_norm(y, (y.shape[2],))) * valid
        return x


def position_twin(source: nn.Module) -> nn.Module:
    """Return the twin of a positional convolution."""
    if isinstance(source, PositionalConvStack):
        return PositionStackTwin(source)
    if isinstance(source, BatchNormPositionalConv):
        return BatchNormPositionTwin(source)
    assert isinstance(source, PositionalConv)
    return PositionTwin(source)

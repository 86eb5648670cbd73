"""Inference twins of the positional convolutions and the adapters."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from w2v_edge.model.adapters import ConvAdapter, LanguageAdapter
from w2v_edge.model.position import BatchNormPositionalConv, PositionalConv, PositionalConvStack
from w2v_edge_export.deployable.layers import GroupedConv, Linear, Norm
from w2v_edge_export.graph_builder import ExportError, known


class _Convolution(nn.Module):
    """A grouped convolution that keeps the length of its input."""

    def __init__(self, source: nn.Conv1d) -> None:
        super().__init__()
        kernel = source.kernel_size[0]
        # One extra step of padding: some runtimes fail on a convolution with an empty output,
        # which an odd kernel has for an input without frames.
        self.surplus = kernel % 2
        self.conv = GroupedConv(source, padding=kernel // 2 + self.surplus)

    def convolve(self, x: Tensor) -> Tensor:
        """Map x (b, n, d), zero at padding, to the same shape."""
        y: Tensor = self.conv(x)
        return y[:, self.surplus : self.surplus + x.shape[1]]


class PositionTwin(_Convolution):
    """Positional convolution and GELU."""

    def __init__(self, source: PositionalConv) -> None:
        super().__init__(source.conv)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:  # noqa: ARG002
        """Map x (b, n, d), zero where `valid` (b, n, 1) is 0, to the same shape."""
        return nn.functional.gelu(self.convolve(x))


class BatchNormPositionTwin(_Convolution):
    """Batch norm, as a scale and a shift, then positional convolution and GELU."""

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
    """Stack of convolutions, each followed by a layer norm without parameters and GELU."""

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
    if isinstance(source, PositionalConv):
        return PositionTwin(source)
    raise ExportError(f"no inference twin for {type(source).__name__}")


class LanguageAdapterTwin(nn.Module):
    """Bottleneck whose output is added to a block's output."""

    def __init__(self, source: LanguageAdapter) -> None:
        super().__init__()
        self.norm = Norm(source.norm)
        self.contract = Linear(source.contract)
        self.expand = Linear(source.expand)

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, d) to the same shape."""
        expanded: Tensor = self.expand(nn.functional.relu(self.contract(self.norm(x))))
        return expanded


class GatedPool(nn.Module):
    """A strided, gated convolution over frames."""

    def __init__(self, source: nn.Conv1d) -> None:
        super().__init__()
        self.kernel, self.stride = source.kernel_size[0], source.stride[0]
        self.padding = cast("int", source.padding[0])
        # Some runtimes fail on an empty output: extra steps are computed and cut off.
        self.surplus = max(1, -(-(self.kernel - 2 * self.padding) // self.stride))
        self.weight = _frozen(source.weight)
        self.bias = _frozen(known(source.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (b, n, d), zero at padding, to fewer frames (b, m, d)."""
        right = self.padding + self.surplus * self.stride
        padded = nn.functional.pad(x, (0, 0, self.padding, right)).transpose(1, 2)
        y = nn.functional.conv1d(padded, self.weight, self.bias, stride=self.stride)
        values, gates = y.chunk(2, dim=1)
        return (values * torch.sigmoid(gates))[:, :, : -self.surplus].transpose(1, 2)

    def valid(self, lengths: Tensor, steps: int) -> Tensor:
        """Return a (b, steps) mask of the frames made of `lengths` (b,) frames.

        There is no division, which exporters compute in float32.
        """
        index = torch.arange(steps, device=lengths.device)
        reach = index * self.stride + (self.kernel - 2 * self.padding)
        return (reach <= lengths.unsqueeze(1)) & (lengths.unsqueeze(1) > 0)


class ConvAdapterTwin(nn.Module):
    """Strided, gated convolutions over context vectors."""

    def __init__(self, source: ConvAdapter) -> None:
        super().__init__()
        self.projection = None if source.projection is None else Linear(source.projection)
        self.norm = None if source.norm is None else Norm(source.norm)
        self.layers = nn.ModuleList(GatedPool(cast("nn.Conv1d", x)) for x in source.layers)

    def forward(self, x: Tensor, valid: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map x (b, n, d) to fewer frames (b, m, d), zero at padding.

        Args:
            x: (b, n, d) context vectors, zero at padding.
            valid: (b, n, 1) 0 at padding, else 1.
            lengths: (b,) valid frames.

        Returns:
            The frames, and their `valid` (b, m, 1) and `lengths` (b,).
        """
        if self.projection is not None and self.norm is not None:
            x = self.norm(self.projection(x)) * valid
        for layer in self.layers:
            x = layer(x)
            mask = cast("GatedPool", layer).valid(lengths, x.shape[1])
            lengths = mask.sum(dim=1)
            valid = mask.unsqueeze(2).to(x.dtype)
            x = x * valid
        return x, valid, lengths


def _frozen(x: Tensor) -> nn.Parameter:
    return nn.Parameter(x.detach().clone(), requires_grad=False)

"""One layer in int8: the graph computes the layer's description."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from w2v_edge_export.deployable.layers import Conv, GroupedConv, Linear
from w2v_edge_export.deployable.ops import windows
from w2v_edge_export.parts import lower_parts
from w2v_edge_export.targets import load_target
from w2v_edge_export.trace import Part, trace
from w2v_edge_export.weight_quantization.plan import QuantizedLayer
from w2v_edge_export.weight_quantization.rounding import LIMITS, inverse_factor, round_weight

Floats = npt.NDArray[np.float32]
Plain = Callable[..., dict[str, npt.NDArray[Any]]]


def _grouped(channels: int, groups: int, kernel: int) -> GroupedConv:
    padding = kernel // 2
    return GroupedConv(nn.Conv1d(channels, channels, kernel, groups=groups), padding)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: Linear(nn.Linear(48, 20)),
    "linear, odd": lambda: Linear(nn.Linear(33, 20)),
    "convolution": lambda: Conv(nn.Conv1d(16, 20, 3, stride=2)),
    "convolution, odd": lambda: Conv(nn.Conv1d(13, 20, 3, stride=2, bias=False)),
    "convolution, frames skipped": lambda: Conv(nn.Conv1d(16, 20, 1, stride=2)),
    "convolution, three blocks": lambda: Conv(nn.Conv1d(11, 20, 5, stride=2)),
    "convolution, whole blocks": lambda: Conv(nn.Conv1d(16, 20, 2, stride=2)),
    "grouped": lambda: _grouped(24, 4, 8),
    "grouped, odd": lambda: _grouped(15, 3, 7),
}
"""Small layers: odd numbers of inputs, and windows of whole blocks and of parts of them."""


def _rows(module: nn.Module, x: Tensor) -> Tensor:
    if isinstance(module, Conv):
        x = windows(x, module.kernel, module.stride)
    return x.flatten(0, 1)


def _layer(scheme: str, module: nn.Module, x: Tensor) -> QuantizedLayer:
    """Quantize a layer for inputs x; its name is that of a part called `test`."""
    weight = module.get_parameter("weight").detach()
    scale = float(x.max() - x.min()) / 255
    static = scale, round(-float(x.min()) / scale)
    if isinstance(module, GroupedConv):
        weight = weight[:, :, 0].permute(2, 1, 0).flatten(0, 1)
        rounded = round_weight(weight, None, LIMITS[:1])
        return QuantizedLayer("test.layer", "static", rounded, *static)
    rows = _rows(module, x)
    rounded = round_weight(weight, inverse_factor(rows.T @ rows))
    if scheme == "static":
        return QuantizedLayer("test.layer", "static", rounded, *static)
    balance = None
    if scheme == "balanced":
        channels = x.shape[2]
        balance = torch.linspace(0.5, 4, channels).repeat(len(weight) // channels)
        rounded = round_weight(weight * balance.unsqueeze(1), None)
    return QuantizedLayer("test.layer", "row", rounded, balance=balance)


def _as_its_layer_says(module: nn.Module, layer: QuantizedLayer, x: Tensor) -> Tensor:
    if isinstance(module, GroupedConv):
        outputs, width, _, kernel = module.weight.shape
        weight = layer.weight.dequantized.reshape(kernel, width, outputs).permute(2, 1, 0)
        seen = layer.rounded(x).transpose(1, 2)
        y = nn.functional.conv1d(
            seen, weight, module.bias, padding=module.padding, groups=module.groups
        )
        return y.transpose(1, 2)
    rows = layer(_rows(module, x))
    y = rows.reshape(len(x), -1, rows.shape[1])
    bias: Tensor | None = getattr(module, "bias", None)
    return y if bias is None else y + bias


class _Alone(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layer(x)
        return found


def _example(module: nn.Module) -> Tensor:
    """Return inputs (2, 18, c) with a stretch of zeros, one utterance much louder."""
    inputs = len(module.get_parameter("weight"))
    x = torch.randn(2, 18, inputs // module.kernel if isinstance(module, Conv) else inputs) + 0.3
    x[0, 6:14] = 0
    x[1] *= 20
    return x


@pytest.mark.parametrize("kind", LAYERS)
def test_a_graph_equals_its_description(
    kind: str,
    plain: Plain,
    int8_weights: Any,
    tmp_path: Path,
    assert_pairs_fit: Callable[[npt.NDArray[Any]], None],
) -> None:
    """A quantized product in a graph equals its description in PyTorch."""
    torch.manual_seed(4)
    module, target = LAYERS[kind](), load_target("cpu")
    x = _example(module)
    part = Part("test", _Alone(module), {"x": x}, {"x": {0: "batch"}}, ("y",))
    traced = trace(part, target.opset)
    # Grouped convolutions have static ranges only.
    schemes = ["static"] if isinstance(module, GroupedConv) else ["row", "static", "balanced"]
    for scheme in schemes:
        layer = _layer(scheme, module, x)
        graph = lower_parts({"test": traced}, target, {"test.layer": layer})["test"]
        graph.ir_version = target.ir_version
        path = tmp_path / f"{scheme}.onnx"
        ir.save(graph, path)
        (weight,) = int8_weights(path).values()
        assert_pairs_fit(weight)
        found = plain(path, x=x.numpy())["y"]
        expected = _as_its_layer_says(module, layer, x).detach().numpy()
        largest = np.abs(expected).max(axis=2).clip(1e-6)
        difference = np.abs(found - expected).max(axis=2) / largest
        # A value halfway between two integers may be rounded either way.
        assert np.median(difference) <= 1e-5
        assert difference.max() <= 0.05

"""Which matrix products have quantized weights, and how they are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from w2v_edge_export.weight_quantization.four_bits import FourBitLayer
from w2v_edge_export.weight_quantization.rounding import Int8Weight

Scheme = Literal["row", "static"]
"""Ranges of the inputs: `row` takes them anew for each step (the frames that one row of the product
sees), `static` has one from calibration. A range never spans steps, utterances or tiles."""

LEVELS = 255
SMALLEST = 1e-12
"""The least width of a level: rows of zeros stay zeros."""


@dataclass(frozen=True)
class QuantizedLayer:
    """One layer in int8.

    Attributes:
        name: such as `context.blocks.0.attention.query`.
        scheme: how the ranges of its inputs are found.
        weight: (k, n) integers and scales, of the weight whose rows were multiplied by `balance`.
        scale, zero_point: of the inputs, where they are static.
        balance: (k,) what each input is divided by before it is rounded; None for all ones.
    """

    name: str
    scheme: Scheme
    weight: Int8Weight
    scale: float = 1.0
    zero_point: int = 0
    balance: Tensor | None = None
    precision: ClassVar[str] = "int8"

    def rounded(self, rows: Tensor) -> Tensor:
        """Return inputs (r, k) as the integers of this layer's graph stand for them."""
        if self.balance is not None:
            rows = rows / self.balance
        if self.scheme == "static":
            scale, zero = torch.tensor(self.scale), torch.tensor(float(self.zero_point))
        else:
            high = rows.amax(dim=1, keepdim=True).clamp(min=0)
            low = -rows.amin(dim=1, keepdim=True).clamp(max=0)
            scale = ((high + low) / LEVELS).clamp(min=SMALLEST)
            zero = (low / scale).round()
        return ((rows / scale).round() + zero).clamp(0, LEVELS).sub(zero) * scale

    def __call__(self, rows: Tensor) -> Tensor:
        """Compute the layer without its bias on rows (r, k), as its graph does."""
        return self.rounded(rows) @ self.weight.dequantized


Layer = QuantizedLayer | FourBitLayer

Plan = Mapping[str, Layer]
"""The layers with quantized weights by name; all others stay in float."""

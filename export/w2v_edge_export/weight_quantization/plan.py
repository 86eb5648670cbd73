"""Layers with quantized weights, in int8 and in 4 bits: what each computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from w2v_edge_export.weight_quantization.rounding import Int8Weight

BLOCK = 32
"""Inputs that share a scale."""

CENTRE = 8
"""What stands for zero."""


@dataclass(frozen=True)
class FourBitLayer:
    """One layer with its weight in 4 bits.

    Attributes:
        name: such as `context.blocks.0.attention.query`.
        values: (n, blocks, BLOCK) integers from 0 to 15.
        scale: (n, blocks) float32.
        inputs: of the layer; the last block may be wider than what is left.
    """

    name: str
    values: Tensor
    scale: Tensor
    inputs: int
    scheme: ClassVar[str] = "none"
    precision: ClassVar[str] = "int4"
    balance: ClassVar[None] = None

    @property
    def dequantized(self) -> Tensor:
        """The weight that these integers stand for, (k, n)."""
        blocks = (self.values.to(torch.float32) - CENTRE) * self.scale.unsqueeze(2)
        weight: Tensor = blocks.flatten(1)[:, : self.inputs].T
        return weight

    @property
    def packed(self) -> Tensor:
        """The integers two a byte, the first in the low half: (n, blocks, BLOCK / 2) uint8."""
        values = self.values.to(torch.uint8)
        return values[..., 0::2] | (values[..., 1::2] << 4)

    def __call__(self, rows: Tensor) -> Tensor:
        """Compute the layer without its bias on rows (r, k)."""
        return rows @ self.dequantized


def round_to_four_bits(name: str, weight: Tensor) -> FourBitLayer:
    """Round a weight (k, n); of several scales, each block keeps the one with the least error."""
    inputs = weight.shape[0]
    columns = torch.nn.functional.pad(weight.T, (0, -inputs % BLOCK))
    blocks = columns.reshape(len(columns), -1, BLOCK)
    # The largest value becomes -8, which is one step further out than 7.
    index = blocks.abs().argmax(dim=2, keepdim=True)
    widest = blocks.gather(2, index).squeeze(2) / -CENTRE
    best = torch.zeros_like(blocks)
    scale = torch.ones_like(widest)
    least = torch.full_like(widest, torch.inf)
    for share in (1.0, 0.95, 0.9, 0.85, 0.8, 0.75):
        step = widest * share
        step = torch.where(step == 0, torch.ones_like(step), step)
        values = (blocks / step.unsqueeze(2)).round().clamp(-CENTRE, CENTRE - 1)
        error = (values * step.unsqueeze(2) - blocks).square().sum(dim=2)
        better = error < least
        least = torch.where(better, error, least)
        scale = torch.where(better, step, scale)
        best = torch.where(better.unsqueeze(2), values, best)
    return FourBitLayer(name, (best + CENTRE).to(torch.uint8), scale, inputs)


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

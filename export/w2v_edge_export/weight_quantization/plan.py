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
"""The integer for zero."""


@dataclass(frozen=True)
class FourBitLayer:
    """One layer with its weight in 4 bits.

    Attributes:
        name: such as `context.blocks.0.attention.query`.
        values: (n, blocks, BLOCK) integers from 0 to 15.
        scale: (n, blocks) float32.
        inputs: number of inputs k; the last block may be padded beyond it.
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
        """The dequantized weight, (k, n)."""
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
    """Round a weight (k, n) to 4 bits, with the best of several scales for each block."""
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


Scheme = Literal["row", "static", "static16"]
"""Ranges of the inputs: `row` has one for each row of the product, `static` one from calibration. A
range never spans rows, utterances or tiles. `static16` rounds inputs and outputs to 16 bits."""

LEVELS = 255
SMALLEST = 1e-12
"""Least width of a level, so that rows of zeros stay zeros."""


LEVELS16 = 2**16 - 1

ROOM = 4.0
"""Other audio may have values as many times as large as calibration audio, in 16 bits.

A group norm divides by the deviation over the utterance: speech in a tenth of it gives values three
times as large as speech throughout."""


@dataclass(frozen=True)
class FixedRange:
    """A range of values that are rounded to 16 bits, the same for all audio.

    Attributes:
        scale: width of a level.
        zero_point: the integer for zero.
    """

    scale: float
    zero_point: int

    @classmethod
    def around(cls, low: float, high: float) -> FixedRange:
        """Return `ROOM` times the range from `low` to `high`, with zero in it."""
        low, high = ROOM * min(0.0, low), ROOM * max(0.0, high)
        scale = max((high - low) / LEVELS16, SMALLEST)
        return cls(scale, round(-low / scale))

    def rounded(self, x: Tensor) -> Tensor:
        """Return x after rounding to 16 bits."""
        integers = (x / self.scale).round() + self.zero_point
        return (integers.clamp(0, LEVELS16) - self.zero_point) * self.scale


@dataclass(frozen=True)
class QuantizedLayer:
    """One layer in int8.

    Attributes:
        name: such as `context.blocks.0.attention.query`.
        scheme: how the ranges of the inputs are found.
        weight: (k, n) integers and scales, of the weight whose rows were multiplied by `balance`.
        scale: of the inputs, with static ranges.
        zero_point: of the inputs, with static ranges.
        balance: (k,) divisors of the inputs before rounding; None for none.
        inputs: range of the inputs in 16 bits.
        outputs: range of the outputs in 16 bits, without the bias.
    """

    name: str
    scheme: Scheme
    weight: Int8Weight
    scale: float = 1.0
    zero_point: int = 0
    balance: Tensor | None = None
    inputs: FixedRange | None = None
    outputs: FixedRange | None = None
    precision: ClassVar[str] = "int8"

    def rounded(self, rows: Tensor) -> Tensor:
        """Return inputs (r, k) after rounding to the integers of this layer's graph."""
        if self.inputs is not None:
            return self.inputs.rounded(rows)
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
        y = self.rounded(rows) @ self.weight.dequantized
        return y if self.outputs is None else self.outputs.rounded(y)


Layer = QuantizedLayer | FourBitLayer

Plan = Mapping[str, Layer]
"""Layers with quantized weights, by name; all others stay in float."""

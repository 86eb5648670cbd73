"""Weights in 4 bits, for size: products themselves stay in float, and are not faster.

onnxruntime's MatMulNBits takes them apart as it goes, in blocks of inputs with a scale each. Its
kernels are made for one row at a time, not for the hundreds of frames of an utterance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

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

"""Rounding of weights to int8, one scale for each column, with the least error of the output.

Columns are rounded one input at a time. Later inputs compensate each rounding error, as far as they
correlate with it on calibration audio (Frantar et al., "GPTQ", 2022, section 3).

On x86 without VNNI, runtimes add the products of two neighbouring inputs in 16 bits, saturating:
255 * (127 + 127) does not fit. Two neighbouring weights of one sign therefore never sum to more
than 128, for which every such sum is exact. The usable share of the int8 range depends on a
column's values: each column has the best of several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PAIR = 128
"""Largest sum of two neighbouring weights of one sign: 255 * 128 < 2 ** 15."""

ANY_PAIR = 2 * 127
"""In place of `PAIR` where products are added in 32 bits."""

LIMITS = (63, 72, 80, 90, 100, 127)
"""Ranges: the integer of a column's largest value. Up to 64 any two neighbours fit."""

TRIED = 2
"""Ranges tried for each column, chosen by the error of rounding to nearest. Trying all six lowers
the error on speech by 0.2 % at most."""

DAMPING = 0.01
"""Share of the mean variance added to all, so that no error moves to nearly constant inputs."""

BLOCK, INNER = 128, 16
"""Inputs whose errors are handed on together, so that most of the work is matrix products."""


@dataclass(frozen=True)
class Int8Weight:
    """A weight (k, n) as `values` (k, n) int8 times `scale` (n,) float32."""

    values: Tensor
    scale: Tensor

    @property
    def dequantized(self) -> Tensor:
        """The dequantized weight, (k, n)."""
        return self.values * self.scale


def round_weight(
    weight: Tensor, factor: Tensor | None, ranges: Sequence[int] = LIMITS, pair: int = PAIR
) -> Int8Weight:
    """Quantize a weight (k, n).

    Args:
        weight: float32, inputs first.
        factor: (k, k) from `inverse_factor`; None rounds every value to the nearest.
        ranges: integers for a column's largest value.
        pair: largest sum of two neighbouring weights of one sign.
    """
    outputs = weight.shape[1]
    largest = weight.abs().amax(dim=0).clamp(min=1e-30)
    # The part of an input that later inputs cannot make up for.
    power = 1.0 if factor is None else factor.diagonal().square().reciprocal().unsqueeze(1)
    promised = []
    for limit in ranges:
        scale = largest / limit
        error = _round_each(weight, scale, pair) * scale - weight
        promised.append((error.square() * power).sum(dim=0))
    order = torch.stack(promised).argsort(dim=0)[: 1 if factor is None else TRIED]
    limits = torch.tensor(ranges, dtype=torch.float32)[order].flatten()
    scale = largest.repeat(len(order)) / limits
    if factor is None:
        return Int8Weight(_round_each(weight, scale, pair).to(torch.int8), scale)
    values, cost = _round(weight.repeat(1, len(order)), scale, limits, factor, pair)
    index = cost.view(-1, outputs).argmin(dim=0) * outputs + torch.arange(outputs)
    return Int8Weight(values[:, index].to(torch.int8), scale[index])


def inverse_factor(gram: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of a damped `gram`.

    Args:
        gram: (k, k) sums over calibration frames of products of two inputs.
    """
    damped = gram.to(torch.float64)
    damped.diagonal().add_(DAMPING * damped.diagonal().mean().clamp(min=1e-30))
    # With rows and columns reversed, the lower factor is the upper factor of `damped` itself, and
    # the inverse of that is the factor of the inverse.
    upper = torch.linalg.cholesky(damped.flip(0, 1)).flip(0, 1).to(torch.float32)
    factor: Tensor = torch.linalg.solve_triangular(upper, torch.eye(len(gram)), upper=True)
    return factor


def _round_each(weight: Tensor, scale: Tensor, pair: int) -> Tensor:
    """Round every value of (k, n) to the nearest, subject to the rule for neighbours."""
    values = (weight / scale).round()
    # No value is beyond its limit: the largest of its column is what became the limit.
    last = len(values) // 2 * 2
    values[1:last:2] = _beside(values[0:last:2], values[1:last:2], pair)
    return values


def _round(
    weight: Tensor, scale: Tensor, limits: Tensor, factor: Tensor, pair: int
) -> tuple[Tensor, Tensor]:
    """Round (k, n) to integers of at most `limits` (n,), input by input.

    Returns:
        The integers (k, n), and the error that they cause in the output of each column (n,).
    """
    weight = weight.clone()
    values = torch.zeros_like(weight)
    cost = torch.zeros_like(scale)
    lowest = -limits
    for begin in range(0, len(weight), BLOCK):
        end = min(begin + BLOCK, len(weight))
        errors = torch.zeros_like(weight[begin:end])
        for first in range(begin, end, INNER):
            last = min(first + INNER, end)
            for i in range(first, last):
                value = (weight[i] / scale).round()
                value = torch.clamp(value, lowest, limits)
                if i % 2:
                    value = _beside(values[i - 1], value, pair)
                values[i] = value
                errors[i - begin] = (weight[i] - value * scale) / factor[i, i]
                weight[i:last] -= factor[i, i:last].unsqueeze(1) * errors[i - begin]
            inner = errors[first - begin : last - begin]
            weight[last:end] -= factor[first:last, last:end].T @ inner
        weight[end:] -= factor[begin:end, end:].T @ errors
        cost += errors.square().sum(dim=0)
    return values, cost


def _beside(neighbour: Tensor, value: Tensor, pair: int) -> Tensor:
    """Clip `value` so that it and its neighbour, of one sign, add to no more than `pair`."""
    # No value reaches `pair`, so that a neighbour of the other sign clips nothing.
    return torch.clamp(value, -pair - neighbour.clamp(max=0), pair - neighbour.clamp(min=0))

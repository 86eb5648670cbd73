"""Tables that map a foreign checkpoint's tensors to ours and back, and what they cover."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from w2v_edge.errors import CheckpointError
from w2v_edge.model.checkpoint import check_names, check_values

TRAINING_ONLY = ("masker.", "target_projection.", "prediction_projection.")
"""Beginnings of the names of what a converted model holds, and inference never reads."""


MISFIT = "; its config and its weights do not belong together, or the file is damaged"


@dataclass(frozen=True)
class Row:
    """One tensor of ours and what it is made of.

    Attributes:
        ours: its name.
        theirs: names of the foreign tensors; several lie one below the other in ours.
        shape: of the foreign one, where its numbers are arranged otherwise.
    """

    ours: str
    theirs: tuple[str, ...]
    shape: tuple[int, ...] | None = None

    def shape_of_theirs(self, ours: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of each foreign tensor, given ours."""
        if self.shape is not None:
            return self.shape
        first = ours[0] // len(self.theirs) if ours else 0
        return (first, *ours[1:]) if len(self.theirs) > 1 else tuple(ours)


Table = Sequence[Row]


@dataclass(frozen=True)
class Coverage:
    """What became of a foreign checkpoint's tensors.

    Attributes:
        used: how many inference needs.
        training: names of those kept for training only.
        ignored: names of those left out, with the reason.
    """

    used: int
    training: tuple[str, ...] = ()
    ignored: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The same in one line."""
        parts = [f"{self.used} tensors used"]
        if self.training:
            parts.append(f"kept for training only: {', '.join(self.training)}")
        parts += [f"left out: {name} ({why})" for name, why in self.ignored.items()]
        return "; ".join(parts)


def convert(
    where: Path | str,
    table: Table,
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    ignored: Mapping[str, str],
) -> tuple[dict[str, Tensor], Coverage]:
    """Return our tensors, made of a foreign checkpoint's.

    Args:
        where: the checkpoint, for errors.
        table: a row for each of `expected`.
        expected: our tensors by name, for their shapes.
        found: the foreign ones.
        ignored: patterns of foreign names that may be there and are not needed, with the reason.

    Raises:
        CheckpointError: a tensor is missing, unexpected or of another shape; it is named.
    """
    assert {row.ours for row in table} == set(expected)
    needed = {name for row in table for name in row.theirs}
    left_out = {
        name: why
        for name in sorted(found.keys() - needed)
        for pattern, why in ignored.items()
        if re.fullmatch(pattern, name)
    }
    rest = {name: tensor for name, tensor in found.items() if name not in left_out}
    check_names(where, needed, rest, MISFIT)
    converted = {row.ours: _join(where, row, expected[row.ours], found) for row in table}
    training = tuple(
        name for row in table if row.ours.startswith(TRAINING_ONLY) for name in row.theirs
    )
    return converted, Coverage(len(needed) - len(training), training, left_out)


def revert(table: Table, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the foreign tensors that ours are made of."""
    theirs: dict[str, Tensor] = {}
    for row in table:
        tensor = ours[row.ours]
        shape = row.shape_of_theirs(tensor.shape)
        parts = tensor.chunk(len(row.theirs)) if len(row.theirs) > 1 else (tensor,)
        theirs |= {
            name: part.reshape(shape).contiguous().clone()
            for name, part in zip(row.theirs, parts, strict=True)
        }
    return theirs


def with_sides(ours: str, *theirs: str) -> list[Row]:
    """Return the rows of a weight and a bias."""
    return [
        Row(f"{ours}.{side}", tuple(f"{name}.{side}" for name in theirs))
        for side in ("weight", "bias")
    ]


def present(table: Iterable[Row], expected: Mapping[str, Tensor]) -> list[Row]:
    """Return the rows of tensors that a model has."""
    return [row for row in table if row.ours in expected]


def _join(where: Path | str, row: Row, ours: Tensor, found: Mapping[str, Tensor]) -> Tensor:
    shape = row.shape_of_theirs(ours.shape)
    for name in row.theirs:
        if tuple(found[name].shape) != shape:
            raise CheckpointError(
                f"{where}: tensor {name!r}: expected shape {shape} by its config, found "
                f"{tuple(found[name].shape)}"
            )
        if not found[name].is_meta:
            check_values(where, name, found[name], floats=ours.is_floating_point())
    if any(found[name].is_meta for name in row.theirs):
        return torch.empty(ours.shape, device="meta")
    if len(row.theirs) == 1:
        return found[row.theirs[0]].reshape(ours.shape)
    assert math.prod(shape) * len(row.theirs) == ours.numel()
    return torch.cat([found[name] for name in row.theirs])

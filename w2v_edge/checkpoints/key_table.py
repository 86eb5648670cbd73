"""Key tables: they map the tensors of a source checkpoint to ours and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from w2v_edge.checkpoints.tensors import with_weight_norm
from w2v_edge.errors import CheckpointError
from w2v_edge.model.checkpoint import check_names, check_values
from w2v_edge.model.config import ModelConfig

TRAINING_ONLY = ("masker.", "target_projection.", "prediction_projection.")
"""Prefixes of our tensors that inference does not use."""
MISMATCH = "; the config does not match the weights, or the file is damaged"


@dataclass(frozen=True)
class KeyMapping:
    """One of our tensors and its source tensors.

    Attributes:
        ours: name of our tensor.
        theirs: names of the source tensors, concatenated along axis 0 in ours.
        shape: shape of the source tensor, if it is reshaped.
    """

    ours: str
    theirs: tuple[str, ...]
    shape: tuple[int, ...] | None = None

    def shape_of_theirs(self, ours: Sequence[int]) -> tuple[int, ...]:
        """Return the shape of each source tensor, given ours."""
        if self.shape is not None:
            return self.shape
        first = ours[0] // len(self.theirs) if ours else 0
        return (first, *ours[1:]) if len(self.theirs) > 1 else tuple(ours)


@dataclass(frozen=True)
class Coverage:
    """Use of a source checkpoint's tensors.

    Attributes:
        used: number of tensors that inference uses.
        training: names of tensors kept for training only.
        ignored: reason by name of the tensors that are dropped.
    """

    used: int
    training: tuple[str, ...] = ()
    ignored: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Summary in one line."""
        parts = [f"{self.used} tensors used"]
        if self.training:
            parts.append(f"kept for training only: {', '.join(self.training)}")
        parts += [f"ignored: {name} ({why})" for name, why in self.ignored.items()]
        return "; ".join(parts)


def convert(
    where: Path | str,
    table: Sequence[KeyMapping],
    expected: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    ignored: Mapping[str, str],
    advice: str = MISMATCH,
) -> tuple[dict[str, Tensor], Coverage]:
    """Convert a source checkpoint's tensors to ours.

    Args:
        where: the checkpoint, for errors.
        table: a mapping for each of `expected`.
        expected: our tensors by name, for their shapes and types.
        found: the source tensors.
        ignored: reason by regular expression of source names that may be dropped.
        advice: appended to errors about missing and unexpected tensors.

    Raises:
        CheckpointError: a tensor is missing, unexpected or has another shape; it is named.
    """
    # A gap in a key table is an error of ours that no checkpoint can cause: never skip it.
    unmapped = set(expected) - {row.ours for row in table}
    if unmapped:
        raise CheckpointError(
            f"{where}: no key mapping for tensor {min(unmapped)!r}; report it as a bug of w2v-edge"
        )
    needed = {name for row in table for name in row.theirs}
    found = with_weight_norm(found, needed)
    left_out = {
        name: why
        for name in sorted(found.keys() - needed)
        for pattern, why in ignored.items()
        if re.fullmatch(pattern, name)
    }
    rest = {name: tensor for name, tensor in found.items() if name not in left_out}
    check_names(where, needed, rest, advice)
    converted = {row.ours: _concatenate(where, row, expected[row.ours], found) for row in table}
    training = tuple(
        name for row in table if row.ours.startswith(TRAINING_ONLY) for name in row.theirs
    )
    return converted, Coverage(len(needed) - len(training), training, left_out)


def revert(table: Sequence[KeyMapping], ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert our tensors back to the source checkpoint's."""
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


def with_projection(
    where: Path | str, config: ModelConfig, shapes: Mapping[str, tuple[int, ...]]
) -> ModelConfig:
    """Return a config with the checkpoint's final projection of the context.

    Raises:
        CheckpointError: it has none.
    """
    shape = shapes.get("final_proj.weight", ())
    if len(shape) != 2 or config.objective is not None:  # noqa: PLR2004 - out, in
        raise CheckpointError(
            f"{where}: found no projection of the context, expected a tensor 'final_proj.weight' "
            "(width, dim), as ContentVec and HuBERT have it"
        )
    return replace(config, outputs=replace(config.outputs, projected=shape[0]))


def weight_and_bias(ours: str, *theirs: str) -> list[KeyMapping]:
    """Return the mappings of a module's weight and bias."""
    return [
        KeyMapping(f"{ours}.{part}", tuple(f"{name}.{part}" for name in theirs))
        for part in ("weight", "bias")
    ]


def existing(table: Iterable[KeyMapping], expected: Mapping[str, Tensor]) -> list[KeyMapping]:
    """Return the mappings of tensors that a model has; a table lists those of all models."""
    return [row for row in table if row.ours in expected]


def _concatenate(
    where: Path | str, row: KeyMapping, ours: Tensor, found: Mapping[str, Tensor]
) -> Tensor:
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
    joined = torch.cat([found[name] for name in row.theirs])
    if joined.shape != ours.shape:
        raise CheckpointError(
            f"{where}: tensors {row.theirs[0]!r}, ...: expected {tuple(ours.shape)} together, "
            f"found {tuple(joined.shape)}"
        )
    return joined

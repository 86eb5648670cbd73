"""Sizes that follow from the shapes of tensors, where a file has no settings.

Strides do not: they are those of every published model, or are stated in a JSON file `NAME.json`
beside the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2v_edge.errors import CheckpointError
from w2v_edge.model.config import ConvLayer

Shapes = Mapping[str, tuple[int, ...]]

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
"""Convolutions of every published model."""


def shape_of(path: Path, shapes: Shapes, name: str) -> tuple[int, ...]:
    """Return the shape of a tensor.

    Raises:
        CheckpointError: there is no such tensor.
    """
    if name not in shapes:
        raise CheckpointError(f"{path}: missing tensor {name!r}")
    return shapes[name]


def count(shapes: Shapes, prefix: str) -> int:
    """Return the number of modules called `prefix` and a number from 0, such as `layers.0`."""
    numbers = (
        name.removeprefix(prefix).split(".")[0] for name in shapes if name[: len(prefix)] == prefix
    )
    return 1 + max((int(x) for x in numbers if x.isdecimal()), default=-1)


def convolutions(
    path: Path, shapes: Shapes, prefix: str, given: Mapping[str, Any], key: str
) -> tuple[ConvLayer, ...]:
    """Return the convolutions of a feature encoder.

    Args:
        path: the checkpoint, for errors.
        shapes: of its tensors; weights are called `PREFIX0.conv.weight` and so on.
        prefix: beginning of their names.
        given: content of the JSON file.
        key: its key for a list of `[channels, kernel, stride]`.

    Raises:
        CheckpointError: the strides are unknown, or the list is malformed.
    """
    found: list[tuple[int, int]] = []
    while len(shape := shapes.get(f"{prefix}{len(found)}.conv.weight", ())) == 3:  # noqa: PLR2004 - out, in, kernel
        found.append((shape[0], shape[2]))
    layers = given.get(key)
    known = tuple(kernel for _, kernel in found) == KERNELS
    try:
        strides = (STRIDES if known else ()) if layers is None else [int(x[2]) for x in layers]
    except (TypeError, ValueError, LookupError) as error:
        raise wrong_key(path, key, "a list of [channels, kernel, stride]", layers) from error
    if len(strides) != len(found) or not found:
        raise CheckpointError(
            f"{path}: found {len(found)} convolutions, kernels {[x for _, x in found]!r:.60}, so "
            f'their strides are unknown; write {{"{key}": [[channels, kernel, stride], ...]}} into '
            f"{beside(path).name} beside it"
        )
    return tuple(ConvLayer(*x, stride) for x, stride in zip(found, strides, strict=True))


def beside(path: Path) -> Path:
    """Return the JSON file that states what shapes do not tell."""
    return path.with_suffix(".json")


def wrong_key(path: Path, key: str, expected: str, found: object) -> CheckpointError:
    """Return the error for an unexpected value in the JSON file beside a checkpoint."""
    return CheckpointError(f"{beside(path)}: {key}: expected {expected}, found {found!r:.60}")

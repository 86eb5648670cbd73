"""Reads torch files whose pickles contain settings as objects, without running their code.

torch's restricted unpickler allows tensors and plain values. The classes listed here are allowed
in addition, each replaced by a stand-in that stores its arguments and has no behaviour.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from w2v_edge.errors import CheckpointError
from w2v_edge.model.checkpoint import read_torch


class StandIn:
    """Replacement of an allowed class: fields without behaviour."""

    def __init__(self, *values: object) -> None:
        """Store the arguments of the original class."""
        self.values = values


ALLOWED = (
    "argparse.Namespace",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    *(
        f"omegaconf.nodes.{kind}Node"
        for kind in ("Any", "String", "Integer", "Float", "Boolean", "Enum", "Bytes", "Path")
    ),
    "omegaconf._utils.Marker",
    "fairseq.data.dictionary.Dictionary",
    "fairseq.meters.AverageMeter",
    "fairseq.meters.TimeMeter",
    "fairseq.meters.StopwatchMeter",
    "fairseq.dataclass.constants.Choices",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "typing.Any",
    "typing.Union",
    "collections.defaultdict",
    "builtins.object",
    "builtins.dict",
    "builtins.list",
    "builtins.tuple",
    "builtins.str",
    "builtins.int",
    "builtins.float",
    "builtins.bool",
    "builtins.bytes",
    "builtins.NoneType",
    "pathlib.PosixPath",
)
"""Full names of the classes that become stand-ins."""


def read_restricted(path: Path) -> Any:
    """Read a torch file; objects in it become stand-ins.

    torch's allow list is global to the process and is extended while this runs.

    Raises:
        Exception: any error of torch's restricted unpickler on a refused or damaged file.
    """
    # torch maps each allowed name to a class, which must be distinct.
    stand_ins = [(type(name.rpartition(".")[2], (StandIn,), {}), name) for name in ALLOWED]
    with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
        return read_torch(path)


def plain(value: object) -> Any:
    """Convert settings to dicts, lists and plain values; other objects become None.

    Raises:
        CheckpointError: more than `MAX_VALUES` values.
    """
    return _PlainConverter().plain(value, 0)


MAX_DEPTH = 40
MAX_VALUES = 100_000


class _PlainConverter:
    """Counts the values: a small file may contain itself recursively."""

    def __init__(self) -> None:
        self.count = 0

    def plain(self, value: object, depth: int) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise CheckpointError(f"found more than {MAX_VALUES} settings, not a checkpoint")
        if depth > MAX_DEPTH:
            return None
        if isinstance(value, StandIn):
            return self._fields(value, depth)
        if isinstance(value, Mapping):
            return {str(key): self.plain(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(item, depth + 1) for item in value]
        if isinstance(value, enum.Enum) or not isinstance(value, str | int | float | bool):
            return None
        return value

    def _fields(self, value: StandIn, depth: int) -> Any:
        fields = vars(value)
        for inner in ("_content", "_val"):
            if inner in fields:
                return self.plain(fields[inner], depth + 1)
        if fields.keys() == {"values"}:
            # An enum is pickled as the call of its class with its value.
            return self.plain(value.values[0], depth + 1) if len(value.values) == 1 else None
        return {
            key: self.plain(item, depth + 1)
            for key, item in fields.items()
            if key != "values" and not key.startswith("_")
        }

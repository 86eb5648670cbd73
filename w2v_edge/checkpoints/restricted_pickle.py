"""Reads torch files whose pickles hold settings as objects, without running any of their code.

torch's restricted reader takes tensors and plain values. Beside those, classes on the list below
are admitted, each replaced by a stand-in that keeps what it is given and does nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from w2v_edge.errors import CheckpointError


class StandIn:
    """What takes the place of an admitted class: fields, and no behaviour."""

    def __init__(self, *values: object) -> None:
        """Keep what the class would have been called with."""
        self.values = values


ADMITTED = (
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
"""By their full names; all of them become stand-ins."""


def read_restricted(path: Path) -> Any:
    """Read a torch file; objects in it are stand-ins.

    torch's list of what is admitted is the process's own: it is longer while this runs.

    Raises:
        Exception: whatever torch's restricted reader makes of a file that it refuses.
    """
    # torch takes stand-ins under others' names; the list wants a class of its own for each.
    stand_ins = [(type(name.rpartition(".")[2], (StandIn,), {}), name) for name in ADMITTED]
    with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
        return torch.load(path, map_location="cpu", weights_only=True)


def plain(value: object) -> Any:
    """Return settings as dicts, lists and values; whatever else was pickled becomes None.

    Raises:
        CheckpointError: there are more of them than any settings have.
    """
    return _Reader().plain(value, 0)


MAX_DEPTH = 40
MAX_VALUES = 100_000


class _Reader:
    """Counts what it reads: a small file may refer to itself without end."""

    def __init__(self) -> None:
        self.count = 0

    def plain(self, value: object, depth: int) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise CheckpointError(f"settings of more than {MAX_VALUES} values; not a checkpoint")
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
            return None
        return {
            key: self.plain(item, depth + 1)
            for key, item in fields.items()
            if key != "values" and not key.startswith("_")
        }

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
    """Read a torch file, its settings as plain values.

    Raises:
        Exception: whatever torch's restricted reader makes of a file that it refuses.
    """
    # torch takes stand-ins under others' names; the list wants a class of its own for each.
    stand_ins = [(type(name.rpartition(".")[2], (StandIn,), {}), name) for name in ADMITTED]
    with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
        return torch.load(path, map_location="cpu", weights_only=True)


def plain(value: object, depth: int = 0) -> Any:
    """Return settings as dicts, lists and values; whatever else was pickled becomes None."""
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, StandIn):
        return _fields(value, depth)
    if isinstance(value, Mapping):
        return {str(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    if isinstance(value, enum.Enum) or not isinstance(value, str | int | float | bool):
        return None
    return value


MAX_DEPTH = 40


def _fields(value: StandIn, depth: int) -> Any:
    fields = vars(value)
    if "_content" in fields:
        return plain(fields["_content"], depth + 1)
    if "_val" in fields:
        return plain(fields["_val"], depth + 1)
    if fields.keys() == {"values"}:
        return None
    return {
        key: plain(item, depth + 1)
        for key, item in fields.items()
        if key != "values" and not key.startswith("_")
    }

"""Labels of fairseq's CTC checkpoints: the dictionary inside the file, or beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2v_edge.checkpoints.restricted_pickle import StandIn, plain
from w2v_edge.errors import CheckpointError

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
"""The first labels of every fairseq dictionary; the first is the CTC blank."""

FILLERS = re.compile(r"madeupword\d{4}")
"""Labels that fairseq adds to round the size of a dictionary up."""

OVERWRITE = "#fairseq:overwrite"
"""Optional flag after an entry of a dictionary."""


@dataclass(frozen=True)
class Dictionary:
    """The labels of a checkpoint.

    Attributes:
        where: the file that has them.
        labels: in order of their indices.
        remarks: what is doubtful about them.
    """

    where: str
    labels: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def blank(self) -> int:
        """Index of the CTC blank: fairseq's is `<s>`, the first label."""
        return self.labels.index(SPECIAL[0]) if SPECIAL[0] in self.labels else 0

    @property
    def special(self) -> tuple[str, ...]:
        """Labels that stand for no text."""
        fillers = (label for label in self.labels if FILLERS.fullmatch(label))
        return (*(x for x in SPECIAL if x in self.labels), *fillers)


def find_dictionary(path: Path, payload: Mapping[str, Any]) -> Dictionary | None:
    """Return the dictionary of a checkpoint, or else the `dict.*.txt` next to it, if any.

    Raises:
        CheckpointError: there are several next to it, or the file is damaged.
    """
    state = payload.get("task_state")
    dictionary = state.get("target_dictionary") if isinstance(state, Mapping) else None
    if isinstance(dictionary, StandIn):
        symbols = plain(vars(dictionary).get("symbols"))
        if isinstance(symbols, list) and all(isinstance(x, str) for x in symbols):
            return Dictionary(path.name, _stripped(symbols))
    beside = sorted(path.parent.glob("dict.*.txt"))
    if not beside:
        return None
    if len(beside) > 1:
        names = ", ".join(x.name for x in beside[:4])
        raise CheckpointError(f"{path}: expected one dictionary next to it, found {names}")
    try:
        lines = beside[0].read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{beside[0]}: expected text in UTF-8") from error
    kept = (line.removesuffix(OVERWRITE).rstrip() for line in lines if line.strip())
    labels = _stripped([*SPECIAL, *(line.rsplit(" ", maxsplit=1)[0] for line in kept)])
    name = beside[0].name
    remark = f"labels are those of {name} beside the file, which has none itself"
    return Dictionary(name, labels, (remark,))


def _stripped(labels: Sequence[str]) -> tuple[str, ...]:
    """Return labels without spaces around them, which some dictionaries carry along."""
    return tuple(label.strip() or label for label in labels)

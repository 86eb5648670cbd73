"""The CTC blank that a user names."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from w2v_edge.errors import CheckpointError
from w2v_edge.model.head_config import CtcHeadConfig

SPECIAL_NAME = re.compile(r"<.+>|\[.+\]")
"""Names of labels that are no text."""


def with_blank(source: str | Path, head: CtcHeadConfig, blank: str) -> CtcHeadConfig:
    """Return a head with another blank.

    The former blank remains unspelled if its name is one of a special label, such as `<pad>`.

    Args:
        source: the checkpoint, for errors.
        head: of the checkpoint.
        blank: a label, or the index of one.

    Raises:
        CheckpointError: there is no such label.
    """
    if blank and blank in head.labels:
        index = head.labels.index(blank)
    elif blank.isdecimal() and int(blank) < head.size:
        index = int(blank)
    else:
        raise CheckpointError(
            f"{source}: blank {blank!r:.40}: expected a label, or an index below {head.size}"
        )
    special = [x for x in head.special if x != head.labels[head.blank] or SPECIAL_NAME.fullmatch(x)]
    special = [head.labels[index], *special] if head.labels else []
    unique = tuple(dict.fromkeys(x for x in special if x and x != head.word_delimiter))
    return replace(head, blank=index, special=unique)

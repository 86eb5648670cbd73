"""Heads of classes that transformers lacks: pooling over frames, dense layer, tanh, linear layer.

They are known by their tensors, `NAME.dense` and `NAME.out_proj`. What tensors do not tell, the
pooling and the meaning of the logits, is read from the config or stated by the user.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from w2v_edge.errors import CheckpointError
from w2v_edge.model.head_config import BranchConfig, FramePooling, Meaning, PooledHeadConfig

T = TypeVar("T")

DENSE, LAST = ".dense.weight", ".out_proj.weight"
PARTS = ("dense.weight", "dense.bias", "out_proj.weight", "out_proj.bias")
ONLY = "classifier"
"""Name of the tensors of a head without a name."""

MEANINGS: dict[str, Meaning] = {"values": "values", "softmax": "one_of", "sigmoid": "any_of"}
"""Meaning of the logits by the word for it."""

POOLINGS: tuple[FramePooling, ...] = get_args(FramePooling)
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
CHOICE = re.compile(r"(?:(?P<name>[^=:]*)=)?(?P<tensors>[^=:]+)(?P<words>(?::[^=:]*)*)")


@dataclass(frozen=True)
class HeadChoice:
    """One head to read.

    Attributes:
        name: its output is `logits_NAME`; empty for `logits`.
        tensors: beginning of the names of its tensors.
        pooling: over frames; None goes by the config.
        meaning: of the logits; None goes by the config.
    """

    name: str
    tensors: str
    pooling: FramePooling | None = None
    meaning: Meaning | None = None

    @property
    def renamed(self) -> str:
        """Beginning of the names of its tensors, made from its name."""
        return self.name or ONLY


def parse_heads(texts: Sequence[str]) -> tuple[HeadChoice, ...]:
    """Read heads as a user states them, `[NAME=]TENSORS[:WORD...]`.

    Raises:
        CheckpointError: another form, an unknown word, or a name twice.
    """
    heads = tuple(map(_parse, texts))
    names = [head.name for head in heads]
    if len(set(names)) < len(names):
        raise CheckpointError(f"--head {' '.join(texts)}: expected a name of its own for each head")
    return heads


def _parse(text: str) -> HeadChoice:
    found = CHOICE.fullmatch(text)
    if found is None or not (found["name"] is None or NAME.fullmatch(found["name"])):
        raise CheckpointError(
            f"--head {text:.80}: expected [NAME=]TENSORS[:WORD...], such as "
            "emotion=classifier:mean:values"
        )
    words = found["words"].split(":")[1:]
    known = (*POOLINGS, *MEANINGS)
    for word in words:
        if word not in known:
            raise CheckpointError(
                f"--head {text:.80}: found {word!r:.40}, expected one of {', '.join(known)}"
            )
    pooling = [x for x in POOLINGS if x in words]
    meaning = [MEANINGS[x] for x in words if x in MEANINGS]
    if len(pooling) > 1 or len(meaning) > 1:
        raise CheckpointError(f"--head {text:.80}: expected one pooling and one meaning at most")
    return HeadChoice(
        found["name"] or "",
        found["tensors"],
        pooling[0] if pooling else None,
        meaning[0] if meaning else None,
    )


def pooled_heads(names: Collection[str]) -> tuple[HeadChoice, ...]:
    """Return the heads that a checkpoint's tensors show; several are named as their tensors."""
    found = sorted(
        {name.removesuffix(end) for name in names for end in (DENSE, LAST) if name.endswith(end)}
    )
    # Attention has an `out_proj` too, and the blocks of SEW-D have `dense` layers.
    heads = [
        x for x in found if f"{x}.k_proj.weight" not in names and "encoder" not in x.split(".")
    ]
    if len(heads) == 1:
        return (HeadChoice("", heads[0]),)
    return tuple(HeadChoice(re.sub(r"\W", "_", x)[:32], x) for x in heads)


def rename_heads(
    path: Path | str, tensors: Mapping[str, T], heads: Sequence[HeadChoice]
) -> dict[str, T]:
    """Return tensors whose heads are called by their names.

    Raises:
        CheckpointError: a head lacks a tensor, or two would have one name.
    """
    if len({head.renamed for head in heads}) < len(heads):
        found = ", ".join(head.tensors for head in heads)
        raise CheckpointError(
            f"{path}: found heads {found:.100} whose names are alike; name them: "
            "--head one=TENSORS,other=TENSORS"
        )
    whole = {f"{head.tensors}.{part}": f"{head.renamed}.{part}" for head in heads for part in PARTS}
    for name in whole:
        if name not in tensors:
            raise CheckpointError(f"{path}: missing tensor {name!r} of a head")
    others = {name: tensor for name, tensor in tensors.items() if name not in whole}
    return others | {ours: tensors[name] for name, ours in whole.items()}


def pooled_head(
    path: Path | str,
    heads: Sequence[HeadChoice],
    shapes: Mapping[str, tuple[int, ...]],
    labels: tuple[str, ...],
    meaning: Meaning,
    pooling: str,
) -> PooledHeadConfig:
    """Return the config of heads that share a pooling.

    Args:
        path: the checkpoint, for errors.
        heads: whose tensors have their names.
        shapes: shapes of the tensors by name.
        labels: all labels that the config names.
        meaning: of the logits of an only head.
        pooling: of the config.

    Raises:
        CheckpointError: a tensor that is no matrix, or more than one pooling.
    """
    poolings = {head.pooling or pooling for head in heads}
    if len(poolings) > 1 or not poolings <= set(POOLINGS):
        found = " and ".join(sorted(poolings))
        raise CheckpointError(
            f"{path}: found pooling by {found:.60}, expected one of {', '.join(POOLINGS)}, "
            "the same for all heads; state it: --head classifier:mean"
        )
    branches = []
    for head in heads:
        sizes = [shapes.get(f"{head.renamed}{end}", ()) for end in (DENSE, LAST)]
        if any(len(size) != 2 for size in sizes):  # noqa: PLR2004 - out, in
            raise CheckpointError(f"{path}: head {head.tensors!r:.60}: expected matrices")
        hidden, width = sizes[0][0], sizes[1][0]
        found = head.meaning or _meaning(width, meaning, alone=len(heads) == 1)
        branches.append(BranchConfig(head.name, ("",) * width, hidden, found))
    return PooledHeadConfig(next(x for x in POOLINGS if x in poolings), _named(branches, labels))


def _meaning(width: int, stated: Meaning, *, alone: bool) -> Meaning:
    """Return the meaning of a head's logits.

    Of several heads, one with several outputs is no regression, whatever the config states.
    """
    if alone:
        return stated
    usual: Meaning = "values" if width == 1 else "one_of"
    return "any_of" if width > 1 and stated == "any_of" else usual


def _named(branches: Sequence[BranchConfig], labels: tuple[str, ...]) -> tuple[BranchConfig, ...]:
    """Give labels to the one head with as many outputs, or to all heads.

    A head of one output that is called like a label has that one; the others have the rest in the
    order of their names, which is an assumption where there are several; see `reading`.
    """
    sizes = [len(branch.labels) for branch in branches]
    fitting = [i for i, size in enumerate(sizes) if size == len(labels)]
    given: dict[int, tuple[str, ...]] = {}
    if len(fitting) == 1:
        given[fitting[0]] = labels
    elif sum(sizes) == len(labels):
        given = {i: (x.name,) for i, x in enumerate(branches) if sizes[i] == 1 and x.name in labels}
        rest = [x for x in labels if (x,) not in given.values()]
        for i, size in enumerate(sizes):
            if i not in given:
                given[i], rest = tuple(rest[:size]), rest[size:]
    return tuple(
        replace(x, labels=given.get(i) or _unnamed(x, sizes[i])) for i, x in enumerate(branches)
    )


def _unnamed(branch: BranchConfig, size: int) -> tuple[str, ...]:
    if size == 1 and branch.name:
        return (branch.name,)
    return tuple(f"LABEL_{i}" for i in range(size))


def reading(config: Mapping[str, Any], head: PooledHeadConfig) -> str:
    """Return a remark about a head that was read from tensors alone.

    Args:
        config: the checkpoint's `config.json`.
        head: as it was read.
    """
    classes = config.get("architectures")
    name = classes[0] if isinstance(classes, list) and classes else "of no name"
    said = "" if config.get("pooling_mode") else ", which no file states"
    own = [x for x in head.branches if x.labels == (x.name,)]
    named = not any(label.startswith("LABEL_") for x in head.branches for label in x.labels)
    order = ""
    if named and len(head.branches) - len(own) > 1:
        order = "; that its heads have the labels in the order of their names is an assumption"
    return (
        f"class {name!s:.60} is in no library: its head was read as {head.pooling} over "
        f"frames{said}, dense, tanh, linear{order}; --head states another"
    )

"""Labels of classifiers and the meaning of their outputs, from `config.json`.

Labels are those of `id2label` by their numbers; if they are as many as the outputs, but numbered
otherwise than from 0, in the order of their numbers. If it names none, they are those of
`label2id`. An output without a label is called `LABEL_i`, as in transformers.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from w2v_edge.errors import CheckpointError
from w2v_edge.model.head_config import HeadConfig, Meaning, PooledHeadConfig

PROBLEMS: dict[str, Meaning] = {
    "single_label_classification": "one_of",
    "multi_label_classification": "any_of",
    "regression": "values",
}
"""Meaning of the logits by `problem_type`."""

READ_AS = {
    "one_of": "classes, of which one holds",
    "any_of": "classes, of which several may hold",
    "values": "values of a regression",
}

DIMENSIONS = frozenset("arousal activation dominance valence pleasure pleasantness".split())
"""Names of dimensions of emotion, which have values."""

LOSSES = re.compile(r"(mse|mae|ccc|(smooth_?)?l1|huber)(_?loss)?", re.IGNORECASE)
LOSS_KEYS = ("loss", "loss_fn", "loss_type", "loss_function", "criterion")
OF_VALUES = re.compile(r"regress|(^|[^a-z])reg($|[^a-z])", re.IGNORECASE)
OF_SEVERAL = re.compile(r"multi[_-]?label", re.IGNORECASE)

FEW = 4
"""Most labels or numbers that a remark names."""


@dataclass(frozen=True)
class Classes:
    """Labels of a classifier's outputs.

    Attributes:
        labels: in the order of the outputs; of an unknown number of outputs, all that are named.
        remarks: doubts about them.
    """

    labels: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def read_classes(path: Path | str, config: Mapping[str, Any], rows: int | None = None) -> Classes:
    """Return the labels of a classifier.

    Args:
        path: the folder, for errors.
        config: its `config.json`.
        rows: number of outputs; None if it is not known.

    Raises:
        CheckpointError: `id2label` holds something else than labels by number.
    """
    names, remarks = _by_number(path, config)
    ordered = [names[i] for i in sorted(names)]
    if rows is None:
        return Classes(tuple(ordered), tuple(remarks))
    if len(names) == rows and names.keys() != set(range(rows)):
        remarks.append(
            f"labels are numbered {min(names)} to {max(names)}: they name the outputs in this order"
        )
        names = dict(enumerate(ordered))
    labels = tuple(names.get(i, f"LABEL_{i}") for i in range(rows))
    unnamed = [i for i in range(rows) if i not in names] if names else []
    beyond = [repr(names[i]) for i in sorted(names) if i >= rows]
    twice = [repr(label) for label, count in Counter(labels).items() if count > 1]
    if unnamed:
        remarks.append(f"outputs without a label, called LABEL_i: {_few(unnamed)}")
    if beyond:
        remarks.append(f"labels of none of the {rows} outputs, left out: {_few(beyond)}")
    if twice:
        remarks.append(f"labels of several outputs: {_few(twice)}")
    return Classes(labels, tuple(remarks))


def _by_number(path: Path | str, config: Mapping[str, Any]) -> tuple[dict[int, str], list[str]]:
    """Return the labels by number, without those that transformers makes up, and doubts."""
    named = config.get("id2label") or {}
    named = dict(enumerate(named)) if isinstance(named, list) else named
    others = _turned(config.get("label2id"))
    remarks = []
    if not isinstance(named, Mapping):
        raise _wrong(path, named)
    if named and not any(_is_number(key) for key in named) and _turned(named):
        names = _turned(named)
        remarks.append("id2label has labels as keys and numbers as values: it is read as label2id")
    else:
        names = _labels(path, named)
    if not _named(names):
        if not _named(others):
            return {}, remarks
        return others, ["id2label names no label: labels are those of label2id"]
    if _named(others) and others != names:
        number = min(i for i in names.keys() | others.keys() if names.get(i) != others.get(i))
        here, there = (repr(x.get(number, "no label"))[:40] for x in (names, others))
        remarks.append(
            f"output {number} is {here} in id2label, and {there} in label2id: id2label is taken"
        )
    return names, remarks


def _labels(path: Path | str, named: Mapping[Any, Any]) -> dict[int, str]:
    """Return labels by number; null and empty ones are left out, and numbers become text."""
    try:
        labels = {int(key): label for key, label in named.items() if label not in {None, ""}}
    except (TypeError, ValueError) as error:
        raise _wrong(path, named) from error
    texts = all(isinstance(label, str | int | float) for label in labels.values())
    if not texts or min(labels, default=0) < 0:
        raise _wrong(path, named)
    return {key: str(label) for key, label in labels.items()}


def _turned(numbered: object) -> dict[int, str]:
    """Return labels by number of a mapping from labels to numbers; empty for anything else."""
    pairs = list(numbered.items()) if isinstance(numbered, Mapping) else []
    if not all(_is_number(number) for _, number in pairs):
        return {}
    return {int(number): str(label) for label, number in pairs}


def _is_number(value: object) -> bool:
    return type(value) is int or (isinstance(value, str) and value.isdecimal() and len(value) < 10)  # noqa: PLR2004 - digits of an index


def _named(names: Mapping[int, str]) -> bool:
    """Whether a label is another than transformers makes up."""
    return any(label != f"LABEL_{i}" for i, label in names.items())


def _wrong(path: Path | str, found: object) -> CheckpointError:
    return CheckpointError(f"{path}: id2label: expected labels by number, found {found!r:.60}")


def _few(items: Iterable[object]) -> str:
    found = [f"{item!s:.40}" for item in items]
    return ", ".join(found[:FEW]) + (", ..." if len(found) > FEW else "")


def read_meaning(
    path: Path | str, config: Mapping[str, Any], labels: tuple[str, ...]
) -> tuple[Meaning, str | None]:
    """Return the meaning of a classifier's logits, and a remark if it is not stated.

    Without `problem_type` it is what names in the config show, if any; else one output is a value,
    and several are classes, as in transformers' pipelines.

    Args:
        path: the folder, for errors.
        config: its `config.json`.
        labels: of all outputs.

    Raises:
        CheckpointError: `problem_type` is none of transformers.
    """
    stated = config.get("problem_type")
    if stated is not None and stated != "":
        if not isinstance(stated, str) or stated not in PROBLEMS:
            raise CheckpointError(
                f"{path}: problem_type: expected one of {', '.join(PROBLEMS)}, found {stated!r:.60}"
            )
        return PROBLEMS[stated], None
    meaning, why = _shown(config, labels)
    as_shown = f", as {why:.80} shows" if why else ""
    others = " or ".join(problem for problem, of in PROBLEMS.items() if of != meaning)
    return meaning, (
        f"no problem_type: outputs are read as {READ_AS[meaning]}{as_shown}; if they are something "
        f"else, write {others} into config.json"
    )


def _shown(config: Mapping[str, Any], labels: tuple[str, ...]) -> tuple[Meaning, str]:
    """Return the meaning that names in a config show, and the name; empty without any."""
    classes = config.get("architectures")
    names = [x for x in classes if isinstance(x, str)] if isinstance(classes, list) else []
    task = config.get("finetuning_task")
    for name in (*names, *([task] if isinstance(task, str) else [])):
        if OF_VALUES.search(name):
            return "values", f"the name {name!r}"
        if OF_SEVERAL.search(name):
            return "any_of", f"the name {name!r}"
    for key in LOSS_KEYS:
        if LOSSES.fullmatch(str(config.get(key))):
            return "values", f"the {key} {config[key]!r}"
    if labels and all(label.lower() in DIMENSIONS for label in labels):
        return "values", f"the label {labels[0]!r}"
    return ("values" if len(labels) == 1 else "one_of"), ""


def doubts_of_classes(config: Mapping[str, Any], head: HeadConfig | None) -> tuple[str, ...]:
    """Return what a config leaves open about a head that is a classifier.

    Args:
        config: the checkpoint's `config.json`.
        head: as it was read.
    """
    if head is None or head.kind in {"ctc", "xvector"}:
        return ()
    if isinstance(head, PooledHeadConfig) and len(head.branches) > 1:
        found = read_classes("", config)
        used = {label for branch in head.branches for label in branch.labels}
        unfit = bool(found.labels) and not used & set(found.labels)
        return (*found.remarks, *(["labels that fit no head are left out"] if unfit else []))
    labels = head.labels
    found = read_classes("", config, len(labels))
    _, remark = read_meaning("", config, labels)
    return (*found.remarks, *([] if remark is None else [remark]))

"""Labels of classifiers and the meaning of their outputs; each doubt about them is said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from w2v_edge.checkpoints import load_source
from w2v_edge.checkpoints.huggingface.classes import doubts_of_classes, read_classes, read_meaning
from w2v_edge.model.checkpoint import save_checkpoint

Make = Callable[..., Any]

GENERIC = ("LABEL_0", "LABEL_1", "LABEL_2")
CASES: dict[str, tuple[Any, Any, tuple[str, ...], tuple[str, ...]]] = {
    "as transformers writes it": ({"0": "a", "1": "b", "2": "c"}, None, ("a", "b", "c"), ()),
    "integers as keys": ({0: "a", 2: "c", 1: "b"}, None, ("a", "b", "c"), ()),
    "a list": (["a", "b", "c"], None, ("a", "b", "c"), ()),
    "numbers as labels": ({"0": 3, "1": 1.5, "2": 7}, None, ("3", "1.5", "7"), ()),
    "from 1": ({"1": "a", "2": "b", "3": "c"}, None, ("a", "b", "c"), ("numbered 1 to 3",)),
    "with a gap": ({"0": "a", "7": "c", "3": "b"}, None, ("a", "b", "c"), ("numbered 0 to 7",)),
    "too few": ({"0": "a", "2": "c"}, None, ("a", "LABEL_1", "c"), ("without a label", ": 1")),
    "empty": ({"0": "", "1": "b", "2": None}, None, ("LABEL_0", "b", "LABEL_2"), (": 0, 2",)),
    "too many": (list("abcde"), None, ("a", "b", "c"), ("left out: 'd', 'e'",)),
    "doubled": (["a", "b", "a"], None, ("a", "b", "a"), ("of several outputs: 'a'",)),
    "neither": (None, None, GENERIC, ()),
    "label2id alone": (None, {"c": 2, "a": "0", "b": 1}, ("a", "b", "c"), ("of label2id",)),
    "made up beside label2id": (
        {"0": "LABEL_0", "1": "LABEL_1"},
        {"a": 0, "b": 1, "c": 2},
        ("a", "b", "c"),
        ("of label2id",),
    ),
    "digits": (None, {"1": 0, "2": 1, "3": 2}, ("1", "2", "3"), ("of label2id",)),
    "turned": ({"b": 1, "a": 0, "c": 2}, None, ("a", "b", "c"), ("as label2id",)),
    "contradiction": (
        ["a", "b", "c"],
        {"b": 0, "a": 1, "c": 2},
        ("a", "b", "c"),
        ("output 0 is 'a' in id2label, and 'b' in label2id",),
    ),
    "agreement": (["a", "b", "c"], {"a": 0, "b": "1", "c": 2}, ("a", "b", "c"), ()),
    "made up twice": (list(GENERIC), {x: i for i, x in enumerate(GENERIC)}, GENERIC, ()),
}


@pytest.mark.parametrize("case", CASES)
def test_labels(case: str) -> None:
    """Numbers decide; what is odd about them is a remark, and nothing else is."""
    named, numbered, labels, words = CASES[case]
    found = read_classes("", {"id2label": named, "label2id": numbered}, 3)
    assert found.labels == labels
    assert len(found.remarks) == bool(words)
    assert all(word in found.remarks[0] for word in words)


@pytest.mark.parametrize(
    "named", [{"0": ["a"]}, {"one": "a"}, {"-1": "a"}, "a", 5, {"0": {"a": 0}}, {"0.5": "a"}]
)
def test_labels_of_another_kind(
    named: Any, hf_folder: Make, tmp_path: Path, edit: Make, refuses: Make
) -> None:
    """What are no labels by number is refused by name."""
    folder = shutil.copytree(hf_folder("wavlm-classes"), tmp_path / "m")
    edit(folder / "config.json", id2label=named)
    refuses(folder, "id2label: expected labels by number")


SHOWN: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing": ({}, "one_of", "as classes, of which one holds; if"),
    "a class": ({"architectures": ["SpeechRegressionModel"]}, "values", "'SpeechRegressionModel'"),
    "a task": ({"finetuning_task": "wav2vec2_reg"}, "values", "'wav2vec2_reg' shows"),
    "another task": ({"finetuning_task": "wav2vec2_clf"}, "one_of", "one holds; if"),
    "a region": ({"finetuning_task": "regional"}, "one_of", "one holds; if"),
    "a loss": ({"loss": "ccc"}, "values", "the loss 'ccc' shows"),
    "labels": ({"id2label": ["Valence", "arousal", "dominance"]}, "values", "'Valence' shows"),
    "several labels": ({"architectures": ["MyMultiLabelModel"]}, "any_of", "several may hold, as"),
    "it": ({"problem_type": "regression"}, "values", ""),
    "both": ({"problem_type": "single_label_classification", "loss": "mse"}, "one_of", ""),
}


@pytest.mark.parametrize("case", SHOWN)
def test_meaning(case: str) -> None:
    """Without `problem_type` names show it, or it is a guess: both are said."""
    config, meaning, words = SHOWN[case]
    found, remark = read_meaning("", config, read_classes("", config, 3).labels)
    assert found == meaning
    assert (remark is None) == (not words)
    assert words in (remark or "")
    if remark:
        assert "into config.json" in remark


def test_remarks_reach_the_user(hf_folder: Make, tmp_path: Path, edit: Make) -> None:
    """Reading a folder says all that is open, and so does reading its import."""
    folder = shutil.copytree(hf_folder("wavlm-classes"), tmp_path / "m")
    edit(folder / "config.json", id2label=list("abcab"), label2id=None)
    found = load_source(folder)
    assert found.model.config.head is not None
    assert found.model.config.head.labels == tuple("abcab")
    (twice, guess) = found.remarks[-2:]
    assert "'a', 'b'" in twice
    assert "no problem_type" in guess
    save_checkpoint(found.model, tmp_path / "m.pt")
    assert {twice, guess} <= set(load_source(tmp_path / "m.pt").remarks)
    edit(folder / "config.json", problem_type="single_label_classification", id2label=list("abcde"))
    assert not [x for x in load_source(folder).remarks if "label" in x or "problem_type" in x]


def test_other_heads_have_no_such_doubts(hf_folder: Make) -> None:
    """Bodies, CTC heads and x-vectors have no classes."""
    for name in ("wavlm", "wavlm-ctc", "wavlm-xvector"):
        config = json.loads((hf_folder(name) / "config.json").read_text())
        assert not doubts_of_classes(config, load_source(hf_folder(name)).model.config.head)

"""One line says what was decided about a checkpoint, for every class of models."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from w2v_edge import data
from w2v_edge.bundle import CtcInfo, Manifest, read_manifest

LETTERS = ("<pad>", "<s>", "|", "a", "b")
SPECIAL = ("<pad>", "<s>")
AUDIO = " · waveform normalised · 16 kHz · padding masked"
CODES = "codes: 2 groups of 64 from the features"
BLANK = "blank '<pad>' (0)"


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    """A bundle's manifest, of a model with codes and without a head."""
    found = read_manifest(data.TINY_INT8)
    return replace(found, config={**found.config, "normalise": {"eps": 1e-5}})


def _ctc(*labels: str, delimiter: str | None = None, blank: int = 0, **more: Any) -> dict[str, Any]:
    special = tuple(x for x in SPECIAL if x in labels)
    info = CtcInfo(blank, delimiter, special, **more)
    return {"labels": labels, "ctc": info, "logits_axes": ("batch", "frames", "labels")}


CLASSES: dict[str, tuple[dict[str, Any], str]] = {
    "body": ({"codebook": None}, "no head"),
    "pre-training": ({}, f"no head · {CODES}"),
    "units": (
        {"selection": {"layer": 9, "layers": [6, 9], "centroids_sha256": "00", "pool": "mean"}},
        (
            "no head · codes: the nearest of 64 centroids to the context · context of layer 9 · "
            "layers 6, 9 · embedding: mean of the context"
        ),
    ),
    "letters": (
        {**_ctc(*LETTERS, delimiter="|"), "codebook": None},
        f"{BLANK} · words parted by '|' · never spelled: <s>",
    ),
    "a language": (
        {**_ctc(*LETTERS, "", delimiter="|", language="fra", lowercase=True), "codebook": None},
        (
            f"{BLANK} · words parted by '|' · language fra · never spelled: <s> · "
            "1 without a label · in lower case"
        ),
    ),
    "SentencePiece": (
        {**_ctc("<pad>", "▁he", "llo"), "codebook": None},
        f"{BLANK} · words begin with '▁'",
    ),
    "WordPiece": (
        {**_ctc("<pad>", "he", "##llo"), "codebook": None},
        f"{BLANK} · words go on with '##'",
    ),
    "phonemes": (
        {**_ctc("<pad>", "a", "ts", separator=" "), "codebook": None},
        f"{BLANK} · a word for each label",
    ),
    "characters": ({**_ctc("<pad>", "你", "好"), "codebook": None}, f"{BLANK} · words not parted"),
    "without labels": ({**_ctc(blank=3), "codebook": None}, "blank 3 · no labels"),
    "a wrong blank": (
        {**_ctc("a", "b", blank=7), "codebook": None},
        "blank 7 · no label of that number",
    ),
    "classes": (
        {
            "labels": ("calm", "angry"),
            "logits_axes": ("batch", "labels"),
            "logits_meaning": "any_of",
        },
        f"sigmoid of calm, angry · {CODES}",
    ),
    "frames": (
        {
            "labels": ("speech", "noise"),
            "logits_axes": ("batch", "frames", "labels"),
            "logits_meaning": "one_of",
            "selection": {"kind": "frame"},
            "codebook": None,
        },
        "softmax over speech, noise for each frame · read as frame",
    ),
}


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_has_its_line(kind: str, manifest: Manifest) -> None:
    """Blank, words, classes, codes and what was chosen, then the audio."""
    changes, line = CLASSES[kind]
    assert replace(manifest, **changes).decisions == line + AUDIO

"""Forced alignment: the best CTC path, and the times of written words."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import w2v_edge
from w2v_edge.bundle import CtcInfo
from w2v_edge.errors import HeadMissingError, InputError
from w2v_edge.text import alignment
from w2v_edge.text.aligner import Aligner
from w2v_edge.text.alignment import WILDCARD, align_labels, frames_needed
from w2v_edge.text.spelling import Spelling, log_softmax

LABELS = ("<pad>", "|", *"abcdeilort", "é", "ch")
BLANK, DELIMITER = 0, 1
CTC = CtcInfo(BLANK, "|", ("<pad>",))
SECONDS = 0.02

Logits = npt.NDArray[np.float64]


def _reference(logits: Logits, labels: list[int]) -> tuple[list[int], float]:
    """The full matrix, cell by cell: the label of each frame, -1 for the blank; and the total."""
    scores = log_softmax(logits).astype(np.float64)
    states = [BLANK] * (2 * len(labels) + 1)
    states[1::2] = labels
    others = np.delete(scores, BLANK, axis=1).max(axis=1)
    emitted = np.stack([others if x == WILDCARD else scores[:, x] for x in states], axis=1)
    best = np.full(emitted.shape, -np.inf)
    came = np.zeros(emitted.shape, int)
    best[0, :2] = emitted[0, :2]
    for t in range(1, len(scores)):
        for s, label in enumerate(states):
            may_skip = s > 1 and s % 2 and (label != states[s - 2] or label == WILDCARD)
            choices = [best[t - 1, s - k] for k in range(1 + (s > 0) + bool(may_skip))]
            came[t, s] = int(np.argmax(choices))
            best[t, s] = choices[came[t, s]] + emitted[t, s]
    s = len(states) - 1
    if s and best[-1, s] <= best[-1, s - 1]:
        s -= 1
    total, path = float(best[-1, s]), []
    for t in range(len(scores) - 1, -1, -1):
        path.append(s // 2 if s % 2 else -1)
        s -= came[t, s]
    return path[::-1], total


def _frames(found: alignment.LabelPath, frames: int) -> list[int]:
    path = [-1] * frames
    for i, (first, end) in enumerate(zip(found.first.tolist(), found.end.tolist(), strict=True)):
        path[first:end] = [i] * (end - first)
    return path


@pytest.fixture(params=[3, 16, 1024])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks shorter than, as long as and longer than texts."""
    monkeypatch.setattr(alignment, "BLOCK", request.param)
    return int(request.param)


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("peak", [0.3, 3.0, 30.0])
def test_the_path_is_that_of_the_full_matrix(peak: float) -> None:
    """Random and peaked posteriors, repeated labels, wildcards, texts from none to just fitting."""
    rng = np.random.default_rng(3)
    compared = 0
    for _ in range(60):
        size, frames = int(rng.integers(2, 6)), int(rng.integers(1, 50))
        labels = rng.integers(1, size, size=rng.integers(0, min(frames, 20) + 1))
        labels[rng.random(len(labels)) < 0.2] = WILDCARD
        while frames_needed(labels) > frames:
            labels = labels[:-1]
        logits = peak * rng.standard_normal((frames, size))
        found = align_labels(logits, labels, BLANK)
        path, total = _reference(logits, labels.tolist())
        assert _frames(found, frames) == path
        assert found.total == pytest.approx(total)
        compared += len(labels)
    assert compared > 300


def test_ties_are_resolved_one_way() -> None:
    """Where all paths are equal, seen from the end a label stays as long as it can."""
    found = align_labels(np.zeros((6, 3)), [1, 2], BLANK)
    assert _frames(found, 6) == _reference(np.zeros((6, 3)), [1, 2])[0]
    assert found.end[-1] == 6


def test_too_few_frames() -> None:
    """Equal labels need a blank between; a text that takes more frames is refused with counts."""
    logits = np.zeros((3, 3))
    assert _frames(align_labels(logits, [1, 1], BLANK), 3) == [0, -1, 1]
    with pytest.raises(InputError, match=r"found 3 frames .* take at least 5"):
        align_labels(logits, [1, 1, 1], BLANK)


def test_logits_of_minus_infinity() -> None:
    """Labels and blanks of no probability at all do not make the others' scores into nothing."""
    logits = np.full((4, 3), -np.inf)
    logits[[0, 1, 2, 3], [1, 1, 2, 2]] = 0.0
    found = align_labels(logits, [1, 2], BLANK)
    assert _frames(found, 4) == [0, 0, 1, 1]
    assert found.total == pytest.approx(0.0)


@pytest.fixture(scope="module")
def aligner() -> Aligner:
    """For labels of letters."""
    return Aligner(Spelling.of(LABELS, CTC), LABELS)


def _says(*labels: str) -> Logits:
    """Logits of a frame for each label, blanks between."""
    columns = [0, *(x for label in labels for x in (LABELS.index(label), 0))]
    return 12 * np.eye(len(LABELS))[columns]


def test_words_and_labels(aligner: Aligner) -> None:
    """Words as written, in the case and the form of the labels, from first label to last."""
    logits = _says("ch", "a", "r", "|", "é")
    found = aligner.align(logits, "  CHar ,\n e\u0301! ", SECONDS)
    assert [x.word for x in found.words] == ["CHar", "e\u0301!"]
    assert found.unaligned == (",",)
    assert [x.label for x in found.labels] == ["ch", "a", "r", "|", "é"]
    assert [x.frame for x in found.labels] == [1, 3, 5, 7, 9]
    assert [x.end_frame for x in found.labels] == [2, 4, 6, 8, 10]
    first, last = found.words
    assert (first.start, first.end) == pytest.approx((1 * SECONDS, 6 * SECONDS))
    assert (last.start, last.end) == pytest.approx((9 * SECONDS, 10 * SECONDS))
    assert [x.text for x in found.lines] == ["CHar ,", "e\u0301!"]
    scores = [x.score for x in found.words] + [x.score for x in found.labels]
    assert min(scores + [x.score for x in found.lines]) > 0.99
    assert any("no time" in remark for remark in found.remarks)


def test_characters_without_a_label(aligner: Aligner) -> None:
    """They take a wildcard, or nothing, or are named, as asked; the rest keeps its times."""
    logits, text = _says("a", "|", "d", "e", "|", "b"), "a 47 b \U0001f600"
    starred = aligner.align(logits, text, SECONDS)
    assert [x.word for x in starred.words] == ["a", "47", "b"]
    assert [x.label for x in starred.labels] == ["a", "|", "*", "|", "b"]
    assert 2 * SECONDS < starred.words[1].start < starred.words[1].end < 11 * SECONDS
    skipped = replace(aligner, unknown="skip").align(logits, text, SECONDS)
    assert [x.word for x in skipped.words] == ["a", "b"]
    assert skipped.unaligned == ("47", "\U0001f600")
    with pytest.raises(InputError, match="2 characters without a label: 4 7;"):
        replace(aligner, unknown="error").align(logits, text, SECONDS)
    with pytest.raises(InputError, match="1 words without a label: 47;"):
        replace(aligner, unknown="skip", strict=True).align(logits, text, SECONDS)
    roman = replace(aligner, romanize={"ж": "a", "д": "b"}.__getitem__)
    assert [x.label for x in roman.align(logits, "ж д", SECONDS).labels] == ["a", "|", "b"]


def test_marks_without_a_label_take_no_time(aligner: Aligner) -> None:
    """The letter that a mark is on keeps its frames."""
    logits = _says("a", "b", "e")
    found = aligner.align(logits, "a\u0323be\u0302", SECONDS)
    assert [x.label for x in found.labels] == ["a", "b", "e"]
    assert found.score > 0.99
    assert replace(aligner, unknown="error").align(logits, "a\u0323be", SECONDS).words


def test_wrong_arguments(aligner: Aligner) -> None:
    """They are typed errors."""
    with pytest.raises(InputError, match="expected one of star"):
        replace(aligner, unknown="bad")  # type: ignore[arg-type]
    for text in (None, [None], "a\ud800b"):
        with pytest.raises(InputError, match="not Unicode text"):
            aligner.align(_says("a"), text, SECONDS)  # type: ignore[arg-type]


def test_texts_that_do_not_belong(aligner: Aligner) -> None:
    """An empty text is refused, one that the audio does not say has a low score and a remark."""
    logits = _says("a", "|", "d", "e", "|", "b")
    for empty in ("", " \n ", "?!", "\U0001f600"):
        with pytest.raises(InputError, match="no words to align"):
            aligner.align(logits, empty, SECONDS)
    wrong = aligner.align(logits, "clot i", SECONDS)
    assert wrong.score < 0.01
    assert any("fits the audio badly" in x for x in wrong.remarks)
    assert not aligner.align(logits, "a de b", SECONDS).remarks


@pytest.mark.parametrize(
    ("labels", "text", "shown"),
    [
        (("<pad>", "▁", "▁al", "l", "▁the", "o"), "All theo", ["▁al", "l", "▁the", "o"]),
        (("<pad>", "al", "##l", "o"), "all o", ["al", "##l", "o"]),
    ],
)
def test_pieces_of_words(labels: tuple[str, ...], text: str, shown: list[str]) -> None:
    """Pieces that begin or continue a word need no delimiter."""
    aligner = Aligner(Spelling.of(labels, CtcInfo(0, None, ("<pad>",))), labels)
    found = aligner.align(np.zeros((20, len(labels))), text, SECONDS)
    assert [x.label for x in found.labels] == shown
    assert len(found.words) == 2


def test_phonemes() -> None:
    """Labels that are units are the text's words."""
    labels = ("<pad>", "t", "tʃ", "ts")
    info = CtcInfo(0, None, ("<pad>",), separator=" ")
    aligner = Aligner(Spelling.of(labels, info), labels)
    found = aligner.align(np.zeros((9, 4)), "tʃ ts t x", SECONDS)
    assert [x.label for x in found.labels] == ["tʃ", "ts", "t", "*"]


def test_long_recordings() -> None:
    """Memory does not grow with the product of frames and labels: a thirtieth of the matrix."""
    rng = np.random.default_rng(0)
    frames, length = 20_000, 5_000
    labels = rng.integers(1, len(LABELS), size=length)
    at = np.sort(rng.choice(frames // 2, length, replace=False)) * 2
    logits = rng.standard_normal((frames, len(LABELS))).astype(np.float32)
    logits[:, BLANK] += 6
    logits[at, labels] += 12
    tracemalloc.start()
    found = align_labels(logits, labels, BLANK)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < frames * length * np.dtype(np.float64).itemsize / 30
    assert np.mean(found.first == at) > 0.99


@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    """Every word has a time or is named, times ascend, and nothing else is raised."""
    aligner = Aligner(Spelling.of(LABELS, CTC), LABELS)
    logits = np.zeros((120, len(LABELS)))
    if not any(x for word in text.split() for x in aligner.pieces(word)):
        with pytest.raises(InputError, match="no words to align"):
            aligner.align(logits, text, SECONDS)
        return
    found = aligner.align(logits, text, SECONDS)
    assert len(found.words) + len(found.unaligned) == len(text.split())
    ends = [x.end for x in found.words]
    assert all(x.start < x.end for x in found.words)
    assert all(end <= x.start for end, x in zip(ends, found.words[1:], strict=False))


def test_a_model(ctc_bundle: Path, speech: dict[str, Any], bundle: Callable[[str], Path]) -> None:
    """`Model.align` is the path over the model's own logits, alone and in a list."""
    model, clips = w2v_edge.load(ctc_bundle), list(speech.values())[:2]
    texts = ["ACTIVATED NOW", "OH NO"]
    alone = [model.align(x, text) for x, text in zip(clips, texts, strict=True)]
    logits = model.encode(clips[0]).logits
    assert logits is not None
    labels = [model.manifest.labels.index(x.replace(" ", "|")) for x in texts[0]]
    path, _ = _reference(logits.astype(np.float64), labels)
    assert [(x.frame, x.end_frame) for x in alone[0].labels] == [
        (path.index(i), len(path) - path[::-1].index(i)) for i in range(len(labels))
    ]
    together = model.align(clips, texts)
    for one, other in zip(alone, together, strict=True):
        assert [x.frame for x in one.labels] == [x.frame for x in other.labels]
    with pytest.raises(InputError, match="found 2 recordings and 1 texts"):
        model.align(clips, texts[:1])
    with pytest.raises(InputError, match="item 1 of the list: found no words"):
        model.align(clips, [texts[0], ""])
    with pytest.raises(HeadMissingError):
        w2v_edge.load(bundle("tutorial-small")).align(clips[0], "a")

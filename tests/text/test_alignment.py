"""Forced alignment: the best CTC path."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import w2v_edge
from w2v_edge.errors import HeadMissingError, InputError
from w2v_edge.text import alignment
from w2v_edge.text.alignment import FAINT, WILDCARD, align_labels, frames_needed
from w2v_edge.text.spelling import log_softmax

BLANK, SIZE = 0, 13

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


@pytest.mark.usefixtures("block")
@pytest.mark.parametrize("faint", [-np.inf, 10 * FAINT])
def test_impossible_and_faint_labels(faint: float) -> None:
    """Logits of -infinity, or next to it, leave the likeliest path exact; or there is none."""
    rng = np.random.default_rng(5)
    impossible = 0
    for _ in range(60):
        size, frames = int(rng.integers(2, 6)), int(rng.integers(2, 50))
        labels = rng.integers(1, size, size=rng.integers(1, frames // 2 + 1))
        labels[rng.random(len(labels)) < 0.2] = WILDCARD
        while frames_needed(labels) > frames:
            labels = labels[:-1]
        logits = rng.standard_normal((frames, size))
        gone = rng.random((frames, size)) < rng.choice([0.1, 0.5])
        gone[np.arange(frames), rng.integers(0, size, frames)] = False
        logits[gone] = faint
        path, total = _reference(logits, labels.tolist())
        if total == -np.inf:
            impossible += 1
            with pytest.raises(InputError, match="leave the text no path"):
                align_labels(logits, labels, BLANK)
            continue
        found = align_labels(logits, labels, BLANK)
        assert _frames(found, frames) == path
        assert found.total == pytest.approx(total, abs=1e-9)
    assert (5 < impossible < 55) == (faint == -np.inf)


def test_long_stretches_without_a_blank() -> None:
    """Impossible blanks in thousands of frames cost no digit of the difference between paths."""
    frames = 3000
    logits = np.full((frames, 3), -np.inf)
    logits[:, 1:] = 0.0
    logits[: frames // 2, 1] = logits[frames // 2 :, 2] = 1e-9
    found = align_labels(logits, [1, 2], BLANK)
    assert found.first[1] == frames // 2
    reference, total = _reference(logits, [1, 2])
    assert _frames(found, frames) == reference
    assert found.total == pytest.approx(total, rel=1e-12)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), peak=st.sampled_from([0.3, 3.0, 30.0]))
def test_the_path_is_that_of_torchaudio(seed: int, peak: float) -> None:
    """Random and peaked posteriors, with repeated labels; where torchaudio is installed."""
    functional = pytest.importorskip(
        "torchaudio.functional",
        reason="needs torchaudio; a plain reference is compared in any case",
        exc_type=ImportError,
    )
    import torch

    rng = np.random.default_rng(seed)
    size, frames = int(rng.integers(2, 30)), int(rng.integers(1, 400))
    labels = rng.integers(1, size, size=rng.integers(1, frames // 2 + 2))
    while frames_needed(labels) > frames:
        labels = labels[:-1]
    logits = peak * rng.standard_normal((frames, size))
    posteriors = torch.from_numpy(log_softmax(logits))[None]
    path, scores = functional.forced_align(posteriors, torch.from_numpy(labels)[None], blank=BLANK)
    found = align_labels(logits, labels, BLANK)
    emitted = [BLANK if x < 0 else int(labels[x]) for x in _frames(found, frames)]
    assert emitted == path[0].tolist()
    assert found.total == pytest.approx(float(scores.sum()))


def test_long_recordings() -> None:
    """Memory does not grow with the product of frames and labels: a thirtieth of the matrix."""
    rng = np.random.default_rng(0)
    frames, length = 20_000, 5_000
    labels = rng.integers(1, SIZE, size=length)
    at = np.sort(rng.choice(frames // 2, length, replace=False)) * 2
    logits = rng.standard_normal((frames, SIZE)).astype(np.float32)
    logits[:, BLANK] += 6
    logits[at, labels] += 12
    tracemalloc.start()
    found = align_labels(logits, labels, BLANK)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < frames * length * np.dtype(np.float64).itemsize / 30
    assert np.mean(found.first == at) > 0.99


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
    wrong: Any
    for wrong in (3, None, b"ONE"):
        with pytest.raises(
            InputError, match="item 1 of the list: found a text that is not Unicode"
        ):
            model.align(clips, [texts[0], wrong])
        with pytest.raises(InputError, match=r"not Unicode text|found 1 recordings and \d texts"):
            model.align(clips[0], wrong)
        with pytest.raises(InputError, match=r"found 2 recordings and \d texts"):
            model.align(clips, wrong)
    nothing: dict[str, str] = {}
    with pytest.raises(InputError, match=r"item \d of the list: romanize failed for .* \(KeyError"):
        model.align(clips, texts, romanize=nothing.__getitem__)
    with pytest.raises(HeadMissingError):
        w2v_edge.load(bundle("tutorial-small")).align(clips[0], "a")

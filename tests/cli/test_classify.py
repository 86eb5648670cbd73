"""classify, with heads that give known logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from w2v_edge.runtime.session import Session

Verb = Callable[..., Any]


@pytest.fixture
def classifier(
    copied_bundle: Verb, reseal: Verb, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Path]:
    """`classifier(logits, axes)`: a bundle whose head gives these logits."""

    def make(logits: npt.NDArray[np.float32], axes: list[str]) -> Path:
        folder: Path = copied_bundle("tiny")
        reseal(folder, logits_axes=axes, labels=["left", "right"])
        made = {"logits": logits[np.newaxis], "frame_lengths": np.array([len(logits)])}
        monkeypatch.setattr(Session, "run", lambda *_: made)
        return folder

    return make


@pytest.fixture
def recordings(tmp_path: Path, speech: dict[str, Any]) -> Path:
    """A good file and a bad one."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    soundfile.write(folder / "good.wav", speech["en-activated"], 16_000)
    (folder / "text.wav").write_text("this is not audio")
    return folder


def test_utterances(w2v_edge: Verb, classifier: Verb, recordings: Path) -> None:
    """The most likely labels are printed with probabilities; --top sets their number."""
    folder = classifier(np.log(np.array([0.25, 0.75], np.float32)), ["batch", "labels"])
    one = w2v_edge("classify", folder, recordings / "good.wav")
    assert (one.code, one.out) == (0, "right 75.0%, left 25.0%\n")
    many = w2v_edge("classify", folder, recordings, "--top", "1")
    assert (many.code, many.out) == (1, f"{recordings / 'good.wav'}: right 75.0%\n")
    assert "text.wav" in many.err
    good, bad = w2v_edge("classify", folder, recordings, "--json").json
    assert good["label"] == "right"
    assert [x["label"] for x in good["top"]] == ["right", "left"]
    assert [x["probability"] for x in good["top"]] == pytest.approx([0.75, 0.25])
    assert "text.wav" in bad["error"]


def test_frames(w2v_edge: Verb, classifier: Verb, recordings: Path) -> None:
    """The share of frames that are best in each label, and from when to when they are."""
    logits = np.array([[0, 1], [0, 1], [1, 0], [0, 1]], np.float32)
    folder = classifier(logits, ["batch", "frames", "labels"])
    outcome = w2v_edge("classify", folder, recordings / "good.wav")
    assert (outcome.code, outcome.out) == (0, "right 75.0%, left 25.0%\n")
    (found,) = w2v_edge("classify", folder, recordings / "good.wav", "--json").json
    assert found["top"] == [{"label": "right", "share": 0.75}, {"label": "left", "share": 0.25}]
    assert [x["label"] for x in found["segments"]] == ["right", "left", "right"]
    assert [x["start"] for x in found["segments"]] == pytest.approx([0, 0.04, 0.06])
    assert [x["end"] for x in found["segments"]] == pytest.approx([0.04, 0.06, 0.08])


def test_over_time(w2v_edge: Verb, voice_bundle: Path, recordings: Path) -> None:
    """A line for each window with its times; --json has all of them; one bad file stops none."""
    good = recordings / "good.wav"
    options = ("--every", "250ms", "--window", "0.5s", "--top", "1")
    outcome = w2v_edge("classify", voice_bundle, good, *options)
    assert outcome.code == 0
    lines = [line.split("\t") for line in outcome.out.splitlines()]
    assert [x[:2] for x in lines[:3]] == [["0.00", "0.50"], ["0.25", "0.75"], ["0.50", "1.00"]]
    assert all(x[2].endswith("%") for x in lines)
    found, bad = w2v_edge("classify", voice_bundle, recordings, *options, "--json").json
    assert "text.wav" in bad["error"]
    seconds = soundfile.info(good).duration
    assert found["windows"][-1]["end"] == pytest.approx(seconds)
    assert found["windows"][-1]["start"] == pytest.approx(seconds - 0.5)
    for window, line in zip(found["windows"], lines, strict=True):
        ((label, probability),) = [x.values() for x in window["top"]]
        assert line[2] == f"{label} {100 * probability:.1f}%"
        assert window["label"] == label
    many = w2v_edge("classify", voice_bundle, recordings, *options)
    assert many.out.startswith(f"{good}\t0.00\t0.50\t")


def test_two_kinds_of_window(w2v_edge: Verb, tmp_path: Path) -> None:
    """Seconds go with --every, parts without; times are above 0 and finite."""
    for options in (
        ("--window", "5s"),
        ("--every", "1", "--window", "step=1,left=1,right=1"),
        ("--every", "0"),
        ("--every", "-1s"),
        ("--every", "nan"),
        ("--every", "fast"),
        ("--every", "1s", "--window", "0s"),
    ):
        assert w2v_edge("classify", tmp_path, "a.wav", *options).code == 2

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

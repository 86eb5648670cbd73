"""transcribe and classify on models without the head: errors of one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

Verb = Callable[..., Any]


@pytest.fixture
def clip(tmp_path: Path, speech: dict[str, Any]) -> Path:
    """A short recording."""
    path = tmp_path / "clip.wav"
    soundfile.write(path, speech["en-activated"], 16_000)
    return path


@pytest.mark.parametrize(
    ("verb", "remedy"),
    [("transcribe", "Wav2Vec2ForCTC"), ("classify", "Wav2Vec2ForSequenceClassification")],
)
def test_a_bundle_without_a_head(
    w2v_edge: Verb, refused: Verb, bundle: Verb, clip: Path, verb: str, remedy: str
) -> None:
    """A bundle without the head is refused before any file is read, with a remedy."""
    for files in ([clip], [clip, "gone.wav"]):
        refused(w2v_edge(verb, bundle("tiny"), *files), 1, "no head", remedy)
    refused(w2v_edge(verb, bundle("tiny"), clip, "--json"), 1, "no head", remedy)


def test_a_bundle_without_labels(
    w2v_edge: Verb, refused: Verb, copied_bundle: Verb, reseal: Verb, clip: Path
) -> None:
    """A CTC model without a vocabulary is refused with the place for the file."""
    folder = copied_bundle("tiny")
    ctc = {"blank": 0, "word_delimiter": "|", "special": [], "language": None}
    reseal(folder, logits_axes=["batch", "frames", "labels"], ctc=ctc)
    refused(w2v_edge("transcribe", folder, clip), 1, "vocab.json", "export again")
    refused(w2v_edge("classify", folder, clip), 1, "call transcribe")


def test_no_bundle_and_no_audio(w2v_edge: Verb, refused: Verb, tmp_path: Path, clip: Path) -> None:
    """A folder that holds no bundle is refused by both verbs."""
    for verb in ("transcribe", "classify"):
        refused(w2v_edge(verb, tmp_path, clip), 1, "expected a bundle")


def test_usage(w2v_edge: Verb, bundle: Verb) -> None:
    """Options that require others, and invalid numbers, are usage errors."""
    cases: list[tuple[str, ...]] = [
        (),
        ("x.wav", "-o", "out"),
        ("x.wav", "--alpha", "1"),
        ("x.wav", "--beta", "1", "--beam-width", "5"),
        ("x.wav", "--beam-width", "0"),
        ("x.wav", "--alpha", "much", "--lm", "lm.arpa"),
    ]
    for arguments in cases:
        assert w2v_edge("transcribe", bundle("tiny"), *arguments).code == 2
        assert w2v_edge("classify", bundle("tiny"), "x.wav", "--top", "0").code == 2

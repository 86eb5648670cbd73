"""An audio file on standard input, for verbs over files."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from w2v_edge import data

Verb = Callable[..., Any]


@pytest.fixture
def piped(w2v_edge: Verb, monkeypatch: pytest.MonkeyPatch) -> Verb:
    """`piped(*arguments)`: run a verb with the shipped clip on standard input."""

    def run(*arguments: str | Path, content: bytes = data.DEMO_CLIP.read_bytes()) -> Any:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return w2v_edge(*arguments)

    return run


@pytest.mark.parametrize("verb", ["transcribe", "tokenize", "classify"])
def test_the_same_as_the_file(
    piped: Verb, w2v_edge: Verb, ctc_bundle: Path, voice_bundle: Path, verb: str
) -> None:
    """`-` gives what the file gives."""
    bundles = {"transcribe": ctc_bundle, "tokenize": data.TINY_INT8, "classify": voice_bundle}
    (found,) = piped(verb, bundles[verb], "-", "--json").json
    (expected,) = w2v_edge(verb, bundles[verb], data.DEMO_CLIP, "--json").json
    assert found == expected | {"file": "-"}


def test_outputs_have_a_name(piped: Verb, ctc_bundle: Path, tmp_path: Path) -> None:
    """Files written for standard input are called `audio`."""
    assert piped("transcribe", ctc_bundle, "-", "--srt", "-o", tmp_path).code == 0
    assert piped("encode", data.TINY_INT8, "-", "-o", tmp_path).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audio.npz", "audio.srt"]
    assert piped("encode", data.TINY_INT8, data.DEMO_CLIP, "-o", tmp_path).code == 0
    expected = np.load(tmp_path / f"{data.DEMO_CLIP.stem}.npz")
    with np.load(tmp_path / "audio.npz") as found:
        np.testing.assert_array_equal(found["codes"], expected["codes"])


def test_a_voice(piped: Verb, voice_bundle: Path) -> None:
    """A recording on standard input is compared with a file."""
    (found,) = piped("compare-speakers", voice_bundle, "-", data.DEMO_CLIP, "--json").json
    assert found["cosine"] == pytest.approx(1, abs=1e-6)


def test_nothing(piped: Verb, refused: Verb, ctc_bundle: Path) -> None:
    """An empty standard input, and a pipe given as a file, are said to be what they are."""
    refused(piped("transcribe", ctc_bundle, "-", content=b""), 1, "standard input", "nothing")
    refused(piped("transcribe", ctc_bundle, "-", content=b"no audio"), 1, "-: not readable")
    read, write = os.pipe()
    refused(piped("transcribe", ctc_bundle, f"/dev/fd/{read}"), 1, "a pipe", "expected an audio")
    os.close(read)
    os.close(write)

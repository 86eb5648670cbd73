"""tokenize."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import w2v_edge as package
from w2v_edge import data

Verb = Callable[..., Any]


@pytest.fixture
def recordings(tmp_path: Path, speech: dict[str, Any]) -> Path:
    """A folder of two recordings."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for name, waveform in list(speech.items())[:2]:
        soundfile.write(folder / f"{name}.wav", waveform[:20_000], 16_000, subtype="FLOAT")
    return folder


def test_codes_as_text(w2v_edge: Verb, recordings: Path) -> None:
    """A line per file: a number per frame, those of several groups joined by commas."""
    model = package.load(data.TINY_INT8)
    files = sorted(recordings.iterdir())
    lines = w2v_edge("tokenize", data.TINY_INT8, recordings).out.splitlines()
    for line, file in zip(lines, files, strict=True):
        name, _, text = line.partition(": ")
        assert name == str(file)
        codes = [[int(x) for x in frame.split(",")] for frame in text.split()]
        assert codes == model.tokenize(soundfile.read(file, dtype="float32")[0]).tolist()
    alone = w2v_edge("tokenize", data.TINY_INT8, files[0]).out
    assert alone.strip() == lines[0].partition(": ")[2]


def test_units_as_json(w2v_edge: Verb, recordings: Path) -> None:
    """Repeating the codes of units by their durations gives the codes of frames."""
    codes = json.loads(w2v_edge("tokenize", data.TINY_INT8, recordings, "--json").out)
    units = json.loads(w2v_edge("tokenize", data.TINY_INT8, recordings, "--units", "--json").out)
    for found, expected in zip(units, codes, strict=True):
        assert found["file"] == expected["file"]
        assert found["frame_seconds"] == expected["frame_seconds"] == pytest.approx(0.02)
        frames = np.repeat(found["codes"], found["durations"], axis=0)
        assert frames.tolist() == expected["codes"]


def test_json_has_a_line_for_all_codes(w2v_edge: Verb, recordings: Path) -> None:
    """A file's codes are one line, not a line per number."""
    found = w2v_edge("tokenize", data.TINY_INT8, recordings, "--json")
    lines = [line.strip().rstrip(",") for line in found.out.splitlines()]
    for result in found.json:
        assert f'"codes": {json.dumps(result["codes"])}' in lines


def test_a_file_that_fails(w2v_edge: Verb, recordings: Path) -> None:
    """It is reported, and the others are tokenized."""
    (recordings / "broken.wav").write_bytes(b"RIFF")
    outcome = w2v_edge("tokenize", data.TINY_INT8, recordings, "--units")
    assert outcome.code == 1
    assert "broken.wav" in outcome.err
    assert len(outcome.out.splitlines()) == 2

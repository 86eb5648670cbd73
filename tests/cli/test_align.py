"""align, with a model that has a CTC head."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pysubs2
import pytest
import soundfile

import w2v_edge as package
from w2v_edge.errors import InputError
from w2v_edge.text.aligner import Alignment
from w2v_edge.text.alignment_files import read_lines

Verb = Callable[..., Any]
TEXT = "ACTIVATED NOW\nOH, NO!"
WEB_SUBTITLES = """WEBVTT

NOTE not
spoken

name
00:01.000 --> 00:02.000 align:start
<c.x>Tom</c> <00:01.500>&amp;
me
"""


@pytest.fixture
def recording(tmp_path: Path, speech: dict[str, Any]) -> Path:
    """Speech as a file."""
    path = tmp_path / "speech.wav"
    soundfile.write(path, speech["en-activated"], 16_000, subtype="FLOAT")
    return path


@pytest.fixture
def expected(ctc_bundle: Path, speech: dict[str, Any]) -> Alignment:
    """The package's alignment."""
    found: Alignment = package.load(ctc_bundle).align(speech["en-activated"], TEXT)
    return found


def test_json_of_one_recording(
    w2v_edge: Verb, ctc_bundle: Path, recording: Path, expected: Alignment, tmp_path: Path
) -> None:
    """The object has the path, and the package's words, labels, lines; text is a file or given."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    (found,) = w2v_edge("align", ctc_bundle, recording, text, "--json").json
    assert found["path"] == str(recording)
    for word, other in zip(found["words"], expected.words, strict=True):
        assert word == {name: getattr(other, name) for name in ("word", "start", "end", "score")}
    assert found["labels"] == [vars(x) for x in expected.labels]
    assert [x["text"] for x in found["lines"]] == TEXT.splitlines()
    assert found["unaligned"] == []
    lines = w2v_edge("align", ctc_bundle, recording, "--text", "OH NO").out.splitlines()
    assert [line.split("\t")[-1] for line in lines[-2:]] == ["OH", "NO"]


def test_files(
    w2v_edge: Verb, ctc_bundle: Path, recording: Path, expected: Alignment, tmp_path: Path
) -> None:
    """Subtitles keep their lines and get new times; TextGrid and CTM have the words' times."""
    subtitles = tmp_path / "old.srt"
    file = pysubs2.SSAFile()
    for i, line in enumerate(TEXT.splitlines()):
        file.append(pysubs2.SSAEvent(start=90_000 * i, end=90_000 * i + 500, text=line))
    file.save(str(subtitles))
    kinds = ("--srt", "--vtt", "--textgrid", "--ctm")
    out = tmp_path / "out"
    assert w2v_edge("align", ctc_bundle, recording, subtitles, *kinds, "-o", out).code == 0
    for ending in (".srt", ".vtt"):
        events = pysubs2.load(str(out / f"speech{ending}"))
        assert [x.plaintext for x in events] == TEXT.splitlines()
        assert [x.start for x in events] == [round(1000 * x.start) for x in expected.lines]
    ctm = [line.split() for line in (out / "speech.ctm").read_text().splitlines()]
    assert [fields[4] for fields in ctm] == [x.word for x in expected.words]
    assert [fields[2] for fields in ctm] == [f"{x.start:.3f}" for x in expected.words]
    grid = (out / "speech.TextGrid").read_text()
    tier = grid[grid.index('name = "words"') : grid.index('name = "labels"')]
    spans = re.findall(r"xmin = (\S+)\s+xmax = (\S+)\s+text = \"(.*)\"", tier)
    assert [x for x in spans if x[2]] == [
        (f"{x.start:.6f}", f"{x.end:.6f}", x.word) for x in expected.words
    ]
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert w2v_edge("align", ctc_bundle, recording, subtitles, "--srt", "-o", out).code == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.srt", "1\r\n00:00:01,000 --> 00:00:02,000\r\n<i>Tom</i> {\\an8}&\r\nme\r\n\r\n"),
        (
            "a.vtt",
            WEB_SUBTITLES,
        ),
    ],
)
def test_the_texts_of_subtitles(name: str, text: str, tmp_path: Path) -> None:
    """A line for each cue, without markup, notes and names; a file without cues is refused."""
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert read_lines(path) == ["Tom & me"]
    path.write_text("no cue")
    with pytest.raises(InputError, match="no subtitles"):
        read_lines(path)


def test_outputs_stay_in_their_folder(
    w2v_edge: Verb, ctc_bundle: Path, recording: Path, tmp_path: Path
) -> None:
    """Also where a manifest names recordings by absolute paths or above its folder."""
    (tmp_path / "m").mkdir()
    manifest = tmp_path / "m" / "pairs.tsv"
    manifest.write_text(f"path\ttext\n{recording}\tOH\n../speech.wav\tNO\n")
    out = tmp_path / "out"
    assert w2v_edge("align", ctc_bundle, manifest, "--ctm", "-o", out).code == 0
    assert len(list(out.rglob("*.ctm"))) == 2
    assert not list(tmp_path.glob("*.ctm"))


def test_a_manifest_with_bad_pairs(
    w2v_edge: Verb, ctc_bundle: Path, recording: Path, tmp_path: Path
) -> None:
    """A pair that fails is named, the others are aligned, and the exit code is 1."""
    manifest = tmp_path / "pairs.tsv"
    rows = [("speech.wav", "OH NO"), ("missing.wav", "OH"), ("speech.wav", ""), ("speech.wav", "A")]
    manifest.write_text("path\ttext\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    outcome = w2v_edge("align", ctc_bundle, manifest, "--json")
    assert outcome.code == 1
    assert [len(x.get("words", ())) for x in outcome.json] == [2, 0, 0, 1]
    assert "missing.wav" in outcome.json[1]["error"]
    assert "no words" in outcome.json[2]["error"]
    assert outcome.json[3]["path"] == str(recording)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "give TEXT, or --text"),
        (("--text", "A" * 4000), "take at least"),
        (("--text", "A 1", "--unknown", "error"), "without a label: 1"),
        (("--text", "A 1", "--unknown", "skip", "--strict"), "without a label: 1"),
        (("nothing.txt",), "cannot read the text"),
        (("--text", "A", "-o", "x"), "-o needs"),
    ],
)
def test_errors(
    w2v_edge: Verb, ctc_bundle: Path, recording: Path, arguments: tuple[str, ...], words: str
) -> None:
    """Each says what to do, and is no traceback."""
    outcome = w2v_edge("align", ctc_bundle, recording, *arguments)
    assert outcome.code in {1, 2}
    assert words in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err


def test_romanised_texts_need_a_library(
    w2v_edge: Verb, ctc_bundle: Path, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without uroman the error says which extra has it."""
    monkeypatch.setitem(sys.modules, "uroman", None)
    outcome = w2v_edge("align", ctc_bundle, recording, "--text", "A", "--romanize", "uroman")
    assert outcome.code == 1
    assert "w2v-edge[romanize]" in outcome.err

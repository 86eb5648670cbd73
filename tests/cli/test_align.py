"""align, with a model that has a CTC head."""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pysubs2
import pytest
import soundfile

import w2v_edge as package
from w2v_edge.errors import InputError
from w2v_edge.extras import install_command
from w2v_edge.text.aligner import Alignment
from w2v_edge.text.alignment_files import read_text, spoken_text

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


def test_standard_input(
    w2v_edge: Verb,
    refused: Verb,
    ctc_bundle: Path,
    recording: Path,
    expected: Alignment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`-` is the recording or the text on standard input; not both, not nothing, not raw PCM."""

    def piped(content: bytes, *arguments: str | Path) -> Any:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        return w2v_edge("align", ctc_bundle, *arguments)

    words = [word.word for word in expected.words]
    for content, arguments in (
        (recording.read_bytes(), ("-", "--text", TEXT)),
        (TEXT.encode(), (recording, "-")),
    ):
        outcome = piped(content, *arguments)
        assert outcome.code == 0, outcome.err
        assert [line.split("\t")[-1] for line in outcome.out.splitlines()] == words
    assert piped(b"", "-", "-").code == 2
    refused(piped(b"", recording, "-"), 1, "standard input", "found nothing")
    refused(piped(b"\xff\xfe", recording, "-"), 1, "standard input", "not UTF-8")
    assert piped(bytes(32_000), "-", "--text", TEXT).code == 1


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


def test_subtitles_keep_their_text(
    w2v_edge: Verb, ctc_bundle: Path, recording: Path, tmp_path: Path
) -> None:
    """Only times change: line breaks, markup, and cues without a word stay, in order of time."""
    old = tmp_path / "old.srt"
    content = (
        "1\n00:09:00,000 --> 00:09:01,000\n<i>ACTIVATED</i>\n{\\an8}NOW\n\n"
        "2\n00:09:02,000 --> 00:09:02,020\n\u266a\n\n"
        "3\n00:09:03,000 --> 00:09:04,000\n- OH,\n- NO!\n\n"
    )
    old.write_text(content, encoding="utf-8")
    out = tmp_path / "out"
    outcome = w2v_edge("align", ctc_bundle, recording, old, "--srt", "-o", out)
    assert outcome.code == 0
    assert "1 subtitles without a word that has a time" in outcome.err
    written = (out / "speech.srt").read_text(encoding="utf-8")
    assert re.sub(r"[\d:,]+ --> .*", "", written) == re.sub(r"[\d:,]+ --> .*", "", content)
    events = pysubs2.load(str(out / "speech.srt"))
    assert all(x.start < x.end for x in events)
    assert all(one.end <= other.start for one, other in pairwise(events))
    assert events[-1].end < 60_000
    strict = w2v_edge(
        "align", ctc_bundle, recording, old, "--srt", "-o", out, "--strict", "--force"
    )
    assert strict.code == 1
    assert "remove them, or spell them out" in strict.err


def test_texts_become_subtitles_with_all_words(
    w2v_edge: Verb, ctc_bundle: Path, recording: Path, tmp_path: Path
) -> None:
    """Words that get no time are shown too, first and last ones as well."""
    text = tmp_path / "text.txt"
    written = "\u2026 7 ACTIVATED 12 - NOW\n\n\U0001f600 OH <NO> " + "99 " * 60
    text.write_text(written, encoding="utf-8")
    out = tmp_path / "out"
    arguments = ("align", ctc_bundle, recording, text, "--srt", "--vtt", "-o", out)
    assert w2v_edge(*arguments, "--unknown", "skip").code == 0
    for ending in ("srt", "vtt"):
        events = pysubs2.load(str(out / f"speech.{ending}"))
        shown = " ".join((out / f"speech.{ending}").read_text("utf-8").splitlines())
        assert all(one.end <= other.start for one, other in pairwise(events))
        words = re.sub(r"(\d+ )?[\d:.,]+ --> [\d:.,]+", "", shown.removeprefix("WEBVTT"))
        words = words.replace("&lt;", "<").replace("&gt;", ">")
        assert words.split() == written.split()


def test_texts_are_read(tmp_path: Path) -> None:
    """A line for each cue, without markup, notes and names; a file without cues is refused."""
    path = tmp_path / "a.vtt"
    path.write_text(WEB_SUBTITLES)
    assert spoken_text(read_text(path)) == "Tom & me"
    path.write_text("no cue")
    with pytest.raises(InputError, match="no subtitles"):
        read_text(path)
    (tmp_path / "a.txt").write_bytes("\ufeffa\n\nb".encode())
    assert spoken_text(read_text(tmp_path / "a.txt")) == "a\n\nb"
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_text(tmp_path / "a.txt")


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


def test_recordings_of_one_name_are_told_apart(
    w2v_edge: Verb, ctc_bundle: Path, recording: Path, tmp_path: Path
) -> None:
    """Files and their names in CTM differ: twice the same, one named like a number, folders."""
    names = ["speech.wav", "speech.wav", "speech.wav-2.wav", "a b/speech.wav", "a_b/speech.wav"]
    for name in names[2:]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(recording, tmp_path / name)
    manifest = tmp_path / "pairs.tsv"
    manifest.write_text("path\ttext\n" + "".join(f"{name}\tOH\n" for name in names))
    out = tmp_path / "out"
    assert w2v_edge("align", ctc_bundle, manifest, "--ctm", "-o", out).code == 0
    found = {x.relative_to(out).as_posix(): x.read_text().split()[0] for x in out.rglob("*.ctm")}
    assert found == {
        "speech.wav.ctm": "speech.wav",
        "speech.wav-2.ctm": "speech.wav-2",
        "speech.wav-3.ctm": "speech.wav-3",
        "a b/speech.ctm": "a%20b/speech",
        "a_b/speech.ctm": "a_b/speech",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems have Unicode names alone")
def test_a_name_that_is_no_unicode(
    w2v_edge: Verb, ctc_bundle: Path, recording: Path, tmp_path: Path
) -> None:
    """Bytes of a file's name that are no Unicode are percent-encoded in CTM."""
    path = tmp_path / os.fsdecode(b"a\xff.wav")
    shutil.copy(recording, path)
    out = tmp_path / "out"
    assert w2v_edge("align", ctc_bundle, path, "--text", "OH", "--ctm", "-o", out).code == 0
    (written,) = out.iterdir()
    assert written.read_text(encoding="utf-8").startswith("a%FF 1 0.")


def test_a_manifest_with_bad_rows(
    w2v_edge: Verb, ctc_bundle: Path, recording: Path, tmp_path: Path
) -> None:
    """Each is named, the others are aligned, and the exit code is 1."""
    manifest = tmp_path / "pairs.jsonl"
    rows: list[tuple[bytes, str]] = [
        (b'{"path": "speech.wav", "text": "OH NO"}', ""),
        (b'{"path": "missing.wav", "text": "OH"}', "missing.wav"),
        (b'{"path": "speech.wav", "text": ""}', "no words"),
        (b'{"path": "speech.wav"}', "no text"),
        (b'{"path": "", "text": "OH"}', "line 5: found no path"),
        (b'{"path": ".", "text": "OH"}', "line 6: found the path '.'"),
        (b'{"path": "..", "text": "OH"}', "line 7: found the path '..'"),
        (b'{"path": "/", "text": "OH"}', "line 8: found the path '/'"),
        (b'{"path": "\\ud800.wav", "text": "OH"}', "line 9: found the path '"),
        (b'{"path": "speech.wav", "text": 3}', "line 10: found 'text' 3"),
        (b'{"path": "speech.wav", "text": "\\ud800"}', "not Unicode text"),
        (b'{"path": "speech.wav", "text": "\xff"}', "line 12: found bytes that are not UTF-8"),
        (b"[]", "line 13: found no key"),
        (b"{", "line 14: not JSON"),
        (b'{"path": "pairs.jsonl", "text": "OH"}', "pairs.jsonl"),
        (b'{"path": "speech.wav", "text": "A"}', ""),
    ]
    manifest.write_bytes(b"\n".join(row for row, _ in rows))
    outcome = w2v_edge("align", ctc_bundle, manifest, "--json", "--ctm", "-o", tmp_path / "out")
    assert outcome.code == 1
    assert "14 of 16 files failed" in outcome.err
    assert len(outcome.json) == len(rows)
    for found, (_, words) in zip(outcome.json, rows, strict=True):
        assert ("error" in found) == bool(words)
        assert words in found.get("error", "")
    assert outcome.json[-1]["path"] == str(recording)
    plain = w2v_edge("align", ctc_bundle, manifest)
    assert plain.err.count("failed: ") == 14
    assert len(plain.out.splitlines()) >= 3


def test_results_that_cannot_be_printed(
    w2v_edge: Verb,
    ctc_bundle: Path,
    recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They have failed, as in a terminal without the word's letters; others are printed."""

    def echo(text: str, **options: Any) -> None:
        text.encode("ascii")
        printed(text, **options)

    printed = click.echo
    monkeypatch.setattr("w2v_edge.cli.align.click.echo", echo)
    manifest = tmp_path / "pairs.tsv"
    manifest.write_text("path\ttext\nspeech.wav\tOHé\nspeech.wav\tNO\n", encoding="utf-8")
    outcome = w2v_edge("align", ctc_bundle, manifest)
    assert outcome.code == 1
    assert "1 of 2 files failed" in outcome.err
    assert outcome.out.splitlines()[-1].startswith(f"{recording}\t")


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
    assert install_command("romanize") in outcome.err

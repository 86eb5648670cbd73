"""stream: raw PCM and files in, final frames out as early as possible."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

import w2v_edge as library
from w2v_edge import BeamSearch
from w2v_edge.extras import install_command

Verb = Callable[..., Any]
STREAM = [sys.executable, "-c", "from w2v_edge.cli import main; main()", "stream"]
Ints = npt.NDArray[np.int16]


@pytest.fixture
def pcm(speech: dict[str, Any]) -> Ints:
    """Three seconds of speech in 16 bits."""
    samples: Ints = np.round(speech["en-demo-abouttotry"][:48_000] * 32_767).astype(np.int16)
    return samples


@pytest.fixture
def clip(tmp_path: Path, pcm: Ints) -> Path:
    """The same as a file."""
    path = tmp_path / "clip.wav"
    soundfile.write(path, pcm, 16_000)
    return path


def _objects(out: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the JSON lines and the summary of a run."""
    *pieces, summary = map(json.loads, out.splitlines())
    return pieces, summary


def _codes(pieces: list[dict[str, Any]]) -> list[list[int]]:
    return [codes for piece in pieces for codes in piece["codes"]]


def _piped(data: bytes, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run the command in another process, with bytes on its standard input."""
    command = [*STREAM, *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, check=False)


def test_a_file(w2v_edge: Verb, bundle: Verb, clip: Path, pcm: Ints) -> None:
    """Every frame once, with its time; --json gives the same, and how it went."""
    model = library.load(bundle("large-small"))
    expected = model.tokenize(pcm)
    out = w2v_edge("stream", bundle("large-small"), clip, "--fast", "--block-ms", "100")
    lines = [line.split() for line in out.out.splitlines()]
    assert [[int(x) for x in codes.split(",")] for _, codes in lines] == expected.tolist()
    np.testing.assert_allclose([float(line[0]) for line in lines], model.times(149), atol=1e-4)
    assert "3.0 s in 30 blocks" in out.err

    again = w2v_edge("stream", bundle("large-small"), clip, "--fast", "--json")
    pieces, summary = _objects(again.out)
    assert _codes(pieces) == expected.tolist()
    assert summary["seconds"] == 3
    assert summary["latency_ms"] == pytest.approx(12.5, abs=0.1)
    assert summary["context_latency_ms"] is None


def test_a_known_text(
    w2v_edge: Verb, refused: Verb, ctc_bundle: Path, clip: Path, pcm: Ints, tmp_path: Path
) -> None:
    """Words are printed once their times are final; JSON adds the reader's position."""
    text = tmp_path / "text.txt"
    text.write_text("ABOUT TO\nTRY", encoding="utf-8")
    with library.load(ctc_bundle).stream(statistics="running", align="ABOUT TO TRY") as stream:
        expected = [*stream.push(pcm).words, *stream.flush().words]
    shown = [f"{x.start:.2f}\t{x.end:.2f}\t{x.score:.2f}\t{x.word}" for x in expected]
    command = ("stream", ctc_bundle, clip, "--fast", "--align", text)
    assert w2v_edge(*command).out.splitlines() == shown
    *updates, summary = map(json.loads, w2v_edge(*command, "--json").out.splitlines())
    assert [x["word"] for update in updates for x in update["words"]] == "ABOUT TO TRY".split()
    assert updates[-1]["position"]["word"] == 2
    assert summary["seconds"] == 3
    assert w2v_edge(*command, "--json", "--context").code == 2
    refused(w2v_edge(*command[:-1], tmp_path / "gone.txt"), 1, "gone.txt")


def test_statistics_of_a_recording(w2v_edge: Verb, bundle: Verb, clip: Path, pcm: Ints) -> None:
    """Frozen statistics of the recording itself give its codes exactly; running ones begin late."""
    folder = bundle("base-small")
    frozen = w2v_edge("stream", folder, clip, "--fast", "--json", "--statistics", clip)
    assert _codes(_objects(frozen.out)[0]) == library.load(folder).tokenize(pcm).tolist()
    pieces, summary = _objects(w2v_edge("stream", folder, clip, "--fast", "--json").out)
    assert len(_codes(pieces)) == 149
    assert summary["start_ms"] == 1000


def test_words(w2v_edge: Verb, ctc_bundle: Path, clip: Path) -> None:
    """A model with a CTC head prints words, those that its windows give."""
    window = ["--window", "step=0.5,left=2,right=0.5"]
    out = w2v_edge("stream", ctc_bundle, clip, "--fast", "--statistics", clip, *window)
    words = [line.split()[1] for line in out.out.splitlines()]
    assert len(words) >= 2
    pieces, summary = _objects(
        w2v_edge("stream", ctc_bundle, clip, "--fast", "--statistics", clip, "--json", *window).out
    )
    found = [word for piece in pieces for word in piece.get("words", [])]
    assert [word["text"] for word in found] == words
    assert all(0 <= word["start"] < word["end"] <= 3 for word in found)
    assert summary["context_latency_ms"] > 900


def test_beam_search(
    w2v_edge: Verb, refused: Verb, ctc_bundle: Path, clip: Path, tmp_path: Path
) -> None:
    """The command prints the words of `BeamSearch.stream` on the same logits, and partial texts."""
    options = ("--fast", "--statistics", clip, "--window", "step=1,left=2,right=0.5")
    search = ("--beam-width", "8", "--hotwords", "e", "--delay", "0.5")
    arguments = ("stream", ctc_bundle, clip, *options)
    pieces, _ = _objects(w2v_edge(*arguments, *search, "--json").out)
    found = [word for piece in pieces for word in piece.get("words", [])]
    assert any("partial" in piece for piece in pieces)
    lines = w2v_edge(*arguments, *search).out.splitlines()
    assert [word["text"] for word in found] == [line.split()[1] for line in lines]
    model = library.load(ctc_bundle)
    text = BeamSearch(model.spelling, beam_width=8, hotwords=["e"]).stream(
        model.context_frame_seconds, 0.5
    )
    audio = library.AudioFile(clip, model.sample_rate)
    window = library.Window(step=1, left=2, right=0.5)
    with model.stream(statistics=model.statistics(audio), context=window) as stream:
        samples = np.concatenate(list(audio.blocks()))
        encodings = [stream.push(samples), stream.flush()]
        words = [word for x in encodings if x.logits is not None for word in text.push(x.logits)]
    assert [word["text"] for word in found] == [word.text for word in words + text.flush()]
    assert w2v_edge(*arguments, "--delay", "1").code == 2
    path = tmp_path / "lm.arpa"
    entries = "".join(f"-1\t{word}\t0\n" for word in ("<unk>", "<s>", "</s>", "e"))
    pairs = "\\2-grams:\n-1\te e\n"
    counts = "ngram 1=4\nngram 2=1\n"
    path.write_text(f"\\data\\\n{counts}\n\\1-grams:\n{entries}\n{pairs}\n\\end\\\n")
    outcome = w2v_edge(*arguments, "--lm", path, "--beam-width", "4")
    assert outcome.code == 0
    assert len(outcome.err.splitlines()) == 1
    refused(w2v_edge(*arguments, "--lm", tmp_path / "gone.arpa"), 1, "gone.arpa")


def test_context_on_request(w2v_edge: Verb, bundle: Verb, clip: Path) -> None:
    """--context adds a vector for each frame, later than its codes."""
    out = w2v_edge("stream", bundle("large-small"), clip, "--fast", "--json", "--context")
    pieces, _ = _objects(out.out)
    context = [vector for piece in pieces for vector in piece.get("context", [])]
    times = [x for piece in pieces for x in piece.get("context_times", [])]
    assert len(context) == len(times) == len(_codes(pieces)) == 149
    assert len(context[0]) == 48


def test_standard_input(bundle: Verb, pcm: Ints) -> None:
    """Raw PCM in both encodings, and at another rate, gives codes."""
    model = library.load(bundle("large-small"))
    expected = model.tokenize(pcm).tolist()
    whole = _piped(pcm.tobytes(), bundle("large-small"), "-", "--json")
    assert _codes(_objects(whole.stdout.decode())[0]) == expected
    floats = (pcm / np.float32(32_768)).astype("<f4").tobytes()
    asked = ("-", "--json", "--encoding", "f32le")
    found = _piped(floats, bundle("large-small"), *asked)
    assert _codes(_objects(found.stdout.decode())[0]) == expected
    slower = _piped(pcm[::2].tobytes(), bundle("large-small"), "-", "--json", "--rate", "8000")
    assert len(_codes(_objects(slower.stdout.decode())[0])) == pytest.approx(149, abs=1)


def test_frames_come_before_the_end(bundle: Verb, pcm: Ints) -> None:
    """Final frames are printed while the pipe is still open."""
    command = [*STREAM, str(bundle("large-small")), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pcm[:8_000].tobytes())
        process.stdin.flush()
        first = process.stdout.readline()
        assert float(first.split()[0]) == pytest.approx(0.0125, abs=1e-3)
        process.stdin.close()
        assert len(process.stdout.readlines()) == (8_000 - 400) // 320
    assert process.returncode == 0


def test_ctrl_c_loses_nothing(bundle: Verb, pcm: Ints) -> None:
    """Frames of all that was heard are printed, then how it went; the exit code is 0."""
    command = [*STREAM, str(bundle("large-small")), "-", "--json"]
    # Where these tests run in the background of a shell, children would be deaf to it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(pcm[:16_000].tobytes())
        process.stdin.flush()
        lines = [process.stdout.readline()]
        while sum(len(json.loads(line)["codes"]) for line in lines) < 49:
            lines.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        giving_up = threading.Timer(60, process.kill)
        giving_up.start()
        _, summary = _objects((b"".join(lines) + process.stdout.read()).decode())
        giving_up.cancel()
    assert process.returncode == 0
    assert summary["interrupted"]
    assert summary["seconds"] == 1


def test_a_file_at_the_pace_of_time(w2v_edge: Verb, bundle: Verb, clip: Path) -> None:
    """Without --fast a recording takes as long as it lasts."""
    begun = time.monotonic()
    outcome = w2v_edge("stream", bundle("large-small"), clip)
    assert outcome.code == 0
    assert time.monotonic() - begun >= 3


def test_bad_input(
    w2v_edge: Verb, refused: Verb, bundle: Verb, clip: Path, tmp_path: Path, pcm: Ints
) -> None:
    """Invalid input is one line and never hangs."""
    folder = bundle("large-small")
    refused(w2v_edge("stream", folder, tmp_path / "gone.wav", "--fast"), 1, "gone.wav")
    refused(w2v_edge("stream", tmp_path, clip, "--fast"), 1, "expected a bundle")
    gone = w2v_edge("stream", bundle("base-small"), clip, "--statistics", tmp_path / "no.wav")
    refused(gone, 1, "no.wav")
    asked = ("--json", "--context")
    refused(w2v_edge("stream", bundle("tutorial-small"), clip, *asked), 1, "tutorial")
    for arguments in (
        (),
        (clip, "--mic"),
        (clip, "--rate", "8000"),
        (clip, "--encoding", "f32le"),
        (clip, "--device", "1"),
        ("-", "--fast"),
        (clip, "--context"),
        (clip, "--fast", "--block-ms", "nan"),
    ):
        assert w2v_edge("stream", folder, *arguments).code == 2
    odd = _piped(pcm.tobytes()[:-1], folder, "-")
    assert odd.returncode == 1
    assert b"last whole sample" in odd.stderr
    assert len(odd.stdout.splitlines()) == 149
    nothing = _piped(b"", folder, "-")
    assert nothing.returncode == 1
    assert b"no samples" in nothing.stderr
    assert b"Traceback" not in odd.stderr
    noise = _piped(np.full(99, 1e20, "<f4").tobytes(), folder, "-", "--encoding", "f32le")
    assert noise.returncode == 1
    assert b"Traceback" not in noise.stderr


def test_a_reader_that_goes_away(bundle: Verb, pcm: Ints) -> None:
    """Like `| head -1`: no traceback."""
    command = [*STREAM, str(bundle("large-small")), "-"]
    reading, writing = os.pipe()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=writing, stderr=subprocess.PIPE
    ) as process:
        os.close(writing)
        os.close(reading)
        _, err = process.communicate(pcm.tobytes())
    assert b"Traceback" not in err


def test_a_microphone_without_the_extra(
    w2v_edge: Verb, refused: Verb, bundle: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--mic without its extra names the package to install."""
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    refused(w2v_edge("stream", bundle("large-small"), "--mic"), 1, install_command("mic"))


@pytest.mark.parametrize(
    ("subtype", "rate", "extra"),
    [("PCM_16", 16_000, b""), ("FLOAT", 16_000, b"LIST\4\0\0\0what"), ("PCM_16", 44_100, b"")],
)
def test_a_wav_header_on_standard_input(
    bundle: Verb, tmp_path: Path, pcm: Ints, subtype: str, rate: int, extra: bytes
) -> None:
    """A WAV file on a pipe gives the codes of the file: `arecord` writes one by default."""
    folder, path = bundle("large-small"), tmp_path / "piped.wav"
    soundfile.write(path, pcm / 32_768, rate, subtype=subtype)
    model = library.load(folder)
    expected = model.tokenize(library.AudioFile(path, model.sample_rate))
    content = path.read_bytes()
    unknown = bytearray(content)
    at = content.index(b"data") + 4
    unknown[at : at + 4] = b"\xff" * 4
    for data in (content + extra, bytes(unknown)):
        found = _piped(data, folder, "-", "--json")
        assert found.returncode == 0, found.stderr
        assert _codes(_objects(found.stdout.decode())[0]) == expected.tolist()


def test_an_empty_wav_on_standard_input(bundle: Verb, tmp_path: Path) -> None:
    """What follows a chunk without samples is not heard."""
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16_000)
    content = (tmp_path / "empty.wav").read_bytes() + b"LIST" + bytes([200, 0, 0, 0]) + bytes(200)
    found = _piped(content, bundle("large-small"), "-")
    assert found.returncode == 1
    assert b"no samples" in found.stderr


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        ("FLAC", (), ("a FLAC file", "raw PCM", "ffmpeg")),
        ("OGG", (), ("an Ogg file",)),
        ("WAV", ("--rate", "8000"), ("16000 Hz", "--rate")),
        ("WAV", ("--encoding", "f32le"), ("s16le", "--encoding")),
        ("WAV of 2", (), ("2 channels", "expected 1")),
        ("WAV cut", (), ("damaged WAV header",)),
    ],
)
def test_another_file_on_standard_input(
    bundle: Verb, tmp_path: Path, pcm: Ints, kind: str, options: tuple[str, ...], words: Any
) -> None:
    """Bytes of an audio file are not taken for samples."""
    path = tmp_path / "piped"
    samples = np.stack([pcm, pcm], axis=1) if kind.endswith("2") else pcm
    soundfile.write(path, samples, 16_000, format=kind.split(maxsplit=1)[0])
    content = path.read_bytes()[: 30 if kind.endswith("cut") else None]
    found = _piped(content, bundle("large-small"), "-", *options)
    assert found.returncode == 1
    assert all(word in found.stderr.decode() for word in words), found.stderr
    assert not found.stdout

"""encode: outputs, failures of single files, and doctor's report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from w2v_edge import data
from w2v_edge.extras import install_command

Verb = Callable[..., Any]


@pytest.fixture
def recordings(tmp_path: Path, speech: dict[str, Any]) -> Path:
    """A folder of good and bad files, in several formats and rates."""
    folder = tmp_path / "recordings"
    (folder / "deep").mkdir(parents=True)
    clip = speech["en-activated"]
    soundfile.write(folder / "mono.wav", clip, 16_000)
    soundfile.write(folder / "deep/stereo.flac", np.stack([clip, clip], axis=1), 16_000)
    soundfile.write(folder / "slow.wav", clip[::2], 8_000, subtype="PCM_24")
    soundfile.write(folder / "short.wav", clip[:10], 16_000)
    soundfile.write(folder / "empty.wav", clip[:0], 16_000)
    (folder / "text.wav").write_text("this is not audio")
    whole = (folder / "mono.wav").read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("not for us")
    return folder


def test_bad_files_do_not_stop_good_ones(
    w2v_edge: Verb, bundle: Verb, recordings: Path, tmp_path: Path
) -> None:
    """Each bad file is named with its reason, the others are done, and the exit code is 1."""
    outcome = w2v_edge("encode", bundle("tiny"), recordings, "-o", tmp_path / "out", "--json")
    assert outcome.code == 1
    failed = {Path(x["file"]).name: x["error"] for x in outcome.json if "error" in x}
    assert failed.keys() == {"short.wav", "empty.wav", "text.wav", "cut.wav"}
    assert "truncated" in failed["cut.wav"]
    assert "400" in failed["short.wav"]
    made = sorted(str(x.relative_to(tmp_path / "out")) for x in (tmp_path / "out").rglob("*.*"))
    assert made == ["deep/stereo.npz", "mono.npz", "slow.npz"]
    assert "4 of 7 files failed" in outcome.err


def test_what_an_npz_holds(w2v_edge: Verb, bundle: Verb, recordings: Path, tmp_path: Path) -> None:
    """Codes and times always, context and features on request, all of one length."""
    import w2v_edge as package

    arguments = ("encode", bundle("tiny"), recordings / "mono.wav", "-o")
    assert w2v_edge(*arguments, tmp_path / "plain").code == 0
    assert w2v_edge(*arguments, tmp_path / "rich", "--context", "--features").code == 0
    assert w2v_edge(*arguments, tmp_path / "some", "--features").code == 0
    plain = dict(np.load(tmp_path / "plain/mono.npz"))
    rich = dict(np.load(tmp_path / "rich/mono.npz"))
    some = dict(np.load(tmp_path / "some/mono.npz"))
    assert plain.keys() == {"codes", "times"}
    assert rich.keys() == {"codes", "times", "context", "features"}
    assert some.keys() == {"codes", "times", "features"}
    encoding = package.load(bundle("tiny")).encode(soundfile.read(recordings / "mono.wav")[0])
    np.testing.assert_array_equal(plain["codes"], encoding.codes)
    np.testing.assert_array_equal(rich["context"], encoding.context)
    np.testing.assert_array_equal(some["features"], rich["features"])
    np.testing.assert_allclose(np.diff(plain["times"]), 0.02)


def test_namesakes_get_names_of_their_own(
    w2v_edge: Verb, bundle: Verb, speech: dict[str, Any], tmp_path: Path
) -> None:
    """Files that differ in their ending or folder only never overwrite each other."""
    clip = speech["en-activated"]
    for name in ("a.wav", "a.flac", "other/a.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, clip, 16_000)
    files = [tmp_path / name for name in ("a.wav", "a.flac", "other/a.wav")]
    outcome = w2v_edge("encode", bundle("tiny"), *files, "-o", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    assert len({x["output"] for x in outcome.json}) == len(files)
    assert len(list((tmp_path / "out").iterdir())) == len(files)


def test_outputs_are_not_overwritten(
    w2v_edge: Verb, bundle: Verb, recordings: Path, tmp_path: Path
) -> None:
    """An existing output fails that file, unless --force is given."""
    arguments = ("encode", bundle("tiny"), recordings / "mono.wav", "-o", tmp_path / "out")
    assert w2v_edge(*arguments).code == 0
    assert "--force" in w2v_edge(*arguments).err
    assert w2v_edge(*arguments, "--force").code == 0


def test_nothing_to_encode(w2v_edge: Verb, refused: Verb, bundle: Verb, tmp_path: Path) -> None:
    """A folder without audio is an error, and a missing file is that file's."""
    refused(w2v_edge("encode", bundle("tiny"), tmp_path), 1, "no audio")
    outcome = w2v_edge("encode", bundle("tiny"), tmp_path / "gone.wav", "-o", tmp_path / "out")
    assert outcome.code == 1
    assert "gone.wav" in outcome.err


def test_media_that_are_not_read(
    w2v_edge: Verb, refused: Verb, bundle: Verb, tmp_path: Path
) -> None:
    """Files in a folder that may hold speech, but are not read, are not skipped in silence."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "talk.M4A").write_bytes(b"\0\0\0\x20ftypM4A ")
    (tmp_path / "notes.txt").write_text("no audio")
    folder = bundle("tiny")
    refused(w2v_edge("tokenize", folder, tmp_path), 1, "no audio found", "talk.M4A", "ffmpeg")
    shutil.copy(data.DEMO_CLIP, tmp_path)
    outcome = w2v_edge("tokenize", folder, tmp_path)
    assert outcome.code == 0
    assert "1 other media files are not read" in outcome.err
    assert "talk.M4A" in outcome.err
    found = w2v_edge("tokenize", folder, tmp_path / "deep" / "talk.M4A")
    refused(found, 1, "not readable as audio", "expected WAV, FLAC", "ffmpeg")


def test_a_provider_that_does_not_run(
    w2v_edge: Verb, refused: Verb, bundle: Verb, recordings: Path, tmp_path: Path
) -> None:
    """A provider that does not run is refused before anything is written."""
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine's onnxruntime has CUDA")
    out = tmp_path / "out"
    outcome = w2v_edge("encode", bundle("tiny"), recordings, "-o", out, "--provider", "cuda")
    refused(outcome, 1, "cuda", install_command("gpu"))
    assert not out.exists()


def test_the_help_keeps_its_lines(w2v_edge: Verb) -> None:
    """Example commands in the help have lines of their own."""
    out = w2v_edge("--help").out
    lines = [line.strip() for line in out.splitlines()]
    assert any(line.startswith("w2v-edge init") and "checkpoint" in line for line in lines)
    assert any(line.startswith("w2v-edge export") for line in lines)
    assert "\\b" not in out
    assert "\b" not in out


def test_doctor_reports_versions_and_threads(w2v_edge: Verb) -> None:
    """Doctor names versions, providers and threads, and finds nothing amiss here."""
    import onnxruntime

    report = w2v_edge("doctor", "--json").json
    assert report["versions"]["onnxruntime"] == onnxruntime.__version__
    assert "CPUExecutionProvider" in report["providers"]
    assert report["threads"]["usable"] >= 1
    # Two extras that the tests do without.
    optional = {install_command(extra) for extra in ("mic", "romanize")}
    assert {remedy["fix"] for remedy in report["remedies"]} <= optional
    assert not any(remedy["urgent"] for remedy in report["remedies"])
    assert "CPUExecutionProvider" in w2v_edge("doctor").out

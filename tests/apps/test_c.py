"""The program in C against Python, compiled here with sanitizers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import w2v_edge

from .conftest import Clip, Program


@pytest.fixture(scope="module")
def program(c_program: Callable[[str], Program]) -> Program:
    """`program(*arguments)`: the program of codes."""
    return c_program("w2v-codes")


@pytest.mark.parametrize("name", ["tiny", "base-small"])
def test_codes_are_those_of_python(
    program: Program, bundle: Callable[[str], Path], clip: Clip, name: str
) -> None:
    """On real speech every code is the one that Python gives."""
    outcome = program("tokenize", bundle(name), clip.path)
    assert outcome.returncode == 0, outcome
    expected = w2v_edge.load(bundle(name)).tokenize(clip.waveform)
    assert json.loads(outcome.stdout) == expected.tolist()


def test_float_samples_and_channels(
    program: Program, bundle: Callable[[str], Path], clip: Clip, tmp_path: Path
) -> None:
    """Float samples are taken as they are, channels are averaged."""
    stereo = np.stack([clip.waveform, clip.waveform[::-1]], axis=1)[:32_000]
    soundfile.write(tmp_path / "stereo.wav", stereo, 16_000, subtype="FLOAT")
    expected = w2v_edge.load(bundle("tiny")).tokenize(stereo.mean(axis=1, dtype=np.float32))
    outcome = program("tokenize", bundle("tiny"), tmp_path / "stereo.wav")
    assert json.loads(outcome.stdout) == expected.tolist()


def test_golden_codes_are_reproduced(
    program: Program,
    bundle: Callable[[str], Path],
    int8_bundle: Callable[[str], Path],
    units_bundle: Path,
) -> None:
    """Of models with codes of the features and of the context, in float32 and in int8."""
    for folder in (bundle("tiny"), bundle("base-small"), int8_bundle("tiny"), units_bundle):
        outcome = program("verify", folder)
        assert outcome.returncode == 0, outcome
        assert outcome.stdout.endswith("verified\n")


@pytest.mark.parametrize("output", ["codes", "frame_lengths"])
def test_a_difference_is_exit_code_3(
    program: Program, copied_bundle: Callable[[str], Path], output: str
) -> None:
    """One changed golden value is exit code 3, also in an uncompressed archive."""
    folder = copied_bundle("tiny")
    with np.load(folder / "golden.npz") as archive:
        golden = dict(archive)
    np.savez(folder / "golden.npz", **golden)
    assert program("verify", folder).returncode == 0
    golden[output].flat[0] -= 1
    np.savez(folder / "golden.npz", **golden)
    outcome = program("verify", folder)
    assert outcome.returncode == 3, outcome
    assert "DIFFERS" in outcome.stdout


def test_damaged_golden_vectors_are_refused(
    program: Program, copied_bundle: Callable[[str], Path], refuses: Callable[..., None]
) -> None:
    """Truncated and damaged golden vectors are refused in one line."""
    folder = copied_bundle("tiny")
    whole = (folder / "golden.npz").read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        (folder / "golden.npz").write_bytes(whole[:length])
        refuses(program("verify", folder), "golden.npz")
    directory = whole.rindex(b"PK\x05\x06")
    # The directory's place, and the last member's sizes: 20 and 24 bytes into an entry of 54.
    for at in (directory + 16, directory - 34, directory - 30):
        damaged = bytearray(whole)
        damaged[at : at + 4] = b"\xff\xff\xff\x7f"
        (folder / "golden.npz").write_bytes(damaged)
        refuses(program("verify", folder), "golden.npz")


def test_damaged_graphs_are_refused(
    program: Program, copied_bundle: Callable[[str], Path], clip: Clip, refuses: Callable[..., None]
) -> None:
    """No file is opened by onnxruntime whose hash is not the manifest's."""
    folder = copied_bundle("tiny")
    weights = bytearray((folder / "frontend.bin").read_bytes())
    weights[100] ^= 1
    (folder / "frontend.bin").write_bytes(weights)
    refuses(program("tokenize", folder, clip.path), "frontend.bin", "SHA-256")


def test_unusable_inputs_are_one_line(
    program: Program,
    bundle: Callable[[str], Path],
    ctc_bundle: Path,
    clip: Clip,
    tmp_path: Path,
    refuses: Callable[..., None],
) -> None:
    """Unusable files and folders are errors of one line that say what was found."""
    tiny, wav = bundle("tiny"), tmp_path / "x.wav"
    refuses(program("tokenize", tmp_path / "none", clip.path), "manifest.json")
    refuses(program("tokenize", tiny, tmp_path / "none.wav"), "none.wav", "cannot be read")
    refuses(program("tokenize", ctc_bundle, clip.path), "no quantizer")
    soundfile.write(wav, clip.waveform, 8_000)
    refuses(program("tokenize", tiny, wav), "found 8000 Hz", "16000 Hz")
    soundfile.write(wav, clip.waveform[:399], 16_000)
    refuses(program("tokenize", tiny, wav), "too short", "399", "400")
    soundfile.write(wav, clip.waveform, 16_000, subtype="PCM_24")
    refuses(program("tokenize", tiny, wav), "24 bits")
    for length in (4, 20, 40, 1000):
        wav.write_bytes(clip.path.read_bytes()[:length])
        refuses(program("tokenize", tiny, wav), "x.wav")
    assert program("tokenize").returncode == 2

"""The programs for Node against Python, on the same bundles and the same samples."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import w2v_edge

from .conftest import APPS, Clip, Program

NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    NODE is None or not (APPS / "node/node_modules/onnxruntime-node").is_dir(),
    reason="needs node and onnxruntime-node: make test-node",
)


@pytest.fixture(scope="module")
def node() -> Program:
    """`node(program, *arguments)`: run one of the programs."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        assert NODE is not None
        program, *others = map(str, arguments)
        command = [NODE, str(APPS / "node" / program), *others]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.mark.parametrize("name", ["tiny", "base-small", "tutorial-small"])
def test_codes_are_those_of_python(
    node: Program, bundle: Callable[[str], Path], clip: Clip, name: str
) -> None:
    """On real speech every code is the one that Python gives."""
    outcome = node("tokenize.mjs", bundle(name), clip.path)
    expected = w2v_edge.load(bundle(name)).tokenize(clip.waveform)
    assert json.loads(outcome.stdout) == expected.tolist()


def test_int8_codes_are_those_of_python(
    node: Program, int8_bundle: Callable[[str], Path], clip: Clip
) -> None:
    """In int8, codes equal Python's, except for differences between onnxruntime releases."""
    outcome = node("tokenize.mjs", int8_bundle("tiny"), clip.path)
    expected = w2v_edge.load(int8_bundle("tiny")).tokenize(clip.waveform)
    found = np.array(json.loads(outcome.stdout))
    assert found.shape == expected.shape
    assert (found != expected).mean() <= 0.05


def test_codes_of_context_are_those_of_python(
    node: Program, units_bundle: Path, clip: Clip
) -> None:
    """Codes computed from the context equal Python's."""
    outcome = node("tokenize.mjs", units_bundle, clip.path)
    expected = w2v_edge.load(units_bundle).tokenize(clip.waveform)
    assert json.loads(outcome.stdout) == expected.tolist()


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_channels_are_averaged(
    node: Program, bundle: Callable[[str], Path], clip: Clip, tmp_path: Path, subtype: str
) -> None:
    """Stereo gives the codes of the mean of its channels, in both sample formats."""
    stereo = np.stack([clip.waveform, clip.waveform[::-1]], axis=1)[:32_000]
    soundfile.write(tmp_path / "stereo.wav", stereo, 16_000, subtype=subtype)
    mono, _ = soundfile.read(tmp_path / "stereo.wav", dtype="float32")
    expected = w2v_edge.load(bundle("tiny")).tokenize(mono.mean(axis=1, dtype=np.float32))
    outcome = node("tokenize.mjs", bundle("tiny"), tmp_path / "stereo.wav")
    assert json.loads(outcome.stdout) == expected.tolist()


@pytest.mark.parametrize("name", ["tiny", "base-small", "tutorial-small"])
def test_golden_vectors_are_reproduced(
    node: Program, bundle: Callable[[str], Path], name: str
) -> None:
    """Every graph reproduces its golden vectors within their tolerances."""
    outcome = node("verify.mjs", bundle(name))
    assert outcome.returncode == 0, outcome
    lines = outcome.stdout.splitlines()
    graphs = {line.split()[1] for line in lines[:-1]}
    assert graphs >= {"encoder", "tokenizer", "quantizer", "frontend", "context"}
    assert lines[-1].endswith("verified")


def test_other_golden_vectors_are_reproduced(
    node: Program, int8_bundle: Callable[[str], Path], ctc_bundle: Path, units_bundle: Path
) -> None:
    """Bundles in int8, with logits, or with codes of the context reproduce golden vectors."""
    for folder in (int8_bundle("tiny"), ctc_bundle, units_bundle):
        outcome = node("verify.mjs", folder)
        assert outcome.returncode == 0, outcome
    assert "logits" in node("verify.mjs", ctc_bundle).stdout


@pytest.mark.parametrize("output", ["context", "codes", "vectors", "frame_lengths"])
def test_a_difference_is_exit_code_3(
    node: Program,
    copied_bundle: Callable[[str], Path],
    reseal: Callable[..., None],
    output: str,
) -> None:
    """One golden value that the graphs do not give is found, and its output named."""
    folder = copied_bundle("tiny")
    with np.load(folder / "golden.npz") as archive:
        golden = dict(archive)
    golden[output].flat[0] += 1
    np.savez_compressed(folder / "golden.npz", **golden)
    reseal(folder)
    outcome = node("verify.mjs", folder)
    assert outcome.returncode == 3, outcome
    failed = [line.split()[2] for line in outcome.stdout.splitlines() if line.startswith("FAIL")]
    assert output in failed


@pytest.mark.parametrize("name", ["tokenizer.onnx", "frontend.bin", "manifest.json"])
def test_one_changed_bit_is_refused(
    node: Program,
    copied_bundle: Callable[[str], Path],
    clip: Clip,
    refuses: Callable[..., None],
    name: str,
) -> None:
    """No file is used that is not the one of the manifest, and no manifest that was edited."""
    folder = copied_bundle("tiny")
    data = bytearray((folder / name).read_bytes())
    at = data.index(b'"sample_rate": 16000') + 15 if name == "manifest.json" else len(data) // 2
    data[at] ^= 1
    (folder / name).write_bytes(data)
    refuses(node("tokenize.mjs", folder, clip.path), name, "damaged")


def test_unusable_inputs_are_one_line(
    node: Program,
    bundle: Callable[[str], Path],
    ctc_bundle: Path,
    clip: Clip,
    tmp_path: Path,
    refuses: Callable[..., None],
) -> None:
    """Unusable files and folders are errors of one line that say what was found."""
    tiny, wav = bundle("tiny"), tmp_path / "x.wav"
    refuses(node("tokenize.mjs", tmp_path / "none", clip.path), "manifest.json", "export")
    refuses(node("tokenize.mjs", tiny, tmp_path / "none.wav"), "none.wav", "cannot be read")
    refuses(node("tokenize.mjs", ctc_bundle, clip.path), "no quantizer")
    soundfile.write(wav, clip.waveform, 8_000)
    refuses(node("tokenize.mjs", tiny, wav), "found 8000 Hz", "16000 Hz")
    soundfile.write(wav, clip.waveform[:399], 16_000)
    refuses(node("tokenize.mjs", tiny, wav), "too short", "399", "400")
    soundfile.write(wav, clip.waveform, 16_000, subtype="PCM_24")
    refuses(node("tokenize.mjs", tiny, wav), "24 bits")
    soundfile.write(wav, np.array([np.nan] * 800, dtype=np.float32), 16_000, subtype="FLOAT")
    refuses(node("tokenize.mjs", tiny, wav), "not float PCM")
    wav.write_bytes(clip.path.read_bytes()[:1000])
    refuses(node("tokenize.mjs", tiny, wav), "truncated")
    wav.write_bytes(b"text")
    refuses(node("tokenize.mjs", tiny, wav), "not readable as WAV")
    assert node("tokenize.mjs").returncode == 2

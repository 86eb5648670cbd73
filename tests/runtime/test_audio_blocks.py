"""Audio files in blocks: complete or an error, with bounded memory."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from w2v_edge import AudioFile
from w2v_edge.audio import as_waveform, read_audio
from w2v_edge.errors import AudioFileError, InputError, SampleRateError

Floats = npt.NDArray[np.float32]

PROMISING = ["wav", "wavex", "rf64", "w64", "aiff", "au", "caf", "flac", "ogg", "nist", "svx"]


@pytest.fixture(scope="session")
def clip(speech: dict[str, Floats]) -> Floats:
    """Three minutes of speech, many blocks."""
    return np.resize(speech["es-demo-abouttotry"], 180 * 16_000)


def _write(path: Path, samples: npt.NDArray[np.floating], rate: int = 16_000) -> Path:
    """Write PCM of the format that the path's ending names."""
    soundfile.write(path, samples, rate, format=path.suffix[1:].upper())
    return path


@pytest.mark.parametrize("rate", [16_000, 8_000, 22_050, 44_100, 48_000])
def test_blocks_are_the_whole(tmp_path: Path, clip: Floats, rate: int) -> None:
    """Blocks are the file read and resampled at once, bit by bit."""
    path = _write(tmp_path / "clip.flac", clip, rate)
    source = AudioFile(path, 16_000)
    whole = read_audio(path, 16_000)
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(source.blocks())), whole)
    stored, _ = soundfile.read(path, dtype="float32")
    expected = stored if rate == 16_000 else soxr.resample(stored, rate, 16_000, quality="HQ")
    np.testing.assert_array_equal(whole, expected)
    assert source.samples == (len(clip) if rate == 16_000 else None)
    assert source.sample_rate == 16_000
    assert max(map(len, source.blocks())) < 20 * 16_000


def test_truncated_files_are_refused(tmp_path: Path, clip: Floats) -> None:
    """In every format that states a length, a truncated file is refused when opened."""
    for share in [0.3, 0.9]:
        for kind in PROMISING:
            path = _write(tmp_path / f"clip.{kind}", clip[:160_000])
            assert len(read_audio(path, 16_000)) == 160_000
            content = path.read_bytes()
            path.write_bytes(content[: int(len(content) * share)])
            with pytest.raises(AudioFileError, match=rf"clip\.{kind}: (truncated|not readable)"):
                read_audio(path, 16_000)


@pytest.mark.parametrize(
    ("kind", "chunk", "width", "unset"),
    [
        ("wav", b"data", 4, b"\xff" * 4),
        ("aiff", b"SSND", 4, b"\x7f\xff\xff\xff"),
        ("au", b".snd\0\0\0\x18", 4, b"\xff" * 4),
    ],
)
def test_unset_lengths_are_ignored(
    tmp_path: Path, clip: Floats, kind: str, chunk: bytes, width: int, unset: bytes
) -> None:
    """The placeholder length that writers to a pipe leave is ignored."""
    path = _write(tmp_path / f"clip.{kind}", clip[:160_000])
    content = bytearray(path.read_bytes())
    at = content.index(chunk) + len(chunk)
    content[at : at + width] = unset
    path.write_bytes(content)
    assert len(read_audio(path, 16_000)) == 160_000


@pytest.mark.skipif("MP3" not in soundfile.available_formats(), reason="libsndfile without MP3")
@pytest.mark.parametrize("quiet_first", [True, False])
def test_mp3_that_states_no_length(tmp_path: Path, clip: Floats, quiet_first: bool) -> None:
    """An MP3 whose length libsndfile underestimates is refused, never truncated."""
    loud = clip[:320_000]
    parts = [np.zeros_like(loud), loud]
    path = tmp_path / "clip.mp3"
    samples = np.concatenate(parts if quiet_first else parts[::-1])
    soundfile.write(path, samples, 16_000, bitrate_mode="VARIABLE", compression_level=0.5)
    content = path.read_bytes()
    second = content.index(b"\xff\xf3", content.index(b"Xing") + 8)
    path.write_bytes(content[second:])
    if quiet_first:
        assert abs(len(read_audio(path, 16_000)) - len(samples)) < 4_000
    else:
        with pytest.raises(AudioFileError, match="without a length"):
            read_audio(path, 16_000)


def test_bombs_stop_at_the_limit(tmp_path: Path) -> None:
    """A small file of hours of silence is read up to `max_seconds`."""
    path = _write(tmp_path / "bomb.flac", np.zeros(2_000_000), 1_000)
    assert path.stat().st_size < 20_000
    for read in (
        lambda seconds: read_audio(path, 16_000, max_seconds=seconds),
        lambda seconds: list(AudioFile(path, 16_000, seconds).blocks()),
    ):
        with pytest.raises(AudioFileError, match=r"bomb\.flac: holds more than 300 s.*max_seconds"):
            read(300)
    assert len(read_audio(path, 16_000, max_seconds=2_000)) == 32_000_000


@pytest.mark.parametrize(
    ("rate", "model_rate", "channels"),
    [(1_000, 1_000_000, 1), (2_000_000, 1_000, 1), (48_000, 16_000, 1024)],
)
def test_memory_follows_blocks(tmp_path: Path, rate: int, model_rate: int, channels: int) -> None:
    """No rate, ratio or number of channels makes a block large."""
    frames = min(2 * rate, 30_000_000 // channels)
    soundfile.write(tmp_path / "clip.wav", np.zeros((frames, channels), np.int16), rate)
    script = f"""
        import soxr
        from pathlib import Path
        from w2v_edge import AudioFile
        def peak():
            status = Path("/proc/self/status").read_text()
            return int(status.partition("VmHWM:")[2].split()[0])
        source = AudioFile(Path("clip.wav"), {model_rate})
        before = peak()
        print(sum(map(len, source.blocks())))
        grown = peak() - before
        assert grown < 64 * 1024, f"{{grown}} KiB"
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert abs(int(done.stdout) - frames * model_rate / rate) <= 1


def test_only_files_are_opened(tmp_path: Path) -> None:
    """A pipe is refused and not waited for; a device is not opened."""
    pipe = tmp_path / "pipe.wav"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(AudioFileError, match="found a folder, a pipe or a device; expected"):
            AudioFile(path, 16_000)


def test_numbers_are_checked_in_every_block(tmp_path: Path, clip: Floats) -> None:
    """A non-finite sample is refused with its position in the file."""
    spoilt = clip.copy()
    spoilt[1_234_567] = np.nan
    path = tmp_path / "clip.wav"
    soundfile.write(path, spoilt, 16_000, "FLOAT")
    with pytest.raises(AudioFileError, match="found nan at sample 1234567"):
        read_audio(path, 16_000)
    with pytest.raises(InputError, match="found nan at sample 1234567"):
        as_waveform(spoilt, None, 16_000)
    spoilt[1_234_567] = -np.inf
    with pytest.raises(InputError, match="found -inf at sample 1234567"):
        as_waveform(spoilt, None, 16_000)


def test_a_model_rate_must_be_one(tmp_path: Path, clip: Floats) -> None:
    """An invalid model rate is refused before reading."""
    path = _write(tmp_path / "clip.wav", clip[:16_000])
    for rate in (0, -1, 10**18):
        with pytest.raises(SampleRateError, match="expected a whole number of Hz"):
            read_audio(path, rate)

"""Audio files: formats give equal samples, and unreadable files are refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from w2v_edge.audio import find_audio, read_audio
from w2v_edge.errors import AudioFileError

Floats = npt.NDArray[np.float32]

# Format and encoding, and how far samples may be off after it.
LOSSLESS = {
    ("wav", "PCM_16"): 2**-15,
    ("wav", "PCM_24"): 2**-23,
    ("wav", "PCM_U8"): 2**-6,
    ("wav", "FLOAT"): 0,
    ("wav", "DOUBLE"): 0,
    ("flac", "PCM_16"): 2**-15,
    ("flac", "PCM_24"): 2**-23,
    ("aiff", "PCM_16"): 2**-15,
    ("au", "PCM_16"): 2**-15,
    ("caf", "PCM_24"): 2**-23,
    ("w64", "PCM_16"): 2**-15,
    ("rf64", "PCM_16"): 2**-15,
}


@pytest.fixture(scope="session")
def clip(speech: dict[str, Floats]) -> Floats:
    """Two seconds of speech."""
    return speech["es-demo-abouttotry"][8_000:40_000]


def test_lossless_formats(tmp_path: Path, clip: Floats) -> None:
    """Lossless formats give the written samples, within the encoding's step."""
    for (kind, encoding), step in LOSSLESS.items():
        path = tmp_path / f"clip.{kind}"
        soundfile.write(path, clip, 16_000, encoding)
        found = read_audio(path, 16_000)
        assert found.dtype == np.float32
        assert found.shape == clip.shape
        assert np.abs(found - clip).max() <= step


@pytest.mark.parametrize("kind", ["ogg", "mp3"])
def test_lossy_formats(tmp_path: Path, clip: Floats, kind: str) -> None:
    """Lossy formats give similar samples."""
    if kind.upper() not in soundfile.available_formats():
        pytest.skip(f"this libsndfile has no {kind}")
    path = tmp_path / f"clip.{kind}"
    soundfile.write(path, clip, 16_000)
    found = read_audio(path, 16_000)
    assert abs(len(found) - len(clip)) <= 2_304
    both = min(len(found), len(clip))
    assert np.corrcoef(found[:both], clip[:both])[0, 1] > 0.9


def test_channels_are_averaged(tmp_path: Path, clip: Floats) -> None:
    """Any number of channels is averaged, over files of many blocks."""
    long = np.resize(clip, 2**21 + 7)
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.stack([long, -long / 2], axis=1), 16_000, "FLOAT")
    np.testing.assert_allclose(read_audio(path, 16_000), long / 4, atol=1e-7)
    soundfile.write(path, np.stack([clip, clip, clip * 0, clip * 0], axis=1), 16_000, "FLOAT")
    np.testing.assert_allclose(read_audio(path, 16_000), clip / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    """A tone in a file of another rate is the same tone at the model's."""
    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate), rate, "FLOAT")
    found = read_audio(path, 16_000)
    assert abs(len(found) - 16_000) <= 1
    inner = slice(1_000, 15_000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-3)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "caf"])
@pytest.mark.parametrize("share", [0.3, 0.98])
def test_truncated_files(tmp_path: Path, clip: Floats, kind: str, share: float) -> None:
    """A file shorter than its header states is refused."""
    if kind.upper() not in soundfile.available_formats():
        pytest.skip(f"this libsndfile has no {kind}")
    path = tmp_path / f"clip.{kind}"
    soundfile.write(path, np.resize(clip, 160_000), 16_000)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(AudioFileError) as refused:
        read_audio(path, 16_000)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_wav_from_a_pipe(tmp_path: Path, clip: Floats) -> None:
    """A WAV header without a length is read to the end of the file."""
    path = tmp_path / "clip.wav"
    soundfile.write(path, clip, 16_000, "PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = content[4:8] = b"\xff" * 4
    path.write_bytes(content)
    assert len(read_audio(path, 16_000)) == len(clip)


def test_other_files_are_refused(tmp_path: Path) -> None:
    """Text, zeros and empty files are refused by name, with any suffix."""
    contents: list[bytes] = [b"", b"Dear diary,\nno audio today.\n" * 50, bytes(9_000)]
    names: list[str] = ["a.wav", "b.flac", "c.mp3", "d.ogg", "e", "f.raw", "g.txt"]
    for content in contents:
        for name in names:
            path = tmp_path / name
            path.write_bytes(content)
            with pytest.raises(AudioFileError) as refused:
                read_audio(path, 16_000)
            assert str(path) in str(refused.value)
            assert "\n" not in str(refused.value)


def test_headers_without_audio(tmp_path: Path, clip: Floats) -> None:
    """A header with no samples, or a part of one, is refused."""
    path = tmp_path / "clip.wav"
    soundfile.write(path, clip[:0], 16_000)
    with pytest.raises(AudioFileError, match=r"no samples"):
        read_audio(path, 16_000)
    soundfile.write(path, clip, 16_000)
    content = path.read_bytes()
    for size in (12, 30, 44):
        path.write_bytes(content[:size])
        with pytest.raises(AudioFileError, match=r"clip\.wav"):
            read_audio(path, 16_000)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    """A missing path and a folder are refused by name."""
    for path in (tmp_path / "missing.wav", tmp_path):
        with pytest.raises(AudioFileError, match=path.name):
            read_audio(path, 16_000)


def test_float_files_out_of_range(tmp_path: Path, clip: Floats) -> None:
    """Float files with NaN or unscaled integers are refused by name."""
    path = tmp_path / "clip.wav"
    spoilt = clip.copy()
    spoilt[17] = np.nan
    for samples, words in ((spoilt, "nan at sample 17"), (clip * 3e4, "32768")):
        soundfile.write(path, samples, 16_000, "FLOAT")
        with pytest.raises(AudioFileError, match=rf"clip\.wav.*{words}"):
            read_audio(path, 16_000)


def test_folders_are_searched(tmp_path: Path) -> None:
    """Folders are searched by suffix at any depth; a named file is always taken."""
    for name in ("b.wav", "a/c.FLAC", "a/notes.txt", "a/d.e/f.ogg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    found = [str(relative) for _, relative in find_audio([tmp_path])]
    assert found == ["a/c.FLAC", "a/d.e/f.ogg", "b.wav"]
    notes = tmp_path / "a/notes.txt"
    assert list(find_audio([notes])) == [(notes, Path("notes.txt"))]


def test_symbolic_links_are_followed_once(tmp_path: Path) -> None:
    """Links to folders are searched, cycles end, and each real file is found once."""
    corpus, elsewhere = tmp_path / "corpus", tmp_path / "elsewhere"
    for folder, name in ((corpus / "z", "a.wav"), (elsewhere / "deep", "b.wav")):
        folder.mkdir(parents=True)
        (folder / name).touch()
    (corpus / "a-link").symlink_to(elsewhere, target_is_directory=True)
    (corpus / "again").symlink_to(elsewhere / "deep", target_is_directory=True)
    (corpus / "z/up").symlink_to(corpus, target_is_directory=True)
    (corpus / "file.wav").symlink_to(corpus / "z/a.wav")
    (corpus / "gone.wav").symlink_to(tmp_path / "none.wav")
    (elsewhere / "all").symlink_to(tmp_path, target_is_directory=True)
    found = [str(relative) for _, relative in find_audio([corpus])]
    assert found == ["a-link/deep/b.wav", "z/a.wav"]

"""Audio files in folders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

AUDIO_SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .snd .sph .w64 .wav".split()
)


def find_audio(paths: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield (file, path relative to what was asked for) for files and for folders of them.

    In folders, files whose ending no reader knows are passed over; a file named outright is not.
    """
    for path in paths:
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES)
            yield from ((file, file.relative_to(path)) for file in files if file.is_file())
        else:
            yield path, Path(path.name)

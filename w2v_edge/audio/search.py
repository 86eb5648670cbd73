"""Search for audio files in folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

AUDIO_SUFFIXES = frozenset(
    ".aif .aifc .aiff .au .caf .flac .mp3 .oga .ogg .opus .rf64 .snd .sph .w64 .wav".split()
)

OTHER_MEDIA = frozenset(".3gp .aac .amr .avi .m4a .m4b .mka .mkv .mov .mp4 .ogv .webm .wma".split())
"""Suffixes of files that may hold speech, and that libsndfile does not read."""


def find_other_media(paths: Iterable[Path]) -> list[Path]:
    """Return the files in folders that may hold speech, and that `find_audio` skips."""
    return [
        Path(root, name)
        for path in paths
        for root, _, files in os.walk(path)
        for name in sorted(files)
        if Path(name).suffix.lower() in OTHER_MEDIA
    ]


def find_audio(paths: list[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield (file, path relative to the argument) for files and folders.

    In folders, files with other suffixes than `AUDIO_SUFFIXES` are skipped. Symbolic links are
    followed; each real file and folder counts once, under its own path where it has one.
    """
    for path in paths:
        if path.is_dir():
            yield from ((file, file.relative_to(path)) for file in _search(path))
        else:
            yield path, Path(path.name)


def _search(folder: Path) -> list[Path]:
    """Return the audio files below a folder, sorted; links are followed after real folders."""
    found: dict[str, Path] = {}
    seen: set[str] = set()
    folders, linked_files = [folder], []
    for start in folders:
        for root, names, files in os.walk(start):
            here = os.path.realpath(root)
            if here in seen:
                names.clear()
                continue
            seen.add(here)
            names.sort()
            # The walk itself does not follow links; more are found in the folders they lead to.
            inner = [Path(root, name) for name in names]
            folders += [path for path in inner if path.is_symlink()]
            for name in sorted(files):
                file = Path(root, name)
                if file.suffix.lower() in AUDIO_SUFFIXES and file.is_file():
                    if file.is_symlink():
                        linked_files.append(file)
                    else:
                        found.setdefault(os.path.realpath(file), file)
    for file in linked_files:
        found.setdefault(os.path.realpath(file), file)
    return sorted(found.values())

"""The header of a WAV file on a pipe, where raw PCM is usual: `arecord` writes one by default."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

from w2v_edge.audio.header import MOST_CHUNKS, UNSET_RIFF
from w2v_edge.errors import InputError

Read = Callable[[int], bytes]
"""Reads at most so many bytes, and none at the end."""

PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
"""Formats of samples in WAV files; the third is followed by another."""

LARGEST_CHUNK = 2**20
"""Most bytes of a chunk before the samples."""

OTHERS = {
    b"RIFX": "a big-endian WAV",
    b"RF64": "an RF64",
    b"riff": "a W64",
    b"fLaC": "a FLAC",
    b"OggS": "an Ogg",
    b"FORM": "an AIFF",
    b"caff": "a CAF",
    b".snd": "an AU",
    b"ID3\x02": "an MP3",
    b"ID3\x03": "an MP3",
    b"ID3\x04": "an MP3",
    b"\x1a\x45\xdf\xa3": "a Matroska",
    b"\x30\x26\xb2\x75": "an ASF",
    b"#!AM": "an AMR",
}
"""Formats by their first four bytes, which are no samples of speech."""


@dataclass(frozen=True)
class PipedWav:
    """What a WAV header states.

    Attributes:
        rate: sample rate in Hz.
        channels: number of channels.
        encoding: of the samples, as ffmpeg calls it, such as `s16le`.
        size: bytes of samples; None if the writer did not know it.
    """

    rate: int
    channels: int
    encoding: str
    size: int | None


def read_header(read: Read) -> tuple[PipedWav | None, bytes]:
    """Read the header at the beginning of a pipe.

    Returns:
        The header, None for raw samples; and bytes of samples that were read.

    Raises:
        InputError: the pipe holds audio in another format, or a damaged header.
    """
    head = _read_all(read, 12)
    name = OTHERS.get(head[:4]) or ("an MP4" if head[4:8] == b"ftyp" else None)
    if name is not None:
        raise InputError(
            f"found {name} file on standard input, expected raw PCM; name the file, or decode it: "
            "ffmpeg -i FILE -f s16le -ac 1 -ar 16000 -"
        )
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return None, head
    kind = None
    for _ in range(MOST_CHUNKS):
        name_of, size = _read_all(read, 4), int.from_bytes(_read_all(read, 4), "little")
        if name_of == b"data" and kind is not None:
            rate, channels, encoding = kind
            # Writers that do not know the length state none of the file either.
            known = 0 < max(size, int.from_bytes(head[4:8], "little")) < UNSET_RIFF
            return PipedWav(rate, channels, encoding, size if known else None), b""
        if len(name_of) < 4 or size > LARGEST_CHUNK or name_of == b"data":  # noqa: PLR2004
            break
        content = _read_all(read, size + size % 2)
        if name_of == b"fmt ":
            kind = _format(content)
    raise InputError("found a damaged WAV header on standard input; check where it comes from")


def _read_all(read: Read, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end."""
    found = io.BytesIO()
    while size > found.tell() and (data := read(size - found.tell())):
        found.write(data)
    return found.getvalue()


def _format(content: bytes) -> tuple[int, int, str] | None:
    """Return sample rate, channels and encoding of a chunk `fmt `."""
    if len(content) < 16:  # noqa: PLR2004 - the shortest one
        return None
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
    if tag == EXTENSIBLE and len(content) >= 26:  # noqa: PLR2004 - up to the format's number
        (tag,) = struct.unpack("<H", content[24:26])
    letter = {PCM: "u" if bits == 8 else "s", FLOAT: "f"}.get(tag)  # noqa: PLR2004
    return rate, channels, f"format {tag}" if letter is None else f"{letter}{bits}le"

"""Detects truncated audio files by the length in their headers, which libsndfile does not check.

Only headers are read: a few bytes per chunk, whatever lengths they state.
"""

from __future__ import annotations

import os
from io import BytesIO, FileIO
from typing import NamedTuple

from w2v_edge.errors import InputError

MOST_CHUNKS = 10_000
"""Maximum number of chunks to walk over; no recorder writes as many before its audio."""

LARGEST_OGG_PAGE = 27 + 255 + 255 * 255

UNSET_RIFF = 0x7FFFF000
UNSET_AIFF = 0x7F000000
UNSET_AU = 0xFFFFFFFF
UNSET_64 = 2**62
"""Lengths in bytes: writers to a pipe state at least this, or 0, for an unknown length."""

TRUNCATED = "truncated, its header states more audio than the file holds; copy it again"


def check_complete(stream: FileIO | BytesIO) -> None:
    """Check that an open file has as many bytes as its header states.

    Raises:
        InputError: the file is truncated.
    """
    size = stream.seek(0, os.SEEK_END)
    end = stated_end(stream, size)
    if end is not None and end > size:
        raise InputError(TRUNCATED)


def stated_end(stream: FileIO | BytesIO, size: int) -> int | None:
    """Return the offset at which the audio of a file should end; None if unknown.

    Args:
        stream: the open file.
        size: its size in bytes.
    """
    stream.seek(0)
    head = stream.read(64)
    magic = head[:4]
    if magic in (b".snd", b"dns."):
        return _of_au(head)
    if magic == b"OggS":
        return _of_ogg(stream, size)
    if head.startswith(b"NIST_1A"):
        stream.seek(0)
        return _of_sphere(stream.read(1024))
    layout = _LAYOUTS.get(magic)
    return None if layout is None else _of_chunks(stream, layout)


def states_mp3_length(stream: FileIO | BytesIO) -> bool:
    """Return whether an MP3 file states its number of frames; else its length is an estimate."""
    stream.seek(0)
    head = stream.read(10)
    if head[:3] == b"ID3" and len(head) == 10:  # noqa: PLR2004
        length = 0
        for byte in head[6:]:
            length = length << 7 | byte & 0x7F
        stream.seek(10 + length)
        head = b""
    head += stream.read(4096)
    return any(name in head for name in (b"Xing", b"Info", b"VBRI"))


class _Layout(NamedTuple):
    """Layout of a file of chunks, each with a name, a length and data.

    Attributes:
        start: offset of the first chunk.
        name, length: sizes of these fields, in bytes.
        byteorder: byte order of lengths.
        align: alignment of chunks, in bytes.
        inclusive: whether a length includes the name and length fields.
        audio: names of the chunk with samples.
        unset: 0 and lengths from here up mean an unknown length.
    """

    start: int
    name: int
    length: int
    byteorder: str
    align: int
    inclusive: bool
    audio: tuple[bytes, ...]
    unset: int


_LAYOUTS = {
    b"RIFF": _Layout(12, 4, 4, "little", 2, False, (b"data",), UNSET_RIFF),
    b"RIFX": _Layout(12, 4, 4, "big", 2, False, (b"data",), UNSET_RIFF),
    b"RF64": _Layout(12, 4, 4, "little", 2, False, (b"data",), UNSET_RIFF),
    b"FORM": _Layout(12, 4, 4, "big", 2, False, (b"SSND", b"BODY"), UNSET_AIFF),
    b"riff": _Layout(40, 16, 8, "little", 8, True, (b"data",), UNSET_64),
    b"caff": _Layout(8, 4, 8, "big", 1, False, (b"data",), UNSET_64),
}


def _of_chunks(stream: FileIO | BytesIO, layout: _Layout) -> int | None:
    long_length = 0
    at = layout.start
    for _ in range(MOST_CHUNKS):
        stream.seek(at)
        head = stream.read(layout.name + layout.length)
        if len(head) < layout.name + layout.length:
            return None
        length = _integer(head[layout.name :], layout)
        inside = at + len(head)
        end = at + length if layout.inclusive else inside + length
        if head[:4] == b"ds64":
            # RF64: 64-bit lengths of the file and of the audio.
            long_length = _integer(stream.read(16)[8:], layout)
        if head[:4] in layout.audio:
            if length == UNSET_AU and long_length:
                return inside + long_length if long_length < UNSET_64 else None
            return end if 0 < length < layout.unset else None
        at = max(inside, end)
        at += -at % layout.align
        if at >= UNSET_64:
            return None
    return None


def _integer(data: bytes, layout: _Layout) -> int:
    return int.from_bytes(data, "little" if layout.byteorder == "little" else "big")


def _of_au(head: bytes) -> int | None:
    offset, length = (
        int.from_bytes(head[i : i + 4], "big" if head[:1] == b"." else "little") for i in (4, 8)
    )
    return offset + length if 0 < length < UNSET_AU else None


def _of_sphere(head: bytes) -> int | None:
    """Return the end of a NIST SPHERE file; its header has lines of name, type and value."""
    lines = [line.split() for line in head.split(b"\n")]
    stated = {x[0]: x[2] for x in lines if len(x) == 3 and x[1] == b"-i"}  # noqa: PLR2004
    sizes = [
        stated.get(name, b"") for name in (b"sample_count", b"sample_n_bytes", b"channel_count")
    ]
    if not all(size.isdigit() and len(size) < 20 for size in sizes):  # noqa: PLR2004
        return None
    count, width, channels = map(int, sizes)
    start = lines[1][0] if len(lines) > 1 and lines[1] else b""
    return int(start) + count * width * channels if start.isdigit() and count else None


def _of_ogg(stream: FileIO | BytesIO, size: int) -> int | None:
    """Return the end of the last page of an Ogg file; Ogg states lengths per page only."""
    stream.seek(max(0, size - 2 * LARGEST_OGG_PAGE))
    tail = stream.read(2 * LARGEST_OGG_PAGE)
    at = tail.rfind(b"OggS")
    if at < 0:
        return None
    page = BytesIO(tail[at:])
    head = page.read(27)
    segments = page.read(head[26]) if len(head) == 27 else b""  # noqa: PLR2004
    if len(head) < 27 or len(segments) < head[26]:  # noqa: PLR2004
        return size + 1
    return size - len(tail) + at + page.tell() + sum(segments)

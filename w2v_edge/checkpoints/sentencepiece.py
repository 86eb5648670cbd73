"""Pieces of a SentencePiece vocabulary, from a list in `tokens.txt` or the `.model` file itself.

The file is a protocol buffer, `ModelProto` of SentencePiece's `sentencepiece_model.proto`: field 1
repeats a message with the piece (1), its score (2) and its type (3). All else is skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from w2v_edge.errors import CheckpointError

TOKENS = "tokens.txt"
MAX_BYTES = 64 * 2**20

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
"""Types of pieces."""

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
"""Wire types of protocol buffers."""

SIZES = {FIXED64: 8, FIXED32: 4}
"""Bytes of values that state no size."""

MARKUP = re.compile(r"<[^<>]+>")
"""Names of pieces that are no text, where a file does not state types."""


@dataclass(frozen=True)
class Pieces:
    """A vocabulary.

    Attributes:
        file: name of the file that it was read from.
        labels: the pieces in order of their indices.
        special: pieces that stand for no text, such as `<s>`.
    """

    file: str
    labels: tuple[str, ...]
    special: tuple[str, ...]


def find_pieces(folder: Path) -> Pieces | None:
    """Read `tokens.txt` of a folder, or else its only `.model` file; None if it has neither.

    Raises:
        CheckpointError: the file is damaged, or there are several.
    """
    if (folder / TOKENS).is_file():
        return read_tokens(folder / TOKENS)
    models = sorted(folder.glob("*.model"))
    if len(models) > 1:
        names = ", ".join(x.name for x in models[:4])
        raise CheckpointError(
            f"{folder}: expected {TOKENS} or one SentencePiece model, found {names}; keep the one "
            "of this checkpoint"
        )
    return read_model(models[0]) if models else None


def read_tokens(path: Path) -> Pieces:
    """Read a list of pieces, one in a line, each with its index behind it or none.

    Raises:
        CheckpointError: it is not text in UTF-8, or some lines have an index that is not theirs.
    """
    try:
        lines = _read(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: expected text in UTF-8") from error
    lines = [line.removesuffix("\r") for line in lines]
    lines = lines[:-1] if lines[-1] == "" else lines
    labels = _numbered(path, lines) or lines
    for i, label in enumerate(labels):
        if not label or (" " in label and label != " "):
            raise CheckpointError(f"{path}: line {i + 1}: expected a piece, found {label!r:.40}")
    return Pieces(path.name, tuple(labels), tuple(x for x in labels if MARKUP.fullmatch(x)))


def _numbered(path: Path, lines: list[str]) -> list[str] | None:
    """Return the pieces of lines `PIECE INDEX` in the order of their indices, if all are so."""
    found: dict[int, str] = {}
    for line in lines:
        # A piece that is a space leaves its index alone in the line, or behind two spaces.
        piece, _, number = line.replace("\t", " ").rpartition(" ")
        if not number.isdecimal():
            return None
        found[int(number)] = piece or " "
    if found.keys() != set(range(len(lines))):
        raise CheckpointError(f"{path}: expected each index from 0 to {len(lines) - 1} once")
    return [found[i] for i in range(len(lines))]


def read_model(path: Path) -> Pieces:
    """Read the pieces of a SentencePiece model.

    Raises:
        CheckpointError: it is damaged, not a SentencePiece model, or falls back to bytes.
    """
    try:
        messages = [x for number, x in _fields(_read(path)) if number == 1]
        pieces = [_piece(message) for message in messages]
    except (LookupError, TypeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: damaged, or not a SentencePiece model") from error
    if not pieces:
        raise CheckpointError(f"{path}: expected a SentencePiece model, found no pieces")
    if any(kind == BYTE for _, kind in pieces):
        raise CheckpointError(
            f"{path}: found a vocabulary that falls back to bytes, which is not supported; export "
            "without labels: --no-labels"
        )
    special = (piece for piece, kind in pieces if kind in {UNKNOWN, CONTROL})
    return Pieces(path.name, tuple(piece for piece, _ in pieces), tuple(special))


def _piece(message: int | bytes) -> tuple[str, int]:
    """Return the text and the type of a piece."""
    fields = dict(_fields(_bytes(message)))
    kind = fields.get(3, NORMAL)
    return _bytes(fields[1]).decode("utf-8"), kind if isinstance(kind, int) else NORMAL


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError
    return value


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise CheckpointError(f"{path}: larger than {MAX_BYTES} bytes, not a vocabulary")
    return path.read_bytes()


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the number and value of each field of a message.

    Raises:
        LookupError: the message is cut off, or has a wire type that no model has.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        value: int | bytes
        if wire == VARINT:
            value, at = _varint(data, at)
        else:
            size, at = _varint(data, at) if wire == DELIMITED else (SIZES[wire], at)
            value, at = data[at : at + size], at + size
        if at > len(data):
            raise IndexError
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return an integer, and where the next value begins."""
    value = 0
    for shift in range(0, 70, 7):
        value |= (data[at + shift // 7] & 0x7F) << shift
        if data[at + shift // 7] < 0x80:  # noqa: PLR2004 - the highest bit says that more follows
            return value, at + shift // 7 + 1
    raise IndexError

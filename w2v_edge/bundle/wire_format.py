"""Protocol buffers on the wire: the fields of a message, parsed strictly and without a copy.

Bytes that parsers may interpret differently are an error.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

LONGEST_VARINT = 10
MOST_KEY = 2**32

Field = tuple[int, int, int | memoryview]
"""Field number, wire type, and value: an integer, or the bytes of any other type."""


class WireError(ValueError):
    """The bytes are not a valid message."""


def fields(message: memoryview) -> Iterator[Field]:
    """Yield the fields of a message in order.

    Raises:
        WireError: the message is truncated, or has a wire type that is invalid or deprecated.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if number == 0 or key >= MOST_KEY:
            raise WireError(f"field key {key}")
        if kind == VARINT:
            value, at = _varint(message, at)
            yield number, kind, value
            continue
        if kind == BYTES:
            length, at = _varint(message, at)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise WireError(f"wire type {kind}")
        if length > len(message) - at:
            raise WireError(f"{length} bytes expected, found {len(message) - at}")
        yield number, kind, message[at : at + length]
        at += length


def varints(packed: memoryview) -> Iterator[int]:
    """Yield the integers of a packed field.

    Raises:
        WireError: the last one is truncated.
    """
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Return an unsigned integer of up to 64 bits, and the offset of its end."""
    if at < len(message) and message[at] < 0x80:  # noqa: PLR2004 - most are one byte
        return message[at], at + 1
    value = 0
    for i in range(LONGEST_VARINT):
        if at + i >= len(message):
            raise WireError("an integer is truncated")
        byte = message[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:  # noqa: PLR2004 - no further byte
            break
    else:
        raise WireError("an integer of more than 64 bits")
    if value >= 2**64:
        raise WireError("an integer of more than 64 bits")
    return value, at + i + 1

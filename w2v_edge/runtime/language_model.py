"""The words of a KenLM language model, and how a model's labels spell them."""

from __future__ import annotations

import gzip
import mmap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from w2v_edge.errors import InputError

BINARY_MAGIC = b"mmap lm http://kheafield.com/code"
GZIP_MAGIC = b"\x1f\x8b"

FIRST_WORD = b"<unk>\0"
"""A binary with its vocabulary ends in its words, each before a zero byte; this one is first."""

MARKS = frozenset({"<s>", "</s>", "<unk>"})

Case = Callable[[str], str]


def read_vocabulary(path: Path) -> list[str] | None:
    """Read the words of an `.arpa` (gzip or plain) or KenLM binary file.

    Returns:
        The words, or None for a binary that was made without them.

    Raises:
        InputError: no file there, or neither of these.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(len(BINARY_MAGIC))
        words = _of_binary(path) if head == BINARY_MAGIC else _of_arpa(path, head)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a language model ({error!s:.80})") from error
    if words == []:
        raise InputError(
            f"{path}: found no words, expected a language model that KenLM reads, .arpa or .bin"
        )
    return words


def choose_case(texts: Sequence[str], words: Iterable[str]) -> Case | None:
    """Choose how to change the case of labels so that they spell the most words.

    Returns:
        `str`, which changes nothing, `str.lower` or `str.upper`; None if no word can be spelled.
    """
    letters = [frozenset(word) for word in words]
    best: Case | None = None
    most = 0
    for case in (str, str.lower, str.upper):
        changed = [case(text) for text in texts]
        spelled = sum(word <= set("".join(changed)) for word in letters)
        if spelled > most and len(set(changed)) == len(texts):
            best, most = case, spelled
    return best


def _of_binary(path: Path) -> list[str] | None:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.rfind(FIRST_WORD)
        if start < 0:
            return None
        words = data[start:].rstrip(b"\0").decode("utf-8", "replace").split("\0")
    return [word for word in words if word not in MARKS]


def _of_arpa(path: Path, head: bytes) -> list[str]:
    """Read the lines `log-probability word [backoff]` of the section of single words."""
    opener = gzip.open if head.startswith(GZIP_MAGIC) else open
    words = []
    with opener(path, "rt", encoding="utf-8", errors="replace") as lines:
        inside = False
        for line in lines:
            fields = line.split()
            if line.startswith("\\"):
                if inside:
                    break
                inside = fields == ["\\1-grams:"]
            elif inside and len(fields) > 1 and fields[1] not in MARKS:
                words.append(fields[1])
    return words

"""One SHA-256 for a source of one file or several."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path


def source_hash(files: Sequence[Path]) -> str:
    """Return the SHA-256 of a file; of several, that of lines of their hashes and names."""
    if len(files) == 1:
        return _sha256(files[0])
    lines = sorted(f"{_sha256(path)}  {path.name}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

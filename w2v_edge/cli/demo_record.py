"""The record of what `w2v-edge demo` wrote: a later run may replace it, and nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from w2v_edge.bundle.files import file_info
from w2v_edge.files import check_absent, replacing

NAME = "demo.json"


class DemoRecord:
    """SHA-256 of each output in the demo's folder, of a bundle that of all its files."""

    def __init__(self, folder: Path, *, force: bool) -> None:
        """Read the record of earlier runs, if there is one.

        Args:
            folder: output of the demo; it need not exist.
            force: replace a file of the record's name that is none.

        Raises:
            OutputExistsError: there is such a file.
        """
        self._folder = folder
        self._hashes: dict[str, str] = {}
        try:
            found = json.loads((folder / NAME).read_text(encoding="utf-8"))
            self._hashes = {str(name): str(value) for name, value in found["outputs"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            check_absent(folder / NAME, force=force)

    def check(self, path: Path, *, force: bool) -> None:
        """Check that an output does not exist, is as an earlier run wrote it, or may be replaced.

        Raises:
            OutputExistsError: it is none of these.
        """
        recorded = self._hashes.get(path.name)
        check_absent(path, force=force or (recorded is not None and recorded == _hash(path)))

    def add(self, path: Path) -> None:
        """Record an output that was just written."""
        if (found := _hash(path)) is not None:
            self._hashes[path.name] = found
        with replacing(self._folder / NAME) as temporary:
            text = json.dumps({"outputs": self._hashes}, indent=2, sort_keys=True)
            temporary.write_text(text + "\n", encoding="utf-8")


def _hash(path: Path) -> str | None:
    """Return the hash of an output; None if there is nothing to hash."""
    if not path.is_dir():
        return file_info(path).sha256 if path.is_file() else None
    files = sorted(x for x in path.rglob("*") if x.is_file())
    lines = [f"{file_info(x).sha256} {x.relative_to(path)}" for x in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()

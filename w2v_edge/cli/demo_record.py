"""The record of what `w2v-edge demo` wrote: a later run may replace it, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

from w2v_edge.bundle.files import file_info
from w2v_edge.bundle.manifest import MANIFEST
from w2v_edge.files import check_absent, replacing

NAME = "demo.json"


class DemoRecord:
    """SHA-256 of each output in the demo's folder; of a bundle that of its manifest."""

    def __init__(self, folder: Path) -> None:
        """Read the record of earlier runs, if there is one.

        Args:
            folder: output of the demo; it need not exist.
        """
        self._folder = folder
        self._hashes: dict[str, str] = {}
        try:
            found = json.loads((folder / NAME).read_text(encoding="utf-8"))
            self._hashes = {str(name): str(value) for name, value in found["outputs"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            # Nothing is taken for the demo's without a record that can be read.
            return

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
    path = path / MANIFEST if path.is_dir() else path
    return file_info(path).sha256 if path.is_file() else None

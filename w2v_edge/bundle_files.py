"""A bundle on disk, whose files are what its manifest says they are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from w2v_edge.bundle import FileInfo, Manifest, read_manifest
from w2v_edge.errors import BundleIntegrityError, GraphMissingError


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk. Files are hashed when first asked for, each once."""

    folder: Path
    manifest: Manifest
    _checked: set[str] = field(default_factory=set, repr=False, compare=False)

    @classmethod
    def open(cls, folder: str | Path) -> Bundle:
        """Open a bundle; only its manifest is read and checked.

        Raises:
            BundleError: see `read_manifest`.
        """
        return cls(Path(folder), read_manifest(Path(folder)))

    def graph_path(self, name: str) -> Path:
        """Return the path of a graph, it and its data files being what the manifest says.

        Raises:
            GraphMissingError: this model has no such graph.
            BundleIntegrityError: a file is missing or damaged.
        """
        self.check_data(name)
        return self.path(f"{name}.onnx")

    def check_data(self, name: str) -> None:
        """Hash the data files of a graph.

        Raises:
            GraphMissingError: this model has no such graph.
            BundleIntegrityError: a data file is missing or damaged.
        """
        if name not in self.manifest.graphs:
            have = ", ".join(self.manifest.graphs)
            raise GraphMissingError(f"{self.folder}: no graph {name!r}; this bundle has: {have}")
        for data in self.manifest.graphs[name].data:
            self.path(data)

    def path(self, name: str) -> Path:
        """Return the path of a file that is what the manifest says.

        Raises:
            BundleIntegrityError: it is missing, damaged or not in the manifest.
        """
        path = self.folder / name
        if name not in self._checked:
            expected = self.manifest.files.get(name)
            if expected is None:
                raise BundleIntegrityError(f"{path}: not in the manifest; export again")
            _check(path, expected)
            self._checked.add(name)
        return path

    def check_all(self) -> None:
        """Hash every file of the manifest again.

        Raises:
            BundleIntegrityError: a file is missing or damaged.
        """
        for name, expected in self.manifest.files.items():
            _check(self.folder / name, expected)
            self._checked.add(name)


def file_info(path: Path) -> FileInfo:
    """Measure a file."""
    with path.open("rb") as stream:
        return FileInfo(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def _check(path: Path, expected: FileInfo) -> None:
    if not path.is_file():
        raise BundleIntegrityError(f"{path}: missing; copy the whole bundle or export again")
    size = path.stat().st_size
    if size != expected.size:
        raise BundleIntegrityError(
            f"{path}: damaged, {size} bytes where the manifest says {expected.size}; "
            "copy it again or export again"
        )
    if file_info(path).sha256 != expected.sha256:
        raise BundleIntegrityError(
            f"{path}: damaged or changed, its SHA-256 is not the manifest's; "
            "copy it again or export again"
        )

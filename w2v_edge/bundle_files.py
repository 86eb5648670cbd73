"""A bundle on disk, whose files are what its manifest says they are.

Hashes tell damage, not intent: whoever makes a bundle writes its manifest too. So nothing outside
the bundle's folder is read on its behalf, and nothing is opened that is no file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from w2v_edge.bundle import FileInfo, Manifest, read_manifest, refuse_outside
from w2v_edge.errors import BundleIntegrityError, GraphMissingError
from w2v_edge.files import open_regular
from w2v_edge.graph_file import MOST_GRAPH_BYTES, check_graph


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

        A graph reads no data but its own, whose hashes are left to `check_data`.

        Raises:
            BundleIntegrityError: it is missing, damaged, outside the folder or not in the
                manifest, or a graph that would read or claim what it has no business with.
        """
        path = self.folder / name
        if name not in self._checked:
            _check(path, self._expected(name))
            if path.suffix == ".onnx":
                self._check_graph(path)
            self._checked.add(name)
        return path

    def check_all(self) -> None:
        """Hash every file of the manifest again.

        Raises:
            BundleIntegrityError: a file is missing or damaged.
        """
        self._checked.clear()
        for name in self.manifest.files:
            self.path(name)

    def _check_graph(self, path: Path) -> None:
        """Read what a graph would do, before onnxruntime does it."""
        info = self.manifest.graphs.get(path.stem)
        if info is None:
            raise BundleIntegrityError(f"{path}: the manifest has no such graph; export again")
        sizes = {name: self._expected(name).size for name in info.data}
        for name in info.data:
            _check_size(self.folder / name, self._expected(name))
        with open_regular(path) as stream:
            data = stream.read(MOST_GRAPH_BYTES + 1)
        try:
            check_graph(data, info, sizes)
        except BundleIntegrityError as error:
            raise BundleIntegrityError(f"{path}: {error}; do not use this bundle") from error

    def _expected(self, name: str) -> FileInfo:
        try:
            return self.manifest.files[name]
        except KeyError:
            raise BundleIntegrityError(
                f"{self.folder / name}: not in the manifest; export again"
            ) from None


def file_info(path: Path) -> FileInfo:
    """Measure a file."""
    with open_regular(path) as stream:
        return FileInfo(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def _check(path: Path, expected: FileInfo) -> None:
    _check_size(path, expected)
    if file_info(path).sha256 != expected.sha256:
        raise BundleIntegrityError(
            f"{path}: damaged or changed, its SHA-256 is not the manifest's; "
            "copy it again or export again"
        )


def _check_size(path: Path, expected: FileInfo) -> None:
    """Check what needs no look into a file."""
    refuse_outside(path)
    if not path.is_file():
        raise BundleIntegrityError(f"{path}: missing; copy the whole bundle or export again")
    size = path.stat().st_size
    if size != expected.size:
        raise BundleIntegrityError(
            f"{path}: damaged, {size} bytes where the manifest says {expected.size}; "
            "copy it again or export again"
        )

"""A bundle on disk: its manifest, and files whose hashes are checked before use.

Hashes detect damage, not intent: the author of a bundle also writes its manifest. So no file
outside the bundle's folder is read, and only regular files are opened.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from w2v_edge import strict
from w2v_edge.bundle.graph_check import MAX_GRAPH_BYTES, check_graph
from w2v_edge.bundle.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    FileInfo,
    Manifest,
    canonical,
    content_hash,
    encode,
    is_bundle_file,
)
from w2v_edge.bundle.shapes import FixedShape, file_stem
from w2v_edge.errors import (
    BundleError,
    BundleIntegrityError,
    BundleVersionError,
    ConfigError,
    GraphMissingError,
)
from w2v_edge.files import open_regular

MAX_MANIFEST_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk; each file is hashed once, on first use.

    Attributes:
        folder: the bundle's folder.
        manifest: contents of its `manifest.json`.
    """

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

    @property
    def opened(self) -> frozenset[str]:
        """Names of the files that were opened so far."""
        return frozenset((MANIFEST, *self._checked))

    @property
    def size(self) -> int:
        """Size of the bundle in bytes: the manifest, and the files that it names."""
        return (self.folder / MANIFEST).stat().st_size + sum(
            file.size for file in self.manifest.files.values()
        )

    def graph_path(self, name: str, shape: FixedShape | None = None) -> Path:
        """Return the path of a graph, after checking it and its data files.

        Args:
            name: of the graph.
            shape: of a bundle with fixed shapes; None for open axes.

        Raises:
            GraphMissingError: the model has no such graph.
            BundleIntegrityError: a file is missing or damaged.
        """
        self.check_data(name)
        return self.path(f"{file_stem(name, shape)}.onnx")

    def check_data(self, name: str) -> None:
        """Hash the data files of a graph.

        Raises:
            GraphMissingError: the model has no such graph.
            BundleIntegrityError: a data file is missing or damaged.
        """
        if name not in self.manifest.graphs:
            have = ", ".join(self.manifest.graphs)
            raise GraphMissingError(f"{self.folder}: no graph {name!r}; this bundle has: {have}")
        for data in self.manifest.graphs[name].data:
            self.path(data)

    def path(self, name: str) -> Path:
        """Return the path of a file, after checking it against the manifest.

        The data files of a graph are not hashed; see `check_data`.

        Raises:
            BundleIntegrityError: the file is missing, damaged, outside the folder or not in the
                manifest, or it is a graph that reads other files than its data files.
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
        """Check which files a graph reads and what it allocates, before onnxruntime opens it."""
        graph = self.manifest.graph_files.get(path.stem)
        if graph is None:
            raise BundleIntegrityError(f"{path}: the manifest has no such graph; export again")
        info = self.manifest.graphs[graph]
        sizes = {name: self._expected(name).size for name in info.data}
        for name in info.data:
            _check_size(self.folder / name, self._expected(name))
        with open_regular(path) as stream:
            data = stream.read(MAX_GRAPH_BYTES + 1)
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


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json`.

    Raises:
        BundleVersionError: the format is newer than this release.
        BundleIntegrityError: the manifest is damaged or was edited.
        BundleError: the folder is not a bundle.
    """
    path = folder / MANIFEST
    if not path.is_file():
        found = "is not a folder" if folder.exists() else "does not exist"
        what = f"has no {MANIFEST}" if folder.is_dir() else found
        raise BundleError(f"{folder}: expected a bundle, but it {what}; make one: w2v-edge export")
    data, text = _parse(path)
    version = data.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise BundleIntegrityError(f"{path}: damaged, format version is {version!r:.40}")
    if version > FORMAT_VERSION:
        raise BundleVersionError(
            f"{path}: format version {version}, this release reads up to {FORMAT_VERSION}; "
            "update w2v-edge"
        )
    if data.get("sha256") != content_hash(data) or text != encode(canonical(data)):
        raise BundleIntegrityError(
            f"{path}: damaged or edited, its content does not have the SHA-256 it states; "
            "export again"
        )
    try:
        manifest = strict.from_plain(Manifest, data)
    except ConfigError as error:
        raise BundleIntegrityError(f"{path}: {error}") from error
    unknown = [x for x in manifest.files if x == MANIFEST or not is_bundle_file(x)]
    if unknown:
        raise BundleIntegrityError(f"{path}: names a file no bundle has: {min(unknown)!r:.80}")
    return manifest


def _check_inside(path: Path) -> None:
    """Check that a file of a bundle is not a link out of its folder.

    The folder itself may be a link.

    Raises:
        BundleIntegrityError: the file is not in its folder.
    """
    try:
        real, folder = path.resolve(), path.parent.resolve()
    except (OSError, RuntimeError) as error:
        raise BundleIntegrityError(f"{path}: a dangling link; copy the whole bundle") from error
    if real.parent != folder:
        raise BundleIntegrityError(
            f"{path}: a link out of the bundle's folder, which is not allowed; "
            "copy the bundle with the targets of its links (cp -rL), or download it from the Hub "
            "into a folder of its own: hf download NAME --local-dir FOLDER"
        )


def _parse(path: Path) -> tuple[dict[str, Any], bytes]:
    """Read a manifest; return it with its bytes."""
    _check_inside(path)
    try:
        with open_regular(path) as stream:
            text = stream.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(text) > MAX_MANIFEST_BYTES:
        raise BundleIntegrityError(
            f"{path}: larger than {MAX_MANIFEST_BYTES} bytes, not a manifest"
        )
    try:
        data = json.loads(text)
        canonical(data)
    except (ValueError, RecursionError) as error:
        raise BundleIntegrityError(f"{path}: damaged, not JSON ({error!s:.80})") from error
    if not isinstance(data, dict):
        raise BundleIntegrityError(f"{path}: damaged, expected a JSON object")
    return data, text


def file_info(path: Path) -> FileInfo:
    """Return the size and hash of a file."""
    with open_regular(path) as stream:
        return FileInfo(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def _check(path: Path, expected: FileInfo) -> None:
    _check_size(path, expected)
    if file_info(path).sha256 != expected.sha256:
        raise BundleIntegrityError(
            f"{path}: damaged or changed, its SHA-256 differs from the manifest; "
            "copy it again or export again"
        )


def _check_size(path: Path, expected: FileInfo) -> None:
    """Check the location and the size of a file."""
    _check_inside(path)
    if not path.is_file():
        raise BundleIntegrityError(f"{path}: missing; copy the whole bundle or export again")
    size = path.stat().st_size
    if size != expected.size:
        raise BundleIntegrityError(
            f"{path}: damaged, found {size} bytes, expected {expected.size}; "
            "copy it again or export again"
        )

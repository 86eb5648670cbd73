"""Search of a corpus for recordings whose embeddings are alike.

The index is the column `embedding` of the shards that `encode_corpus` wrote. It is read in blocks,
so that memory stays flat; nothing is built beside it.
"""

from __future__ import annotations

import heapq
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ArrowException, fs

from w2v_edge.bundle import Manifest
from w2v_edge.corpus.job import RECORD, JobRecord, read_record
from w2v_edge.corpus.storage import Folder, is_uri, resolve
from w2v_edge.corpus.table import EMBEDDING, METADATA
from w2v_edge.errors import IndexMismatchError, InputError, one_line
from w2v_edge.runtime.embedding import require_embedding, unit
from w2v_edge.runtime.window import Window

ROWS = 4096
"""Rows in a block: 17 MB of 512 values each, in float64."""

READ_BYTES = 2**20
"""Bytes read from a file at a time."""

COLUMNS = ["path", EMBEDDING]
WRITE = "write an index with: w2v-edge encode BUNDLE AUDIO -o INDEX --engine local --embedding"


@dataclass(frozen=True)
class Match:
    """A recording of an index.

    Attributes:
        path: its path or URI.
        cosine: of its embedding and the query's.
    """

    path: str
    cosine: float


@dataclass
class SearchResult:
    """Recordings that are like a query, and what they were chosen from.

    Attributes:
        matches: the best recordings, best first; of several rows of one path the best, and of equal
            ones the first in the index.
        searched: number of rows compared.
        failed: number of rows without an embedding, as their recordings failed.
        unusable: number of rows whose embedding is zero or not finite.
        missing: number of recordings that the job which writes the index has not done yet.
    """

    matches: list[Match] = field(default_factory=list)
    searched: int = 0
    failed: int = 0
    unusable: int = 0
    missing: int = 0


class EmbeddingIndex:
    """Embeddings of a corpus, on disk or in an object store.

    Attributes:
        location: absolute path or URI of a folder of shards, or of one shard.
        window: attention window of long recordings, where its job had one; so should a query.
    """

    def __init__(self, location: str, manifest: Manifest) -> None:
        """Find the shards.

        Args:
            location: path or URI.
            manifest: of the bundle that wrote it, and that queries are embedded with.

        Raises:
            HeadMissingError: the bundle has no embedding.
            IndexMismatchError: there are no shards, or they are of another bundle.
            InputError: there is no such file system.
        """
        self._width = require_embedding(manifest)
        self._bundle = manifest.sha256
        self.location = location if is_uri(location) else os.path.abspath(location)  # noqa: PTH100 - links stay
        self._system, root = resolve(self.location)
        self._record: JobRecord | None = None
        self.window: Window | None = None
        with _reading(self.location):
            info = self._system.get_file_info(root.rstrip("/") or root)
        self._files = [info.path]
        if info.type == fs.FileType.Directory:
            self._files = [f"{info.path}/{name}" for name in self._shards()]
        elif info.type != fs.FileType.File:
            raise IndexMismatchError(f"{self.location}: found nothing there; {WRITE}")

    def search(self, query: npt.NDArray[np.floating[Any]], top: int = 10) -> SearchResult:
        """Find the recordings whose embeddings have the largest cosine with a query's.

        Args:
            query: (dim,), the embedding of a recording.
            top: number of recordings to find, 1 or more.

        Raises:
            InputError: a query of another width, of zeros, or not finite.
            IndexMismatchError: a shard is damaged, of another bundle, or gone; or there is no
                embedding in any.
        """
        direction = unit(query)
        if len(direction) != self._width:
            raise InputError(f"found a query of {len(direction)} values, expected {self._width}")
        found, best = SearchResult(), _Best(top)
        for file in self._files:
            for paths, embeddings in self._blocks(file):
                _compare(direction, paths, embeddings, best, found)
        rows = found.searched + found.failed + found.unusable
        if not found.searched:
            raise IndexMismatchError(
                f"{self.location}: found no embedding to compare with in {rows} rows; {WRITE}"
            )
        if self._record is not None:
            found.missing = max(0, self._record.files - rows)
        found.matches = best.matches()
        return found

    def _shards(self) -> list[str]:
        """Return the names of the shards in a folder, and check the record of the job there."""
        with _reading(self.location):
            folder = Folder(self.location)
            names = folder.names()
            if RECORD in names:
                self._record = record = read_record(folder)
                self._check_bundle(f"{self.location}/{RECORD}", record.bundle_sha256)
                self.window = None if record.window is None else Window(*record.window)
        shards = sorted(x for x in names if x.endswith(".parquet") and x[0] not in "._")
        if not shards:
            raise IndexMismatchError(f"{self.location}: found no shards of Parquet; {WRITE}")
        return shards

    def _blocks(self, file: str) -> Iterator[tuple[pa.Array, pa.Array]]:
        """Yield paths and embeddings of a shard in blocks of rows."""
        with _reading(file):
            stream = self._system.open_input_file(file)
        with stream:
            with _reading(file):
                # Without these a row group's column is in memory at once, however large it is.
                shard = pq.ParquetFile(stream, pre_buffer=False, buffer_size=READ_BYTES)
                schema = shard.schema_arrow
            self._check_schema(file, schema)
            batches = shard.iter_batches(ROWS, columns=COLUMNS)
            while True:
                with _reading(file):
                    batch = next(batches, None)
                if batch is None:
                    return
                yield batch.column("path"), batch.column(EMBEDDING)

    def _check_schema(self, file: str, schema: pa.Schema) -> None:
        try:
            bundle = json.loads((schema.metadata or {})[METADATA])["bundle_sha256"]
        except (KeyError, ValueError, TypeError, RecursionError) as error:
            raise IndexMismatchError(
                f"{file}: found no name of the bundle that wrote its embeddings; {WRITE}"
            ) from error
        self._check_bundle(file, bundle)
        if not set(COLUMNS) <= set(schema.names):
            raise IndexMismatchError(f"{file}: found no column {EMBEDDING!r}; {WRITE}")
        kinds = schema.field("path").type, schema.field(EMBEDDING).type
        expected = pa.string(), pa.list_(pa.float32(), self._width)
        if kinds != expected:
            raise IndexMismatchError(
                f"{file}: found columns of type {kinds[0]} and {kinds[1]!s:.80}, expected "
                f"{expected[0]} and {expected[1]}; {WRITE}"
            )

    def _check_bundle(self, where: str, found: object) -> None:
        if found != self._bundle:
            raise IndexMismatchError(
                f"{where}: found embeddings of another bundle ({found!s:.12}), expected this one's "
                f"({self._bundle:.12}); give that bundle, or encode the recordings with this one"
            )


class _Best:
    """The best matches so far, each path once."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows = 0
        # The worst first; of equal cosines the later row is the worse.
        self._heap: list[tuple[float, int, str]] = []
        self._cosines: dict[str, float] = {}

    @property
    def worst(self) -> float:
        """The cosine that another path has to exceed."""
        return self._heap[0][0] if len(self._heap) == self._size else -np.inf

    def add(self, path: str, cosine: float) -> None:
        """Add a match, if it is among the best."""
        self._rows += 1
        if cosine <= self._cosines.get(path, self.worst):
            return
        if path in self._cosines:
            self._heap = [x for x in self._heap if x[2] != path]
            heapq.heapify(self._heap)
        elif len(self._heap) == self._size:
            del self._cosines[heapq.heappop(self._heap)[2]]
        heapq.heappush(self._heap, (cosine, -self._rows, path))
        self._cosines[path] = cosine

    def matches(self) -> list[Match]:
        """Return them, best first."""
        return [Match(path, cosine) for cosine, _, path in sorted(self._heap, reverse=True)]


def _compare(
    direction: npt.NDArray[np.float64],
    paths: pa.Array,
    embeddings: pa.Array,
    best: _Best,
    found: SearchResult,
) -> None:
    """Compare a block of rows with a query (dim,) of length 1."""
    there = np.flatnonzero(embeddings.is_valid().to_numpy(zero_copy_only=False))
    # Rows that are null are not in the flat values.
    flat = embeddings.flatten().to_numpy(zero_copy_only=False)
    vectors = flat.astype(np.float64).reshape(-1, len(direction))
    with np.errstate(invalid="ignore"):
        cosines = vectors @ direction / np.linalg.norm(vectors, axis=1)
    usable = np.isfinite(cosines)
    found.failed += len(embeddings) - len(there)
    found.unusable += int((~usable).sum())
    found.searched += int(usable.sum())
    rows, cosines = there[usable], np.clip(cosines[usable], -1.0, 1.0)
    better = np.flatnonzero(cosines > best.worst)
    for i in better[np.argsort(-cosines[better], kind="stable")]:
        if cosines[i] <= best.worst:
            break
        best.add(str(paths[int(rows[i])]), float(cosines[i]))


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Convert the errors of reading an index to one line that names the file."""
    try:
        yield
    except IndexMismatchError:
        raise
    except (OSError, ArrowException, TypeError, ValueError, ImportError) as error:
        raise IndexMismatchError(
            f"{where}: cannot be read ({one_line(error)}); if it is being written anew, search "
            "again"
        ) from error

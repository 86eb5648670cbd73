"""The table of a shard, in Parquet: a row for each recording, and metadata.

    id        string                          the recording's name in the corpus
    path      string                          path or URI; unique
    text      string                          transcript, if a manifest has one
    seconds   double                          length; null if it could not be read
    codes     list of (groups) int16/int32    codes (frames, groups)
    context   list of (dim) float             context vectors (frames, dim)
    pooled    (dim) float                     mean of the context
    embedding (width) float                   the bundle's embedding, such as an x-vector
    error     string                          one line if the recording failed, else null

The column `codes` needs a model with a quantizer; `context`, `pooled` and `embedding` are optional.
The time of a frame is `first_s + frame * frame_s` in s; both are in the metadata's key `w2v_edge`,
a JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from w2v_edge.bundle import Manifest
from w2v_edge.corpus.entries import Entry
from w2v_edge.corpus.job import CorpusOptions
from w2v_edge.runtime.embedding import require_embedding
from w2v_edge.runtime.encoding import FrameTimes

METADATA = b"w2v_edge"
EMBEDDING = "embedding"


@dataclass(frozen=True)
class EncodedRecording:
    """The result of a recording, or an error.

    Attributes:
        seconds: length in s.
        codes: (n, groups).
        context: (n, d) float32.
        pooled: (d,) float32, the mean of the context.
        embedding: (width,) float32.
        error: one line; None if the recording was encoded.
    """

    seconds: float | None = None
    codes: npt.NDArray[np.integer] | None = None
    context: npt.NDArray[np.float32] | None = None
    pooled: npt.NDArray[np.float32] | None = None
    embedding: npt.NDArray[np.float32] | None = None
    error: str | None = None


@dataclass(frozen=True)
class ShardSummary:
    """The contents of a shard in numbers.

    Attributes:
        files: number of recordings.
        failed: number of recordings with an error.
        seconds: audio of the others, in s.
        first_error: the first error, with its path.
    """

    files: int
    failed: int
    seconds: float
    first_error: str | None = None

    @classmethod
    def of(cls, entries: Sequence[Entry], encoded: Sequence[EncodedRecording]) -> ShardSummary:
        """Summarise a shard."""
        errors = [
            f"{entry.path}: {recording.error}"
            for entry, recording in zip(entries, encoded, strict=True)
            if recording.error is not None
        ]
        seconds = sum(x.seconds or 0.0 for x in encoded if x.error is None)
        first = _utf8(errors[0]) if errors else None
        return cls(len(entries), len(errors), round(seconds, 3), first)


def to_parquet(
    manifest: Manifest,
    options: CorpusOptions,
    entries: Sequence[Entry],
    encoded: Sequence[EncodedRecording],
) -> pa.Buffer:
    """Return the bytes of a shard's file."""
    columns = {
        "id": pa.array([_utf8(x.id) for x in entries], pa.string()),
        "path": pa.array([_utf8(x.path) for x in entries], pa.string()),
        "text": pa.array([None if x.text is None else _utf8(x.text) for x in entries], pa.string()),
        "seconds": pa.array([x.seconds for x in encoded], pa.float64()),
    }
    dim = manifest.context_dim
    if manifest.codebook is not None:
        kind = np.int16 if manifest.codebook.entries <= 2**15 else np.int32
        groups = manifest.codebook.groups
        columns["codes"] = _rows([x.codes for x in encoded], groups, kind)
    if options.context:
        columns["context"] = _rows([x.context for x in encoded], dim, np.float32)
    if options.pooled:
        columns["pooled"] = _vectors([x.pooled for x in encoded], dim)
    if options.embedding:
        width = require_embedding(manifest)
        columns[EMBEDDING] = _vectors([x.embedding for x in encoded], width)
    errors = [None if x.error is None else _utf8(x.error) for x in encoded]
    columns["error"] = pa.array(errors, pa.string())
    facts = _facts(manifest) | asdict(ShardSummary.of(entries, encoded))
    table = pa.table(columns).replace_schema_metadata(
        {METADATA: json.dumps(facts, allow_nan=False)}
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def read_summary(stream: Any) -> ShardSummary:
    """Read the summary of a shard's file.

    Raises:
        ValueError, KeyError, TypeError, OSError: the file is not a shard, or incomplete.
    """
    facts = json.loads(pq.read_metadata(stream).metadata[METADATA])
    return ShardSummary(facts["files"], facts["failed"], facts["seconds"], facts["first_error"])


def _facts(manifest: Manifest) -> dict[str, Any]:
    times = FrameTimes.of_manifest(manifest)
    of_codes = manifest.quantizer_input == "context"
    context = {"first_s": float(times.of_context(1)[0]), "frame_s": times.context_seconds}
    features = {
        "first_s": float(times.of_features(1)[0]),
        "frame_s": manifest.hop / manifest.sample_rate,
    }
    return {
        "bundle_sha256": manifest.sha256,
        "sample_rate": manifest.sample_rate,
        "codes": context if of_codes else features,
        "context": context,
    }


def _rows(arrays: Sequence[npt.NDArray[Any] | None], width: int, kind: Any) -> pa.Array:
    """Return a column of arrays (n, width), or nulls; readers see lists of lists."""
    lengths = [0 if x is None else len(x) for x in arrays]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    values = [np.zeros(0, kind), *(x.reshape(-1) for x in arrays if x is not None)]
    flat = pa.array(np.concatenate(values, dtype=kind, casting="same_kind"))
    rows = pa.FixedSizeListArray.from_arrays(flat, width)
    # Large lists: a shard may have more frames than 32 bits can count.
    missing = pa.array([x is None for x in arrays], pa.bool_())
    return pa.LargeListArray.from_arrays(pa.array(offsets), rows, mask=missing)


def _vectors(vectors: Sequence[npt.NDArray[np.float32] | None], width: int) -> pa.Array:
    """Return a column of vectors (width,), or nulls."""
    kind = pa.list_(pa.float32(), width)
    return pa.array([None if x is None else x.tolist() for x in vectors], kind)


def _utf8(text: str) -> str:
    """Escape surrogates: file names may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

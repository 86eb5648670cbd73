"""The table of a shard: a row for each recording, and what a reader has to know in its metadata.

    id        string                          the recording's name in the corpus
    path      string                          where it lies; no two rows have the same
    text      string                          what is said, as far as a manifest says so
    seconds   double                          its length; null where it could not be read
    codes     list of (groups) int16/int32    codes (frames, groups)
    context   list of (dim) float             context vectors (frames, dim)
    pooled    (dim) float                     their mean over the recording
    error     string                          why there is nothing of it, on one line; else null

`codes` are there for models with a quantizer, `context` and `pooled` on request. A frame's time is
`first_s + frame * frame_s` in seconds, both in the metadata's key `w2v_edge`, a JSON text.
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
from w2v_edge.corpus.job import Settings
from w2v_edge.runtime.encoding import FrameTimes

METADATA = b"w2v_edge"


@dataclass(frozen=True)
class Outcome:
    """What was made of a recording, or why nothing was.

    Attributes:
        seconds: its length.
        codes: (frames, groups).
        context: (frames, dim) float32.
        pooled: (dim,) float32.
        error: one line.
    """

    seconds: float | None = None
    codes: npt.NDArray[np.integer] | None = None
    context: npt.NDArray[np.float32] | None = None
    pooled: npt.NDArray[np.float32] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Summary:
    """What is in a shard.

    Attributes:
        files: recordings.
        failed: those of them that have an error.
        seconds: of audio, of the others.
        first_error: the first of the errors, with its path.
    """

    files: int
    failed: int
    seconds: float
    first_error: str | None = None

    @classmethod
    def of(cls, entries: Sequence[Entry], outcomes: Sequence[Outcome]) -> Summary:
        """Sum up a shard."""
        errors = [
            f"{entry.path}: {outcome.error}"
            for entry, outcome in zip(entries, outcomes, strict=True)
            if outcome.error is not None
        ]
        seconds = sum(x.seconds or 0.0 for x in outcomes if x.error is None)
        first = _utf8(errors[0]) if errors else None
        return cls(len(entries), len(errors), round(seconds, 3), first)


def to_parquet(
    manifest: Manifest,
    settings: Settings,
    entries: Sequence[Entry],
    outcomes: Sequence[Outcome],
) -> pa.Buffer:
    """Return the bytes of a shard's file."""
    columns = {
        "id": pa.array([_utf8(x.id) for x in entries], pa.string()),
        "path": pa.array([_utf8(x.path) for x in entries], pa.string()),
        "text": pa.array([None if x.text is None else _utf8(x.text) for x in entries], pa.string()),
        "seconds": pa.array([x.seconds for x in outcomes], pa.float64()),
    }
    dim = manifest.context_dim
    if manifest.codebook is not None:
        kind = np.int16 if manifest.codebook.entries <= 2**15 else np.int32
        groups = manifest.codebook.groups
        columns["codes"] = _rows([x.codes for x in outcomes], groups, kind)
    if settings.context:
        columns["context"] = _rows([x.context for x in outcomes], dim, np.float32)
    if settings.pooled:
        columns["pooled"] = _vectors([x.pooled for x in outcomes], dim)
    errors = [None if x.error is None else _utf8(x.error) for x in outcomes]
    columns["error"] = pa.array(errors, pa.string())
    facts = _facts(manifest) | asdict(Summary.of(entries, outcomes))
    table = pa.table(columns).replace_schema_metadata({METADATA: json.dumps(facts)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def read_summary(stream: Any) -> Summary:
    """Read the summary of a shard's file.

    Raises:
        ValueError, KeyError, TypeError, OSError: it is no file of a shard, or not a whole one.
    """
    facts = json.loads(pq.read_metadata(stream).metadata[METADATA])
    return Summary(facts["files"], facts["failed"], facts["seconds"], facts["first_error"])


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
    """Make a column of arrays (frames, width), or nulls; readers take it for lists of lists."""
    lengths = [0 if x is None else len(x) for x in arrays]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    values = [np.zeros(0, kind), *(x.reshape(-1) for x in arrays if x is not None)]
    flat = pa.array(np.concatenate(values, dtype=kind, casting="same_kind"))
    rows = pa.FixedSizeListArray.from_arrays(flat, width)
    # Large: frames of a shard may be more than 32 bits count.
    missing = pa.array([x is None for x in arrays], pa.bool_())
    return pa.LargeListArray.from_arrays(pa.array(offsets), rows, mask=missing)


def _vectors(vectors: Sequence[npt.NDArray[np.float32] | None], width: int) -> pa.Array:
    """Make a column of vectors (width,), or nulls."""
    kind = pa.list_(pa.float32(), width)
    return pa.array([None if x is None else x.tolist() for x in vectors], kind)


def _utf8(text: str) -> str:
    """Escape what is no character: names of files may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")

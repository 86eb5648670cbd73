"""Utterances that are run whole, in padded batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.audio import Waveform
from w2v_edge.bundle import Manifest
from w2v_edge.runtime.batching import collate
from w2v_edge.runtime.encoding import Encoding
from w2v_edge.runtime.frame_times import FrameTimes
from w2v_edge.runtime.frontend_stream import Graphs, Tensors


@dataclass(frozen=True)
class WholeUtterances:
    """Runs a bundle's graphs on batches; each utterance's frames come back without padding."""

    run: Graphs
    manifest: Manifest

    def encode(self, waveforms: list[Waveform]) -> list[Encoding]:
        """Encode a batch."""
        encoded = self.run("encoder", collate(waveforms))
        source = self.manifest.quantizer_input
        quantized = {} if source is None else self.run("quantizer", {source: encoded[source]})
        times = FrameTimes.of_manifest(self.manifest)
        results = []
        for row in self._rows(encoded | quantized):
            of_features = times.of_features(len(row["features"]))
            results.append(Encoding.of(row, of_features, times.of_context(len(row["context"]))))
        return results

    def tokenize(self, waveforms: list[Waveform]) -> list[npt.NDArray[np.int64]]:
        """Compute the codes (frames, groups) of a batch."""
        made = self.run("tokenizer", collate(waveforms))
        return _cut(made["codes"], made["frame_lengths"])

    def logits(self, waveforms: list[Waveform]) -> list[npt.NDArray[np.float32]]:
        """Compute logits (frames, labels), or (labels,), of a batch."""
        made = self.run("encoder", collate(waveforms))
        if "frames" not in self.manifest.logits_axes:
            return _cut(made["logits"])
        return _cut(made["logits"], made.get("context_lengths", made["frame_lengths"]))

    def features(self, waveforms: list[Waveform]) -> list[npt.NDArray[np.float32]]:
        """Compute features (frames, channels) of a batch."""
        batch = collate(waveforms)
        if "statistics" in self.manifest.graphs:
            batch |= self.run("statistics", batch)
        made = self.run("frontend", batch)
        return _cut(made["features"], made["frame_lengths"])

    def _rows(self, made: Tensors) -> list[dict[str, npt.NDArray[Any]]]:
        """Part the rows of a batch, each array cut to the frames it has."""
        lengths = self.manifest.context_outputs | {"features": "frame_lengths"}
        of_codes = "frame_lengths"
        if self.manifest.quantizer_input == "context":
            of_codes = lengths["context"] or of_codes
        lengths |= {"codes": of_codes, "vectors": of_codes}
        rows: list[dict[str, npt.NDArray[Any]]] = [{} for _ in made["frame_lengths"]]
        for name in made.keys() - {"frame_lengths", "context_lengths"}:
            by = lengths[name]
            for row, values in zip(
                rows, _cut(made[name], None if by is None else made[by]), strict=True
            ):
                row[name] = values
        return rows


def _cut(
    batch: npt.NDArray[Any], lengths: npt.NDArray[np.int64] | None = None
) -> list[npt.NDArray[Any]]:
    """Part the rows of (batch, frames, ...), without padding; one kept row keeps no other."""
    ends = [None] * len(batch) if lengths is None else lengths.tolist()
    rows = [row[:end] for row, end in zip(batch, ends, strict=True)]
    return rows if len(rows) == 1 else [row.copy() for row in rows]

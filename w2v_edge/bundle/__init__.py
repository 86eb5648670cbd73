"""The contract between exporter, runtime and every app that opens a bundle's graphs itself.

A bundle is a folder: ONNX graphs, their external data, golden vectors, and `manifest.json`, which
names every file with its size and SHA-256 and carries the SHA-256 of its own canonical text. The
tensor names are the same in every language.

    encoder.onnx     waveform, lengths                  -> features, context, frame_lengths (, ...)
    tokenizer.onnx   waveform, lengths                  -> codes, frame_lengths
    quantizer.onnx   features, or context               -> codes, vectors
    frontend.onnx    waveform, lengths (, statistics)   -> features, frame_lengths
    context.onnx     features, frame_lengths            -> context (, ...)
    statistics.onnx  waveform, lengths                  -> statistics

The dots stand for optional outputs: `logits`, (batch, frames, labels) or (batch, labels), or
`logits_NAME` of each of several classifiers (batch, labels); `layer_K`, the output of transformer
layer K, and `mixed`, the mean of some layers' outputs (batch, frames, dim); `projected`, a linear
projection of the context (batch, frames, width); `embedding`, an x-vector, or the mean over each
utterance, of `mixed` if there is one and of the context otherwise (batch, dim), with standard
deviations beside it (batch, 2 * dim); and, where the context has other frames than the features,
`context_lengths`, the number of valid frames of the context and of all outputs computed from it.
The manifest lists all axes.

Shapes: waveform (batch, samples) float32; lengths, frame_lengths (batch,) int64; features
(batch, frames, channels), context (batch, frames, dim), vectors (batch, frames, vector_dim)
float32; codes (batch, frames, groups) int64; statistics (batch, k) float32. Frames at or past
`frame_lengths` are zero in every output.

Modules: `manifest` (contents of `manifest.json`), `files` (a bundle on disk and its hashes),
`graph_check` and `wire_format` (validation of graphs), `golden` and `npz` (golden vectors),
`geometry` (positions of frames over samples), `shapes` (fixed lengths of all axes, with a file
`GRAPH-SAMPLES.onnx` for each), `resampling` (of frames to another rate).
"""

from w2v_edge.bundle.files import Bundle, file_info, read_manifest
from w2v_edge.bundle.geometry import Geometry
from w2v_edge.bundle.manifest import (
    DATA_FILES,
    FORMAT_VERSION,
    GOLDEN,
    GRAPH_INPUTS,
    GRAPH_OUTPUTS,
    MANIFEST,
    OPEN_VERSION,
    TIMESTAMPS,
    VOCABULARY,
    CodebookInfo,
    CtcInfo,
    FileInfo,
    GraphInfo,
    HeadInfo,
    Manifest,
    SourceInfo,
    StatisticsInfo,
    TensorInfo,
    Tensors,
    graph_inputs,
    is_bundle_file,
    is_graph_file,
)
from w2v_edge.bundle.shapes import FixedShape, file_stem

__all__ = [
    "DATA_FILES",
    "FORMAT_VERSION",
    "GOLDEN",
    "GRAPH_INPUTS",
    "GRAPH_OUTPUTS",
    "MANIFEST",
    "OPEN_VERSION",
    "TIMESTAMPS",
    "VOCABULARY",
    "Bundle",
    "CodebookInfo",
    "CtcInfo",
    "FileInfo",
    "FixedShape",
    "Geometry",
    "GraphInfo",
    "HeadInfo",
    "Manifest",
    "SourceInfo",
    "StatisticsInfo",
    "TensorInfo",
    "Tensors",
    "file_info",
    "file_stem",
    "graph_inputs",
    "is_bundle_file",
    "is_graph_file",
    "read_manifest",
]

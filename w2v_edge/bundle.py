"""The contract between exporter, runtime and every app that opens a bundle's graphs itself.

A bundle is a folder: ONNX graphs, their external data, golden vectors, and `manifest.json`, which
names every file with its size and SHA-256 and carries a SHA-256 of its own canonical text. Tensor
names below are the same in every language.

    encoder.onnx     waveform, lengths                  -> features, context, frame_lengths (, ...)
    tokenizer.onnx   waveform, lengths                  -> codes, frame_lengths
    quantizer.onnx   features, or context               -> codes, vectors
    frontend.onnx    waveform, lengths (, statistics)   -> features, frame_lengths
    context.onnx     features, frame_lengths            -> context (, ...)
    statistics.onnx  waveform, lengths                  -> statistics

Behind the dots, where a model has them: `logits`, (batch, frames, labels) or (batch, labels);
`layer_K`, the output of transformer layer K (batch, frames, dim); `embedding`, the context's mean
over each utterance (batch, dim); and, where the context has fewer frames than the features,
`context_lengths`, which the context and what follows from it go by. The manifest has all axes.

Shapes: waveform (batch, samples) float32; lengths, frame_lengths (batch,) int64; features
(batch, frames, channels), context (batch, frames, dim), vectors (batch, frames, vector_dim)
float32; codes (batch, frames, groups) int64; statistics (batch, k) float32. Frames at or past
`frame_lengths` are zero in every output.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from w2v_edge import strict
from w2v_edge.errors import (
    BundleError,
    BundleIntegrityError,
    BundleVersionError,
    ConfigError,
)
from w2v_edge.geometry import Geometry

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
VOCABULARY = "vocab.json"
"""Of CTC models: the index of each label."""

MAX_MANIFEST_BYTES = 16 * 2**20


GRAPH_INPUTS: dict[str, tuple[str, ...]] = {
    "encoder": ("waveform", "lengths"),
    "tokenizer": ("waveform", "lengths"),
    "quantizer": ("features",),
    "frontend": ("waveform", "lengths"),
    "context": ("features", "frame_lengths"),
    "statistics": ("waveform", "lengths"),
}
GRAPH_OUTPUTS: dict[str, tuple[str, ...]] = {
    "encoder": ("features", "context", "frame_lengths"),
    "tokenizer": ("codes", "frame_lengths"),
    "quantizer": ("codes", "vectors"),
    "frontend": ("features", "frame_lengths"),
    "context": ("context",),
    "statistics": ("statistics",),
}
EXTRA_OUTPUTS = re.compile(r"context_lengths|logits|layer_[1-9]\d{0,2}|embedding")
"""What `encoder` and `context` may give beyond that."""

DATA_FILES = ("frontend.bin", "context.bin", "quantizer.bin")
FILE_NAMES = frozenset(
    (*(f"{name}.onnx" for name in GRAPH_INPUTS), *DATA_FILES, GOLDEN, VOCABULARY)
)

TIMESTAMPS = (
    "frame f sees samples [f * hop - left_padding, f * hop - left_padding + receptive_field); "
    "its time is the middle of that span, (f * hop - left_padding + (receptive_field - 1) / 2) "
    "/ sample_rate"
)


@dataclass(frozen=True)
class TensorInfo:
    """One input or output: element type and axes, dynamic ones by name."""

    name: str
    type: str
    axes: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphInfo:
    """One graph: its tensors, the data files it needs, and how often each operator occurs."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    data: tuple[str, ...]
    operators: dict[str, int]


@dataclass(frozen=True)
class FileInfo:
    """Size in bytes and SHA-256 of a file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class CodebookInfo:
    """Shape of the codebooks; `vector_dim` is the width of all groups' vectors side by side."""

    groups: int
    entries: int
    vector_dim: int


@dataclass(frozen=True)
class StatisticsInfo:
    """What `statistics` are of, all means and variances, without regard to each other.

    Attributes:
        waveform: whether they begin with the mean and the variance of the samples.
        channels: of so many channels the means come next, then the variances; 0 for none.
        kernel: samples that one value of a channel is made from.
        stride: samples from one value to the next.
    """

    waveform: bool
    channels: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class CtcInfo:
    """How the labels of a CTC model's logits spell text.

    Attributes:
        blank: index of the label that stands for nothing and parts repetitions.
        word_delimiter: the label between words; None where labels are not spelled into words.
        special: labels that are never part of a text, the blank among them.
        language: that the labels are for, where the model says so.
        separator: what stands between labels in a text, as between phonemes.
        lowercase: whether a text is put in lower case.
    """

    blank: int
    word_delimiter: str | None
    special: tuple[str, ...]
    language: str | None = None
    separator: str = ""
    lowercase: bool = False


@dataclass(frozen=True)
class SourceInfo:
    """The checkpoint that a bundle was made from.

    Attributes:
        name: of the file or folder, or on the Hub.
        sha256: of the file; of several, that of sorted lines of their hashes and names.
        format: `w2v-edge`, `huggingface`, `fairseq` or `torchaudio`.
        training_only: tensors that inference never reads.
        left_out: tensors that are not needed, with the reason.
        remarks: what a reader should know of it.
    """

    name: str
    sha256: str
    format: str = "w2v-edge"
    training_only: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """Everything a program needs to know to run a bundle.

    Attributes:
        config: the model's configuration, as in its checkpoint.
        precision: of the weights; waveforms and outputs are float32 in any case.
        target: name of the profile that the graphs were written for.
        sample_rate: of the waveform, in Hz.
        hop, receptive_field, left_padding, right_padding, min_samples: in samples.
        output_length: formula for the frames of an utterance.
        timestamps: where a frame lies in time.
        quantizer_input: the tensor that codes are made from.
        logits_axes: `batch`, `frames`, `labels` or `batch`, `labels`; empty where no head is.
        labels: what the entries of the last axis of `logits` mean, where the model says so.
        logits_meaning: of a classifier: `one_of` the labels holds (softmax), `any_of` them may
            (sigmoid), or plain `values` (a regression).
        ctc: how they spell text; None for a model that does not transcribe.
        longest_context_seconds: beyond this, attention's memory, which grows with the square of
            the length, passes about 4 GB; where it is fused and holds no such matrix, its time
            passes four times that of the rest.
        parity: the gate's report, or None where the export was not checked.
        selection: what was taken of the checkpoint, or added to it; None for the whole of it.
        statistics: how to put those of an utterance's stretches together; None where the front end
            needs none.
        weight_quantization: budgets, what was measured, and every layer's precision and noise; None
            in float32.
    """

    format_version: int
    config: dict[str, Any]
    precision: str
    target: str
    opset: int
    ir_version: int
    sample_rate: int
    hop: int
    receptive_field: int
    left_padding: int
    right_padding: int
    min_samples: int
    output_length: str
    timestamps: str
    features_dim: int
    context_dim: int
    codebook: CodebookInfo | None
    quantizer_input: Literal["features", "context"] | None
    logits_axes: tuple[str, ...]
    labels: tuple[str, ...]
    longest_context_seconds: float
    graphs: dict[str, GraphInfo]
    files: dict[str, FileInfo]
    source: SourceInfo
    tools: dict[str, str]
    parity: dict[str, Any] | None
    weight_quantization: dict[str, Any] | None = None
    logits_meaning: Literal["one_of", "any_of", "values"] | None = None
    ctc: CtcInfo | None = None
    selection: dict[str, Any] | None = None
    statistics: StatisticsInfo | None = None
    sha256: str = field(default="")

    def __post_init__(self) -> None:
        """Refuse numbers that no front end has, and graphs that no bundle has."""
        smallest = {
            "sample_rate": 1,
            "hop": 1,
            "receptive_field": 1,
            "min_samples": 1,
            "left_padding": 0,
            "right_padding": 0,
        }
        for name, least in smallest.items():
            if getattr(self, name) < least:
                found = getattr(self, name)
                raise ConfigError(f"{name}: expected a number from {least} up, found {found}")
        if not 0 < self.longest_context_seconds < math.inf:
            raise ConfigError("longest_context_seconds: expected a number above 0")
        for name, graph in self.graphs.items():
            outputs = tuple(tensor.name for tensor in graph.outputs)
            if name not in GRAPH_OUTPUTS or not _fit(name, outputs):
                raise ConfigError(f"graphs.{name}: not a graph of this format")
            if not set(graph.data) <= set(DATA_FILES):
                raise ConfigError(f"graphs.{name}.data: expected some of {', '.join(DATA_FILES)}")

    @property
    def geometry(self) -> Geometry:
        """How frames lie over samples."""
        return Geometry(self.hop, self.receptive_field, self.left_padding, self.right_padding)

    @property
    def context_outputs(self) -> dict[str, str | None]:
        """What the context network gives, and the input or output with its lengths.

        None for what is one vector for each utterance.
        """
        lengths = {"frames": "frame_lengths", "context_frames": "context_lengths"}
        return {
            tensor.name: lengths[str(tensor.axes[1])] if len(tensor.axes) > 2 else None  # noqa: PLR2004
            for tensor in self.graphs["context"].outputs
            if tensor.name != "context_lengths"
        }

    def sealed(self) -> Manifest:
        """Return a copy that carries the SHA-256 of its own content."""
        return replace(self, sha256=_content_hash(strict.to_plain(self)))

    def text(self) -> str:
        """Return the one text that stands for this content."""
        return _canonical(strict.to_plain(self))


def graph_inputs(name: str, quantizer_input: str | None) -> tuple[str, ...]:
    """Return the inputs of a graph; those of `frontend` may have `statistics` behind them."""
    if name == "quantizer" and quantizer_input is not None:
        return (quantizer_input,)
    return GRAPH_INPUTS[name]


def _fit(name: str, outputs: tuple[str, ...]) -> bool:
    common = GRAPH_OUTPUTS[name]
    extra = outputs[len(common) :] if "context" in common else ()
    return outputs == (*common, *extra) and all(map(EXTRA_OUTPUTS.fullmatch, extra))


def read_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json`.

    Raises:
        BundleVersionError: its format is newer than this release.
        BundleIntegrityError: it is damaged or was edited.
        BundleError: the folder holds no bundle.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "is not a folder" if not folder.is_dir() else f"has no {MANIFEST}"
        raise BundleError(f"{folder}: expected a bundle, but it {what}; make one: w2v-edge export")
    data = _parse(path)
    version = data.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise BundleIntegrityError(f"{path}: damaged, format version is {version!r:.40}")
    if version > FORMAT_VERSION:
        raise BundleVersionError(
            f"{path}: format version {version}, this release reads up to {FORMAT_VERSION}; "
            "update w2v-edge"
        )
    if data.get("sha256") != _content_hash(data) or path.read_bytes() != _encode(_canonical(data)):
        raise BundleIntegrityError(
            f"{path}: damaged or edited, its content does not have the SHA-256 it states; "
            "export again"
        )
    try:
        manifest = strict.from_plain(Manifest, data)
    except ConfigError as error:
        raise BundleIntegrityError(f"{path}: {error}") from error
    unknown = manifest.files.keys() - FILE_NAMES
    if unknown:
        raise BundleIntegrityError(f"{path}: names a file no bundle has: {min(unknown)!r:.80}")
    return manifest


def _parse(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleIntegrityError(
            f"{path}: larger than {MAX_MANIFEST_BYTES} bytes, not a manifest"
        )
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise BundleIntegrityError(f"{path}: damaged, not JSON ({error!s:.80})") from error
    if not isinstance(data, dict):
        raise BundleIntegrityError(f"{path}: damaged, expected a JSON object")
    return data


def _canonical(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _encode(text: str) -> bytes:
    """Encode as UTF-8, even halves of characters that a damaged file may hold."""
    return text.encode("utf-8", "surrogatepass")


def _content_hash(data: Mapping[str, Any]) -> str:
    content = {key: value for key, value in data.items() if key != "sha256"}
    return hashlib.sha256(_encode(_canonical(content))).hexdigest()

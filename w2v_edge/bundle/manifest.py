"""`manifest.json` as dataclasses, with all values validated.

Manifests are untrusted: every number is bounded, so that no reader runs out of memory, and every
tensor has the type and axes that the format specifies for its name.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeGuard

import numpy as np
import numpy.typing as npt

from w2v_edge import strict
from w2v_edge.bundle.decisions import decisions
from w2v_edge.bundle.geometry import Geometry
from w2v_edge.bundle.language_model import MODELS, UNIGRAMS, LanguageModelInfo
from w2v_edge.bundle.resampling import MAX_FRAME_RATE, MIN_FRAME_RATE
from w2v_edge.bundle.shapes import FixedShape, check_shapes, file_stem
from w2v_edge.errors import ConfigError

Tensors = dict[str, npt.NDArray[Any]]
"""Inputs or outputs of a graph, by name."""

FORMAT_VERSION = 2
"""Newest version that is read."""

OPEN_VERSION = 1
"""Version of bundles with open axes; earlier releases would misread fixed shapes."""

MANIFEST = "manifest.json"
GOLDEN = "golden.npz"
VOCABULARY = "vocab.json"
"""File with the index of each label, in bundles of CTC models."""

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
EXTRA_OUTPUTS = re.compile(
    r"context_lengths|logits(_[A-Za-z][A-Za-z0-9_]{0,31})?|layer_(0|[1-9]\d{0,2})|mixed|projected"
    r"|embedding"
)
"""Optional outputs of `encoder` and `context`."""

DATA_FILES = ("frontend.bin", "context.bin", "quantizer.bin")
FILE_NAMES = frozenset((*DATA_FILES, GOLDEN, VOCABULARY, *MODELS, UNIGRAMS))
"""Files of a bundle, except its graphs and its manifest."""

TIMESTAMPS = (
    "frame f sees samples [f * hop - left_padding, f * hop - left_padding + receptive_field); "
    "its time is the middle of that span, (f * hop - left_padding + (receptive_field - 1) / 2) "
    "/ sample_rate"
)

NUMPY_TYPES: dict[str, np.dtype[Any]] = {"float": np.dtype(np.float32), "int64": np.dtype(np.int64)}
"""Element types of inputs and outputs, by the manifest's names."""

_FRAMES, _CONTEXT_FRAMES = ("frames",), ("frames", "context_frames")
_WIDTH = ("",)
"""Placeholder for a fixed width."""

_SIGNATURES: dict[str, tuple[str, tuple[tuple[tuple[str, ...], ...], ...]]] = {
    "waveform": ("float", ((("samples",),),)),
    "lengths": ("int64", ((),)),
    "frame_lengths": ("int64", ((),)),
    "context_lengths": ("int64", ((),)),
    "statistics": ("float", ((_WIDTH,),)),
    "features": ("float", ((_FRAMES, _WIDTH),)),
    "context": ("float", ((_CONTEXT_FRAMES, _WIDTH),)),
    "layer": ("float", ((_CONTEXT_FRAMES, _WIDTH),)),
    "mixed": ("float", ((_CONTEXT_FRAMES, _WIDTH),)),
    "projected": ("float", ((_CONTEXT_FRAMES, _WIDTH),)),
    "vectors": ("float", ((_CONTEXT_FRAMES, _WIDTH),)),
    "codes": ("int64", ((_CONTEXT_FRAMES, _WIDTH),)),
    "logits": ("float", ((_CONTEXT_FRAMES, _WIDTH), (_WIDTH,))),
    "logits_": ("float", ((_WIDTH,),)),
    "embedding": ("float", ((_WIDTH,),)),
}
"""Element type of each tensor, and its possible axes after the batch, with their possible names."""

HIGHEST_RATE = 10_000_000
"""Maximum sample rate in Hz."""

LONGEST_SPAN = 2**24
"""Maximum receptive field and hop, in samples."""

LARGEST_FILE = 2**50
"""Maximum size of a file, in bytes."""

WIDEST = 2**24
"""Maximum number of values per frame."""

_GEOMETRY_BOUNDS = {
    "sample_rate": (1, HIGHEST_RATE),
    "hop": (1, LONGEST_SPAN),
    "receptive_field": (1, LONGEST_SPAN),
    "min_samples": (1, LONGEST_SPAN),
    "left_padding": (0, LONGEST_SPAN),
    "right_padding": (0, LONGEST_SPAN),
}
_ADAPTER_BOUNDS = {"layers": (1, 8), "kernel": (1, 64), "stride": (1, 64), "padding": (0, 64)}
"""Bounds of the strided convolutions at the end of a context network."""

_MOST_SQUEEZED = 16
"""Most frames that are one frame of a transformer."""

_PARITY_TYPES: dict[str, type] = {
    "passed": bool,
    "comparisons": int,
    "codes_compared": int,
    "codes_tied": int,
    "codes_wrong": int,
    "distinct_codes": list,
}


@dataclass(frozen=True)
class TensorInfo:
    """One input or output: element type and axes, dynamic ones by name."""

    name: str
    type: str
    axes: tuple[int | str, ...]


@dataclass(frozen=True)
class GraphInfo:
    """One graph: its tensors, its data files, and the number of nodes per operator."""

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
    """Layout of the statistics vector: mean and variance of the samples, then per channel.

    Attributes:
        waveform: whether it begins with the mean and the variance of the samples.
        channels: channels whose means come next, followed by their variances; 0 for none.
        kernel: samples that one value of a channel is computed from.
        stride: samples from one value to the next.
        unbiased: whether the channels' sums of squares are divided by the number of values minus 1.
    """

    waveform: bool
    channels: int
    kernel: int
    stride: int
    unbiased: bool = False


@dataclass(frozen=True)
class CtcInfo:
    """How the labels of a CTC model spell text.

    Attributes:
        blank: index of the CTC blank.
        word_delimiter: the label between words; None for models whose labels are not letters.
        special: labels that never appear in a text, including the blank.
        language: language of the labels, if the checkpoint states it.
        separator: text between labels, such as a space between phonemes.
        lowercase: whether the text is converted to lower case.
    """

    blank: int
    word_delimiter: str | None
    special: tuple[str, ...]
    language: str | None = None
    separator: str = ""
    lowercase: bool = False


@dataclass(frozen=True)
class HeadInfo:
    """A classifier whose output has a name, `logits_NAME`.

    Attributes:
        labels: names of its last axis.
        meaning: of the logits, as `Manifest.logits_meaning`.
    """

    labels: tuple[str, ...]
    meaning: Literal["one_of", "any_of", "values"]


@dataclass(frozen=True)
class SourceInfo:
    """The checkpoint that a bundle was exported from.

    Attributes:
        name: name of the file or folder, or its name on the Hub.
        sha256: SHA-256 of the file, or of the sorted hashes and names of several files.
        format: `w2v-edge`, `huggingface`, `fairseq` or `torchaudio`.
        training_only: tensors that inference never reads.
        left_out: other tensors that were not exported, with the reason.
        remarks: warnings for the user.
    """

    name: str
    sha256: str
    format: str = "w2v-edge"
    training_only: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """Description of a bundle: all that a program needs to run it.

    Attributes:
        config: the model's configuration, as in its checkpoint.
        precision: precision of the weights, or `bf16` for float32 weights whose products OpenVINO
            computes in bfloat16; waveforms and outputs are always float32.
        target: the target profile that the graphs were exported for.
        sample_rate: sample rate of the waveform, in Hz.
        hop, receptive_field, left_padding, right_padding, min_samples: in samples.
        output_length: formula for the number of frames.
        timestamps: formula for the time of a frame.
        features_dim: channels of the features.
        context_dim: width of the context.
        codebook: shape of the codebooks; None without a quantizer.
        quantizer_input: the tensor that codes are computed from.
        logits_axes: `batch`, `frames`, `labels` or `batch`, `labels`; empty without a head.
        labels: names of the logits' last axis; empty if the checkpoint has none.
        logits_meaning: meaning of a classifier's logits: exactly one label holds (`one_of`,
            softmax), any number may (`any_of`, sigmoid), or regression `values`.
        ctc: how the labels spell text; None without a CTC head.
        heads: classifiers of an utterance by name, where there are several; each has an output
            `logits_NAME`.
        embedding_min_frames: fewest frames that an x-vector is computed from; with fewer it is
            zero. None for models without one.
        longest_context_seconds: longest full-attention length. Beyond it the attention matrix
            takes more than about 4 GB; where attention is fused and keeps no such matrix, it takes
            more than four times the time of the rest.
        parity: the parity report, or None if the export was not checked.
        selection: exported layers and added outputs; None for the whole checkpoint.
        statistics: layout of the statistics vector; None if the front end needs none.
        language_model: for beam search; None without one.
        shapes: lengths of all axes, the shortest first, each with graphs of its own; empty for
            graphs with open axes.
        weight_quantization: budgets, measurements, and each layer's precision and noise; None in
            float32, and without layers in bf16.
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
    heads: dict[str, HeadInfo] = field(default_factory=dict)
    embedding_min_frames: int | None = None
    language_model: LanguageModelInfo | None = None
    shapes: tuple[FixedShape, ...] = ()
    sha256: str = field(default="")

    def __post_init__(self) -> None:
        """Check numbers against their bounds, and graphs and tensors against the format."""
        for name, bounds in _GEOMETRY_BOUNDS.items():
            check_range(name, getattr(self, name), *bounds)
        for name, info in self.files.items():
            check_range(f"files.{name:.40}.size", info.size, 0, LARGEST_FILE)
        _check_config(self.config)
        if self.parity is not None:
            _check_parity(self.parity)
        if self.embedding_min_frames is not None:
            check_range("embedding_min_frames", self.embedding_min_frames, 1, LONGEST_SPAN)
        _check_threshold(self.speaker_threshold)
        if not 0 < self.longest_context_seconds < math.inf:
            raise ConfigError("longest_context_seconds: expected a number above 0")
        for name in () if self.language_model is None else self.language_model.files:
            if name not in self.files:
                raise ConfigError(f"language_model: expected the file {name} in files")
        for name, graph in self.graphs.items():
            self._check_graph(f"graphs.{name:.40}", name, graph)
        if self.shapes and self.format_version == OPEN_VERSION:
            raise ConfigError(f"shapes: expected none in format version {OPEN_VERSION}")
        check_shapes(self.shapes, self.geometry)

    def _check_graph(self, where: str, name: str, graph: GraphInfo) -> None:
        outputs = tuple(tensor.name for tensor in graph.outputs)
        if name not in GRAPH_OUTPUTS or not _are_outputs(name, outputs):
            raise ConfigError(f"{where}: not a graph of this format")
        inputs = tuple(tensor.name for tensor in graph.inputs)
        expected = graph_inputs(name, self.quantizer_input)
        if inputs != expected and (name, inputs) != ("frontend", (*expected, "statistics")):
            raise ConfigError(f"{where}.inputs: expected {', '.join(expected)}")
        for kind, tensors in (("inputs", graph.inputs), ("outputs", graph.outputs)):
            for tensor in tensors:
                _check_tensor(f"{where}.{kind}.{tensor.name}", tensor)
        by_context_frames = any("context_frames" in tensor.axes for tensor in graph.outputs)
        if name in {"encoder", "context"} and by_context_frames != ("context_lengths" in outputs):
            raise ConfigError(f"{where}.outputs: expected context_lengths beside context_frames")
        if name == "encoder" and not {f"logits_{x}" for x in self.heads} <= set(outputs):
            raise ConfigError(f"{where}.outputs: expected logits_NAME of {', '.join(self.heads)}")
        if not set(graph.data) <= set(DATA_FILES):
            raise ConfigError(f"{where}.data: expected some of {', '.join(DATA_FILES)}")

    @property
    def geometry(self) -> Geometry:
        """How frames lie over samples."""
        return Geometry(self.hop, self.receptive_field, self.left_padding, self.right_padding)

    @property
    def graph_files(self) -> dict[str, str]:
        """The graph in each file, by the file's name without `.onnx`."""
        shapes = self.shapes or (None,)
        return {file_stem(name, shape): name for name in self.graphs for shape in shapes}

    @property
    def most_samples(self) -> int | None:
        """Samples of the largest fixed shape; None for graphs with open axes."""
        return self.shapes[-1].samples if self.shapes else None

    @property
    def squeeze(self) -> int:
        """Feature frames that are one frame of the transformer."""
        return int(self.config.get("context", {}).get("squeeze", 1))

    @property
    def frame_rate(self) -> float | None:
        """Frames per second that the features are resampled to, if they are."""
        rate: float | None = self.config.get("context", {}).get("frame_rate")
        return rate

    @property
    def embedding_dim(self) -> int | None:
        """Width of the embedding of an utterance; None for models without one."""
        encoder = self.graphs.get("encoder")
        outputs = () if encoder is None else encoder.outputs
        return next((int(x.axes[-1]) for x in outputs if x.name == "embedding"), None)

    @property
    def speaker_threshold(self) -> float | None:
        """Cosine from which two embeddings are said to be of one speaker; None if none is known."""
        threshold: float | None = (self.selection or {}).get("speaker_threshold")
        return threshold

    @property
    def decisions(self) -> str:
        """What was decided about text and audio, in one line."""
        return decisions(self)

    @property
    def context_outputs(self) -> dict[str, str | None]:
        """Outputs of the context network, and the tensor that holds each one's valid lengths.

        None for outputs of one vector per utterance.
        """
        lengths = {"frames": "frame_lengths", "context_frames": "context_lengths"}
        return {
            tensor.name: lengths[str(tensor.axes[1])] if len(tensor.axes) > 2 else None  # noqa: PLR2004
            for tensor in self.graphs["context"].outputs
            if tensor.name != "context_lengths"
        }

    def sealed(self) -> Manifest:
        """Return a copy that carries the SHA-256 of its own content."""
        return replace(self, sha256=content_hash(strict.to_plain(self)))

    def text(self) -> str:
        """Return the canonical JSON text of this manifest."""
        return canonical(strict.to_plain(self), allow_nan=False)


def is_bundle_file(name: str) -> bool:
    """Return whether a bundle may hold a file of this name."""
    return name == MANIFEST or name in FILE_NAMES or is_graph_file(name, ".onnx")


def is_graph_file(name: str, suffix: str) -> bool:
    """Return whether a file name is a graph's, of open axes or of a fixed shape."""
    graphs = "|".join(GRAPH_INPUTS)
    return re.fullmatch(rf"({graphs})(-[1-9]\d{{0,9}})?{re.escape(suffix)}", name) is not None


def graph_inputs(name: str, quantizer_input: str | None) -> tuple[str, ...]:
    """Return the inputs of a graph; `frontend` may have `statistics` after them."""
    if name == "quantizer" and quantizer_input is not None:
        return (quantizer_input,)
    return GRAPH_INPUTS[name]


def _are_outputs(name: str, outputs: tuple[str, ...]) -> bool:
    common = GRAPH_OUTPUTS[name]
    extra = outputs[len(common) :] if "context" in common else ()
    return outputs == (*common, *extra) and all(map(EXTRA_OUTPUTS.fullmatch, extra))


def _check_tensor(where: str, tensor: TensorInfo) -> None:
    """Check the element type and the axes that the format gives a tensor's name."""
    name = "layer" if tensor.name.startswith("layer_") else tensor.name
    name = "logits_" if name.startswith("logits_") else name
    kind, signatures = _SIGNATURES[name]
    if tensor.type != kind:
        raise ConfigError(f"{where}.type: expected {kind!r}, found {tensor.type!r:.40}")
    for signature in signatures:
        expected = (("batch",), *signature)
        if len(tensor.axes) == len(expected) and all(
            _is_axis(axis, names) for axis, names in zip(tensor.axes, expected, strict=True)
        ):
            return
    readable = " or ".join(
        "(" + ", ".join(["batch", *("/".join(x) or "a width" for x in signature)]) + ")"
        for signature in signatures
    )
    found = ", ".join(map(str, tensor.axes))
    raise ConfigError(f"{where}.axes: expected {readable}, found ({found:.60})")


def _is_axis(axis: int | str, names: tuple[str, ...]) -> bool:
    """Whether an axis has one of these names; a width is a number."""
    if names != _WIDTH:
        return isinstance(axis, str) and axis in names
    return isinstance(axis, int) and not isinstance(axis, bool) and 1 <= axis <= WIDEST


def check_range(where: str, found: Any, minimum: int, maximum: int) -> None:
    """Check that a value is a whole number within bounds.

    Raises:
        ConfigError: it is not.
    """
    whole = isinstance(found, int) and not isinstance(found, bool)
    if not whole or not minimum <= found <= maximum:
        raise ConfigError(
            f"{where}: expected a whole number from {minimum} to {maximum}, found {found!r:.40}"
        )


def _check_config(config: Mapping[str, Any]) -> None:
    """Check the part of a model's configuration that frame times are computed from."""
    context = config.get("context", {})
    if not isinstance(context, Mapping):
        raise ConfigError(f"config.context: expected a mapping, found {context!r:.40}")
    check_range("config.context.squeeze", context.get("squeeze", 1), 1, _MOST_SQUEEZED)
    rate = context.get("frame_rate")
    if rate is not None and not (_is_number(rate) and MIN_FRAME_RATE <= rate <= MAX_FRAME_RATE):
        raise ConfigError(
            f"config.context.frame_rate: expected a number from {MIN_FRAME_RATE:g} to "
            f"{MAX_FRAME_RATE:g}, found {rate!r:.40}"
        )
    adapter = context.get("adapter")
    if adapter is None:
        return
    if not isinstance(adapter, Mapping):
        raise ConfigError(f"config.context.adapter: expected a mapping, found {adapter!r:.40}")
    for name, bounds in _ADAPTER_BOUNDS.items():
        check_range(f"config.context.adapter.{name}", adapter.get(name), *bounds)


def _check_threshold(threshold: object) -> None:
    if threshold is not None and not (_is_number(threshold) and -1 <= threshold <= 1):
        raise ConfigError(
            f"selection.speaker_threshold: expected a number from -1 to 1, found {threshold!r:.40}"
        )


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_parity(parity: Mapping[str, Any]) -> None:
    """Check the part of a parity report that is shown."""
    for name, kind in _PARITY_TYPES.items():
        if type(parity.get(name)) is not kind:
            raise ConfigError(
                f"parity.{name}: expected {kind.__name__}, found {parity.get(name)!r:.40}"
            )


def canonical(data: Mapping[str, Any], *, allow_nan: bool = True) -> str:
    """Return the canonical JSON text of a manifest's content.

    Raises:
        ValueError: a number is not finite and `allow_nan` is false; older releases wrote such
            numbers.
    """
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=allow_nan)
    return text + "\n"


def content_hash(data: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's content without its own `sha256`."""
    content = {key: value for key, value in data.items() if key != "sha256"}
    return hashlib.sha256(encode(canonical(content))).hexdigest()


def encode(text: str) -> bytes:
    """Encode as UTF-8, including lone surrogates that a damaged file may hold."""
    return text.encode("utf-8", "surrogatepass")

"""Reference results: the training-side PyTorch model in eval mode, in float64, utterances alone.

float64, since float32 has a rounding error of its own, which some checkpoints amplify. `Rounding`
is that error, measured: PyTorch in float32 against PyTorch in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from w2v_edge.agreement import std_across_frames
from w2v_edge.audio import Waveform
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.mel import LogMelFeatureEncoder
from w2v_edge.model.padding import Frames
from w2v_edge.model.quantizer import VectorQuantizer
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge_export.graph_builder import known

EVALUATIONS = (1, 3, 8)
"""float32 evaluations of an utterance whose largest deviation counts as float32's rounding error.

A few can be lucky: the error of one varies by a factor of four. Where a bundle deviates by more,
there are further evaluations.
"""

Tensors = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Reference:
    """Results for one utterance, without padding, by the names of `w2v_edge.bundle`.

    Attributes:
        arrays: outputs for each frame (n, ...): features, context, codes, vectors, margins, scores
            and so on; outputs for the utterance (d,), such as embedding.
        lengths: for each array, the lengths tensor of a batch that it goes by; None where there is
            one vector for the utterance.
        frames: number of feature frames.
        context_frames: number of context frames, and of codes made from the context.
    """

    arrays: Tensors
    lengths: Mapping[str, str | None]
    frames: int
    context_frames: int

    @property
    def nbytes(self) -> int:
        """Size of all arrays in bytes."""
        return sum(array.nbytes for array in self.arrays.values())


@dataclass
class Rounding:
    """float32's own rounding error: PyTorch in float32 against PyTorch in float64.

    Attributes:
        largest: largest absolute deviation of each output; of `codes`, of the quantizer's logits in
            their standard deviations.
        median: median over frames of the same.
        codes: codes compared.
        changed: codes that differ.
    """

    largest: dict[str, float] = field(default_factory=dict)
    median: dict[str, float] = field(default_factory=dict)
    codes: int = 0
    changed: int = 0

    def add(self, other: Rounding) -> None:
        """Take in the errors of another evaluation."""
        for mine, others in ((self.largest, other.largest), (self.median, other.median)):
            for name, value in others.items():
                mine[name] = max(value, mine.get(name, 0.0))
        self.codes += other.codes
        self.changed += other.changed

    @property
    def code_drift(self) -> float:
        """Share of codes that float32 changes."""
        return self.changed / max(1, self.codes)


def rounding_tensors(roundings: Sequence[Rounding]) -> Tensors:
    """Return the errors of utterances as `NAME_rounding` (b, 2): the largest, and the median."""
    return {
        f"{name}_rounding": np.array([[x.largest[name], x.median[name]] for x in roundings])
        for name in roundings[0].largest
    }


@torch.no_grad()
def encode(model: SpeechModel, waveform: Waveform, *, context: bool = True) -> Reference:
    """Run the model on one waveform in float64.

    Args:
        model: in eval mode, in float32.
        waveform: (samples,) float PCM.
        context: whether to run the transformer; it always runs where codes are made from its
            output.
    """
    with in_float64(model):
        features = _features(model, torch.from_numpy(waveform).double())
        return _outputs(model, features, context=context)


@torch.no_grad()
def measure_rounding(
    model: SpeechModel,
    waveform: Waveform,
    exact: Reference,
    evaluations: range = range(EVALUATIONS[0]),
) -> Rounding:
    """Return the largest deviation of float32 evaluations of an utterance from float64.

    All evaluations are equally right. The first two run the whole model, with oneDNN's kernels and
    with PyTorch's own. In further ones features, or the mel energies that they are normalised from,
    are changed by at most one unit in the last place: a bin that hardly varies enlarges it.

    Args:
        model: in eval mode, in float32.
        waveform: (samples,) float PCM.
        exact: the result of `encode`.
        evaluations: numbers of the evaluations.
    """
    found = Rounding()
    context = "context" in exact.arrays
    features = _features(model, torch.from_numpy(waveform))
    for i in evaluations:
        with _kernels(onednn=i % 2 == 0):
            if i == 1:
                given = _features(model, torch.from_numpy(waveform))
            else:
                given = _nudged_features(model, waveform, features, i)
            found.add(_deviations(_outputs(model, given, context=context), exact))
    return found


def _nudged_features(model: SpeechModel, waveform: Waveform, features: Frames, seed: int) -> Frames:
    """Return the features of an evaluation; `features` themselves for seed 0."""
    encoder = model.feature_encoder
    if not seed or not isinstance(encoder, LogMelFeatureEncoder):
        return Frames(_nudged(features.values, seed), features.lengths)
    handle = encoder.normalise.register_forward_pre_hook(
        lambda _, given: (_nudged(given[0], seed), *given[1:])
    )
    try:
        return _features(model, torch.from_numpy(waveform))
    finally:
        handle.remove()


def _nudged(values: torch.Tensor, seed: int) -> torch.Tensor:
    """Change half of the values by one unit in the last place; none for seed 0."""
    if not seed:
        return values
    chosen = torch.rand(values.shape, generator=torch.Generator().manual_seed(seed)) < 0.5  # noqa: PLR2004
    return torch.where(chosen, torch.nextafter(values, torch.tensor(np.inf)), values)


@contextmanager
def _kernels(*, onednn: bool) -> Iterator[None]:
    """Compute with oneDNN's kernels, or with PyTorch's own."""
    before = torch.backends.mkldnn.enabled
    setattr(torch.backends.mkldnn, "enabled", onednn)  # noqa: B010 - its stub has no setter
    try:
        yield
    finally:
        setattr(torch.backends.mkldnn, "enabled", before)  # noqa: B010


def _deviations(single: Reference, exact: Reference) -> Rounding:
    deviations = {
        name: np.abs(single.arrays[name] - values)
        for name, values in exact.arrays.items()
        if name not in {"codes", "vectors", "margins"}
    }
    found = Rounding()
    if "scores" in deviations:
        deviations["codes"] = deviations.pop("scores")
        found.codes = exact.arrays["codes"].size
        found.changed = int((single.arrays["codes"] != exact.arrays["codes"]).sum())
    for name, deviation in deviations.items():
        # One vector for the utterance is one frame.
        pooled = name != "codes" and exact.lengths[name] is None
        rows = deviation[np.newaxis] if pooled else deviation
        by_frame = rows.max(axis=tuple(range(1, rows.ndim)), initial=0.0)
        found.largest[name] = float(by_frame.max(initial=0.0))
        found.median[name] = float(np.median(by_frame)) if len(by_frame) else 0.0
    return found


@contextmanager
def in_float64(model: SpeechModel) -> Iterator[None]:
    """Make a model compute in float64.

    Weights of the transformer's blocks are converted while their block runs, so that a large model
    does not take three times its memory.
    """
    blocks: list[nn.Module] = list(getattr(model.context_network, "blocks", ()))
    inside = {id(tensor) for block in blocks for tensor in _floats(block)}
    rest = [tensor for tensor in _floats(model) if id(tensor) not in inside]
    kept: dict[int, list[torch.Tensor]] = {}

    def enter(block: nn.Module, _: object) -> None:
        kept[id(block)] = _convert(_floats(block))

    def leave(block: nn.Module, _: object, __: object) -> None:
        _restore(_floats(block), kept.pop(id(block)))

    handles = [block.register_forward_pre_hook(enter) for block in blocks]
    handles += [block.register_forward_hook(leave, always_call=True) for block in blocks]
    before = _convert(rest)
    try:
        yield
    finally:
        _restore(rest, before)
        for handle in handles:
            handle.remove()


def _floats(module: nn.Module) -> list[torch.Tensor]:
    tensors = (*module.parameters(), *module.buffers())
    return [tensor for tensor in tensors if tensor.is_floating_point()]


def _convert(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """Make tensors float64 in place, and return their data before."""
    before = [tensor.data for tensor in tensors]
    for tensor in tensors:
        tensor.data = tensor.data.double()
    return before


def _restore(tensors: list[torch.Tensor], before: list[torch.Tensor]) -> None:
    for tensor, data in zip(tensors, before, strict=True):
        tensor.data = data


def _features(model: SpeechModel, waveform: torch.Tensor) -> Frames:
    return model.features(waveform.unsqueeze(0), torch.tensor([len(waveform)]))


def _outputs(model: SpeechModel, features: Frames, *, context: bool) -> Reference:
    frames = int(features.lengths[0])
    context_frames = model.config.context_frames(frames)
    made = {"features": features.values}
    quantized = features
    if context or model.config.quantizer_input == "context":
        made |= model.outputs(features)
    if model.config.quantizer_input == "context":
        quantized = Frames(made["context"], torch.tensor([context_frames]))
    if model.quantizer is not None:
        made |= quantize(model.quantizer, quantized)
    arrays = {name: values[0].numpy() for name, values in made.items()}
    lengths_names = {name: lengths_of(model.config, name) for name in arrays}
    return Reference(arrays, lengths_names, frames, context_frames)


@torch.no_grad()
def quantize_frames(model: SpeechModel, frames: npt.NDArray[np.float32]) -> Tensors:
    """Return the quantizer's float64 results for frames (1, n, d), as a case's expected outputs."""
    quantizer = known(model.quantizer)
    lengths = torch.tensor([frames.shape[1]])
    single = quantize(quantizer, Frames(torch.from_numpy(frames), lengths))["scores"]
    with in_float64(model):
        exact = quantize(quantizer, Frames(torch.from_numpy(frames).double(), lengths))
    largest = float((single - exact["scores"]).abs().max())
    return {
        **{name: values.numpy() for name, values in exact.items()},
        **dict.fromkeys(("frame_lengths", "context_lengths"), lengths.numpy()),
        "codes_rounding": np.array([[largest, 0.0]]),
    }


def quantize(quantizer: VectorQuantizer, frames: Frames) -> dict[str, torch.Tensor]:
    """Return codes, vectors, margins and scores of frames (b, n, d).

    Scores (b, n, g, v) are the logits, in their standard deviations; margins (b, n, g) are the
    distances of the two best.
    """
    found = quantizer(frames)
    logits = quantizer.logits(frames.values)
    scores = logits / (logits.std().clamp(min=1e-12) if logits.numel() > 1 else 1.0)
    best = scores.topk(2, dim=-1).values
    margins = best[..., 0] - best[..., 1]
    return {"codes": found.codes, "vectors": found.vectors, "margins": margins, "scores": scores}


def padded_batch(references: list[Reference], frames: int, context_frames: int) -> Tensors:
    """Return the outputs expected for a batch, rounded to float32, zero past each one's frames.

    Args:
        references: results for each utterance alone.
        frames: feature frames of the padded batch.
        context_frames: context frames of the padded batch.
    """
    batch: Tensors = {
        "frame_lengths": np.array([x.frames for x in references], dtype=np.int64),
        "context_lengths": np.array([x.context_frames for x in references], dtype=np.int64),
    }
    sizes = {"frame_lengths": frames, "context_lengths": context_frames}
    for name, first in references[0].arrays.items():
        lengths = references[0].lengths[name]
        if lengths is None:
            batch[name] = np.stack([x.arrays[name] for x in references]).astype(np.float32)
            continue
        dtype = np.int64 if name == "codes" else np.float32
        batch[name] = np.zeros((len(references), sizes[lengths], *first.shape[1:]), dtype)
        for row, reference in zip(batch[name], references, strict=True):
            row[: len(reference.arrays[name])] = reference.arrays[name]
    return batch


def standard_deviations(reference: Reference) -> Tensors:
    """Return the standard deviation of each float output across frames, as `NAME_std`.

    For outputs with one vector for the utterance it is the root mean square of the entries.
    """
    return {
        f"{name}_std": np.array(
            std_across_frames(array)
            if reference.lengths[name]
            else np.sqrt(np.mean(np.square(array)))
        )
        for name, array in reference.arrays.items()
        if name not in {"codes", "vectors", "margins", "scores"}
    }


def lengths_of(config: ModelConfig, name: str) -> str | None:
    """Return the lengths tensor that an output goes by; None for one vector an utterance."""
    head = config.head
    if name == "embedding" or (head is not None and name in head.outputs and not head.by_frame):
        return None
    of_features = config.quantizer_input == "features"
    if name in {"codes", "vectors", "margins", "scores"}:
        return "frame_lengths" if of_features else "context_lengths"
    state = name == "mixed" or name.startswith("layer_")
    by_feature = name == "features" or (state and config.resampling is None)
    return "frame_lengths" if by_feature else "context_lengths"

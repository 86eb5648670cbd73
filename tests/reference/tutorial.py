"""An independent reference of the tutorial architecture, written as plain functions for tests.

It shares no code with the package: the parameters are read from a state dict by order and shape,
never by name, and the arithmetic is spelled out for one unpadded utterance.

Letters in the shapes: b batch, n frames, c feature channels, d context width, h heads, g groups,
v entries of a group, e width of an entry, w = g * e width of a code vector, m masked frames.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

FIRST_KERNEL, FIRST_STRIDE = 9, 5
LATER_KERNEL, LATER_STRIDE = 3, 2
LAYER_NORM_EPS = 1e-5
PROJECTION_TENSORS = 2
DIVERSITY_WEIGHT, PENALTY_WEIGHT = 0.1, 10.0


@dataclass(frozen=True)
class Result:
    """What the network gives at inference: every tensor of its outputs, with a batch of 1."""

    features: Tensor
    """(b, n, c): the raw output of the convolutions, which the quantizer consumes."""
    context: Tensor
    """(b, n, d): the output of the last block, with no final norm."""
    codes: Tensor
    """(b, n, g) int64: the entry with the largest logit in each group."""
    vectors: Tensor
    """(b, n, w): the chosen codebook rows, groups concatenated."""
    logits: Tensor
    """(b, n, g, v): the scores of the codebook entries."""
    projected: Tensor
    """(b, n, w): the context in the space of the code vectors."""
    frame_lengths: Tensor
    """(b,) int64: the number of frames."""


@dataclass(frozen=True)
class Losses:
    """The pre-training objective of a batch: scalars."""

    contrastive: Tensor
    diversity: Tensor
    feature_penalty: Tensor
    loss: Tensor
    """The weighted sum."""


class _Reader:
    """Hands out the tensors of a state dict in order, checking each one's shape."""

    def __init__(self, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> None:
        """Keep the tensors of the mapping in its own order."""
        self._items = list(tensors.items())
        self._dtype = dtype
        self._position = 0

    @property
    def remaining(self) -> int:
        """The number of tensors not yet taken."""
        return len(self._items) - self._position

    def next_ranks(self, count: int) -> tuple[int, ...]:
        """The number of axes of each of the next tensors, without taking them."""
        upcoming = self._items[self._position : self._position + count]
        return tuple(tensor.ndim for _, tensor in upcoming)

    def take(self, role: str, *expected: int | None) -> Tensor:
        """The next tensor, whose shape must be the expected one (None: any size)."""
        if self.remaining == 0:
            raise ValueError(f"no tensor is left for the {role}, shape {_show(expected)}")
        name, tensor = self._items[self._position]
        self._position += 1
        shape = tuple(tensor.shape)
        if not _matches(shape, expected):
            raise ValueError(
                f"tensor {self._position - 1} ({name!r}) has shape {shape}; "
                f"the {role} with shape {_show(expected)} was expected there"
            )
        return tensor.to(self._dtype)

    def take_pair(self, role: str, *expected: int | None) -> tuple[Tensor, Tensor]:
        """The next weight, with the expected shape, and its bias (weight.shape[0],)."""
        weight = self.take(f"{role} weight", *expected)
        return weight, self.take(f"{role} bias", weight.shape[0])

    def finish(self) -> None:
        """Raise if a tensor is left that nothing took."""
        if self.remaining:
            left = [name for name, _ in self._items[self._position :]]
            raise ValueError(f"{len(left)} tensors are left at the end: {left}")


def run(
    tensors: Mapping[str, Tensor],
    waveform: Tensor,
    dtype: torch.dtype = torch.float32,
    *,
    heads: int = 12,
) -> Result:
    """Run the network, without masking or noise, on one unpadded waveform (samples,)."""
    return _forward(tensors, waveform, dtype, heads, masked=torch.empty(0, dtype=torch.int64))


def pretrain(
    tensors: Mapping[str, Tensor],
    waveforms: Sequence[Tensor],
    mask_indices: Tensor,
    dtype: torch.dtype = torch.float32,
    *,
    heads: int = 12,
) -> Losses:
    """Score a batch of unpadded waveforms, masked at (utterance, frame) indices (m, 2).

    The targets are the vectors of the hard codes, so that no noise enters.
    """
    results, predictions, targets = [], [], []
    for row, waveform in enumerate(waveforms):
        frames = mask_indices[mask_indices[:, 0] == row, 1]
        result = _forward(tensors, waveform, dtype, heads, masked=frames)
        results.append(result)
        predictions.append(result.projected[0, frames])
        targets.append(result.vectors[0, frames])
    logits = torch.cat([result.logits[0] for result in results])
    contrastive = contrastive_loss(torch.cat(predictions), torch.cat(targets))
    diversity = diversity_loss(torch.softmax(logits, dim=-1))
    penalty = feature_penalty(torch.cat([result.features[0] for result in results]))
    return Losses(
        contrastive=contrastive,
        diversity=diversity,
        feature_penalty=penalty,
        loss=contrastive + DIVERSITY_WEIGHT * diversity + PENALTY_WEIGHT * penalty,
    )


def _forward(
    tensors: Mapping[str, Tensor],
    waveform: Tensor,
    dtype: torch.dtype,
    heads: int,
    *,
    masked: Tensor,
) -> Result:
    """Run one waveform (samples,), the context network seeing the masker vector at `masked`."""
    if waveform.ndim != 1 or waveform.shape[0] == 0:
        raise ValueError(f"expected one waveform (samples,), found {tuple(waveform.shape)}")
    reader = _Reader(tensors, dtype)
    features = _extract(reader, waveform.to(dtype))
    logits, codebook = _score(reader, features)
    codes = logits.argmax(dim=-1)
    seen = features.clone()
    seen[:, masked] = reader.take("masker vector", features.shape[-1])
    context = _contextualise(reader, seen, heads)
    projected = _project(reader, context, codebook)
    reader.finish()
    return Result(
        features=features,
        context=context,
        codes=codes,
        vectors=_look_up(codes, codebook),
        logits=logits,
        projected=projected,
        frame_lengths=torch.tensor([features.shape[1]], dtype=torch.int64),
    )


def soft_quantize(logits: Tensor, codebook: Tensor) -> Tensor:
    """Average the rows of a codebook (g, v, e) by the softmax of logits (..., g, v): (..., w)."""
    return _mix(torch.softmax(logits, dim=-1), codebook)


def gumbel_quantize(
    logits: Tensor, codebook: Tensor, u: Tensor, tau: float = 0.1, eps: float = 1e-8
) -> Tensor:
    """Quantize logits (..., g, v) softly with Gumbel noise made of u in [0, 1), like logits."""
    gumbel = -torch.log(-torch.log(u + eps) + eps)
    return _mix(torch.softmax((logits + gumbel) / tau, dim=-1), codebook)


def contrastive_loss(context_masked: Tensor, targets: Tensor, temperature: float = 1.0) -> Tensor:
    """Cross entropy () of finding each prediction (m, w) its own target among targets (m, w)."""
    predictions = functional.normalize(context_masked, dim=-1)
    similarities = predictions @ functional.normalize(targets, dim=-1).T / temperature
    own = torch.log_softmax(similarities, dim=1).diagonal()
    return -own.sum() / max(len(own), 1)  # nothing masked: no loss


def diversity_loss(probs: Tensor) -> Tensor:
    """Unused share () of the codebook, unweighted, from probabilities (frames, g, v)."""
    _, groups, entries = probs.shape
    average = probs.mean(dim=0)
    entropy = -torch.xlogy(average, average).sum(dim=-1)
    size = groups * entries
    return (size - torch.exp(entropy).sum()) / size


def feature_penalty(features: Tensor) -> Tensor:
    """Mean square (), unweighted, of raw unmasked features of any shape, padding left out."""
    return features.square().mean()


def _extract(reader: _Reader, waveform: Tensor) -> Tensor:
    """Turn a waveform (samples,) into features (1, n, c)."""
    weight, bias = reader.take_pair("first convolution", None, 1, FIRST_KERNEL)
    signal = _convolve(waveform[None, None, :], weight, bias, FIRST_STRIDE)
    channels = weight.shape[0]
    while reader.next_ranks(2) == (3, 1):
        weight, bias = reader.take_pair("convolution", channels, channels, LATER_KERNEL)
        signal = _convolve(signal, weight, bias, LATER_STRIDE)
    return signal.transpose(1, 2)


def _convolve(signal: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Convolve (1, channels, time) with zeros on both sides, then apply the exact GELU."""
    padding = weight.shape[-1] // 2
    return functional.gelu(functional.conv1d(signal, weight, bias, stride=stride, padding=padding))


def _score(reader: _Reader, features: Tensor) -> tuple[Tensor, Tensor]:
    """Score features (1, n, c): logits (1, n, g, v), with the codebook (g, v, e)."""
    channels = features.shape[-1]
    if reader.next_ranks(1) == (3,):  # a state dict lists a module's own tensors before children's
        codebook = reader.take("codebook", None, None, None)
        weight, bias = reader.take_pair("scorer", math.prod(codebook.shape[:2]), channels)
    else:
        weight, bias = reader.take_pair("scorer", None, channels)
        codebook = reader.take("codebook", None, None, None)
    groups, entries, _ = codebook.shape
    if weight.shape[0] != groups * entries:
        raise ValueError(f"{weight.shape[0]} scores for a codebook of {groups} x {entries} entries")
    scores = functional.linear(features, weight, bias)
    return scores.reshape(*scores.shape[:-1], groups, entries), codebook


def _look_up(codes: Tensor, codebook: Tensor) -> Tensor:
    """Concatenate the rows of a codebook (g, v, e) that codes (b, n, g) choose: (b, n, w)."""
    rows = [codebook[group][codes[..., group]] for group in range(codebook.shape[0])]
    return torch.cat(rows, dim=-1)


def _mix(weights: Tensor, codebook: Tensor) -> Tensor:
    """Sum the rows of a codebook (g, v, e) weighted by (..., g, v), groups concatenated."""
    return torch.einsum("...gv,gve->...ge", weights, codebook).flatten(-2)


def _contextualise(reader: _Reader, features: Tensor, heads: int) -> Tensor:
    """Turn features (1, n, c) into context (1, n, d)."""
    weight, bias = reader.take_pair("input convolution", None, features.shape[-1], 1)
    hidden = functional.linear(features, weight[:, :, 0], bias)
    hidden = hidden + _positions(reader, hidden)
    if hidden.shape[-1] % heads:
        raise ValueError(f"{hidden.shape[-1]} channels do not divide into {heads} heads")
    while reader.remaining > PROJECTION_TENSORS:
        hidden = hidden + _feed_forward(reader, _attend(reader, hidden, heads))
    return hidden


def _positions(reader: _Reader, hidden: Tensor) -> Tensor:
    """Positional term (1, n, d) of hidden (1, n, d): a grouped convolution and GELU."""
    width = hidden.shape[-1]
    weight, bias = reader.take_pair("positional convolution", width, None, None)
    per_group, kernel = weight.shape[1:]
    if width % per_group or kernel % 2 == 0:
        raise ValueError(f"positional weight {tuple(weight.shape)}: uneven groups or even kernel")
    signal = functional.conv1d(
        hidden.transpose(1, 2), weight, bias, padding=kernel // 2, groups=width // per_group
    )
    return functional.gelu(signal.transpose(1, 2))


def _attend(reader: _Reader, hidden: Tensor, heads: int) -> Tensor:
    """Attend within hidden (1, n, d), each key's weights summing to one over the queries."""
    width = hidden.shape[-1]
    weight, bias = reader.take_pair("query, key and value", 3 * width, width)
    fused = functional.linear(hidden, weight, bias)
    parts = fused.reshape(*hidden.shape[:-1], 3, heads, width // heads)
    query, key, value = parts.unbind(dim=2)
    scores = torch.einsum("bqhc,bkhc->bhqk", query, key) / math.sqrt(width)
    shares = torch.softmax(scores, dim=2)
    mixed = torch.einsum("bhqk,bkhc->bqhc", shares, value).flatten(2)
    return functional.linear(mixed, *reader.take_pair("attention output", width, width))


def _feed_forward(reader: _Reader, hidden: Tensor) -> Tensor:
    """Normalise hidden (1, n, d), widen it and narrow it back, with GELU after each Linear."""
    width = hidden.shape[-1]
    scale, shift = reader.take_pair("layer norm", width)
    hidden = functional.layer_norm(hidden, (width,), scale, shift, LAYER_NORM_EPS)
    weight, bias = reader.take_pair("widening Linear", None, width)
    hidden = functional.gelu(functional.linear(hidden, weight, bias))
    weight, bias = reader.take_pair("narrowing Linear", width, weight.shape[0])
    return functional.gelu(functional.linear(hidden, weight, bias))


def _project(reader: _Reader, context: Tensor, codebook: Tensor) -> Tensor:
    """Bring context (1, n, d) into the space of the code vectors: (1, n, w)."""
    vector_width = codebook.shape[0] * codebook.shape[2]
    weight, bias = reader.take_pair("projection", vector_width, context.shape[-1])
    return functional.linear(context, weight, bias)


def _matches(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    """Whether a shape is the expected one, None standing for any size."""
    return len(shape) == len(expected) and all(
        want is None or want == size for size, want in zip(shape, expected, strict=True)
    )


def _show(expected: tuple[int | None, ...]) -> str:
    """An expected shape as text, with "any" where the size is free."""
    return "(" + ", ".join("any" if size is None else str(size) for size in expected) + ")"

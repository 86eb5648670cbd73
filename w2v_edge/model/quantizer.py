"""Vector quantizers: features to codebook entries, differentiable in training.

Source: vq-wav2vec (Baevski et al. 2020, arXiv 1910.05453) section 3.1 and wav2vec 2.0
(arXiv 2006.11477) section 2, as in fairseq's `GumbelVectorQuantizer`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor, nn

from w2v_edge.model.collective import all_reduce_sum
from w2v_edge.model.config import (
    GumbelQuantizerConfig,
    NearestQuantizerConfig,
    QuantizerConfig,
    SoftQuantizerConfig,
)
from w2v_edge.model.padding import Frames, at_least_float32, valid_steps
from w2v_edge.model.random import RandomStream, fresh_seeds, uniform

NOISE_EPS = 1e-8


class QuantizerOutput(NamedTuple):
    """Quantized vectors, codes and code usage of a padded batch of frames.

    Attributes:
        vectors: (b, n, g * d), the groups' codebook vectors side by side.
        codes: (b, n, g) hard argmax of the logits, int64, zero past the lengths.
        chosen: (b, n, g) entries of `vectors`, sampled with noise in training; None where `vectors`
            are mixtures of entries.
        usage: (g, v) mean softmax over the valid frames of all processes, without noise.
        code_perplexity: (g,) exp of the entropy of the hard codes' histogram.
        usage_perplexity: (g,) exp of the entropy of `usage`.
    """

    vectors: Tensor
    codes: Tensor
    chosen: Tensor | None
    usage: Tensor
    code_perplexity: Tensor
    usage_perplexity: Tensor


class Codebook(nn.Module):
    """Code vectors, `weight` (g, v, d)."""

    def __init__(self, groups: int, entries: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(groups, entries, dim))

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the rows (b, n, g * d) of codes (b, n, g)."""
        groups = torch.arange(len(self.weight), device=codes.device)
        return rearrange(self.weight[groups, codes], "b n g d -> b n (g d)")

    def mix(self, weights: Tensor) -> Tensor:
        """Return the weighted sums of rows (b, n, g * d) for weights (b, n, g, v)."""
        vectors = einsum(weights, self.weight, "b n g v, g v d -> b n g d")
        return rearrange(vectors, "b n g d -> b n (g d)")


class VectorQuantizer(nn.Module):
    """Scores each group's entries; subclasses weight the codebook's rows in training.

    Attributes:
        samples: whether the training weights select a single entry.
    """

    samples = False

    def __init__(self, config: QuantizerConfig) -> None:
        super().__init__()
        self._attach(config)

    def _attach(self, config: QuantizerConfig) -> None:
        self.config = config
        self.codebook = Codebook(config.groups, config.entries, config.vector_dim // config.groups)

    def logits(self, features: Tensor) -> Tensor:
        """Score features (b, n, d) as (b, n, g, v)."""
        weight, bias = self.linear()
        scores = nn.functional.linear(features, weight, bias)
        return rearrange(scores, "b n (g v) -> b n g v", g=self.config.groups)

    def linear(self) -> tuple[Tensor, Tensor]:
        """Return the weight (g * v, d) and bias (g * v,) of the scores."""
        raise NotImplementedError

    def weights(self, logits: Tensor, update: int, seeds: Tensor) -> Tensor:
        """Return training weights (b, n, g, v) of logits (b, n, g, v) after `update` steps."""
        raise NotImplementedError

    def forward(
        self, frames: Frames, *, update: int = 0, seeds: Tensor | None = None
    ) -> QuantizerOutput:
        """Quantize frames (b, n, d): softly in training, by hard argmax in eval mode.

        Args:
            frames: the features and their valid lengths.
            update: optimiser steps so far, for the temperature schedule.
            seeds: (b,) random seeds of the utterances, for the training noise; fresh if None.
        """
        # Under autocast logits are half precision; probabilities are summed in float32.
        logits = at_least_float32(self.logits(frames.values))
        valid = valid_steps(frames.lengths, logits.shape[1])
        codes = logits.argmax(dim=-1) * rearrange(valid, "b n -> b n 1")
        if self.training:
            seeds = fresh_seeds(len(logits), logits.device) if seeds is None else seeds
            weights = self.weights(logits, update, seeds)
            vectors = self.codebook.mix(weights)
            chosen = weights.argmax(dim=-1) if self.samples else None
        else:
            vectors, chosen = self.codebook.lookup(codes), codes
        usage = _mean_over_valid(logits.softmax(dim=-1), valid)
        histogram = _mean_over_valid(_one_hot(codes, self.config.entries), valid)
        perplexities = perplexity(histogram), perplexity(usage)
        return QuantizerOutput(vectors, codes, chosen, usage, *perplexities)


class LearnedVectorQuantizer(VectorQuantizer):
    """Scores entries with a linear layer, learned together with the codebook."""

    def __init__(self, channels: int, config: QuantizerConfig) -> None:
        nn.Module.__init__(self)
        self.scorer = nn.Linear(channels, config.groups * config.entries)
        self._attach(config)

    def linear(self) -> tuple[Tensor, Tensor]:
        """Return the layer's weight and bias; see `VectorQuantizer`."""
        return self.scorer.weight, self.scorer.bias


class SoftVectorQuantizer(LearnedVectorQuantizer):
    """Softmax over the entries, without noise."""

    config: SoftQuantizerConfig

    def weights(self, logits: Tensor, update: int, seeds: Tensor) -> Tensor:  # noqa: ARG002
        """Return the softmax of logits (b, n, g, v)."""
        return logits.softmax(dim=-1)


class GumbelVectorQuantizer(LearnedVectorQuantizer):
    """Gumbel softmax at an annealed temperature; `hard` samples one entry, straight-through."""

    config: GumbelQuantizerConfig

    def __init__(self, channels: int, config: GumbelQuantizerConfig) -> None:
        super().__init__(channels, config)
        self.samples = config.hard

    def weights(self, logits: Tensor, update: int, seeds: Tensor) -> Tensor:
        """Sample weights for logits (b, n, g, v); hard weights have the soft ones' gradient."""
        soft = gumbel_softmax(logits, self.config.temperature.at(update), seeds)
        if not self.config.hard:
            return soft
        hard = _one_hot(soft.argmax(dim=-1), self.config.entries)
        # In this order of operations the value is exactly one-hot.
        return hard + (soft - soft.detach())


class NearestQuantizer(VectorQuantizer):
    """Nearest centroid: |x - c|^2 is smallest where x . c - |c|^2 / 2 is largest."""

    config: NearestQuantizerConfig

    def __init__(self, channels: int, config: NearestQuantizerConfig) -> None:  # noqa: ARG002
        super().__init__(config)

    def logits(self, features: Tensor) -> Tensor:
        """Score context vectors (b, n, d), over their length if so configured, as (b, n, 1, v)."""
        if self.config.unit_length:
            features = nn.functional.normalize(features, dim=-1)
        return super().logits(features)

    def linear(self) -> tuple[Tensor, Tensor]:
        """Return the centroids and minus half their squared lengths; see `VectorQuantizer`."""
        centroids = self.codebook.weight[0]
        return centroids, (centroids.double().square().sum(dim=1) / -2).to(centroids.dtype)


def gumbel_softmax(logits: Tensor, temperature: float, seeds: Tensor) -> Tensor:
    """Return softmax((logits + gumbel) / temperature) over the last axis.

    Args:
        logits: (b, ..., v).
        temperature: higher is nearer to uniform.
        seeds: (b,) random seeds of the noise.
    """
    chance = uniform(seeds.to(logits.device), RandomStream.GUMBEL, *logits.shape[1:])
    gumbel = -torch.log(-torch.log(chance + NOISE_EPS) + NOISE_EPS)
    return ((logits + gumbel) / temperature).softmax(dim=-1)


def perplexity(usage: Tensor) -> Tensor:
    """Return exp(entropy) (g,) of distributions (g, v): the effective number of entries in use."""
    return (usage * torch.log(usage + 1e-7)).sum(dim=1).neg().exp()


def _one_hot(codes: Tensor, entries: int) -> Tensor:
    return nn.functional.one_hot(codes, entries).to(torch.get_default_dtype())


def _mean_over_valid(values: Tensor, valid: Tensor) -> Tensor:
    summed = reduce(values * rearrange(valid, "b n -> b n 1 1"), "b n g v -> g v", "sum")
    return all_reduce_sum(summed) / all_reduce_sum(valid.sum()).clamp(min=1)


QUANTIZERS: dict[str, Callable[[int, Any], VectorQuantizer]] = {
    "soft": SoftVectorQuantizer,
    "gumbel": GumbelVectorQuantizer,
    "nearest": NearestQuantizer,
}

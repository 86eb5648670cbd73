"""The pre-training objective: random samples of a batch, and the weighted sum of the losses.

Source: wav2vec 2.0 (arXiv 2006.11477), section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from w2v_edge.model.config import InBatchDistractorsConfig, ObjectiveConfig
from w2v_edge.model.losses import (
    ContrastiveOutput,
    diversity_loss,
    feature_penalty,
    in_batch_contrastive,
    sample_distractors,
    sampled_contrastive,
)
from w2v_edge.model.masking import Mask, SpanMasker
from w2v_edge.model.padding import Frames
from w2v_edge.model.quantizer import QuantizerOutput


class PretrainingOutput(NamedTuple):
    """Losses and metrics of one pre-training step over the global batch.

    Scalars, except where a shape is given.

    Attributes:
        loss: the weighted sum.
        contrastive: mean cross entropy over masked positions.
        diversity: share of unused codebook entries.
        feature_penalty: mean square of the raw features.
        accuracy: share of masked positions whose target scores highest.
        code_perplexity: (g,) exp of the entropy of the hard codes.
        usage_perplexity: (g,) exp of the entropy of the mean softmax.
        masked: number of masked positions, int64.
        mask_indices: (m, 2) batch and frame of each masked position of this process, row-major.
    """

    loss: Tensor
    contrastive: Tensor
    diversity: Tensor
    feature_penalty: Tensor
    accuracy: Tensor
    code_perplexity: Tensor
    usage_perplexity: Tensor
    masked: Tensor
    mask_indices: Tensor


class BatchSamples(NamedTuple):
    """Random samples of a batch: the mask and the distractors.

    Attributes:
        mask: the masked positions.
        distractors: (m, k) indices into the masked positions; None if the distractors are all
            other masked positions of the batch.
    """

    mask: Mask
    distractors: Tensor | None


def sample_batch(
    config: ObjectiveConfig,
    masker: SpanMasker,
    *,
    lengths: Tensor,
    frames: int,
    seeds: Tensor,
    device: torch.device,
) -> BatchSamples:
    """Draw masks and distractors on the device of `lengths`, and move them to `device`.

    Args:
        config: the kind and number of distractors.
        masker: draws the masked spans.
        lengths: (b,) valid frames of each utterance.
        frames: frames of the padded batch, n.
        seeds: (b,) random seeds of the utterances, on the device of `lengths`.
        device: the model's device.
    """
    mask = masker.draw(lengths, frames, seeds)
    if isinstance(config.distractors, InBatchDistractorsConfig):
        return BatchSamples(mask.to(device), None)
    distractors = sample_distractors(mask.indices[:, 0], config.distractors.count, seeds)
    return BatchSamples(mask.to(device), distractors.to(device, non_blocking=True))


def pretraining_output(
    config: ObjectiveConfig,
    *,
    predictions: Tensor,
    targets: Tensor,
    samples: BatchSamples,
    quantized: QuantizerOutput,
    raw_features: Frames,
) -> PretrainingOutput:
    """Compute the losses and metrics.

    Args:
        config: loss weights and the temperature.
        predictions: (b, n, d) projected context representations.
        targets: (b, n, d) quantized features, unmasked.
        samples: masked positions and distractors.
        quantized: the quantizer's output, for code usage.
        raw_features: output of the feature encoder, before its layer norm.
    """
    rows, frames = samples.mask.indices.unbind(dim=1)
    # Cosine similarities over a temperature of 0.1 need more precision than half precision has.
    with torch.autocast(predictions.device.type, enabled=False):
        chosen = quantized.chosen
        contrastive = _contrastive(
            config,
            predictions[rows, frames].float(),
            targets[rows, frames].float(),
            samples,
            None if chosen is None else chosen[rows, frames],
        )
    diversity = diversity_loss(quantized.usage)
    penalty = feature_penalty(raw_features)
    loss = contrastive.loss + config.diversity_weight * diversity + config.penalty_weight * penalty
    return PretrainingOutput(
        loss=loss,
        contrastive=contrastive.loss,
        diversity=diversity,
        feature_penalty=penalty,
        accuracy=contrastive.accuracy,
        code_perplexity=quantized.code_perplexity,
        usage_perplexity=quantized.usage_perplexity,
        masked=contrastive.masked,
        mask_indices=samples.mask.indices,
    )


def _contrastive(
    config: ObjectiveConfig,
    predictions: Tensor,
    targets: Tensor,
    samples: BatchSamples,
    chosen: Tensor | None,
) -> ContrastiveOutput:
    temperature = config.logit_temperature
    if samples.distractors is None:
        return in_batch_contrastive(predictions, targets, temperature)
    return sampled_contrastive(predictions, targets, samples.distractors, temperature, chosen)

"""The pre-training objective: from predictions and targets to one loss.

Source: wav2vec 2.0 (arXiv 2006.11477), section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from w2v_edge.model.config import InBatchDistractorsConfig, ObjectiveConfig
from w2v_edge.model.lengths import Frames
from w2v_edge.model.losses import (
    ContrastiveOutput,
    diversity_loss,
    feature_penalty,
    in_batch_contrastive,
    sample_distractors,
    sampled_contrastive,
)
from w2v_edge.model.quantizer import QuantizerOutput


class PretrainingOutput(NamedTuple):
    """One forward of pre-training. All scalars but where a shape is given.

    Attributes:
        loss: the weighted sum.
        contrastive: mean cross entropy over masked positions.
        diversity: share of codebook entries unused.
        feature_penalty: mean square of the raw features.
        accuracy: share of masked positions whose target scored best.
        code_perplexity: (g,) entries in use, from hard codes.
        usage_perplexity: (g,) entries in use, from soft assignments.
        mask_indices: (m, 2) batch and frame of each masked position, row-major.
    """

    loss: Tensor
    contrastive: Tensor
    diversity: Tensor
    feature_penalty: Tensor
    accuracy: Tensor
    code_perplexity: Tensor
    usage_perplexity: Tensor
    mask_indices: Tensor


def pretraining_output(
    config: ObjectiveConfig,
    *,
    predictions: Tensor,
    targets: Tensor,
    mask_indices: Tensor,
    quantized: QuantizerOutput,
    raw_features: Frames,
) -> PretrainingOutput:
    """Compute every loss.

    Args:
        config: weights and temperatures.
        predictions: (b, n, d) projected context.
        targets: (b, n, d) quantized features, unmasked.
        mask_indices: (m, 2) where to compare them.
        quantized: the quantizer's output, for code usage.
        raw_features: output of the convolutions.
    """
    rows, frames = mask_indices.unbind(dim=1)
    contrastive = _contrastive(config, predictions[rows, frames], targets[rows, frames], rows)
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
        mask_indices=mask_indices,
    )


def _contrastive(
    config: ObjectiveConfig, predictions: Tensor, targets: Tensor, utterances: Tensor
) -> ContrastiveOutput:
    if isinstance(config.distractors, InBatchDistractorsConfig):
        return in_batch_contrastive(predictions, targets, config.logit_temperature)
    distractors = sample_distractors(utterances, config.distractors.count)
    return sampled_contrastive(predictions, targets, distractors, config.logit_temperature)

"""The pre-training objective: from predictions and targets to one loss.

Source: wav2vec 2.0 (arXiv 2006.11477), section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
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
from w2v_edge.model.masking import Mask, SpanMasker
from w2v_edge.model.quantizer import QuantizerOutput


class PretrainingOutput(NamedTuple):
    """One forward of pre-training, over the batches of all processes that train together.

    All are scalars but where a shape is given.

    Attributes:
        loss: the weighted sum.
        contrastive: mean cross entropy over masked positions.
        diversity: share of codebook entries unused.
        feature_penalty: mean square of the raw features.
        accuracy: share of masked positions whose target scored best.
        code_perplexity: (g,) entries in use, from hard codes.
        usage_perplexity: (g,) entries in use, from soft assignments.
        masked: how many positions were masked, int64.
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


class Drawn(NamedTuple):
    """What chance decides of a batch.

    Attributes:
        mask: the masked positions.
        distractors: (m, k) positions in the order of the mask's indices; None where all other
            masked positions of the batch are.
    """

    mask: Mask
    distractors: Tensor | None


def draw(
    config: ObjectiveConfig,
    masker: SpanMasker,
    *,
    lengths: Tensor,
    frames: int,
    seeds: Tensor,
    device: torch.device,
) -> Drawn:
    """Draw masks and distractors where `lengths` are, and bring them to a device.

    Args:
        config: what distractors are.
        masker: draws spans.
        lengths: (b,) valid frames of the utterances.
        frames: of the padded batch.
        seeds: (b,) of the utterances, beside `lengths`.
        device: of the model.
    """
    mask = masker.draw(lengths, frames, seeds)
    if isinstance(config.distractors, InBatchDistractorsConfig):
        return Drawn(mask.to(device), None)
    distractors = sample_distractors(mask.indices[:, 0], config.distractors.count, seeds)
    return Drawn(mask.to(device), distractors.to(device, non_blocking=True))


def pretraining_output(
    config: ObjectiveConfig,
    *,
    predictions: Tensor,
    targets: Tensor,
    drawn: Drawn,
    quantized: QuantizerOutput,
    raw_features: Frames,
) -> PretrainingOutput:
    """Compute every loss.

    Args:
        config: weights and temperatures.
        predictions: (b, n, d) projected context.
        targets: (b, n, d) quantized features, unmasked.
        drawn: where to compare them, and with what.
        quantized: the quantizer's output, for code usage.
        raw_features: output of the convolutions.
    """
    rows, frames = drawn.mask.indices.unbind(dim=1)
    # Cosines over a temperature of 0.1 need more digits than halves have.
    with torch.autocast(predictions.device.type, enabled=False):
        chosen = quantized.chosen
        contrastive = _contrastive(
            config,
            predictions[rows, frames].float(),
            targets[rows, frames].float(),
            drawn,
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
        mask_indices=drawn.mask.indices,
    )


def _contrastive(
    config: ObjectiveConfig,
    predictions: Tensor,
    targets: Tensor,
    drawn: Drawn,
    chosen: Tensor | None,
) -> ContrastiveOutput:
    temperature = config.logit_temperature
    if drawn.distractors is None:
        return in_batch_contrastive(predictions, targets, temperature)
    return sampled_contrastive(predictions, targets, drawn.distractors, temperature, chosen)

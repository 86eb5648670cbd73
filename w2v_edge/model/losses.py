"""The pre-training losses.

Source: wav2vec 2.0 (arXiv 2006.11477), section 3.2: contrastive loss (3), diversity loss (4); the
feature penalty is fairseq's `features_pen`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from torch import Tensor

from w2v_edge.model.collective import all_gather_rows, all_reduce_sum
from w2v_edge.model.padding import Frames, valid_steps
from w2v_edge.model.quantizer import perplexity
from w2v_edge.model.random import RandomStream, uniform_at


class ContrastiveOutput(NamedTuple):
    """Contrastive loss over the masked positions of all processes.

    After codebook collapse every distractor equals its target and is excluded: the loss is 0 and
    the accuracy 1, so code perplexity must be watched too.

    Attributes:
        loss: scalar, mean cross entropy; 0 without masked positions.
        accuracy: scalar, share of positions whose target scores highest; 0 without positions.
        masked: scalar int64, number of masked positions.
    """

    loss: Tensor
    accuracy: Tensor
    masked: Tensor


def in_batch_contrastive(
    predictions: Tensor, targets: Tensor, temperature: float
) -> ContrastiveOutput:
    """Contrastive loss with the other masked positions of the global batch as distractors.

    Args:
        predictions: (m, d) projected context at the masked positions.
        targets: (m, d) quantized features there.
        temperature: divides the cosine similarities.
    """
    candidates, first = all_gather_rows(F.normalize(targets, dim=-1))
    similarity = einsum(F.normalize(predictions, dim=-1), candidates, "m d, k d -> m k")
    own = torch.arange(first, first + len(targets), device=targets.device)
    return _classify(similarity / temperature, own)


def sampled_contrastive(
    predictions: Tensor,
    targets: Tensor,
    distractors: Tensor,
    temperature: float,
    chosen: Tensor | None = None,
) -> ContrastiveOutput:
    """Contrastive loss with distractors from the same utterance.

    A distractor equal to the target is excluded, as in fairseq. Equality is tested on the codebook
    entries where given: rounding makes equal vectors differ.

    Args:
        predictions: (m, d) projected context at the masked positions.
        targets: (m, d) quantized features there.
        distractors: (m, k) positions in `targets`; a position's own index means no distractor.
        temperature: divides the cosine similarities.
        chosen: (m, g) codebook entries of the targets; None where targets are mixtures.
    """
    identity = targets if chosen is None else chosen
    same = (identity[distractors] == rearrange(identity, "m d -> m 1 d")).all(dim=-1)
    predictions, targets = F.normalize(predictions, dim=-1), F.normalize(targets, dim=-1)
    positive = einsum(predictions, targets, "m d, m d -> m")
    # Indexing would add up gradients in the order in which threads arrive.
    negatives = F.embedding(distractors, targets)
    similarity = einsum(predictions, negatives, "m d, m k d -> m k").masked_fill(same, -torch.inf)
    logits = torch.cat([rearrange(positive, "m -> m 1"), similarity], dim=1) / temperature
    labels = torch.zeros(len(targets), dtype=torch.long, device=targets.device)
    return _classify(logits, labels)


def sample_distractors(utterances: Tensor, count: int, seeds: Tensor) -> Tensor:
    """Draw distractors for each masked position from the same utterance's other masked positions.

    Args:
        utterances: (m,) the utterance of each masked position, ascending.
        count: distractors per position, drawn with replacement.
        seeds: (b,) random seeds of the utterances.

    Returns:
        (m, k) indices into the masked positions; an utterance's only position gets its own index.
    """
    positions = torch.arange(len(utterances), device=utterances.device)
    _, inverse, sizes = torch.unique_consecutive(
        utterances, return_inverse=True, return_counts=True
    )
    first = (sizes.cumsum(0) - sizes)[inverse]
    others = rearrange(sizes[inverse] - 1, "m -> m 1")
    columns = torch.arange(count, device=positions.device)
    own = rearrange(positions - first, "m -> m 1")
    draws = uniform_at(seeds[utterances], RandomStream.DISTRACTORS, own * count + columns)
    offset = torch.minimum((draws * others).long(), (others - 1).clamp(min=0))
    offset = torch.where((offset >= own) & (others > 0), offset + 1, offset)
    sampled: Tensor = rearrange(first, "m -> m 1") + offset
    return sampled


def diversity_loss(usage: Tensor) -> Tensor:
    """Return the share of unused codebook entries, from the mean softmax (g, v)."""
    return (usage.numel() - perplexity(usage).sum()) / usage.numel()


def feature_penalty(features: Frames) -> Tensor:
    """Return the mean square of raw features (b, n, d) over the valid frames of all processes."""
    values, lengths = features
    valid = valid_steps(lengths, values.shape[1])
    squares = reduce(values.float().square(), "b n d -> b n", "mean")
    return all_reduce_sum(torch.where(valid, squares, 0.0).sum()) / all_reduce_sum(
        valid.sum()
    ).clamp(min=1)


def _classify(logits: Tensor, labels: Tensor) -> ContrastiveOutput:
    masked = all_reduce_sum(torch.tensor(len(labels), device=labels.device))
    wrong = F.cross_entropy(logits, labels, reduction="sum") if len(labels) else logits.sum()
    hits = (logits.argmax(dim=-1) == labels).sum() if len(labels) else masked.new_zeros(())
    count = masked.clamp(min=1)
    return ContrastiveOutput(all_reduce_sum(wrong) / count, all_reduce_sum(hits) / count, masked)

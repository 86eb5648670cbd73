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

from w2v_edge.model.collective import everywhere, total
from w2v_edge.model.lengths import Frames, valid_steps
from w2v_edge.model.quantizer import perplexity
from w2v_edge.model.random import Stream, uniform_at


class ContrastiveOutput(NamedTuple):
    """The contrastive loss and its accuracy, means over masked positions, and their number.

    All are scalars, over all processes. Loss and accuracy are 0 where nothing was masked. Where all
    codes have collapsed into one, every distractor equals its target and is left out: the loss is 0
    and the accuracy 1, so watch code perplexity.
    """

    loss: Tensor
    accuracy: Tensor
    masked: Tensor


def in_batch_contrastive(
    predictions: Tensor, targets: Tensor, temperature: float
) -> ContrastiveOutput:
    """Tell each position's target from those of all other masked positions of the batch.

    The batch is that of all processes.

    Args:
        predictions: (m, d) projected context at the masked positions.
        targets: (m, d) quantized features there.
        temperature: divides the cosine similarities.
    """
    candidates, first = everywhere(F.normalize(targets, dim=-1))
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
    """Tell each position's target from distractors drawn from its own utterance.

    Args:
        predictions: (m, d) projected context at the masked positions.
        targets: (m, d) quantized features there.
        distractors: (m, k) positions in `targets`; a position's own index stands for none.
        temperature: divides the cosine similarities.
        chosen: (m, g) the entries that targets are made of, if they are.

    A distractor equal to the target is left out, as in fairseq: it would be no mistake. Where the
    entries are known they tell, and not vectors, which rounding makes different.
    """
    kinds = targets if chosen is None else chosen
    same = (kinds[distractors] == rearrange(kinds, "m d -> m 1 d")).all(dim=-1)
    predictions, targets = F.normalize(predictions, dim=-1), F.normalize(targets, dim=-1)
    positive = einsum(predictions, targets, "m d, m d -> m")
    negatives = targets[distractors]
    similarity = einsum(predictions, negatives, "m d, m k d -> m k").masked_fill(same, -torch.inf)
    logits = torch.cat([rearrange(positive, "m -> m 1"), similarity], dim=1) / temperature
    labels = torch.zeros(len(targets), dtype=torch.long, device=targets.device)
    return _classify(logits, labels)


def sample_distractors(utterances: Tensor, count: int, seeds: Tensor) -> Tensor:
    """Draw `count` other masked positions of the same utterance for each masked position.

    Args:
        utterances: (m,) the utterance of each masked position, ascending.
        count: distractors a position, drawn with replacement.
        seeds: (b,) of the utterances.

    Returns:
        (m, k) indices into the masked positions; where an utterance has but one, its own.
    """
    positions = torch.arange(len(utterances), device=utterances.device)
    _, inverse, sizes = torch.unique_consecutive(
        utterances, return_inverse=True, return_counts=True
    )
    first = (sizes.cumsum(0) - sizes)[inverse]
    others = rearrange(sizes[inverse] - 1, "m -> m 1")
    places = torch.arange(count, device=positions.device)
    own = rearrange(positions - first, "m -> m 1")
    draws = uniform_at(seeds[utterances], Stream.DISTRACTORS, own * count + places)
    offset = torch.minimum((draws * others).long(), (others - 1).clamp(min=0))
    offset = torch.where((offset >= own) & (others > 0), offset + 1, offset)
    sampled: Tensor = rearrange(first, "m -> m 1") + offset
    return sampled


def diversity_loss(usage: Tensor) -> Tensor:
    """Return the share of codebook entries that go unused, from the mean softmax (g, v)."""
    return (usage.numel() - perplexity(usage).sum()) / usage.numel()


def feature_penalty(features: Frames) -> Tensor:
    """Return the mean square of raw features (b, n, d) over valid frames of all processes."""
    values, lengths = features
    valid = valid_steps(lengths, values.shape[1])
    squares = reduce(values.float().square(), "b n d -> b n", "mean")
    return total(torch.where(valid, squares, 0.0).sum()) / total(valid.sum()).clamp(min=1)


def _classify(logits: Tensor, labels: Tensor) -> ContrastiveOutput:
    masked = total(torch.tensor(len(labels), device=labels.device))
    wrong = F.cross_entropy(logits, labels, reduction="sum") if len(labels) else logits.sum()
    hits = (logits.argmax(dim=-1) == labels).sum() if len(labels) else masked.new_zeros(())
    count = masked.clamp(min=1)
    return ContrastiveOutput(total(wrong) / count, total(hits) / count, masked)

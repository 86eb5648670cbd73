"""Masked prediction on held-out recordings: how often the true target scores best.

A distractor equal to the target is left out of the comparison, so the fewer codes there are, the
easier it is: at one single code everything is right. Three figures are therefore to be read
together: accuracy, chance given these codes, and the codes' perplexity.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from bench.tiny.codes import Codes, Ints
from bench.tiny.prompts import Prompt
from bench.tiny.scores import Floats, Score, ratio
from w2v_edge.model import PretrainingOutput, SpeechModel
from w2v_edge.model.config import InBatchDistractorsConfig

IN_BATCH = 8
"""Recordings a batch where distractors are drawn from all of it; else each is alone."""


def masked_prediction(
    model: SpeechModel, codes: Codes, prompts: Sequence[Prompt], draws: int
) -> dict[str, Score]:
    """Return `accuracy`, `chance` and `contrastive_loss` over all draws of masks.

    Every model is asked about the same masks: they follow from the draw's number.
    """
    rows = [_totals(model, codes, batch, draws) for batch in _batches(model, prompts)]
    count, right, by_chance, loss = np.array(rows).T
    return {
        "accuracy": ratio(right, count),
        "chance": ratio(by_chance, count),
        "contrastive_loss": ratio(loss, count),
    }


def nominal_chance(model: SpeechModel) -> float | None:
    """Return 1 / (distractors + 1); None where their number depends on the batch."""
    assert model.config.objective is not None
    distractors = model.config.objective.distractors
    if isinstance(distractors, InBatchDistractorsConfig):
        return None
    return 1 / (distractors.count + 1)


def chance(codes: Ints, distractors: int) -> float:
    """Return the expected accuracy of random scores, summed over the masked positions.

    Args:
        codes: (m, groups) of one recording's masked positions.
        distractors: drawn for each from the others with replacement; those with the same codes as
            the target are left out. The expectation of 1 / (1 + left) for a binomial number.
    """
    if len(codes) == 1:
        return 1.0
    _, inverse, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    same = (counts[inverse.ravel()] - 1) / (len(codes) - 1)
    differ = np.maximum(1 - same, 1e-12)
    trials = distractors + 1
    return float(np.where(same == 1, 1.0, (1 - same**trials) / (trials * differ)).sum())


def _totals(model: SpeechModel, codes: Codes, prompts: Sequence[Prompt], draws: int) -> Floats:
    """Sum masked positions, right answers, those of chance, and losses (4,) over draws."""
    lengths = torch.tensor([len(x.waveform) for x in prompts])
    waveform = torch.zeros(len(prompts), int(lengths.max()))
    for row, prompt in zip(waveform, prompts, strict=True):
        row[: len(prompt.waveform)] = torch.from_numpy(prompt.waveform)
    total = np.zeros(4)
    for draw in range(draws):
        torch.manual_seed(draw)
        with torch.inference_mode():
            output = model(waveform, lengths)
        count = len(output.mask_indices)
        by_chance = _chance(model, codes, prompts, output) if count else 0.0
        right, loss = count * float(output.accuracy), count * float(output.contrastive)
        total += (count, right, by_chance, loss)
    return total


def _chance(
    model: SpeechModel, codes: Codes, prompts: Sequence[Prompt], output: PretrainingOutput
) -> float:
    assert model.config.objective is not None
    distractors = model.config.objective.distractors
    if isinstance(distractors, InBatchDistractorsConfig):
        return 1.0
    rows, frames = output.mask_indices.numpy().T
    masked = [codes.of[x.id][frames[rows == i]] for i, x in enumerate(prompts)]
    return sum(chance(each, distractors.count) for each in masked if len(each))


def _batches(model: SpeechModel, prompts: Sequence[Prompt]) -> Iterator[Sequence[Prompt]]:
    assert model.config.objective is not None
    in_batch = isinstance(model.config.objective.distractors, InBatchDistractorsConfig)
    size = IN_BATCH if in_batch else 1
    for start in range(0, len(prompts), size):
        yield prompts[start : start + size]

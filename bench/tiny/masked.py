"""Masked prediction on held-out recordings: how often the true target scores best.

A distractor equal to the target is left out of the comparison, and distractors equal to each other
are one, so fewer codes make the task easier; with a single code accuracy is 1.
Accuracy is therefore shown beside two baselines over the same codes: random scores, and scoring
codes by their frequency.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from bench.tiny.codes import Codes, Ints, joint
from bench.tiny.prompts import Prompt
from bench.tiny.scores import Floats, Score, ratio
from w2v_edge.model import SpeechModel
from w2v_edge.model.config import InBatchDistractorsConfig
from w2v_edge.model.losses import sample_distractors
from w2v_edge.model.random import seed_of

IN_BATCH = 8
"""Recordings a batch where distractors are drawn from all of it; else each is alone."""


class ForNothing(NamedTuple):
    """Accuracy (m,) of baselines without audio, at each masked position.

    Attributes:
        random: expected accuracy of random scores.
        frequent: 1 where the target is more frequent than all its distractors, else 0.
    """

    random: Floats
    frequent: Floats


def masked_prediction(
    model: SpeechModel, codes: Codes, prompts: Sequence[Prompt], draws: int
) -> dict[str, Score]:
    """Return `accuracy`, `contrastive_loss` and the baselines over all draws of masks.

    Measured on held-out `prompts`; frequencies are those of the others. The result has `chance` and
    `most_frequent` only if distractors come from the same recording. Masks are seeded by the draw,
    so that they are the same for all models.
    """
    frequency = frequencies(codes, {x.id for x in prompts})
    batches = _batches(model, prompts)
    rows = [_totals(model, codes, frequency, batch, draws) for batch in batches]
    count, right, loss, random, frequent = np.array(rows).T
    made = {"accuracy": ratio(right, count), "contrastive_loss": ratio(loss, count)}
    if _in_batch(model):
        return made
    return {**made, "chance": ratio(random, count), "most_frequent": ratio(frequent, count)}


def nominal_chance(model: SpeechModel) -> float | None:
    """Return 1 / (distractors + 1); None where their number depends on the batch."""
    count = _distractors(model)
    return None if count is None else 1 / (count + 1)


def frequencies(codes: Codes, held_out: set[str]) -> Ints:
    """Count the frames of each joint code (entries ** groups,) outside `held_out`."""
    trained = [joint(x, codes.entries) for name, x in codes.of.items() if name not in held_out]
    return np.bincount(np.concatenate(trained), minlength=codes.entries**codes.groups)


def for_nothing(codes: Ints, frequency: Ints, distractors: int) -> ForNothing:
    """Return the baselines, with distractors sampled as for the model.

    Args:
        codes: (m,) joint codes of one recording's masked positions.
        frequency: of each joint code.
        distractors: drawn for each position from the others.
    """
    seeds = torch.tensor([seed_of(len(codes), int(codes.sum()))])
    drawn = sample_distractors(torch.zeros(len(codes), dtype=torch.long), distractors, seeds)
    others = np.sort(codes[drawn.numpy()], axis=1)
    differ = others != codes[:, None]
    first = np.diff(others, axis=1, prepend=-1) != 0
    # Of equally frequent codes the one with the lower number is scored higher.
    order = np.lexsort((np.arange(len(frequency)), -frequency)).argsort()
    beaten = (order[others] < order[codes][:, None]).any(axis=1)
    return ForNothing(1 / (1 + (differ & first).sum(axis=1)), 1.0 - beaten)


def _totals(
    model: SpeechModel, codes: Codes, frequency: Ints, prompts: Sequence[Prompt], draws: int
) -> Floats:
    """Sum masked positions, correct predictions, losses and baselines (5,) over draws."""
    lengths = torch.tensor([len(x.waveform) for x in prompts])
    waveform = torch.zeros(len(prompts), int(lengths.max()))
    for row, prompt in zip(waveform, prompts, strict=True):
        row[: len(prompt.waveform)] = torch.from_numpy(prompt.waveform)
    total, distractors = np.zeros(5), _distractors(model)
    for draw in range(draws):
        seeds = torch.tensor([seed_of("held out", draw, prompt.id) for prompt in prompts])
        with torch.inference_mode():
            output = model(waveform, lengths, seeds=seeds)
        count = len(output.mask_indices)
        total[:3] += count * np.array([1.0, float(output.accuracy), float(output.contrastive)])
        if distractors is not None and count:
            frames = output.mask_indices[:, 1].numpy()
            masked = joint(codes.of[prompts[0].id][frames], codes.entries)
            total[3:] += [x.sum() for x in for_nothing(masked, frequency, distractors)]
    return total


def _distractors(model: SpeechModel) -> int | None:
    """Return the number of distractors from a recording; None if the whole batch is used."""
    if model.config.objective is None:
        raise SystemExit("found a model without an objective, expected a pre-trained one")
    distractors = model.config.objective.distractors
    return None if isinstance(distractors, InBatchDistractorsConfig) else distractors.count


def _in_batch(model: SpeechModel) -> bool:
    return _distractors(model) is None


def _batches(model: SpeechModel, prompts: Sequence[Prompt]) -> Iterator[Sequence[Prompt]]:
    size = IN_BATCH if _in_batch(model) else 1
    for start in range(0, len(prompts), size):
        yield prompts[start : start + size]

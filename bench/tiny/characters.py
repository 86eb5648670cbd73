"""Probe of text: a small CTC network over one-hot codes, with greedy decoding.

Two convolutions of 9 frames and a linear layer see 17 frames at once: enough for sounds, too little
for words. Architecture, budget and random seeds are the same for all codes, nothing is tuned, and
there is no language model: character error rates are for comparison only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jiwer
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from bench.tiny.codes import Codes, Ints
from bench.tiny.prompts import Prompt, spoken
from bench.tiny.scores import Score, compared, ratio

CHANNELS, KERNEL, DROPOUT = 128, 9, 0.2
BATCH = 8
LEARNING_RATE = 3e-3
BLANK = 0


def characters_of(
    subjects: Mapping[str, Codes],
    prompts: Sequence[Prompt],
    group: str,
    *,
    epochs: int,
    seeds: int,
) -> dict[str, Any] | None:
    """Return the character error rate of a group of prompts; None without transcripts."""
    trained, held_out = spoken(prompts, group)
    if not trained or not held_out:
        return None
    scores = {
        name: _score(codes, trained, held_out, epochs, seeds) for name, codes in subjects.items()
    }
    count = {"group": group, "trained_on": len(trained), "held_out": len(held_out)}
    return {**count, **compared(scores)}


class Probe(nn.Module):
    """Network from codes to character scores."""

    def __init__(self, entries: int, groups: int, characters: int) -> None:
        super().__init__()
        self.entries = entries
        self.embedding = nn.Embedding(entries * groups, CHANNELS)
        self.convs = nn.ModuleList(
            nn.Conv1d(CHANNELS, CHANNELS, KERNEL, padding=KERNEL // 2) for _ in range(2)
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.out = nn.Linear(CHANNELS, characters + 1)

    def forward(self, codes: Tensor) -> Tensor:
        """Return log-probabilities (b, n, characters + 1) of codes (b, n, g), blank first."""
        rows = codes + self.entries * torch.arange(codes.shape[2])
        x = self.embedding(rows).sum(dim=2).transpose(1, 2)
        for conv in self.convs:
            x = F.gelu(conv(self.dropout(x)))
        scores: Tensor = self.out(self.dropout(x.transpose(1, 2))).log_softmax(dim=-1)
        return scores


def train(codes: Sequence[Ints], labels: Sequence[Tensor], probe: Probe, epochs: int) -> None:
    """Fit a probe to codes (frames, groups) and labels (characters,) of each prompt.

    Batches hold prompts of similar length; the learning rate rises, then falls to 0.
    """
    order = np.argsort([len(x) for x in codes])
    batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
    optimiser = torch.optim.Adam(probe.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, LEARNING_RATE, total_steps=epochs * len(batches)
    )
    probe.train()
    for batch in _shuffled(batches, epochs):
        inputs = [torch.from_numpy(codes[i]) for i in batch]
        targets = [labels[i] for i in batch]
        scores = probe(pad_sequence(inputs, batch_first=True))
        loss = F.ctc_loss(
            scores.transpose(0, 1),
            torch.cat(targets),
            torch.tensor([len(x) for x in inputs]),
            torch.tensor([len(x) for x in targets]),
            blank=BLANK,
            zero_infinity=True,
        )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    probe.eval()


def read(probe: Probe, codes: Ints, alphabet: str) -> str:
    """Return the greedily decoded text."""
    with torch.inference_mode():
        best = probe(torch.from_numpy(codes)[None])[0].argmax(dim=-1)
    return "".join(alphabet[i - 1] for i in best.unique_consecutive().tolist() if i != BLANK)


def _score(
    codes: Codes, trained: Sequence[Prompt], held_out: Sequence[Prompt], epochs: int, seeds: int
) -> Score:
    """Train a probe with each seed and count the errors of all of them."""
    alphabet = "".join(sorted({c for x in trained for c in x.text}))
    labels = [torch.tensor([alphabet.index(c) + 1 for c in x.text]) for x in trained]
    errors, lengths = np.zeros(len(held_out)), np.zeros(len(held_out))
    for seed in range(seeds):
        torch.manual_seed(seed)
        probe = Probe(codes.entries, codes.groups, len(alphabet))
        train([codes.of[x.id] for x in trained], labels, probe, epochs)
        for i, prompt in enumerate(held_out):
            errors[i] += _errors(prompt.text, read(probe, codes.of[prompt.id], alphabet))
            lengths[i] += len(prompt.text)
    return ratio(errors, lengths)


def _errors(reference: str, hypothesis: str) -> int:
    counts = jiwer.process_characters(reference, hypothesis)
    return counts.substitutions + counts.deletions + counts.insertions


def _shuffled(batches: Sequence[Any], epochs: int) -> Iterator[Any]:
    for _ in range(epochs):
        for i in torch.randperm(len(batches)).tolist():
            yield batches[i]

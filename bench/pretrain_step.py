"""A pre-training step of `base` against transformers' Wav2Vec2ForPreTraining, on the CPU.

    python -m bench.pretrain_step [--rounds 7] [-o bench/results/pretrain-step.json]

Both run forward and backward on the same batch of real speech, alternating in one process; each
samples masks and distractors in its own way. transformers has the configuration of wav2vec 2.0
BASE. Its attention has dropout, ours does not: it is run with and without. A ratio below 1 means
that ours is faster.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.peers import hardware
from w2v_edge import data
from w2v_edge.model import build_model, preset

SECONDS, BATCH, RATE = 10, 2, 16_000
Step = Callable[[], None]


def main() -> None:
    """Measure, print, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.pretrain_step", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    before = hardware.describe()
    speech = np.concatenate(list(data.clips(RATE).values()))
    waveform = torch.from_numpy(np.resize(speech, (BATCH, SECONDS * RATE)).copy())
    sides = {
        "w2v-edge": _ours(waveform),
        "transformers": _theirs(waveform, attention_dropout=0.1),
        "transformers, no attention dropout": _theirs(waveform, attention_dropout=0.0),
    }
    times = _in_turns(sides, given.rounds)
    medians = {name: statistics.median(x) for name, x in times.items()}
    result = {
        "what": f"one step of base, {BATCH} utterances of {SECONDS} s, float32",
        "hardware": before,
        "load_after": hardware.describe()["load_before"],
        "threads": given.threads,
        "versions": {x: metadata.version(x) for x in ("torch", "transformers", "w2v-edge")},
        "python": platform.python_version(),
        "seconds": times,
        "medians": medians,
        "ratios": {x: medians["w2v-edge"] / y for x, y in medians.items()},
        "ratio_of_rounds": {
            name: [a / b for a, b in zip(times["w2v-edge"], x, strict=True)]
            for name, x in times.items()
        },
    }
    print(
        json.dumps(
            {k: result[k] for k in ("what", "threads", "medians", "ratios")},
            indent=1,
            allow_nan=False,
        )
    )
    if given.output:
        given.output.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")


def _in_turns(sides: dict[str, Step], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        # The order rotates.
        names = list(sides)[number % len(sides) :] + list(sides)[: number % len(sides)]
        for name in names:
            begun = time.perf_counter()
            sides[name]()
            # The first round is the warm-up.
            if number:
                times[name].append(time.perf_counter() - begun)
    return times


def _ours(waveform: Tensor) -> Step:
    model = build_model(preset("base"), seed=0).train()
    lengths = torch.full((len(waveform),), waveform.shape[1])

    def step() -> None:
        model(waveform, lengths).loss.backward()
        model.zero_grad()

    return step


def _theirs(waveform: Tensor, *, attention_dropout: float) -> Step:
    from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining
    from transformers.models.wav2vec2 import modeling_wav2vec2 as hf

    config = Wav2Vec2Config(
        attention_dropout=attention_dropout,
        # As in our preset and in fairseq's BASE.
        activation_dropout=0.0,
        feat_proj_dropout=0.1,
        hidden_dropout=0.1,
        feat_quantizer_dropout=0.0,
        layerdrop=0.05,
        mask_time_prob=0.65,
    )
    model: Any = Wav2Vec2ForPreTraining(config).train()
    frames = int(model._get_feat_extract_output_lengths(waveform.shape[1]))  # noqa: SLF001
    shape = (len(waveform), frames)

    def step() -> None:
        mask = hf._compute_mask_indices(shape, 0.65, 10, min_masks=2)  # noqa: SLF001
        negatives = hf._sample_negative_indices(shape, 100, mask)  # noqa: SLF001
        output = model(
            waveform,
            mask_time_indices=torch.from_numpy(mask),
            sampled_negative_indices=torch.from_numpy(negatives),
        )
        output.loss.backward()
        model.zero_grad()

    return step


if __name__ == "__main__":
    main()

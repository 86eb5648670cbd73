"""The shipped model is trained, small, and its bundle matches the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import w2v_edge
from w2v_edge import data
from w2v_edge.model import SpeechModel, build_model, load_checkpoint
from w2v_edge.model.random import seed_of
from w2v_edge_export.selection import EVERYTHING
from w2v_edge_export.verification import compare_manifest, compare_weights

MOST_BYTES = 8e6
DRAWS = 3


def _accuracy(model: SpeechModel, speech: dict[str, Any]) -> float:
    """Return the share of masked frames whose own code scores best."""
    right, asked = 0.0, 0
    for draw in range(DRAWS):
        for name, waveform in speech.items():
            seeds = torch.tensor([seed_of(draw, name)])
            lengths = torch.tensor([len(waveform)])
            with torch.no_grad():
                output = model(torch.from_numpy(waveform)[None], lengths, seeds=seeds)
            right += float(output.accuracy) * len(output.mask_indices)
            asked += len(output.mask_indices)
    return right / asked


def test_it_predicts_masked_frames(speech: dict[str, Any]) -> None:
    """Far better than its network with random weights does, which is hardly better than chance."""
    model = load_checkpoint(data.TINY)
    assert model.config.objective is not None
    assert _accuracy(model, speech) > 0.2
    assert _accuracy(build_model(model.config, seed=1).eval(), speech) < 0.06


def test_the_bundle_is_of_the_checkpoint(speech: dict[str, Any]) -> None:
    """The bundle gives PyTorch's codes and context, except for int8 rounding."""
    model, bundle = load_checkpoint(data.TINY), w2v_edge.load(data.TINY_INT8)
    assert bundle.manifest.precision == "int8"
    same, cosines = [], []
    for waveform in speech.values():
        encoding = bundle.encode(waveform)
        with torch.no_grad():
            given = torch.from_numpy(waveform)[None], torch.tensor([len(waveform)])
            features = model.features(*given)
            context = model.context(features)[0].numpy()
            assert model.quantizer is not None
            same.append(model.quantizer(features).codes[0].numpy() == encoding.codes)
        norms = np.linalg.norm(context, axis=1) * np.linalg.norm(encoding.context, axis=1)
        cosines.append((context * encoding.context).sum(axis=1) / norms)
    assert np.concatenate(same).mean() > 0.95
    assert np.percentile(np.concatenate(cosines), 10) > 0.998


def test_a_manifest_of_an_earlier_release() -> None:
    """Weights and manifest are the checkpoint's; settings that came later have their defaults."""
    model, bundle = load_checkpoint(data.TINY), w2v_edge.load(data.TINY_INT8)
    assert bundle.manifest.config != model.config.to_dict()
    assert not compare_manifest(model, bundle, EVERYTHING)
    assert not compare_weights(model, bundle)


def test_it_is_small_and_says_what_it_is() -> None:
    """Checkpoint, bundle and card take less than 8 MB together."""
    files = [x for x in (data.FOLDER / "tiny").rglob("*") if x.is_file()]
    assert sum(x.stat().st_size for x in files) < MOST_BYTES
    card = Path(data.FOLDER / "tiny/README.md").read_text("utf-8")
    assert "CC-BY-SA" in card

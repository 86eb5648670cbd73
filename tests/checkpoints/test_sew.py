"""SEW gives the outputs of transformers, of every length."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.sew_d.modeling_sew_d import build_relative_position

from w2v_edge.checkpoints import load_source
from w2v_edge.model.disentangled import DistanceEmbedding
from w2v_edge.model.sew_config import DisentangledContextConfig

pytestmark = pytest.mark.usefixtures("no_gradients")

Make = Callable[..., Any]

TWO_FRAMES, THREE_FRAMES = 720, 1_040


def test_outputs_equal_transformers(
    squeezed: str, hf: Make, hf_folder: Make, same_as: Make, utterance: Make
) -> None:
    """All lengths have transformers' outputs, with whatever is left of the last group of frames."""
    model, peer = load_source(hf_folder(squeezed)).model, hf(squeezed)
    lengths = range(THREE_FRAMES, THREE_FRAMES + 4 * 320, 320)
    for samples in (*lengths, 16_000, 160_000):
        same_as(model, peer, utterance(samples))


def test_batches(
    squeezed: str,
    hf: Make,
    hf_folder: Make,
    theirs: Make,
    ours: Make,
    equal: Make,
    utterance: Make,
) -> None:
    """Each utterance's outputs equal its outputs alone, whatever is in the padding."""
    model, peer = load_source(hf_folder(squeezed)).model, hf(squeezed)
    waveforms = [utterance(n, 30_000 * i) for i, n in enumerate((9_000, 16_001, 1_100, 3_999))]
    batch = ours(model, *waveforms, extra=1_234)
    for i, waveform in enumerate(waveforms):
        for name, expected in theirs(peer, waveform).items():
            found = batch[name][i]
            if found.ndim == 2:
                assert not found[len(expected) :].any()
                found = found[: len(expected)]
            equal(found, expected)


def test_frames_that_fill_no_group(
    hf_folder: Make, hf: Make, ours: Make, theirs: Make, equal: Make, utterance: Make
) -> None:
    """A frame left over has no context: its logits are the bias, of a single frame too."""
    model, bias = load_source(hf_folder("sew-ctc")).model, hf("sew-ctc").lm_head.bias
    for samples, frames in ((400, 1), (THREE_FRAMES, 3), (16_000, 49)):
        found = ours(model, utterance(samples))
        assert found["context"].shape[1] == found["features"].shape[1] == frames
        assert not found["context"][0, -1].any()
        equal(found["logits"][0, -1], bias)
    assert ours(model, utterance(399))["context"].shape[1] == 0
    batch = ours(model, utterance(400), utterance(9_000), utterance(399))
    equal(batch["logits"][0, 0], bias)
    equal(batch["logits"][1], theirs(hf("sew-ctc"), utterance(9_000))["logits"])
    assert not batch["logits"][2].any()


@pytest.mark.parametrize(("buckets", "furthest"), [(256, 512), (8, 12), (0, 9), (31, 1_000)])
def test_places_of_distances(buckets: int, furthest: int) -> None:
    """Distances fall into DeBERTa's buckets, near and far."""
    sizes: dict[str, Any] = {"dim": 8, "layers": 0, "heads": 2, "feed_forward": 8, "squeeze": 2}
    sizes |= {"position_kernel": 4, "position_groups": 2}
    sizes |= dict.fromkeys(("position_keys", "position_queries", "shared", "position_norm"), True)
    config = DisentangledContextConfig(**sizes, max_distance=furthest, buckets=buckets)
    frames, span = 1_300, config.span
    theirs: Any = build_relative_position(  # type: ignore[no-untyped-call]
        frames, frames, buckets or -1, furthest
    )
    expected = (theirs[0] + span).clamp(0, 2 * span - 1)
    found = DistanceEmbedding(config)(frames).places
    assert torch.equal(found, expected)
    # Distances that attend to keys look from the other side.
    assert torch.equal(found, (-theirs[0].T + span).clamp(0, 2 * span - 1))


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "absolute": ({"relative_attention": False}, "relative_attention: expected True"),
    "convolution": ({"conv_kernel_size": 3}, "conv_kernel_size: expected 0"),
    "few buckets": ({"position_buckets": 3}, "context.buckets: expected at least 4"),
    "near": ({"max_position_embeddings": 4}, "context.buckets: expected at least 4"),
    "another activation": ({"hidden_act": "mish"}, "hidden_act: expected one of gelu"),
}


def test_other_attention(hf_folder: Make, refuses: Make, tmp_path: Path, edit: Make) -> None:
    """Settings of SEW-D with another arithmetic are refused by name."""
    folder = shutil.copytree(hf_folder("sew-d"), tmp_path / "sew-d")
    original = (folder / "config.json").read_text()
    for changes, message in OTHERS.values():
        (folder / "config.json").write_text(original)
        edit(folder / "config.json", **changes)
        refuses(folder, message)

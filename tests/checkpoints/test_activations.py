"""Activations of feed-forward layers, under every name of transformers, in every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from w2v_edge.checkpoints import load_source, write_folder
from w2v_edge.checkpoints.huggingface.conformer_settings import ACTIVATIONS

pytestmark = pytest.mark.usefixtures("no_gradients")

Make = Callable[..., Any]

FAMILIES = (
    *("wav2vec2-stable", "hubert", "wavlm", "data2vec", "unispeech", "unispeech-sat"),
    *("sew", "sew-d", "conformer", "bert-adapter"),
)


def check(folder: Path, peer: Any, same_as: Make, utterance: Make) -> Any:
    """Compare a folder of `peer`, also written anew without the settings of its origin."""
    peer.save_pretrained(folder)
    model = load_source(folder).model
    same_as(model, peer, utterance(9_001))
    config, model.origin = model.config, None
    write_folder(model, folder / "new")
    assert load_source(folder / "new").model.config == config
    return config


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("activation", ["relu", "quick_gelu"])
def test_families(
    name: str, activation: str, fresh: Make, tmp_path: Path, same_as: Make, utterance: Make
) -> None:
    """Each family computes with the activation of its config."""
    check(tmp_path, fresh(name, hidden_act=activation), same_as, utterance)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_names(name: str, fresh: Make, tmp_path: Path, same_as: Make, utterance: Make) -> None:
    """Each name stands for what it is in transformers, in the adapter of w2v-BERT too."""
    changes = {"hidden_act": name, "adapter_act": name}
    config = check(tmp_path, fresh("bert-adapter", **changes), same_as, utterance)
    assert config.context.activation == config.context.adapter.activation


@pytest.mark.parametrize("activation", sorted(set(ACTIVATIONS.values())))
def test_twins(activation: str, fresh: Make, tmp_path: Path) -> None:
    """The exported feed-forward layer computes the same."""
    from w2v_edge_export.deployable.layers import FeedForwardTwin

    name = next(x for x, ours in ACTIVATIONS.items() if ours == activation)
    fresh("wav2vec2", hidden_act=name).save_pretrained(tmp_path)
    model: Any = load_source(tmp_path).model
    layer = model.context_network.blocks[0].feed_forward
    x = torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(FeedForwardTwin(layer)(x), layer(x), atol=1e-6, rtol=1e-5)

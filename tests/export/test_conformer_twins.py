"""Inference twins of conformers compute what the models do, whatever encodes positions."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from w2v_edge.model import ModelConfig, build_model
from w2v_edge.model.config import ConvLayer, FeatureEncoderConfig, LogMelConfig
from w2v_edge.model.conformer_config import (
    AttentionAdapterConfig,
    CausalConformerContextConfig,
    ConformerContextConfig,
    ConvAdapterConfig,
    DistancePositionConfig,
    PositionConfig,
    RotaryPositionConfig,
    SinusoidPositionConfig,
)
from w2v_edge.model.padding import Frames, valid_steps
from w2v_edge_export.deployable.twins import context_twin

POSITIONS: dict[str, PositionConfig | None] = {
    "none": None,
    "rotary": RotaryPositionConfig(10_000.0),
    "sinusoids": SinusoidPositionConfig(),
    "distances": DistancePositionConfig(4, 2),
}
SHAPE: dict[str, Any] = {"dim": 24, "layers": 2, "heads": 4, "feed_forward": 40}


def _model(context: ConformerContextConfig | CausalConformerContextConfig) -> Any:
    """Build a model with weights of all kinds away from zero and one."""
    if isinstance(context, CausalConformerContextConfig):
        config = ModelConfig("wav2vec2_bert", 16_000, LogMelConfig(16), None, None, context, None)
    else:
        convs = FeatureEncoderConfig("group_norm", (ConvLayer(32, 10, 5),), bias=False)
        config = ModelConfig("wav2vec2_conformer", 16_000, convs, None, None, context, None)
    model = build_model(config, seed=1)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.ndim == 1 or "bias" in name:
            tensor.add_(0.3 * torch.rand(tensor.shape, generator=generator))
    return model.eval()


def _contexts() -> list[Any]:
    pooled = AttentionAdapterConfig(20, 2, 3, 2, 1, 28, "relu", first_feed_forward=True)
    even = AttentionAdapterConfig(24, 1, 4, 4, 2, 28)
    made: list[Any] = [
        CausalConformerContextConfig(**SHAPE, kernel=5, activation="swish", position=x)
        for x in POSITIONS.values()
    ]
    made += [
        CausalConformerContextConfig(
            **SHAPE, kernel=1, activation="gelu", position=None, adapter=adapter
        )
        for adapter in (pooled, even)
    ]
    made += [
        ConformerContextConfig(
            **SHAPE,
            kernel=kernel,
            activation="swish",
            position=SinusoidPositionConfig(),
            adapter=ConvAdapterConfig(20, 1, 3, 2),
        )
        for kernel in (1, 3, 31)
    ]
    return made


@pytest.mark.parametrize("context", _contexts(), ids=lambda x: f"{x.kind}-{x.kernel}")
@pytest.mark.parametrize("frames", [1, 2, 13])
@torch.no_grad()
def test_twins_equal_models(context: Any, frames: int) -> None:
    """For any number of frames, alone and beside padding, the context is the model's."""
    model = _model(context)
    values = torch.randn(3, frames, 32, generator=torch.Generator().manual_seed(2))
    lengths = torch.tensor([frames, frames // 2, 0])
    expected = model.outputs(Frames(values * valid_steps(lengths, frames)[..., None], lengths))
    found = context_twin(model)(values, lengths)
    torch.testing.assert_close(found[0], expected["context"], atol=1e-5, rtol=1e-4)
    alone = model.outputs(Frames(values[1:2, : frames // 2], lengths[1:2]))["context"]
    torch.testing.assert_close(found[0][1:2, : alone.shape[1]], alone, atol=1e-5, rtol=1e-4)

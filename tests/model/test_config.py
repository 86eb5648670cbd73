"""Configurations that no model could be built from, or that could not train."""

from __future__ import annotations

import math
from typing import Any

import pytest

from w2v_edge.errors import ConfigError
from w2v_edge.model import ModelConfig, preset

SIZES = ("sample_rate", "quantizer.groups", "quantizer.entries", "quantizer.vector_dim")
OUT_OF_RANGE: dict[str, tuple[float, ...]] = {
    **dict.fromkeys(SIZES, (0, -2)),
    "context.dim": (0, -4),
    "context.layers": (-1,),
    "context.heads": (0, -1),
    "context.feed_forward": (0,),
    "context.position_kernel": (0,),
    "context.position_groups": (0,),
    "context.dropout": (-0.1, 1.5, math.nan),
    "context.layer_drop": (-0.1, 1.5, math.nan),
    "masking.span_frames": (0,),
    "masking.probability": (-0.1, 1.5, math.nan),
    "objective.projection_dim": (0,),
    "objective.distractors.count": (0, -1),
    "objective.logit_temperature": (0.0, -1.0, math.nan, math.inf),
    "objective.diversity_weight": (math.nan,),
    "quantizer.temperature.start": (0.0, -1.0, math.nan),
    "quantizer.temperature.end": (0.0, -1.0, math.nan),
    "quantizer.temperature.decay": (0.0, -1.0, 1.5, math.nan),
}


def _changed(name: str, path: str, value: Any) -> dict[str, Any]:
    plain = preset(name).to_dict()
    *parents, key = path.split(".")
    inner = plain
    for parent in parents:
        inner = inner[parent]
    assert key in inner
    inner[key] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value"), [(path, value) for path, values in OUT_OF_RANGE.items() for value in values]
)
def test_a_number_out_of_range_is_named(path: str, value: float) -> None:
    """A number that no model could be built or trained with is an error that names its key."""
    with pytest.raises(ConfigError, match=path.replace(".", r"\.")):
        ModelConfig.from_dict(_changed("tiny", path, value))


@pytest.mark.parametrize(
    ("name", "path", "value", "message"),
    [
        ("tutorial", "masking.spans", -1, "masking.spans"),
        ("tutorial", "context.position_kernel", 128, "context.position_kernel: expected an odd"),
        ("tutorial", "objective.projection_dim", 128, "objective.projection_dim"),
        ("tutorial", "architecture", "wav2vec2", "architecture 'wav2vec2' does not go with"),
        ("base", "architecture", "tutorial", "architecture 'tutorial' does not go with"),
        ("base", "feature_encoder.kind", "padded", "feature encoder 'padded'"),
        ("base", "feature_encoder.layers", [], "feature_encoder.layers: expected at least one"),
        ("base", "context.heads", 7, "context.dim by context.heads: 768 is not divisible by 7"),
        ("base", "context.position_groups", 7, "context.dim by context.position_groups"),
        ("base", "quantizer.vector_dim", 255, "quantizer.vector_dim by quantizer.groups"),
    ],
)
def test_a_contradiction_is_named(name: str, path: str, value: object, message: str) -> None:
    """Values that do not go together are an error that names them."""
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_dict(_changed(name, path, value))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"), [("kernel", 0), ("stride", 0), ("channels", 0), ("padding", 2)]
)
def test_an_impossible_convolution_is_named(key: str, value: int) -> None:
    """A layer of the feature encoder is named by its number."""
    plain = preset("tutorial").to_dict()
    plain["feature_encoder"]["layers"][2][key] = value
    with pytest.raises(ConfigError, match=rf"feature_encoder\.layers\[2\]\.({key}|padding)"):
        ModelConfig.from_dict(plain)


def test_only_padded_encoders_pad() -> None:
    """wav2vec 2.0's convolutions are valid ones; padding them would be another architecture."""
    plain = preset("base").to_dict()
    plain["feature_encoder"]["layers"][0]["padding"] = 1
    with pytest.raises(ConfigError, match="only a 'padded' encoder may have padding"):
        ModelConfig.from_dict(plain)

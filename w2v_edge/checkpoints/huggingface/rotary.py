"""Rotary frequencies of wav2vec2-Conformer, which transformers stores among the weights and loads.

A file in half precision, or a copy of one, holds them rounded. transformers then computes with the
rounded ones, also in float32. In w2v-BERT they follow from the config, whatever the file holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from w2v_edge.errors import CheckpointError
from w2v_edge.model.config import ModelConfig
from w2v_edge.model.conformer_attention import frequencies
from w2v_edge.model.conformer_config import ConformerContextConfig, RotaryPositionConfig

NAME = "encoder.embed_positions.inv_freq"
ROUNDING = 1e-5
"""Relative difference between one computation of them in float32 and another."""


def with_rounding(
    path: Path | str, config: ModelConfig, tensors: Mapping[str, Tensor], prefix: str
) -> ModelConfig:
    """Return a config with the precision of the stored rotary frequencies, if there are any.

    Args:
        path: the folder, for errors.
        config: of the model.
        tensors: of the folder.
        prefix: beginning of the names of the body's tensors.

    Raises:
        CheckpointError: they are of another base than the config's.
    """
    stored, context = tensors.get(f"{prefix}{NAME}"), config.context
    if stored is None or not isinstance(context, ConformerContextConfig):
        return config
    position, width = context.position, context.dim // context.heads
    if not isinstance(position, RotaryPositionConfig):
        return config
    for precision in ("float32", "bfloat16", "float16"):
        rounded = replace(position, precision=precision)
        expected = frequencies(width, rounded.base, rounded.precision)
        if stored.shape == expected.shape and torch.allclose(
            stored.double(), expected, rtol=ROUNDING, atol=0
        ):
            return replace(config, context=replace(context, position=rounded))
    raise CheckpointError(
        f"{path}: found rotary frequencies that are not of rotary_embedding_base "
        f"{position.base:g}; set it to the base that the model was trained with"
    )


def rotary_tensors(config: ModelConfig, prefix: str) -> dict[str, Tensor]:
    """Return the frequencies to store for transformers: rounded ones, or none."""
    position = getattr(config.context, "position", None)
    if not isinstance(position, RotaryPositionConfig) or position.precision == "float32":
        return {}
    width = config.context.dim // config.context.heads
    stored = frequencies(width, position.base, position.precision)
    return {f"{prefix}{NAME}": stored.to(getattr(torch, position.precision))}


def doubt_of_rotary(config: ModelConfig) -> tuple[str, ...]:
    """Return a remark if frequencies are rounded."""
    position = getattr(config.context, "position", None)
    if not isinstance(position, RotaryPositionConfig) or position.precision == "float32":
        return ()
    remark = (
        f"rotary frequencies are stored in {position.precision}, and used as they are, as in "
        f"transformers; if the model was trained with exact ones, remove {NAME} from the weights"
    )
    return (remark,)

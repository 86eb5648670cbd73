"""s3prl's files: converted fairseq checkpoints, and students of its distiller, as DistilHuBERT.

Both have fairseq's tensor names and settings, under other keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from w2v_edge.checkpoints.restricted_pickle import plain
from w2v_edge.errors import CheckpointError

CONVERTED = {"task_cfg", "model_cfg", "model_weight"}
DISTILLER = {"Config", "Distiller"}
"""Keys of each kind of file."""

NAME = "distiller"
"""Name of the model in the settings of a distiller's file."""

DEFAULTS = {"encoder_layers": 1, "task_emb_type": "expand-last", "attention_type": "original"}
"""Defaults of s3prl's `DistillerConfig` that differ from fairseq's."""

EMBEDDINGS = {"expand-last", "self-hidden", "none"}
"""Kinds of task embeddings that the transformer does not see."""


def as_fairseq(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the content of a file under fairseq's keys; another file's as it is.

    Raises:
        CheckpointError: a distiller's settings are missing, or not supported.
    """
    if payload.keys() >= CONVERTED:
        both = {"model": payload["model_cfg"], "task": payload["task_cfg"]}
        return {"cfg": both, "model": payload["model_weight"]}
    if payload.keys() >= DISTILLER:
        return {"cfg": {"model": _distiller(payload["Config"])}, "model": payload["Distiller"]}
    return payload


def _distiller(config: object) -> dict[str, Any]:
    """Return a distiller's settings by fairseq's names."""
    found = plain(config)
    given = found.get(NAME) if isinstance(found, dict) else None
    if not isinstance(given, dict):
        raise CheckpointError(f"expected settings in Config.{NAME}, found none")
    settings = {**DEFAULTS, **given}
    if settings["task_emb_type"] not in EMBEDDINGS or settings["attention_type"] != "original":
        raise CheckpointError(
            f"found a distilled model with task_emb_type {settings['task_emb_type']!r:.20} and "
            f"attention_type {settings['attention_type']!r:.20}, expected 'expand-last' and "
            "'original', as in DistilHuBERT"
        )
    layers = settings.pop("extractor_conv_feature_layers", None)
    named = {} if layers is None else {"conv_feature_layers": layers}
    return {**settings, **named, "_name": NAME}

"""What the config of a transformers folder leaves open, and what was decided."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from w2v_edge.checkpoints.settings import SourceSettings
from w2v_edge.errors import CheckpointError
from w2v_edge.model.config import ModelConfig

VERSION = re.compile(r"v?(\d{1,4})(\..*)?", re.DOTALL)

NEVER_NULL = (
    "num_attention_heads",
    "layer_norm_eps",
    "conv_kernel",
    "conv_stride",
    "num_buckets",
    "max_bucket_distance",
    "max_position_embeddings",
    "position_buckets",
    "left_max_position_embeddings",
    "right_max_position_embeddings",
    "rotary_embedding_base",
)
"""Settings that no tensor confirms: a default in place of null would be a guess."""


def major_version(config: Mapping[str, Any]) -> int | None:
    """Return the major version of transformers that a config states, or None."""
    found = VERSION.fullmatch(str(config.get("transformers_version")).strip())
    return None if found is None else int(found[1])


def doubts_of(config: Mapping[str, Any], model: ModelConfig) -> tuple[str, ...]:
    """Return a remark if it is open where the final norm is in a mix of layers."""
    mixed = getattr(model.head, "weighted_layers", False)
    normed = model.context.kind in {"pre_norm", "conformer"}
    if not mixed or not normed or major_version(config) is not None:
        return ()
    stated = config.get("transformers_version")
    remark = (
        f"transformers_version {stated!r:.20} is no version: the last layer is mixed without the "
        "final norm, as in transformers 5; if the model was trained with an earlier one, write "
        '"transformers_version": "4.0.0" into config.json'
    )
    return (remark,)


def doubts_of_preprocessor(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return remarks if a preprocessor is not made for waveforms of one channel."""
    kind, channels = given.get("feature_extractor_type"), given.get("feature_size")
    remarks = []
    if isinstance(kind, str) and kind != "Wav2Vec2FeatureExtractor":
        remarks.append(
            f"the preprocessor is a {kind:.60}, which does not give waveforms: of its settings "
            "do_normalize and sampling_rate alone are read"
        )
    if type(channels) is int and channels != 1 and not remarks:
        remarks.append(f"feature_size {channels} is not read: waveforms have one channel")
    return tuple(remarks)


def check_never_null(settings: SourceSettings) -> None:
    """Check settings that have no default in place of null.

    Raises:
        CheckpointError: one is null.
    """
    for key in NEVER_NULL:
        if settings.values.get(key, "") is None:
            raise settings.error(key, "a value")


def one_kind(
    path: Path | str, kinds: Sequence[str], names: Collection[str], tensors: Mapping[str, str]
) -> str:
    """Return the kind of a model whose config names several classes.

    Args:
        path: the folder, for errors.
        kinds: of its classes.
        names: of its tensors.
        tensors: kind by a tensor that only this kind has.

    Raises:
        CheckpointError: its tensors are of several kinds, or of none of them.
    """
    distinct = list(dict.fromkeys(kinds))
    if len(distinct) == 1:
        return distinct[0]
    present = [kind for name, kind in tensors.items() if name in names and kind in distinct]
    if len(present) == 1:
        return present[0]
    if not present and "body" in distinct:
        return "body"
    raise CheckpointError(
        f"{path}: architectures: expected one class, found classes of the kinds "
        f"{', '.join(distinct)}, and tensors of {', '.join(present) or 'none'}; choose: "
        f"--as {' or --as '.join(distinct)}"
    )

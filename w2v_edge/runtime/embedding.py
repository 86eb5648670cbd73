"""Embeddings of utterances: one vector each, compared by the cosine of their angle."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from w2v_edge.bundle import Manifest
from w2v_edge.errors import HeadMissingError, InputError

Embedding = npt.NDArray[np.float32]
"""(dim,)."""


def require_embedding(manifest: Manifest) -> int:
    """Return the width of a model's embedding.

    Raises:
        HeadMissingError: the model has none.
    """
    if manifest.embedding_dim is None:
        raise HeadMissingError(
            "this model gives no embedding; export again with --pool mean or --pool mean,std, or "
            "export a checkpoint of speakers, such as a WavLMForXVector"
        )
    return manifest.embedding_dim


def check_embedding(embedding: npt.NDArray[Any]) -> Embedding:
    """Return a model's embedding (dim,).

    Raises:
        InputError: it has values that are not finite.
    """
    if not np.isfinite(embedding).all():
        raise InputError(
            "found an embedding that is not finite, expected numbers; check the waveform and the "
            "model's weights"
        )
    return embedding


def unit(embedding: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return an embedding (dim,) at length 1.

    Raises:
        InputError: another shape, zeros, or values that are not finite.
    """
    vector = np.asarray(embedding, dtype=np.float64)
    if vector.ndim != 1:
        raise InputError(f"found an array of shape {vector.shape}, expected an embedding (dim,)")
    # Without this the square of a large value overflows, and of a small one vanishes.
    largest = np.abs(vector).max(initial=0.0)
    if not 0 < largest < np.inf:
        what = "zeros" if largest == 0 else "values that are not finite"
        raise InputError(f"found an embedding of {what}, which has no direction to compare")
    scaled = vector / largest
    direction: npt.NDArray[np.float64] = scaled / np.linalg.norm(scaled)
    return direction


def cosine(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """Return the cosine of the angle between two embeddings (dim,), from -1 to 1.

    Raises:
        InputError: two lengths, zeros, or values that are not finite.
    """
    a, b = unit(one), unit(other)
    if len(a) != len(b):
        raise InputError(
            f"found embeddings of {len(a)} and {len(b)} values, expected two of one model"
        )
    return float(np.clip(a @ b, -1.0, 1.0))

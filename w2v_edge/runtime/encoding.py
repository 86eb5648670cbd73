"""What a model makes of one waveform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

LAYER = "layer_"


@dataclass(frozen=True)
class Encoding:
    """What a model makes of one waveform; what it does not have is None.

    Attributes:
        context: (frames, dim) float32 context vectors.
        features: (frames, channels) float32, what most quantizers consume.
        codes: (frames, groups) int64 codebook entries.
        vectors: (frames, vector_dim) float32, the chosen entries' vectors.
        times: (frames,) float64 seconds, the middle of what each frame of the features sees.
        context_times: (frames,) likewise of the context, of logits, and of codes made from it; they
            differ where the context has fewer frames.
        logits: (frames, labels) or, of an utterance as a whole, (labels,) float32.
        layers: (frames, dim) float32 outputs of transformer layers, by number.
        embedding: (dim,) float32, the context's mean.
    """

    context: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int64] | None
    vectors: npt.NDArray[np.float32] | None
    times: npt.NDArray[np.float64]
    context_times: npt.NDArray[np.float64]
    logits: npt.NDArray[np.float32] | None = None
    layers: Mapping[int, npt.NDArray[np.float32]] = field(default_factory=dict)
    embedding: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(
        cls,
        arrays: Mapping[str, npt.NDArray[Any]],
        times: npt.NDArray[np.float64],
        context_times: npt.NDArray[np.float64],
    ) -> Encoding:
        """Take the outputs of one utterance by their names in `w2v_edge.bundle`."""
        return cls(
            context=arrays["context"],
            features=arrays["features"],
            codes=arrays.get("codes"),
            vectors=arrays.get("vectors"),
            times=times,
            context_times=context_times,
            logits=arrays.get("logits"),
            layers={
                int(name.removeprefix(LAYER)): x
                for name, x in arrays.items()
                if name.startswith(LAYER)
            },
            embedding=arrays.get("embedding"),
        )

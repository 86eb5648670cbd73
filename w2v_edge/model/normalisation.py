"""Zero mean and unit variance for each waveform, as many checkpoints were trained with.

Source: `zero_mean_unit_var_norm` of transformers' Wav2Vec2FeatureExtractor, which adds 1e-7 to the
variance; fairseq applies a layer norm to the whole waveform, which adds 1e-5.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch import Tensor

from w2v_edge.model.lengths import valid_steps


def normalise(waveform: Tensor, lengths: Tensor, eps: float) -> Tensor:
    """Bring each utterance of waveform (b, t) to zero mean and unit variance; padding is zero.

    Only the first `lengths` (b,) samples count; `eps` is added to the variance.
    """
    valid = valid_steps(lengths, waveform.shape[1])
    count = rearrange(lengths.clamp(min=1), "b -> b 1")
    waveform = torch.where(valid, waveform, 0.0)
    # A long sum of squares in float32 would lose digits that a quiet recording needs.
    exact = waveform.double()
    mean = reduce(exact, "b t -> b 1", "sum") / count
    centred = torch.where(valid, exact - mean, 0.0)
    variance = reduce(centred.square(), "b t -> b 1", "sum") / count
    return (centred * torch.rsqrt(variance + eps)).to(waveform.dtype)

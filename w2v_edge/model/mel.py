"""Logarithmic mel energies of the waveform: the features of w2v-BERT 2.0.

Source: the filter bank of Kaldi (`compute-fbank-feats`), as in fairseq2 and in transformers'
`SeamlessM4TFeatureExtractor`.

Everything up to the spectrum is linear in the samples of a frame, so it is one matrix. Products are
in float64: a band may be 100 dB below the loudest one, and float32 rounds relative to the loudest.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from w2v_edge.model.config import MEL_HOP, MEL_WINDOW, LogMelConfig
from w2v_edge.model.feature_encoder import FeatureEncoder
from w2v_edge.model.padding import (
    Frames,
    at_least_float32,
    frame_lengths,
    valid_steps,
    zero_padding,
)
from w2v_edge.model.validation import MEL_RATE

FULL_SCALE = 2**15
"""Kaldi's samples are 16-bit integers."""

PRE_EMPHASIS = 0.97
POVEY_EXPONENT = 0.85
FFT_SIZE = 512
LOWEST_HZ = 20.0

MEL_FLOOR = 1.192092955078125e-07
"""Smallest energy before the logarithm."""

VARIANCE_EPS = 1e-7
"""Added to the variance of each bin."""


class LogMelFeatureEncoder(FeatureEncoder):
    """Mel energies, normalised over the valid frames of the utterance, two frames side by side.

    A last frame without a partner counts in the statistics and gives no output frame.
    """

    config: LogMelConfig

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        self.config = config
        self.normalise = BinNormalisation()

    def forward(self, waveform: Tensor, lengths: Tensor) -> Frames:
        """Encode a padded batch; see `FeatureEncoder.forward`."""
        geometry, bins = self.config.geometry, self.config.bins
        frames = geometry.frames(waveform.shape[1])
        missing = max(0, geometry.receptive_field - waveform.shape[1])
        waveform = torch.where(valid_steps(lengths, waveform.shape[1]), waveform, 0.0)
        waveform = torch.nn.functional.pad(waveform, (0, missing))
        mels = log_mel(waveform.unfold(1, MEL_WINDOW, MEL_HOP), bins)
        mel_lengths = ((lengths - MEL_WINDOW).div(MEL_HOP, rounding_mode="floor") + 1).clamp(min=0)
        normed = self.normalise(mels, mel_lengths)[:, : 2 * frames]
        pairs = rearrange(normed, "b (n two) d -> b n (two d)", two=2)
        valid = frame_lengths(geometry, lengths)
        return Frames(zero_padding(pairs, valid), valid)


def log_mel(windows: Tensor, bins: int) -> Tensor:
    """Return the logarithm of the mel energies (b, n, bins) of windows (b, n, 400) of samples."""
    spectrum = windows.double() @ spectrum_matrix().to(windows.device)
    power = reduce(spectrum.square(), "b n (parts f) -> b n f", "sum", parts=2)
    energies = (power @ mel_filters(bins).to(windows.device)).clamp(min=MEL_FLOOR)
    return energies.to(at_least_float32(windows).dtype).log()


class BinNormalisation(nn.Module):
    """Scales each bin to zero mean and unit variance (unbiased) over valid frames."""

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Normalise mel energies.

        Args:
            values: (b, n, d) energies.
            lengths: (b,) valid frames.
        """
        valid = rearrange(valid_steps(lengths, values.shape[1]), "b n -> b n 1")
        exact = torch.where(valid, values.double(), 0.0)
        count = rearrange(lengths.clamp(min=1), "b -> b 1 1")
        mean = reduce(exact, "b n d -> b 1 d", "sum") / count
        squares = torch.where(valid, exact - mean, 0.0).square()
        variance = reduce(squares, "b n d -> b 1 d", "sum") / (count - 1).clamp(min=1)
        # Rounded as the reference rounds them, and as a bundle's graphs exchange them.
        mean, variance = (x.to(values.dtype) for x in (mean, variance))
        return (values - mean) * torch.rsqrt(variance + VARIANCE_EPS)


@cache
def spectrum_matrix() -> Tensor:
    """Return the matrix (400, 2 * 257), float64, from a frame's samples to its spectrum.

    It scales the samples, removes their mean, applies pre-emphasis and Povey's window, and
    transforms; the real parts of all frequencies come first, then the imaginary ones.
    """
    n = MEL_WINDOW
    with torch.device("cpu"):
        step = torch.arange(n, dtype=torch.float64)
        centre = torch.eye(n, dtype=torch.float64) - 1 / n
        emphasis = torch.eye(n, dtype=torch.float64)
        emphasis -= PRE_EMPHASIS * torch.diag(torch.ones(n - 1, dtype=torch.float64), -1)
        emphasis[0, 0] = 1 - PRE_EMPHASIS
        hann = 0.5 - 0.5 * torch.cos(2 * math.pi * step / (n - 1))
        window = hann.clamp(min=0) ** POVEY_EXPONENT
        frequency = torch.arange(FFT_SIZE // 2 + 1)
        # Reduced by whole turns while it is an integer, which keeps the angle exact.
        turns = torch.arange(n).unsqueeze(1) * frequency % FFT_SIZE
        angle = turns.double() * (2 * math.pi / FFT_SIZE)
        fourier = torch.cat([angle.cos(), -angle.sin()], dim=1)
        # Each factor maps a column of samples; the product is laid out for rows.
        return FULL_SCALE * (window.unsqueeze(1) * (emphasis @ centre)).T @ fourier


@cache
def mel_filters(bins: int) -> Tensor:
    """Return triangular filters (257, bins), float64, evenly spaced and straight in mel."""
    with torch.device("cpu"):
        hertz = torch.arange(FFT_SIZE // 2 + 1, dtype=torch.float64) * (MEL_RATE / FFT_SIZE)
        mel = _mel(hertz).unsqueeze(1)
        ends = _mel(torch.tensor([LOWEST_HZ, MEL_RATE / 2], dtype=torch.float64))
        step = (ends[1] - ends[0]) / (bins + 1)
        centres = ends[0] + step * torch.arange(1, bins + 1)
        return (1 - (mel - centres).abs() / step).clamp(min=0)


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)

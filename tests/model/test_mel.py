"""Mel energies are those of transformers' SeamlessM4TFeatureExtractor."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import transformers
from torch import Tensor

from w2v_edge.model.config import LogMelConfig
from w2v_edge.model.mel import LogMelFeatureEncoder, log_mel
from w2v_edge.model.padding import Frames

Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def extractor() -> Any:
    """The reference."""
    return transformers.SeamlessM4TFeatureExtractor()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def whole(speech: dict[str, Floats]) -> Floats:
    """All recordings, one after the other."""
    return np.concatenate(list(speech.values()))


def _expected(extractor: Any, waveform: Floats) -> Tensor:
    """Return the reference's features (n, d), without what it masks."""
    found = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
    features: Tensor = found["input_features"][0, : int(found["attention_mask"].sum())]
    return features


def _ours(*waveforms: Floats, bins: int = 80) -> Frames:
    """Encode a batch whose padding is NaN."""
    batch = torch.full((len(waveforms), max(map(len, waveforms)) + 777), torch.nan)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    lengths = torch.tensor([len(x) for x in waveforms])
    frames: Frames = LogMelFeatureEncoder(LogMelConfig(bins))(batch, lengths)
    return frames


@pytest.mark.parametrize("samples", [560, 561, 719, 720, 880, 16_000, 16_080, 160_001])
def test_features_of_any_length(samples: int, extractor: Any, whole: Floats) -> None:
    """From one frame on, features are the reference's; an odd frame counts in its statistics."""
    waveform = whole[20_000 : 20_000 + samples]
    expected = _expected(extractor, waveform)
    values, lengths = _ours(waveform)
    assert lengths.tolist() == [len(expected)] == [(samples - 240) // 320]
    torch.testing.assert_close(values[0, : len(expected)], expected, atol=1e-4, rtol=0)


def test_a_batch_is_its_rows_alone(extractor: Any, whole: Floats) -> None:
    """Statistics are over each utterance's own frames; what is too short has no frame."""
    waveforms = [whole[i * 30_000 :][:n] for i, n in enumerate((9_000, 16_001, 560, 3_999, 559, 0))]
    values, lengths = _ours(*waveforms)
    assert lengths[-2:].tolist() == [0, 0]
    for row, length, waveform in zip(values, lengths, waveforms, strict=True):
        assert not row[length:].any()
        if len(waveform) >= 560:
            expected = _expected(extractor, waveform)
            torch.testing.assert_close(row[:length], expected, atol=1e-4, rtol=0)


def test_bands_far_below_the_loudest(extractor: Any) -> None:
    """A band 120 dB below a loud tone is as exact as any other, as in the reference's float64."""
    time = np.arange(16_000) / 16_000
    noise = np.random.default_rng(0).standard_normal(16_000)
    quiet = 1e-6 * np.convolve(noise, [1, -1, 1, -1], "same")
    waveform = (0.9 * np.sin(2 * np.pi * 300 * time) + quiet).astype(np.float32)
    found = extractor(
        waveform, sampling_rate=16_000, return_tensors="pt", do_normalize_per_mel_bins=False
    )
    expected = found["input_features"].reshape(1, -1, 80)
    assert expected.max() - expected.min() > 23
    windows = torch.from_numpy(waveform)[None].unfold(1, 400, 160)
    torch.testing.assert_close(log_mel(windows, 80), expected, atol=1e-4, rtol=0)


def test_silence_is_finite(extractor: Any, whole: Floats) -> None:
    """Digital silence, alone and before speech, is floored as in the reference."""
    assert not _ours(np.zeros(4_000, np.float32)).values.any()
    waveform = np.concatenate([np.zeros(4_000, np.float32), whole[20_000:30_000]])
    expected = _expected(extractor, waveform)
    values, _ = _ours(waveform)
    torch.testing.assert_close(values[0, : len(expected)], expected, atol=1e-4, rtol=0)


def test_other_numbers_of_bins(whole: Floats) -> None:
    """The number of bins is the extractor's."""
    other: Any = transformers.SeamlessM4TFeatureExtractor(  # type: ignore[no-untyped-call]
        feature_size=32, num_mel_bins=32
    )
    waveform = whole[20_000:36_000]
    expected = _expected(other, waveform)
    values, _ = _ours(waveform, bins=32)
    torch.testing.assert_close(values[0, : len(expected)], expected, atol=1e-4, rtol=0)

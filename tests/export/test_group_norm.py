"""Statistics of the whole utterance, for the group-norm front end, are exact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

Floats = npt.NDArray[np.float32]
Plain = Callable[..., dict[str, npt.NDArray[Any]]]

NAME = "base-small"


@pytest.fixture(scope="session")
def first_filters(checkpoint: Callable[[str], Path]) -> torch.Tensor:
    """The weight (d, 1, k) of convolution 0 in double precision; it has stride 5 and no bias."""
    tensors = torch.load(checkpoint(NAME), weights_only=True)["model"]
    weight: torch.Tensor = next(x for x in tensors.values() if x.ndim == 3 and x.shape[1] == 1)
    return weight.double()


def _tone_on_an_offset(samples: int) -> Floats:
    time = np.arange(samples) / 16_000
    return (0.5 + 1e-3 * np.sin(2 * np.pi * 7_000 * time)).astype(np.float32)


@pytest.mark.parametrize("samples", [410, 16_000, 16_000 * 21 + 3])
def test_tiny_tone_beside_an_offset(
    samples: int,
    first_filters: torch.Tensor,
    bundle: Callable[[str], Path],
    ragged: Callable[..., dict[str, npt.NDArray[Any]]],
    plain: Plain,
) -> None:
    """Mean and variance are right to 1e-4 where a tone lies 54 dB below an offset of 0.5."""
    waveform = _tone_on_an_offset(samples)
    batch = ragged([waveform[:400], waveform], 77, [np.nan, 1e30])
    (found,) = plain(bundle(NAME) / "statistics.onnx", **batch).values()
    for row, utterance in zip(found, (waveform[:400], waveform), strict=True):
        signal = torch.from_numpy(utterance).double()[None, None]
        outputs = torch.nn.functional.conv1d(signal, first_filters, stride=5)[0].numpy()
        mean, variance = np.split(row, 2)
        np.testing.assert_allclose(mean, outputs.mean(axis=1), rtol=1e-4)
        np.testing.assert_allclose(variance, outputs.var(axis=1), rtol=1e-4)


def test_two_minutes_in_tiles_equal_the_whole(
    speech: dict[str, Floats],
    checkpoint: Callable[[str], Path],
    bundle: Callable[[str], Path],
    ragged: Callable[..., dict[str, npt.NDArray[Any]]],
    plain: Plain,
) -> None:
    """Two minutes in tiles give PyTorch's result, also at the edges of tiles."""
    from w2v_edge.model import load_checkpoint

    waveform = np.resize(np.concatenate(list(speech.values())), 120 * 16_000 + 123)
    batch = ragged([waveform], 0, [0.0])
    statistics = plain(bundle(NAME) / "statistics.onnx", **batch)
    front = plain(bundle(NAME) / "frontend.onnx", **batch, **statistics)
    with torch.inference_mode():
        tensors = {x: torch.from_numpy(batch[x]) for x in ("waveform", "lengths")}
        expected = load_checkpoint(checkpoint(NAME)).features(**tensors)
    assert front["frame_lengths"].tolist() == expected.lengths.tolist() == [6000]
    values = expected.values.numpy()
    assert front["features"].shape == values.shape
    assert np.abs(front["features"] - values).max() <= 1e-4 * values.std(axis=1).mean()


@given(lengths=st.lists(st.integers(0, 2**40), min_size=1, max_size=4))
def test_frames_of_any_length_are_exact(
    lengths: list[int],
    small_config: Callable[[str], Any],
    bundle: Callable[[str], Path],
    plain: Plain,
) -> None:
    """Frame counts are exact for hours of audio."""
    lengths = [*lengths, 20_000_003, 2**24 + 79, 2**24 + 80, 2**31 + 1]
    for name in (NAME, "tutorial-small"):
        # Counts depend on lengths alone: a short waveform stands in for hours.
        inputs = {
            "waveform": np.zeros((len(lengths), 1_000), np.float32),
            "lengths": np.array(lengths, np.int64),
        }
        if name == NAME:
            inputs["statistics"] = np.ones((len(lengths), 64), np.float32)
        found = plain(bundle(name) / "frontend.onnx", **inputs)["frame_lengths"]
        assert found.tolist() == [small_config(name).geometry.frames(n) for n in lengths]


@pytest.mark.parametrize("name", ["base-small", "tutorial-small"])
def test_the_end_of_twenty_minutes(
    name: str,
    speech: dict[str, Floats],
    small_config: Callable[[str], Any],
    bundle: Callable[[str], Path],
    plain: Plain,
) -> None:
    """Beyond 2**24 samples, where float32 skips numbers, frames still end at the right sample."""
    geometry = small_config(name).geometry
    samples = 2**24 + 320 * 4_000 + geometry.min_samples
    samples -= samples % 320 - geometry.min_samples % 320
    waveform = np.resize(np.concatenate(list(speech.values())), samples)[None]
    # The last frame lacks one sample.
    lengths = np.array([samples - 1])
    frames = geometry.frames(samples - 1)
    assert geometry.frames(samples) == frames + 1
    statistics = bundle(name) / "statistics.onnx"
    fixed = plain(statistics, waveform=waveform, lengths=lengths) if statistics.exists() else {}
    frontend = bundle(name) / "frontend.onnx"
    whole = plain(frontend, waveform=waveform, lengths=lengths, **fixed)
    assert whole["frame_lengths"].tolist() == [frames]
    assert whole["features"].shape[1] == frames + 1
    assert np.all(whole["features"][:, frames] == 0)

    end = waveform[:, 320 * (frames - 500) :]
    part = plain(frontend, waveform=end, lengths=np.array([end.shape[1] - 1]), **fixed)
    assert part["features"].shape[1] == 501
    # The first frames of the part see zeros where those of the whole see speech.
    found, expected = whole["features"][:, frames - 497 :], part["features"][:, 3:]
    np.testing.assert_allclose(found, expected, atol=1e-4)

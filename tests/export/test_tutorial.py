"""The tutorial architecture's bundle against an implementation that shares no code with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

# Other lengths than the gate's; one sample still gives a frame.
LENGTHS = (1, 319, 641, 12_345, 16_000 * 9 + 77)


@pytest.mark.parametrize("samples", LENGTHS)
def test_every_output_is_the_reference(
    samples: int,
    bundle: Callable[[str], Path],
    checkpoint: Callable[[str], Path],
    speech: dict[str, npt.NDArray[np.float32]],
    tutorial_reference: ModuleType,
    ragged: Callable[..., dict[str, npt.NDArray[Any]]],
    plain: Callable[..., dict[str, npt.NDArray[Any]]],
    same_codes: Callable[..., None],
) -> None:
    """Features, context, codes and vectors are those of the reference in double precision."""
    name = "tutorial-small"
    waveform = speech["fr-demo-abouttotry"][20_000 : 20_000 + samples]
    tensors = torch.load(checkpoint(name), weights_only=True)["model"]
    expected = tutorial_reference.run(tensors, torch.from_numpy(waveform), torch.float64, heads=4)
    batch = ragged([waveform], 0, [0.0])
    encoded = plain(bundle(name) / "encoder.onnx", **batch)
    quantized = plain(bundle(name) / "quantizer.onnx", features=encoded["features"])
    tokens = plain(bundle(name) / "tokenizer.onnx", **batch)

    assert np.array_equal(encoded["frame_lengths"], expected.frame_lengths.numpy())
    for output in ("features", "context"):
        values = getattr(expected, output).numpy()
        assert encoded[output].shape == values.shape
        assert np.abs(encoded[output] - values).max() <= 1e-4 * values.std()
    codes, features = expected.codes.numpy(), encoded["features"]
    same_codes(name, tokens["codes"], codes, features)
    same_codes(name, quantized["codes"], codes, features)
    agree = (quantized["codes"] == codes).all(axis=2)
    assert np.array_equal(quantized["vectors"][agree], expected.vectors.numpy()[agree])

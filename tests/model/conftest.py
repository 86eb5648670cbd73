"""Shared fixtures of model tests: models without zero parameters, and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pytest

if TYPE_CHECKING:
    from torch import Tensor, nn

    from w2v_edge.model import ModelConfig, SpeechModel

Speech = dict[str, npt.NDArray[np.float32]]
TOLERANCE = 1e-4


class Close(Protocol):
    """Asserts that a tensor is another, within 1e-4 of the other's standard deviation."""

    def __call__(self, actual: Tensor, expected: Tensor) -> None: ...


class SameCodes(Protocol):
    """Asserts that codes are equal, but where the two best logits are as good as tied."""

    def __call__(self, actual: Tensor, expected: Tensor, logits: Tensor) -> None: ...


@pytest.fixture(scope="session")
def roughen() -> Callable[[nn.Module], None]:
    """`roughen(model)` moves biases and norms off their initial zeros and ones."""
    import torch

    def change(model: nn.Module) -> None:
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    noise = torch.empty_like(parameter).normal_(generator=generator)
                    parameter.add_(noise, alpha=0.2)

    return change


@pytest.fixture(scope="session")
def small_model(
    small_config: Callable[[str], ModelConfig], roughen: Callable[[nn.Module], None]
) -> Callable[[str], SpeechModel]:
    """`small_model(name)`: one of the small configurations, roughened, in eval mode; shared."""
    from w2v_edge.model import build_model

    @cache
    def make(name: str) -> SpeechModel:
        model = build_model(small_config(name), seed=3)
        roughen(model)
        return model.eval()

    return make


@pytest.fixture
def no_gradients() -> Iterator[None]:
    """Record nothing for a backward pass."""
    import torch

    with torch.no_grad():
        yield


@pytest.fixture(scope="session")
def clip(speech: Speech) -> Callable[..., Tensor]:
    """`clip(i, start, samples)`: a stretch (samples,) of the i-th recording of that length."""
    import torch

    recordings = list(speech.values())

    def cut(index: int, start: int, samples: int) -> Tensor:
        long_enough = [recording for recording in recordings if len(recording) >= samples]
        recording = long_enough[index % len(long_enough)]
        start %= len(recording) - samples + 1
        return torch.from_numpy(recording[start : start + samples].copy())

    return cut


@pytest.fixture(scope="session")
def close() -> Close:
    """Compare two tensors; see `Close`."""
    import torch

    def check(actual: Tensor, expected: Tensor) -> None:
        scale = float(expected.double().std()) if expected.numel() > 1 else 1.0
        torch.testing.assert_close(
            actual, expected.to(actual.dtype), atol=TOLERANCE * scale, rtol=0.0
        )

    return check


@pytest.fixture(scope="session")
def same_codes() -> SameCodes:
    """Compare codes; see `SameCodes`."""

    def check(actual: Tensor, expected: Tensor, logits: Tensor) -> None:
        assert actual.shape == expected.shape
        if actual.numel():
            best: Any = logits.topk(2, dim=-1).values
            clear = best[..., 0] - best[..., 1] > TOLERANCE * logits.std()
            assert clear.float().mean() > 0.99
            assert bool((actual == expected)[clear].all())

    return check

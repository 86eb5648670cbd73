"""Initial weights: they tell frames apart, follow the seed, and touch no other random state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from w2v_edge.model import ModelConfig, build_model, preset
from w2v_edge.model.initialisation import initialise

NAMES = ["tutorial-small", "base-small", "large-small", "tiny"]


@pytest.mark.usefixtures("no_gradients")
@pytest.mark.parametrize("name", ["tutorial", "base"])
def test_speech_gives_hundreds_of_codes(
    name: str, speech: dict[str, npt.NDArray[np.float32]]
) -> None:
    """At full size, the shipped speech uses hundreds of the codebook's entries from the start."""
    config = preset(name)
    # Neither features nor codes pass the transformer: one block of it is enough.
    model = build_model(replace(config, context=replace(config.context, layers=1)), seed=0).eval()
    assert model.quantizer is not None
    seen: set[tuple[int, int]] = set()
    for recording in list(speech.values())[:3]:
        waveform = torch.from_numpy(recording)[None]
        features = model.features(waveform, torch.tensor([len(recording)]))
        for group, codes in enumerate(model.quantizer(features).codes[0].T):
            seen |= {(group, code) for code in codes.tolist()}
    assert len(seen) >= 200


@pytest.mark.usefixtures("no_gradients")
@pytest.mark.parametrize("name", NAMES)
def test_variance_between_frames_survives_the_depth(
    name: str,
    small_config: Callable[[str], ModelConfig],
    speech: dict[str, npt.NDArray[np.float32]],
) -> None:
    """Most variance of features and context is between frames."""
    model = build_model(small_config(name), seed=0).eval()
    waveform = torch.from_numpy(speech["en-conf-getpin"])[None]
    features = model.features(waveform, torch.tensor([waveform.shape[1]]))
    for values in (features.values[0], model.context(features)[0]):
        assert values.std(dim=0).mean() > 0.5
        share = values.var(dim=0).sum() / values.square().sum(dim=1).mean()
        assert share > 0.7


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_every_weight(
    name: str, small_config: Callable[[str], ModelConfig]
) -> None:
    """The same seed gives the same weights, another seed others."""
    config = small_config(name)
    first, again, other = (build_model(config, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    for key, tensor in first.items():
        # Biases and the gains of norms start at zeros and ones.
        constant = tensor.ndim == 1 and tensor.unique().numel() == 1
        assert constant or not torch.equal(tensor, other[key])
        assert tensor.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_building_leaves_the_global_random_state(
    name: str, small_config: Callable[[str], ModelConfig]
) -> None:
    """Building a model leaves the global random state unchanged."""
    state = torch.get_rng_state()
    build_model(small_config(name), seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_parameter_without_a_rule_is_named(small_config: Callable[[str], ModelConfig]) -> None:
    """A module that initialisation does not know is an error, not uninitialised memory."""
    model = build_model(small_config("tiny"))
    model.add_module("unknown", torch.nn.PReLU())
    with pytest.raises(TypeError, match=r"unknown\.weight: found no initialisation rule"):
        initialise(model, torch.Generator())

"""The published sizes: shapes, order and number of parameters, and where frames lie."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from w2v_edge.errors import ConfigError
from w2v_edge.model import preset
from w2v_edge.model.build import assemble
from w2v_edge.model.speech_model import SpeechModel
from w2v_edge.names import Preset

PRESETS = get_args(Preset)


def _assemble(name: str) -> SpeechModel:
    with torch.device("meta"):
        return assemble(preset(name))


def _parameters(name: str) -> int:
    return sum(parameter.numel() for parameter in _assemble(name).parameters())


def _linear(outputs: int, inputs: int) -> list[tuple[int, ...]]:
    return [(outputs, inputs), (outputs,)]


def test_tutorial_registers_its_parameters_in_the_order_of_the_data_flow() -> None:
    """One tensor a parameter: convolutions, quantizer, masker, context network, projection."""
    scorer, codebook = _linear(2 * 320, 512), [(2, 320, 128)]
    state = {
        name: tuple(tensor.shape) for name, tensor in _assemble("tutorial").state_dict().items()
    }
    convolutions = [(512, 1, 9), (512,), *[(512, 512, 3), (512,)] * 6]
    block = [
        *_linear(2304, 768),
        *_linear(768, 768),
        *[(768,), (768,)],
        *_linear(3072, 768),
        *_linear(768, 3072),
    ]
    context = [(768, 512, 1), (768,), (768, 64, 127), (768,), *block * 12]
    expected = [*convolutions, *scorer, *codebook, (512,), *context, *_linear(256, 768)]
    assert list(state.values()) == expected


def test_tutorial_frames() -> None:
    """160 000 samples give 500 frames; a frame sees 639 samples, the next one 320 on."""
    geometry = preset("tutorial").geometry
    assert (geometry.frames(160_000), geometry.receptive_field, geometry.hop) == (500, 639, 320)


@pytest.mark.parametrize("name", ["tiny", "base", "large"])
def test_wav2vec2_frames(name: str) -> None:
    """Without padding a frame sees 400 samples, and the next one starts 320 on."""
    geometry = preset(name).geometry
    assert (geometry.receptive_field, geometry.hop, geometry.min_samples) == (400, 320, 400)
    assert geometry.frames(16_000) == 49


@pytest.mark.parametrize(("name", "millions"), [("base", 95.0), ("large", 317.4)])
def test_published_sizes(name: str, millions: float) -> None:
    """BASE and LARGE have as many parameters as published."""
    assert _parameters(name) / 1e6 == pytest.approx(millions, abs=0.1)


def test_tiny_is_tiny() -> None:
    """The smallest preset has at most a few million parameters."""
    assert 2e5 < _parameters("tiny") < 4e6


def test_tutorial_has_no_dropout_and_no_final_norm() -> None:
    """The tutorial's context network has neither dropout nor a final norm."""
    model = _assemble("tutorial")
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())
    assert sum(isinstance(module, nn.LayerNorm) for module in model.modules()) == 12


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_listens_at_16_khz(name: str) -> None:
    """Each name that a user can type gives a configuration."""
    assert preset(name).sample_rate == 16_000


def test_an_unknown_preset_is_an_error_that_names_the_choices() -> None:
    """An unknown preset is refused with the known ones."""
    with pytest.raises(ConfigError, match="tutorial, tiny, base, large"):
        preset("huge")


def test_published_recipes() -> None:
    """Masking, distractors, temperatures and loss weights are those of the papers."""
    base, large = preset("base").to_dict(), preset("large").to_dict()
    for plain in (base, large):
        assert plain["masking"] == {"kind": "probability", "probability": 0.065, "span_frames": 10}
        assert plain["objective"]["distractors"] == {"kind": "sampled", "count": 100}
        assert plain["objective"]["logit_temperature"] == 0.1
        assert plain["objective"]["diversity_weight"] == 0.1
    assert base["quantizer"]["temperature"] == {"start": 2.0, "end": 0.5, "decay": 0.999995}
    assert large["quantizer"]["temperature"] == {"start": 2.0, "end": 0.1, "decay": 0.999995}
    assert base["objective"]["penalty_weight"] == 10
    assert large["objective"]["penalty_weight"] == 0
    assert base["objective"]["feature_gradient_scale"] == 0.1
    assert large["objective"]["feature_gradient_scale"] == 1

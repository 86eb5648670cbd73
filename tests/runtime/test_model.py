"""A loaded model: waveforms in; features, context, codes and vectors out."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import w2v_edge
from w2v_edge import Encoding, Model
from w2v_edge.errors import InputError
from w2v_edge.providers import Placement

Floats = npt.NDArray[np.float32]

MODELS = ("tutorial-small", "base-small", "large-small", "tiny")
ARRAYS = ("context", "features", "codes", "vectors", "times")


@pytest.fixture(scope="session")
def loaded(bundle: Callable[[str], Path]) -> Callable[[str], Model]:
    """`loaded(name)`: a small model."""
    return lambda name: w2v_edge.load(bundle(name))


@pytest.fixture(scope="session")
def clip(speech: dict[str, Floats]) -> Floats:
    """Four seconds of speech."""
    return speech["en-demo-abouttotry"][: 4 * 16_000]


def _bytes(encoding: Encoding) -> list[bytes]:
    return [getattr(encoding, name).tobytes() for name in ARRAYS]


def test_a_model_names_itself_in_one_line(bundle: Callable[[str], Path]) -> None:
    """Its representation has the bundle's name, the precision, the provider and the rate."""
    folder = bundle("tiny")
    assert repr(w2v_edge.load(folder)) == f"Model({folder.name!r}, fp32, cpu, 16000 Hz)"


@pytest.mark.parametrize("name", MODELS)
def test_encode_is_what_pytorch_computes(
    name: str, loaded: Callable[[str], Model], checkpoint: Callable[[str], Path], clip: Floats
) -> None:
    """`encode` gives PyTorch's features, context and codes, and the codes' vectors."""
    import torch

    from w2v_edge.model import load_checkpoint

    model = load_checkpoint(checkpoint(name))
    assert model.quantizer is not None
    with torch.inference_mode():
        features = model.features(torch.from_numpy(clip)[None], torch.tensor([len(clip)]))
        context = model.context(features)[0].numpy()
        quantized = model.quantizer(features)
    encoding = loaded(name).encode(clip, 16_000)
    for found, expected in (
        (encoding.features, features.values[0].numpy()),
        (encoding.context, context),
    ):
        assert found.dtype == np.float32
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= 1e-4 * max(1, expected.std())
    assert encoding.codes is not None
    assert encoding.vectors is not None
    assert encoding.codes.dtype == np.int64
    agree = encoding.codes == quantized.codes[0].numpy()
    assert agree.mean() >= 0.999
    assert len(np.unique(encoding.codes)) > 10
    both = agree.all(axis=1)
    assert np.array_equal(encoding.vectors[both], quantized.vectors[0].numpy()[both])


@pytest.mark.parametrize("name", MODELS)
def test_every_way_gives_the_same(
    name: str,
    loaded: Callable[[str], Model],
    bundle: Callable[[str], Path],
    clip: Floats,
    plain: Callable[..., dict[str, npt.NDArray[Any]]],
) -> None:
    """Encode, tokenize, features, `run` and onnxruntime alone agree on one waveform."""
    model = loaded(name)
    encoding, codes = model.encode(clip), model.tokenize(clip)
    batch = {"waveform": clip[None], "lengths": np.array([len(clip)])}
    encoder = plain(bundle(name) / "encoder.onnx", **batch)
    tokenizer = plain(bundle(name) / "tokenizer.onnx", **batch)
    assert encoding.codes is not None
    assert np.array_equal(encoding.codes, codes)
    assert np.array_equal(codes, tokenizer["codes"][0])
    np.testing.assert_allclose(model.features(clip), encoding.features, atol=1e-5)
    for output in ("features", "context"):
        np.testing.assert_allclose(getattr(encoding, output), encoder[output][0], atol=1e-5)
        np.testing.assert_array_equal(
            getattr(encoding, output), model.run("encoder", **batch)[output][0]
        )


@pytest.mark.parametrize("name", MODELS)
def test_results_are_the_same_every_time(
    name: str, loaded: Callable[[str], Model], clip: Floats
) -> None:
    """Two runs, and two loaded models, give the same bytes, and leave the waveform as it was."""
    model, before = loaded(name), clip.tobytes()
    first = _bytes(model.encode(clip))
    assert _bytes(model.encode(clip)) == first
    assert _bytes(loaded(name).encode(clip)) == first
    assert clip.tobytes() == before


def test_many_threads_share_a_model(loaded: Callable[[str], Model], clip: Floats) -> None:
    """Eight threads that open a model at once get the results of one thread."""
    model = loaded("large-small")
    waveforms = [clip[i * 1_000 : 20_000 + i * 3_000] for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(model.encode, waveforms * 2))
        tokens = list(pool.map(model.tokenize, waveforms))
    alone = loaded("large-small")
    for waveform, found in zip(waveforms * 2, together, strict=True):
        assert _bytes(found) == _bytes(alone.encode(waveform))
    for waveform, codes in zip(waveforms, tokens, strict=True):
        assert np.array_equal(codes, alone.tokenize(waveform))


def test_graphs_open_when_first_needed(loaded: Callable[[str], Model], clip: Floats) -> None:
    """Loading opens nothing, and tokenizing never opens a graph that holds the transformer."""
    model = loaded("base-small")
    assert model.placement == {}
    model.tokenize(clip)
    assert model.placement == {"tokenizer": Placement(("CPUExecutionProvider",))}
    model.features(clip)
    assert set(model.placement) == {"tokenizer", "statistics", "frontend"}
    model.encode(clip)
    assert set(model.placement) >= {"encoder", "quantizer"}


@pytest.mark.parametrize("name", MODELS)
def test_times_are_the_middle_of_frames(
    name: str,
    loaded: Callable[[str], Model],
    small_config: Callable[[str], Any],
    clip: Floats,
) -> None:
    """A click changes the frames whose times are around it most."""
    model, config = loaded(name), small_config(name)
    encoding = model.encode(clip)
    assert encoding.times.shape == (len(encoding.context),)
    assert np.diff(encoding.times) == pytest.approx(320 / 16_000)
    field = config.geometry.receptive_field / 16_000
    for click in (16_000, 30_321):
        spoilt = clip.copy()
        spoilt[click] += 0.9
        change = np.abs(model.features(spoilt) - model.features(clip)).max(axis=1)
        touched = np.flatnonzero(np.abs(encoding.times - click / 16_000) <= field / 2)
        assert np.argmax(change) in touched
        if name != "base-small":  # its statistics carry a click everywhere
            assert set(np.flatnonzero(change)) <= set(touched)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_other_sample_rates(rate: int, loaded: Callable[[str], Model]) -> None:
    """A sound at another rate gives nearly the same features."""

    def sound(at: int) -> Floats:
        time = np.arange(2 * at) / at
        return (0.3 * np.sin(2 * np.pi * 440 * time) * np.sin(9 * time)).astype(np.float32)

    model = loaded("tutorial-small")
    expected, found = model.encode(sound(16_000)), model.encode(sound(rate), sample_rate=rate)
    assert abs(len(found.context) - len(expected.context)) <= 1
    frames = slice(5, 90)
    deviation = np.abs(found.features[frames] - expected.features[frames]).max()
    assert deviation <= 0.05 * expected.features.std()


def test_the_shortest_audio(loaded: Callable[[str], Model], clip: Floats) -> None:
    """The tutorial's padded front end makes a frame of any sample; the others need 400."""
    tutorial = loaded("tutorial-small")
    for samples in (1, 10):
        encoding = tutorial.encode(clip[:samples])
        assert encoding.context.shape == (1, 48)
        assert tutorial.tokenize(clip[:samples]).shape == (1, 2)
    for name in ("base-small", "large-small"):
        assert loaded(name).tokenize(clip[:400]).shape == (1, 2)
        for call in (loaded(name).tokenize, loaded(name).encode, loaded(name).features):
            with pytest.raises(InputError, match=r"399 samples.*400.*25 ms"):
                call(clip[:399])

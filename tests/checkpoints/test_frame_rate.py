"""Features resampled to a video's frame rate, as talking-head models give them to transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

import w2v_edge
from w2v_edge.bundle.resampling import Resampling
from w2v_edge.checkpoints import load_source
from w2v_edge.errors import InputError
from w2v_edge_export.selection import Selection, select

pytestmark = pytest.mark.usefixtures("no_gradients")

Floats = npt.NDArray[np.float32]
Make = Callable[..., Any]

FAMILIES = ("wav2vec2-ctc", "hubert-large", "hubert-batch-norm", "wavlm-large", "data2vec")


@contextmanager
def _resampled(peer: Any, size: int) -> Iterator[None]:
    """Make transformers' convolutions give `size` frames."""

    def interpolate(_: Any, __: Any, features: Tensor) -> Tensor:
        # In float64: positions lose what lies between frames of a long recording in float32.
        resampled = torch.nn.functional.interpolate(
            features.double(), size=size, mode="linear", align_corners=True
        )
        return resampled.to(features.dtype)

    handle = peer.base_model.feature_extractor.register_forward_hook(interpolate)
    try:
        yield
    finally:
        handle.remove()


def _states(peer: Any, waveform: Floats, size: int) -> list[Tensor]:
    """Return transformers' hidden states over `size` frames, and its last one."""
    with _resampled(peer, size):
        found = peer.base_model(torch.from_numpy(waveform)[None], output_hidden_states=True)
    return [x[0] for x in (*found.hidden_states, found.last_hidden_state)]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("rate", [25, 29.97, 60])
def test_it_is_transformers_over_interpolated_features(
    name: str, rate: float, hf: Make, hf_folder: Make, ours: Make, equal: Make, utterance: Make
) -> None:
    """Every hidden state, in ragged batches: each utterance over its own frames."""
    model = select(load_source(hf_folder(name)).model, Selection(layers="all", frame_rate=rate))
    utterances = [utterance(48_000), utterance(5_001), utterance(720), utterance(400)]
    found = ours(model, *utterances, extra=900)
    for i, waveform in enumerate(utterances):
        frames = model.config.geometry.frames(len(waveform))
        count = model.config.context_frames(frames)
        *states, last = _states(hf(name), waveform, count)
        for layer, state in enumerate(states):
            equal(found[f"layer_{layer}"][i, :count], state)
            assert not found[f"layer_{layer}"][i, count:].any()
        equal(found["context"][i, :count], last)
        assert not found["context"][i, count:].any()


@pytest.mark.parametrize("rate", [23.976, 24, 25, 29.97, 30, 40])
def test_the_number_of_frames(rate: float) -> None:
    """Audio of a whole number of video frames has as many, of the usual hop and field."""
    resampling = Resampling.of(rate, 320, 16_000)
    for video_frames in range(1, 2000):
        samples = round(video_frames * 16_000 / rate)
        frames = max(0, (samples - 400) // 320 + 1)
        if frames:
            assert resampling.frames(frames) == video_frames
    assert resampling.frames(0) == 0


@pytest.fixture(scope="module")
def bundle(hf_folder: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle at 25 frames a second, with all layers and their mean."""
    from w2v_edge_export import export

    out = tmp_path_factory.mktemp("lips") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
        patch.setattr("w2v_edge_export.cases.SPEECH_SECONDS", 1.1)
        export(hf_folder("wav2vec2-ctc"), out, layers="all", mix="all", pool="mean", frame_rate=25)
    return out


def test_a_bundle(bundle: Path, hf: Make, equal: Make, utterance: Make) -> None:
    """Recordings and batches of any length, a single frame too, with times of the video."""
    model = w2v_edge.load(bundle)
    assert "features resampled to 25" in model.manifest.decisions
    waveforms = [utterance(16_000), utterance(24_961), utterance(400), utterance(7_001)]
    for waveform, encoding in zip(waveforms, model.encode(waveforms), strict=True):
        count = -(-len(encoding.features) // 2)
        *states, last = _states(hf("wav2vec2-ctc"), waveform, count)
        equal(encoding.context, last)
        for layer, state in enumerate(states):
            equal(encoding.layers[layer], state)
        equal(encoding.mixed, torch.stack(states).mean(dim=0))
        assert encoding.logits is not None
        assert len(encoding.logits) == count
        np.testing.assert_allclose(encoding.context_times, (np.arange(count) + 0.5) / 25)
    assert len(model.encode(waveforms[0]).context) == 25
    assert model.context_frame_seconds == pytest.approx(0.04)
    empty = model.run("encoder", waveform=np.zeros((1, 399), np.float32), lengths=np.array([399]))
    assert empty["context"].shape[:2] == (1, 0)
    assert empty["context_lengths"].tolist() == [0]


def test_it_takes_whole_recordings(bundle: Path, utterance: Make) -> None:
    """Windows and streams of the context are refused; features stream as ever."""
    model, waveform = w2v_edge.load(bundle), utterance(8_000)
    with pytest.raises(InputError, match="expected whole recordings"):
        model.stream(statistics="running", context=True)
    with pytest.raises(InputError, match="expected whole recordings"):
        next(model.encode_blocks(waveform))
    with pytest.raises(InputError, match="expected whole recordings"):
        model.encode(waveform, window=w2v_edge.Window(step=0.2, left=0.1, right=0.1))
    statistics = model.statistics(waveform)
    with model.stream(statistics=statistics, context=False) as stream:
        features = np.concatenate([stream.push(waveform).features, stream.flush().features])
    np.testing.assert_allclose(features, model.encode(waveform).features, atol=1e-4)


def test_its_verification(
    bundle: Path, hf_folder: Make, command: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest has the rate, so that the checkpoint alone is enough."""
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
    monkeypatch.setattr("w2v_edge_export.cases.SPEECH_SECONDS", 1.1)
    monkeypatch.setattr("w2v_edge_export.cases.THOROUGH_SECONDS", (0.5,))
    code, text, err = command("verify", bundle, "--checkpoint", hf_folder("wav2vec2-ctc"))
    assert code == 0, (text, err)


@pytest.mark.parametrize("name", ["wav2vec2-pretraining"])
def test_codes_of_features_are_left_out(name: str, hf_folder: Make) -> None:
    """The quantizer was trained on features at the encoder's own rate."""
    source = load_source(hf_folder(name)).model
    assert source.quantizer is not None
    assert select(source, Selection(frame_rate=25)).quantizer is None


@pytest.mark.parametrize("rate", ["0.5", "nan", "2000", "fast"])
def test_a_rate_out_of_range(rate: str, hf_folder: Make, command: Make, tmp_path: Path) -> None:
    """It is a usage error."""
    given = ("export", hf_folder("wav2vec2"), "-o", tmp_path / "out", "--frame-rate", rate)
    code, _, err = command(*given)
    assert code == 2
    assert "--frame-rate" in err

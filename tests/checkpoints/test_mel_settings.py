"""Settings of w2v-BERT and wav2vec2-Conformer that differ from the handled ones are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from w2v_edge.checkpoints import load_source
from w2v_edge.model.config import LogMelConfig

Make = Callable[..., Any]

REFUSED: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "another extractor": (
        "bert",
        "preprocessor_config.json",
        {"feature_extractor_type": "Wav2Vec2FeatureExtractor"},
        "feature_extractor_type: expected 'SeamlessM4TFeatureExtractor'",
    ),
    "another rate": ("bert", "preprocessor_config.json", {"sampling_rate": 8000}, "expected 16000"),
    "frames that are not pairs": (
        "bert",
        "preprocessor_config.json",
        {"stride": 1},
        "stride: expected 2",
    ),
    "bins that do not fit": (
        "bert",
        "preprocessor_config.json",
        {"num_mel_bins": 40},
        "feature_projection_input_dim: expected 2 frames of 40 mel bins",
    ),
    "an activation": (
        "bert",
        "config.json",
        {"hidden_act": "mish"},
        "hidden_act: expected one of gelu, gelu_python, gelu_new",
    ),
    "padding before the frames": (
        "bert",
        "preprocessor_config.json",
        {"padding_side": "left"},
        "padding_side: expected 'right'",
    ),
    "an activation of the adapter": (
        "bert-ctc",
        "config.json",
        {"adapter_act": "selu"},
        "adapter_act: expected one of",
    ),
    "padding that is counted otherwise": (
        "bert-ctc",
        "config.json",
        {"adapter_stride": 4},
        "adapter_kernel_size",
    ),
    "a first layer without an adapter": (
        "bert",
        "config.json",
        {"use_intermediate_ffn_before_adapter": True},
        "use_intermediate_ffn_before_adapter",
    ),
    "an even kernel": ("bert", "config.json", {"conv_depthwise_kernel_size": 30}, "context.kernel"),
    "positions": (
        "conformer",
        "config.json",
        {"position_embeddings_type": "relative_key"},
        "position_embeddings_type: expected one of relative, rotary, or null",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_handled_is_refused_by_name(
    case: str, hf_folder: Make, tmp_path: Path, edit: Make, refuses: Make
) -> None:
    """The setting is named, with what is expected of it."""
    name, file, changes, message = REFUSED[case]
    folder = shutil.copytree(hf_folder(name), tmp_path / "changed")
    transformers.SeamlessM4TFeatureExtractor().save_pretrained(folder)  # type: ignore[no-untyped-call]
    load_source(folder)
    edit(folder / file, **changes)
    refuses(folder, file if file != "config.json" else str(folder), message)


def test_without_a_preprocessor(hf_folder: Make) -> None:
    """Mel energies equal the extractor's by default, and a remark says so."""
    source = load_source(hf_folder("bert"))
    assert source.model.config.feature_encoder == LogMelConfig(80)
    assert source.model.config.normalise is None
    assert source.remarks == (
        "no preprocessor_config.json: 80 mel bins, by feature_projection_input_dim",
    )


@pytest.mark.parametrize("bins", [40, 23, 64])
@pytest.mark.usefixtures("no_gradients")
def test_other_bins(
    bins: int, fresh: Make, tmp_path: Path, utterance: Make, ours: Make, equal: Make, compared: Make
) -> None:
    """As many mel bins as the preprocessor says, or without one as the config has room for."""
    peer = fresh("bert", feature_projection_input_dim=2 * bins)
    peer.save_pretrained(tmp_path)
    model = load_source(tmp_path).model
    extractor: Any = transformers.SeamlessM4TFeatureExtractor(num_mel_bins=bins, feature_size=bins)  # type: ignore[no-untyped-call]
    extractor.save_pretrained(tmp_path)
    assert load_source(tmp_path).model.config == model.config
    for samples in (400 + 160, 9_001, 16_000 + 160):
        waveform = utterance(samples)
        given = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
        frames = int(given["attention_mask"].sum())
        expected = peer(**given).last_hidden_state[0, :frames]
        equal(ours(model, waveform)["context"][0], expected)
    compared(type(peer).__name__)


SIZES = [(4, 2), (5, 2), (8, 8), (2, 3), (7, 1), (3, 2)]


@pytest.mark.parametrize(("kernel", "stride"), SIZES)
@pytest.mark.usefixtures("no_gradients")
def test_other_adapters(
    kernel: int,
    stride: int,
    fresh: Make,
    tmp_path: Path,
    utterance: Make,
    ours: Make,
    equal: Make,
    compared: Make,
) -> None:
    """Adapters of other kernels and strides, where transformers' mask covers all their frames."""
    peer = fresh("bert-adapter", adapter_kernel_size=kernel, adapter_stride=stride)
    peer.save_pretrained(tmp_path)
    model = load_source(tmp_path).model
    extractor: Any = transformers.SeamlessM4TFeatureExtractor()  # type: ignore[no-untyped-call]
    waveforms = [utterance(n) for n in (160_000, 19_000, 16_000 + 160)]
    batch = ours(model, *waveforms, extra=999)["context"]
    for i, waveform in enumerate(waveforms):
        # Frames without a partner are cut, so that the mask is all ones.
        given = extractor(waveform, sampling_rate=16_000, return_tensors="pt")
        frames = int(given["attention_mask"].sum())
        given = {key: x[:, :frames] for key, x in given.items()}
        expected = peer(**given).last_hidden_state[0]
        equal(ours(model, waveform)["context"][0], expected)
        equal(batch[i, : len(expected)], expected)
        assert not batch[i, len(expected) :].any()
    compared(type(peer).__name__)

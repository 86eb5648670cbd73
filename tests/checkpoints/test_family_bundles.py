"""Bundles of converted checkpoints give transformers' outputs, in onnxruntime alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor

import w2v_edge
from w2v_edge.bundle import Manifest, read_manifest
from w2v_edge.runtime.statistics import GrowingStatistics
from w2v_edge.runtime.window import Window

Floats = npt.NDArray[np.float32]
Make = Callable[..., Any]

LAYOUT = "bundle, in onnxruntime"

NORMALISED = {
    "wav2vec2-pretraining": True,
    "mms": True,
    "wav2vec2-adapter-ctc": False,
    "wav2vec2-classes-mixed": True,
    "hubert-batch-norm": False,
    "wavlm-frames": False,
    "data2vec-ctc": True,
    "conformer-classes-mixed": True,
    "bert-ctc": False,
}
"""Models, each with a part of its own, and whether their waveforms are normalised."""

INT8 = ("wavlm-frames", "data2vec-ctc", "bert-ctc")
ADAPTERS = ("wav2vec2-adapter-ctc", "bert-ctc")


@pytest.fixture(scope="module", params=NORMALISED)
def name(request: pytest.FixtureRequest) -> str:
    """Each of those models."""
    model: str = request.param
    return model


@pytest.fixture(scope="session")
def exported(
    shared_folder: Path,
    hf_folder: Callable[[str], Path],
    write_processor: Make,
    locked: Callable[[str], AbstractContextManager[None]],
) -> Callable[..., Path]:
    """`exported(name, precision="fp32", target="cpu")`: a bundle, through a shortened gate."""

    def run(precision: Any, target: str, source: Path, folder: Path) -> None:
        from w2v_edge_export import export

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
            patch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 600)
            # Small products are not faster in int8.
            export(source, folder, precision=precision, target=target, require_speedup=0.0)

    def make(name: str, precision: str = "fp32", target: str = "cpu") -> Path:
        families = shared_folder / "families" / f"{name}-{target}"
        # The same trace serves all precisions, so that whoever makes one makes all.
        precisions = ["fp32", "int8"] if target == "cpu" and name in INT8 else ["fp32"]
        with locked(families.name):
            if not families.exists():
                source = families / "source"
                shutil.copytree(hf_folder(name), source)
                write_processor(source, do_normalize=NORMALISED[name])
                if name.startswith("bert"):
                    SeamlessM4TFeatureExtractor().save_pretrained(source)  # type: ignore[no-untyped-call]
                for each in precisions:
                    run(each, target, source, families / each)
        return families / precision

    return make


@pytest.fixture
def expected(hf: Make, theirs: Make) -> Callable[[str, Floats], dict[str, Floats]]:
    """`expected(name, waveform)`: transformers' outputs, with its own preprocessing."""

    def run(name: str, waveform: Floats) -> dict[str, Floats]:
        extractor: Any = Wav2Vec2FeatureExtractor(  # type: ignore[no-untyped-call]
            do_normalize=NORMALISED[name]
        )
        given = extractor(waveform, sampling_rate=16_000, return_tensors="np").input_values[0]
        return {key: x.numpy() for key, x in theirs(hf(name), given).items()}

    return run


def test_outputs_equal_transformers(
    name: str, exported: Make, expected: Make, plain: Make, equal: Make, utterance: Make
) -> None:
    """Alone and in a padded batch, outputs are those of transformers; padding gives zeros."""
    path = exported(name) / "encoder.onnx"
    shortest = read_manifest(path.parent).min_samples
    for samples in (shortest + 1, shortest + 320):
        _assert_rows(
            name, plain(path, **_batch(utterance(samples))), [utterance(samples)], expected, equal
        )
    waveforms = [utterance(n, 30_000 * i) for i, n in enumerate((9_000, 16_001, shortest, 3_999))]
    found = plain(path, **_batch(*waveforms, extra=777))
    _assert_rows(name, found, waveforms, expected, equal)


def test_an_empty_batch(name: str, exported: Make, empty_batch: Make) -> None:
    """A batch of 0 rows gives 0 rows, in every graph and precision."""
    for precision in ("fp32", "int8") if name in INT8 else ("fp32",):
        empty_batch(exported(name, precision))


def test_windows_over_everything(name: str, exported: Make, utterance: Make) -> None:
    """Streams and long audio have all outputs; with a wide window, those of `encode`."""
    model, waveform = w2v_edge.load(exported(name)), utterance(40_000)
    expected = model.encode(waveform)
    stream = model.stream(
        statistics=model.statistics(waveform), context=Window(step=0.4, left=3, right=3)
    )
    pieces = [stream.push(x) for x in np.split(waveform, [1_000, 5_000, 30_000])]
    pieces.append(stream.flush())
    for output in ("features", "context", "times", "context_times", "codes", "logits"):
        whole = getattr(expected, output)
        by_frame = output != "logits" or "frames" in model.manifest.logits_axes
        if whole is not None and by_frame:
            found = np.concatenate([getattr(piece, output) for piece in pieces])
            assert found.shape == whole.shape
            np.testing.assert_allclose(found, whole, atol=1e-4 * max(1, whole.std()))
    for output, mean in stream.means().items():
        # Windows see more of the beginning than of the end.
        assert mean.shape == getattr(expected, output).shape
    long = model.encode(waveform, window=Window(step=3, left=0, right=0))
    if long.logits is not None:
        assert expected.logits is not None
        np.testing.assert_allclose(long.logits, expected.logits, atol=1e-4)


def test_the_parts_make_the_whole(
    name: str, exported: Make, expected: Make, plain: Make, equal: Make, utterance: Make
) -> None:
    """Statistics, front end and context in a row give the outputs of the encoder."""
    folder = exported(name)
    waveforms = [utterance(n, 30_000 * i) for i, n in enumerate((9_000, 16_001, 3_999))]
    batch = _batch(*waveforms, extra=777)
    path = folder / "statistics.onnx"
    measured = name in {"wav2vec2-pretraining", "hubert-batch-norm", "bert-ctc"}
    assert path.exists() == (measured or NORMALISED[name])
    statistics = plain(path, **batch) if path.exists() else {}
    front = plain(folder / "frontend.onnx", **batch, **statistics)
    found = {**front, **plain(folder / "context.onnx", **front)}
    _assert_rows(name, found, waveforms, expected, equal)


def test_fixed_shapes(
    name: str, exported: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, utterance: Make
) -> None:
    """Graphs of a fixed shape give the outputs of a bundle with open axes."""
    from w2v_edge_export import export

    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
    monkeypatch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 600)
    usual = exported(name)
    export(usual.parent / "source", tmp_path / "fixed", samples=(20_000,), batch=2)
    waveforms = [utterance(20_000), utterance(9_001, 30_000), utterance(5_000, 60_000)]
    found, expected = (w2v_edge.load(x).encode(waveforms) for x in (tmp_path / "fixed", usual))
    for one, other in zip(found, expected, strict=True):
        for output in ("features", "context", "codes", "logits"):
            values = getattr(other, output)
            if values is not None:
                np.testing.assert_allclose(getattr(one, output), values, atol=1e-4)


def test_the_manifest(name: str, exported: Make, hf: Make) -> None:
    """The manifest states the meaning of logits and the spelling of labels."""
    manifest: Manifest = read_manifest(exported(name))
    assert manifest.parity is not None
    assert manifest.parity["passed"]
    assert (manifest.config["normalise"] is not None) == NORMALISED[name]
    mels = "80 mel bins, normalised" in manifest.decisions
    assert mels == (name == "bert-ctc")
    assert ("waveform normalised" in manifest.decisions) == NORMALISED[name]
    utterance, ctc = name.endswith("classes-mixed"), "ctc" in name or name == "mms"
    axes = ("batch", "labels") if utterance else ("batch", "frames", "labels")
    headed = utterance or ctc or name == "wavlm-frames"
    assert manifest.logits_axes == (axes if headed else ())
    assert (manifest.ctc is not None) == ctc
    if manifest.ctc is not None:
        assert len(manifest.labels) == 37
        assert manifest.labels[:5] == ("<pad>", "<s>", "</s>", "<unk>", "|")
        assert (manifest.ctc.blank, manifest.ctc.word_delimiter) == (0, "|")
        assert set(manifest.ctc.special) == {"<pad>", "<s>", "</s>", "<unk>"}
    elif headed:
        assert manifest.labels == ("neutral", "happy", "angry", "sad", "bored")
    pretrained = name == "wav2vec2-pretraining"
    assert (manifest.codebook is not None) == pretrained
    assert ("tokenizer" in manifest.graphs) == ("quantizer" in manifest.graphs) == pretrained
    assert manifest.context_dim == hf(name).config.hidden_size


def test_statistics_of_mel_energies(exported: Make, utterance: Make) -> None:
    """Of a whole recording and of one in blocks, the bins' mean and unbiased variance are equal."""
    model, waveform = w2v_edge.load(exported("bert-ctc")), utterance(40_000)
    extractor: Any = SeamlessM4TFeatureExtractor()  # type: ignore[no-untyped-call]
    options = {"sampling_rate": 16_000, "do_normalize_per_mel_bins": False, "return_tensors": "np"}
    mels = extractor(waveform, **options)["input_features"].reshape(-1, 80)
    expected = np.concatenate([mels.mean(axis=0), mels.var(axis=0, ddof=1)])
    found = model.statistics(waveform)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    growing = GrowingStatistics(model.session)
    for block in np.split(waveform, [300, 1_000, 1_400, 20_001]):
        growing.add(block)
    np.testing.assert_allclose(growing.value(), found, rtol=1e-6)


def test_codes(exported: Make, hf: Make, plain: Make, utterance: Make) -> None:
    """The tokenizer's codes are the best entries of transformers' quantizer, but for ties."""
    model, waveform = hf("wav2vec2-pretraining"), utterance(40_000)
    folder = exported("wav2vec2-pretraining")
    codes = plain(folder / "tokenizer.onnx", **_batch(waveform, extra=99))["codes"]
    extractor: Any = Wav2Vec2FeatureExtractor()  # type: ignore[no-untyped-call]
    batch = extractor(waveform, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.no_grad():
        features = model.wav2vec2(batch).extract_features
        logits = model.quantizer.weight_proj(features).unflatten(-1, (2, 40))[0]
    best = logits.topk(2, dim=-1).values
    clear = (best[..., 0] - best[..., 1] > 1e-4 * logits.std()).numpy()
    assert clear.mean() > 0.99
    found = codes[0, : len(logits)]
    np.testing.assert_array_equal(found[clear], logits.argmax(dim=-1).numpy()[clear])
    assert len(np.unique(found, axis=0)) > 2


def test_for_cuda(
    exported: Make, expected: Make, plain: Make, equal: Make, utterance: Make
) -> None:
    """Graphs for `cuda` give the same outputs without onnxruntime's own operators."""
    name = "wavlm-frames"
    folder = exported(name, target="cuda")
    graphs = read_manifest(folder).graphs
    assert not any("::" in operator for graph in graphs.values() for operator in graph.operators)
    waveforms = [utterance(n, 30_000 * i) for i, n in enumerate((9_000, 16_001, 400))]
    found = plain(folder / "encoder.onnx", **_batch(*waveforms, extra=777))
    _assert_rows(name, found, waveforms, expected, equal)


@pytest.mark.parametrize("name", INT8)
def test_int8(
    name: str, exported: Make, expected: Make, plain: Make, utterance: Make, equal: Make
) -> None:
    """In int8, frames stay close to transformers', and results are batch-invariant."""
    folder = exported(name, precision="int8")
    plan = read_manifest(folder).weight_quantization
    assert plan is not None
    assert sum(layer["precision"] == "int8" for layer in plan["layers"]) > 10
    waveforms = [utterance(n, 30_000 * i) for i, n in enumerate((9_000, 32_000))]
    found = plain(folder / "encoder.onnx", **_batch(*waveforms, extra=777))
    for i, waveform in enumerate(waveforms):
        for key, values in expected(name, waveform).items():
            assert np.quantile(_cosines(found[key][i, : len(values)], values), 0.1) > 0.99
        alone = plain(folder / "encoder.onnx", **_batch(waveform))
        equal(found["context"][i, : alone["context"].shape[1]], alone["context"][0])


def _batch(*waveforms: Floats, extra: int = 0) -> dict[str, npt.NDArray[Any]]:
    batch = np.full((len(waveforms), max(map(len, waveforms)) + extra), np.nan, np.float32)
    batch[:, ::3] = 1e30
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return {"waveform": batch, "lengths": np.array([len(x) for x in waveforms])}


def _assert_rows(
    name: str, found: dict[str, Floats], waveforms: list[Floats], expected: Make, equal: Make
) -> None:
    for i, waveform in enumerate(waveforms):
        wanted = expected(name, waveform)
        assert found["frame_lengths"][i] == len(wanted["features"])
        lengths = found.get("context_lengths", found["frame_lengths"])
        assert lengths[i] == len(wanted["context"])
        assert ("context_lengths" in found) == (name in ADAPTERS)
        for key, values in wanted.items():
            row = found[key][i]
            if values.ndim == 2:
                assert not row[len(values) :].any()
            equal(row[: len(values)] if values.ndim == 2 else row, values)


def _cosines(found: Floats, expected: Floats) -> Floats:
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    cosines: Floats = (found * expected).sum(axis=-1) / norms
    return cosines

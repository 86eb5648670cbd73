"""An export holds its accuracy and speed budgets, or writes nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import w2v_edge_export
from w2v_edge.bundle.geometry import Geometry
from w2v_edge.errors import AudioFileError, ConfigError, InputError
from w2v_edge.model import SpeechModel, load_checkpoint, preset
from w2v_edge_export import reference
from w2v_edge_export.parts import parts
from w2v_edge_export.weight_quantization.accuracy import Accuracy
from w2v_edge_export.weight_quantization.calibration import calibration_audio, products
from w2v_edge_export.weight_quantization.layers import Candidate
from w2v_edge_export.weight_quantization.plan import Plan, QuantizedLayer
from w2v_edge_export.weight_quantization.rounding import round_weight
from w2v_edge_export.weight_quantization.search import (
    AccuracyBudgetError,
    Budgets,
    QuantizationResult,
)

Floats = npt.NDArray[np.float32]
Plain = Callable[..., dict[str, npt.NDArray[Any]]]

NAME = "base-small"

OUTLIERS = {
    "frontend.conv.3": ("feature_encoder.blocks.2.conv", "feature_encoder.blocks.3.conv"),
    "context.blocks.0.feed_forward.contract": (
        "context_network.blocks.0.feed_forward.expand",
        "context_network.blocks.0.feed_forward.contract",
    ),
}
"""Layers whose inputs get outliers: the tensors of the layer before, and its own."""


@pytest.fixture
def spoilt(checkpoint: Callable[[str], Path], tmp_path: Path) -> Path:
    """A checkpoint where two inputs of the layers of `OUTLIERS` are 100 times the others.

    The layers' weights make up for it, as those of trained networks do; so the others matter.
    """
    content = torch.load(checkpoint(NAME), weights_only=True)
    for before, own in OUTLIERS.values():
        for name, tensor in content["model"].items():
            if name in {f"{before}.weight", f"{before}.bias"}:
                tensor[[3, 17]] *= 100
            if name == f"{own}.weight":
                tensor[:, [3, 17]] /= 100
    path = tmp_path / "spoilt.pt"
    torch.save(content, path)
    return path


@pytest.fixture
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the gate and the timing, which have tests elsewhere; budgets are measured in full."""
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 7.3)
    monkeypatch.setattr("w2v_edge_export.weight_quantization.accuracy.SPEED_FRAMES", 25)


@pytest.fixture
def export(
    tmp_path: Path,
    shorter: None,  # noqa: ARG001 - likewise
) -> Callable[..., Path]:
    """`export(checkpoint, calibration=..., ..., **budgets)`: to int8, however fast that is."""

    def run(checkpoint: Path, **given: Any) -> Path:
        options = {"precision": "int8", "require_speedup": 0.0, **given}
        assert w2v_edge_export.export(checkpoint, tmp_path / "bundle", **options).parity.passed
        return tmp_path / "bundle"

    return run


@pytest.fixture
def measured(speech: dict[str, Floats], plain: Plain) -> Callable[..., tuple[float, float]]:
    """`measured(model, folder)`: context cosine at the worst decile, and code drift, on clips."""

    def run(model: SpeechModel, folder: Path) -> tuple[float, float]:
        cosines, differing = [], []
        for clip in speech.values():
            given = {"waveform": clip[np.newaxis], "lengths": np.array([len(clip)])}
            expected = reference.encode(model, clip).arrays
            codes = plain(folder / "tokenizer.onnx", **given)["codes"][0]
            a = plain(folder / "encoder.onnx", **given)["context"][0].astype(np.float64)
            b = expected["context"].astype(np.float64)
            norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
            cosines.append((a * b).sum(axis=1) / norms)
            differing.append((codes != expected["codes"]).ravel())
        return float(np.quantile(np.concatenate(cosines), 0.1)), float(
            np.concatenate(differing).mean()
        )

    return run


def _stated(folder: Path) -> dict[str, Any]:
    content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    stated: dict[str, Any] = content["weight_quantization"]
    return stated


def _of_precision(folder: Path, precision: str) -> set[str]:
    return {x["name"] for x in _stated(folder)["layers"] if x["precision"] == precision}


def _floats(path: Path) -> set[str]:
    """Return the layers of a graph whose weights are float32."""
    initializers = onnx.load(path, load_external_data=False).graph.initializer
    float32 = [x.name for x in initializers if x.data_type == onnx.TensorProto.FLOAT]
    return {x.removesuffix(".weight") for x in float32 if x.endswith(".weight")}


def _without_balance(model: SpeechModel, candidates: list[Candidate]) -> Plan:
    """Return every layer in int8, its inputs rounded as they come."""
    modules = products(parts(model))
    return {
        x.layer.name: QuantizedLayer(
            x.layer.name, "row", round_weight(modules[x.layer.name].weight.detach(), None)
        )
        if getattr(x.layer, "balance", None) is not None
        else x.layer
        for x in candidates
    }


def test_outliers_do_not_break_budgets(
    spoilt: Path, export: Any, candidates: Any, assembled: Any, measured: Any
) -> None:
    """With outliers that break plain int8, an export still holds its budgets."""
    model = load_checkpoint(spoilt)
    plain_plan = _without_balance(model, candidates(model))
    cosine, drift = measured(model, assembled(model, plain_plan))
    assert cosine < 0.998 or drift > 0.05
    folder = export(spoilt)
    cosine, drift = measured(model, folder)
    assert cosine >= 0.998
    assert drift <= 0.05
    balanced = {x["name"] for x in _stated(folder)["layers"] if x["balanced"]}
    assert OUTLIERS.keys() <= balanced | _of_precision(folder, "fp32")


def test_tight_budgets_leave_layers_in_float(
    checkpoint: Any, export: Any, measured: Any, int8_weights: Any
) -> None:
    """Layers return to float32 until the budgets hold, in the graphs too."""
    folder = export(checkpoint(NAME), max_code_drift=0.025, min_cosine=0.9995)
    cosine, drift = measured(load_checkpoint(checkpoint(NAME)), folder)
    assert cosine >= 0.999
    assert drift <= 0.025
    floats, integers = _of_precision(folder, "fp32"), _of_precision(folder, "int8")
    assert any(x.startswith("frontend.") for x in floats)
    assert integers
    for graph in ("encoder", "tokenizer"):
        path = folder / f"{graph}.onnx"
        used = {x for x in floats | integers if graph == "encoder" or x.startswith("frontend.")}
        assert set(int8_weights(path)) == integers & used
        assert _floats(path) >= floats & used
    assert not _floats(folder / "encoder.onnx") & integers


def test_no_drift_at_all(checkpoint: Any, export: Any, measured: Any, tmp_path: Path) -> None:
    """With a code drift of 0, the front end stays in float32, or there is no bundle."""
    model = load_checkpoint(checkpoint(NAME))
    try:
        folder = export(checkpoint(NAME), max_code_drift=0.0)
    except AccuracyBudgetError:
        assert list(tmp_path.iterdir()) == []
        return
    layers = _of_precision(folder, "int8") | _of_precision(folder, "fp32")
    front = {x for x in layers if x.startswith("frontend.")}
    assert len(front) == 6
    assert front <= _of_precision(folder, "fp32")
    assert measured(model, folder)[1] == 0


def test_a_front_end_in_float(
    checkpoint: Any,
    export: Any,
    assembled: Any,
    int8_weights: Any,
    speech: dict[str, Floats],
    plain: Plain,
) -> None:
    """With the front end in fp32, its weights and codes are those of float32."""
    folder = export(checkpoint(NAME), frontend_precision="fp32")
    integers = set(int8_weights(folder / "encoder.onnx"))
    assert integers == _of_precision(folder, "int8")
    assert integers
    assert all(x.startswith("context.") for x in integers)
    assert {f"frontend.conv.{i}" for i in range(1, 7)} <= _floats(folder / "tokenizer.onnx")
    in_float = assembled(load_checkpoint(checkpoint(NAME)), {})
    for clip in speech.values():
        given = {"waveform": clip[np.newaxis], "lengths": np.array([len(clip)])}
        found, expected = (
            plain(x / "tokenizer.onnx", **given)["codes"] for x in (folder, in_float)
        )
        assert np.array_equal(found, expected)


def test_impossible_budgets(checkpoint: Any, export: Any, tmp_path: Path) -> None:
    """A budget that cannot be held is an error that names it, and no bundle is written."""
    with pytest.raises(AccuracyBudgetError, match="context cosine") as refused:
        export(checkpoint(NAME), min_cosine=1.5)
    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)
    outcome = refused.value.outcome
    assert len(outcome.problems) == 1
    assert "context cosine" in outcome.problems[0]
    assert len(outcome.to_dict()["layers"]) == 20
    assert list(tmp_path.iterdir()) == []


def _write(path: Path, samples: Floats, rate: int = 16_000) -> None:
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT")


def test_calibration_on_other_audio(
    checkpoint: Any, export: Any, speech: dict[str, Floats], tmp_path: Path
) -> None:
    """Layers are calibrated on a folder of recordings, at any sample rate."""
    clips = list(speech.values())
    _write(tmp_path / "audio/a.wav", clips[1])
    _write(tmp_path / "audio/b.wav", clips[2][:64_000:2], 8_000)
    loose = {"max_code_drift": 0.2, "min_cosine": 0.99}
    folder = export(checkpoint(NAME), calibration=tmp_path / "audio", **loose)
    # Half of the six seconds, 50 frames each, two codes a frame.
    assert 250 < _stated(folder)["measured"]["codes"] < 350
    assert len(_of_precision(folder, "int8")) == 20


def _broken(folder: Path) -> None:
    _write(folder / "a.wav", np.ones(16_000, np.float32))
    (folder / "b.wav").write_bytes(b"RIFF and nothing more")


@pytest.mark.parametrize(
    ("fill", "error"),
    [
        (lambda folder: folder.mkdir(), InputError),
        (lambda _: None, InputError),
        (_broken, AudioFileError),
        (lambda folder: _write(folder / "a.wav", np.zeros(64_000, np.float32)), InputError),
        (lambda folder: _write(folder / "a.wav", np.ones(300, np.float32)), InputError),
    ],
    ids=["empty", "missing", "broken", "silence", "too short"],
)
def test_calibration_audio_that_cannot_be_used(
    fill: Callable[[Path], None],
    error: type[Exception],
    checkpoint: Any,
    export: Any,
    tmp_path: Path,
) -> None:
    """A folder without usable audio is refused by name, and no bundle is written."""
    folder = tmp_path / "audio"
    fill(folder)
    before = list(tmp_path.iterdir())
    with pytest.raises(error, match="audio"):
        export(checkpoint(NAME), calibration=folder)
    assert list(tmp_path.iterdir()) == before


@settings(max_examples=15)
@given(
    seconds=st.lists(st.floats(0.01, 40) | st.sampled_from([0.03, 20.0, 130.0]), max_size=3),
    field=st.integers(1, 800),
)
def test_calibration_and_measurement_are_disjoint(
    seconds: list[float], field: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Calibration and measurement share no sample, and no chunk is shorter than a frame."""
    rate, geometry = 1_000, Geometry.of_convolutions([(field, 20, 0)])
    folder = tmp_path_factory.mktemp("audio")
    total = 0
    for i, length in enumerate(seconds):
        samples = max(1, round(length * rate))
        # Every sample of all files is another number.
        numbers = np.arange(total + 1, total + samples + 1)
        _write(folder / f"{i}.wav", (numbers / 2**20).astype(np.float32), rate)
        total += samples
    try:
        calibrating, measuring = calibration_audio(folder, rate, geometry)
    except InputError:
        assert all(length * rate < 2 * field + 2 for length in seconds)
        return
    numbers = np.arange(1, total + 1)
    halves = [np.concatenate(x) * 2**20 for x in (calibrating, measuring)]
    for half, pieces in zip(halves, (calibrating, measuring), strict=True):
        assert np.isin(half, numbers).all()
        assert len(np.unique(half)) == len(half)
        assert all(field <= len(x) <= 20 * rate for x in pieces)
    assert not np.isin(halves[0], halves[1]).any()


def test_int8_is_not_for_every_target(checkpoint: Any, export: Any, tmp_path: Path) -> None:
    """A target without int8 operators refuses int8 before any work."""
    with pytest.raises(ConfigError, match=r"cuda.*int8"):
        export(checkpoint(NAME), target="cuda")
    assert list(tmp_path.iterdir()) == []


def test_nan_exceeds_every_budget() -> None:
    """NaN exceeds every budget, and survives JSON as a string."""
    nan = float("nan")
    outcome = QuantizationResult(Budgets(), Accuracy(nan, nan, nan, 10), nan, ())
    assert len(outcome.problems) == 3
    text = json.dumps(outcome.to_dict(), allow_nan=False)
    assert math.isnan(float(json.loads(text)["measured"]["context_cosine"]))


def test_of_many_files_some_are_read(tmp_path: Path, speech: dict[str, Floats]) -> None:
    """From hundreds of files, long chunks of some are read."""
    clip = np.resize(next(iter(speech.values())), 32_000)
    for i in range(200):
        _write(tmp_path / "many" / f"{i:03}.wav", clip)
    geometry = preset("base").geometry
    calibrating, measuring = calibration_audio(tmp_path / "many", 16_000, geometry)
    assert len(calibrating) == len(measuring) <= 96
    assert min(map(len, measuring)) >= 16_000

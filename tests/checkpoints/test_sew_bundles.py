"""Bundles of SEW give transformers' outputs, in onnxruntime alone, in windows too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import w2v_edge
from w2v_edge.runtime.window import FrameWindow, Window

Make = Callable[..., Any]

LAYOUT = "bundle, in onnxruntime"


@pytest.fixture(scope="module", params=["sew-ctc", "sew-d-classes-mixed"])
def name(request: pytest.FixtureRequest) -> str:
    """A model of each family."""
    model: str = request.param
    return model


@pytest.fixture(scope="module")
def exported(
    name: str, hf_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """`exported(precision)`: bundles of one trace, through a shortened gate."""
    from w2v_edge_export import export

    folder = tmp_path_factory.mktemp(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
        for precision in ("fp32", "int8"):
            source = hf_folder(name)
            export(source, folder / precision, precision=precision, require_speedup=0.0)
    return lambda precision: folder / precision


def test_outputs_equal_transformers(
    name: str, exported: Make, hf: Make, theirs: Make, equal: Make, utterance: Make
) -> None:
    """Alone and in lists, outputs equal transformers'; a frame left over has no context."""
    model = w2v_edge.load(exported("fp32"))
    waveforms = [utterance(n, 30_000 * i) for i, n in enumerate((720, 9_000, 16_001, 3_999))]
    for found, waveform in zip(model.encode(waveforms), waveforms, strict=True):
        for output, values in theirs(hf(name), waveform).items():
            equal(getattr(found, output), values)
    alone = model.encode(utterance(400))
    assert len(alone.context) == 1
    assert not alone.context.any()


def test_int8(name: str, exported: Make, hf: Make, theirs: Make, utterance: Make) -> None:
    """In 8 bits frames keep their direction, whatever is beside them."""
    model = w2v_edge.load(exported("int8"))
    waveforms = [utterance(9_000), utterance(16_001, 40_000)]
    alone = model.encode(waveforms[0]).context
    np.testing.assert_allclose(model.encode(waveforms)[0].context, alone, atol=1e-4)
    for waveform in waveforms:
        found = model.encode(waveform).context
        expected = theirs(hf(name), waveform)["context"].numpy()
        full = len(found) // 2 * 2
        assert not found[full:].any()
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        cosines = (found * expected).sum(axis=1)[:full] / norms[:full]
        assert np.quantile(cosines, 0.1) > 0.99


def test_windows(exported: Make, utterance: Make) -> None:
    """Windows begin with a group of frames: those that see all give what one pass gives."""
    model = w2v_edge.load(exported("fp32"))
    # 125 frames, one of them left over.
    waveform = utterance(40_160)
    expected = model.encode(waveform)
    assert len(expected.context) == 125
    for step in (0.42, 0.06):
        window = Window(step=step, left=3, right=3)
        frames = FrameWindow.of(window, model.manifest)
        assert not any(x % 2 for x in (frames.step, frames.left, frames.right))
        stream = model.stream(statistics=model.statistics(waveform), context=window)
        pieces = [stream.push(x) for x in np.split(waveform, [1_000, 5_000, 30_000])]
        pieces.append(stream.flush())
        found = np.concatenate([piece.context for piece in pieces])
        whole = expected.context
        np.testing.assert_allclose(found, whole, atol=1e-4 * max(1, whole.std()))


def test_layers(hf_folder: Make, command: Make, tmp_path: Path) -> None:
    """Hidden states have fewer frames, and asking for one is an error of one line."""
    for option in ("--layers", "--layer"):
        out = tmp_path / "out"
        code, _, err = command("export", hf_folder("sew-ctc"), option, "1", "-o", out)
        assert (code, len(err.strip().splitlines())) == (1, 1), err
        assert "architecture 'sew' has no layers to choose from" in err

"""Graphs of fixed shapes: no open axis, no loop, no branch, and the results of any other bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

import w2v_edge
from w2v_edge.bundle import Bundle
from w2v_edge.bundle.golden import check_golden
from w2v_edge.errors import BundleIntegrityError, ConfigError, InputError
from w2v_edge_export import export
from w2v_edge_export.selection import EVERYTHING, read_source, select
from w2v_edge_export.verification import compare_manifest, compare_weights

NAME = "base-small"
SAMPLES = (8_000, 24_000)
BATCH = 2
SUBGRAPHS = {"Scan", "Loop", "If"}

Models = tuple[w2v_edge.Model, w2v_edge.Model]
Speech = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def fixed(
    shared_folder: Path,
    checkpoint: Callable[[str], Path],
    locked: Callable[[str], AbstractContextManager[None]],
) -> Path:
    """A model with group norm, exported with two fixed shapes."""
    folder = shared_folder / "bundles" / f"{NAME}-fixed"
    with locked("bundle-fixed"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 1_000)
        if not folder.exists():
            export(checkpoint(NAME), folder, samples=(24_000, 8_000), batch=BATCH)
    return folder


@pytest.fixture(scope="module")
def models(fixed: Path, bundle: Callable[[str], Path]) -> Models:
    """The same model with fixed shapes, and with open axes."""
    return w2v_edge.load(fixed), w2v_edge.load(bundle(NAME))


@pytest.fixture(scope="module")
def minute(speech: dict[str, Speech]) -> Speech:
    """Recordings, one after the other."""
    return np.concatenate(list(speech.values()))


def test_no_axis_is_open(fixed: Path, all_nodes: Any) -> None:
    """Inputs, outputs and values between them have lengths; nothing loops or branches."""
    manifest = Bundle.open(fixed).manifest
    paths = sorted(fixed.glob("*.onnx"))
    expected = {f"{graph}-{n}" for graph in manifest.graphs for n in SAMPLES}
    assert {path.stem for path in paths} == expected
    for path in paths:
        assert not SUBGRAPHS & {node.op_type for node in all_nodes(path)}
        graph = onnx.load(path, load_external_data=False).graph
        values = (*graph.input, *graph.output, *graph.value_info)
        assert len(values) > len(graph.node) // 2
        for value in values:
            assert all(x.HasField("dim_value") for x in value.type.tensor_type.shape.dim)
        assert {x.name for x in graph.input} == {
            x.name for x in manifest.graphs[path.stem.partition("-")[0]].inputs
        }


def test_shapes_share_the_weights(fixed: Path, bundle: Callable[[str], Path]) -> None:
    """A further shape adds graphs, and no weights."""
    for path in fixed.glob("*.bin"):
        assert path.stat().st_size <= (bundle(NAME) / path.name).stat().st_size * 1.01


def test_any_batch_of_any_length(models: Models, minute: Speech) -> None:
    """Utterances of all lengths, more of them than a batch has, are as in any other bundle."""
    fixed, open_axes = models
    lengths = (400, 7_999, 8_000, 8_001, 24_000, 12_345, 719)
    audio = [minute[i * 900 : i * 900 + n] for i, n in enumerate(lengths)]
    for found, expected in zip(fixed.encode(audio), open_axes.encode(audio), strict=True):
        np.testing.assert_allclose(found.features, expected.features, atol=1e-4)
        np.testing.assert_allclose(found.context, expected.context, atol=1e-4)
        np.testing.assert_array_equal(found.codes, expected.codes)
    assert {f"encoder-{n}" for n in SAMPLES} <= set(fixed.placement)


def test_the_smallest_shape_is_run(fixed: Path, minute: Speech) -> None:
    """A short utterance opens no graph of a longer one."""
    with w2v_edge.load(fixed) as model:
        model.tokenize(minute[:8_000])
        assert list(model.placement) == ["tokenizer-8000"]


def test_long_audio_is_run_in_chunks(models: Models, minute: Speech) -> None:
    """Features and codes are exact at any length, and so are windows and streams."""
    fixed, open_axes = models
    audio = minute[:100_000]
    np.testing.assert_array_equal(fixed.tokenize(audio), open_axes.tokenize(audio))
    np.testing.assert_allclose(fixed.features(audio), open_axes.features(audio), atol=1e-4)
    window = w2v_edge.Window(0.5, 0.5, 0.4)
    found, expected = (x.encode(audio, window=window).context for x in models)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    streamed = []
    for model in models:
        with model.stream(context=window, statistics=model.statistics(audio)) as stream:
            first, last = stream.push(audio), stream.flush()
        streamed.append(np.concatenate([first.context, last.context]))
    np.testing.assert_allclose(streamed[0], streamed[1], atol=1e-4)


def test_windows_that_nobody_chose_are_remarked(models: Models, minute: Speech) -> None:
    """Attention over the largest shape alone differs from attention over the whole recording."""
    fixed, _ = models
    with pytest.warns(UserWarning, match=r"beyond 1\.5 s.*export with larger --samples"):
        found = fixed.encode(minute[:40_000])
    assert len(found.context) == len(fixed.times(len(found.features)))


def test_what_fits_no_shape_is_refused(models: Models, minute: Speech) -> None:
    """Errors state the largest shape."""
    fixed, _ = models
    with pytest.raises(InputError, match="found 24001 samples, expected at most 24000"):
        fixed.run("encoder", waveform=minute[None, :24_001], lengths=np.array([24_001]))
    with pytest.raises(InputError, match=r"found a window of 75 frames, expected at most 74"):
        fixed.encode(minute[:40_000], window=w2v_edge.Window(0.5, 0.5, 0.5))
    with pytest.raises(InputError, match="expected a shape of this bundle"):
        fixed.run_on_device("encoder", waveform=minute[None, :8_000], lengths=np.array([8_000]))


def test_golden_vectors_and_weights(fixed: Path, checkpoint: Callable[[str], Path]) -> None:
    """All that `verify` compares, of every shape."""
    with w2v_edge.load(fixed) as opened:
        rows, _ = check_golden(opened)
        assert [row for row in rows if not row.ok] == []
        model = select(read_source(checkpoint(NAME), EVERYTHING).model, EVERYTHING)
        assert compare_manifest(model, opened, EVERYTHING) == []
        assert compare_weights(model, opened) == []


def test_the_manifest_states_the_shapes(fixed: Path) -> None:
    """Frames follow from samples, and earlier releases refuse the version."""
    manifest = Bundle.open(fixed).manifest
    assert manifest.format_version == 2
    assert [(x.batch, x.samples) for x in manifest.shapes] == [(BATCH, n) for n in SAMPLES]
    assert [x.frames for x in manifest.shapes] == [24, 74]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 1}, "expected none in format version 1"),
        ({"batch": 2**20}, "at most 268435456 samples in a batch"),
        ({"batch": 0}, "lengths of at least 1"),
        ({"samples": 8_000, "frames": 24, "context_frames": 24}, "more samples than before"),
        ({"frames": 73}, r"shapes\[1\].frames: expected 74, found 73"),
    ],
)
def test_wrong_shapes_are_refused(
    fixed: Path,
    reseal: Callable[..., None],
    tmp_path: Path,
    changes: dict[str, int],
    message: str,
) -> None:
    """Nothing is allocated by a manifest's shapes that do not fit."""
    folder = tmp_path / "b"
    shutil.copytree(fixed, folder)
    shapes = [x.axes for x in Bundle.open(fixed).manifest.shapes]
    version = {key: value for key, value in changes.items() if key == "format_version"}
    shapes[1] |= {key: value for key, value in changes.items() if key not in version}
    reseal(folder, shapes=shapes, **version)
    with pytest.raises(BundleIntegrityError, match=message):
        w2v_edge.load(folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "qnn"}, "target 'qnn' takes graphs of fixed shapes; give the samples"),
        ({"batch": 2}, "with fixed --samples only"),
        ({"batch": 2, "samples": [8_000], "target": "qnn"}, "takes at most 1, found 2"),
        ({"samples": [1_000]}, "the largest from 1200 to"),
        ({"samples": [300, 8_000]}, "expected at least 400"),
        ({"samples": [10**9]}, "the largest from 1200 to"),
        ({"samples": [8_000], "batch": 10**6}, "--batch: expected 1 to"),
        ({"samples": [8_000], "precision": "int8"}, "leave --samples out"),
        (
            {"samples": [8_000], "precision": "int8", "target": "coreml"},
            "'coreml' has no precision 'int8'; choose: fp32, fp16, or a target that has it: cpu",
        ),
    ],
)
def test_shapes_that_cannot_be_exported(
    checkpoint: Callable[[str], Path], tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    """One line with what to do, before anything is traced."""
    with pytest.raises(ConfigError, match=message):
        export(checkpoint(NAME), tmp_path / "b", **options)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_are_equal(
    checkpoint: Callable[[str], Path], minute: Speech, tmp_path: Path
) -> None:
    """The last layer is the context of a model without a final norm: both are outputs."""
    export(checkpoint(NAME), tmp_path / "all", samples=(8_000,), batch=1, layers="all", pool="mean")
    found = w2v_edge.load(tmp_path / "all").encode(minute[:8_000])
    assert sorted(found.layers) == [0, 1, 2]
    np.testing.assert_array_equal(found.layers[2], found.context)
    assert found.embedding is not None
    np.testing.assert_allclose(found.embedding, found.context.mean(axis=0), atol=1e-5)

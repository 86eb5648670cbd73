"""The parity gate fails on any deviation from PyTorch and locates it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from w2v_edge.agreement import Deviation
from w2v_edge.bundle.golden import check_golden
from w2v_edge.errors import ConfigError
from w2v_edge.model import SpeechModel, load_checkpoint
from w2v_edge.providers.table import TABLE
from w2v_edge.runtime.model import load
from w2v_edge_export import cases
from w2v_edge_export.cases import longest_that_fits
from w2v_edge_export.golden import write_golden
from w2v_edge_export.parity import run_parity_gate
from w2v_edge_export.parity_report import ParityReport
from w2v_edge_export.verification import compare_weights

NAME = "base-small"

# What a damaged data file must show in, whatever else it shows in.
AFFECTED = {
    "frontend.bin": {"features", "context", "codes"},
    "context.bin": {"context"},
    "quantizer.bin": {"codes", "vectors"},
}


@pytest.fixture
def model(checkpoint: Callable[[str], Path]) -> SpeechModel:
    """The model that the bundles were made from."""
    return load_checkpoint(checkpoint(NAME))


@pytest.fixture
def tensor_at(stored_tensors: Any) -> Callable[[Path, str, str], np.memmap[Any, Any]]:
    """`tensor_at(folder, file, part of the name)`: a stored weight, flat, to be changed."""

    def find(folder: Path, file: str, part: str) -> np.memmap[Any, Any]:
        place = next(x for x in stored_tensors(folder) if x.file == file and part in x.name)
        shape = (place.length // 4,)
        return np.memmap(folder / file, np.float32, "r+", offset=place.offset, shape=shape)

    return find


@pytest.fixture
def one_weight_changed(
    copied_bundle: Callable[[str], Path], tensor_at: Any, reseal: Callable[..., None]
) -> Callable[[str], Path]:
    """`one_weight_changed(file)`: a bundle with one changed weight and hashes that fit."""
    weights = {"frontend.bin": "conv.3.weight", "context.bin": "expand.weight"}

    def change(file: str) -> Path:
        folder = copied_bundle(NAME)
        if file == "quantizer.bin":
            # The first entry of the second group now scores higher.
            tensor_at(folder, file, "scorer.bias")[40] += 3
            # A vector that everything chooses would do as well: all of them are one tensor.
            tensor_at(folder, file, "codebook")[40 * 8] += 0.1
        else:
            tensor_at(folder, file, weights[file])[100] += 0.5
        reseal(folder)
        return folder

    return change


def _failures(report: ParityReport) -> list[Deviation]:
    assert not report.passed
    for row in report.failures:
        assert row.first_bad is not None
        assert row.worst > row.allowed
        assert row.case.split()[0] in {"encoder", "tokenizer", "quantizer", "frontend", "context"}
    return report.failures


def test_a_provider_that_computes_in_float16(
    model: SpeechModel, copied_bundle: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle of float32 has no budgets for it: the comparison is refused in one line."""
    monkeypatch.setitem(TABLE, "cpu", replace(TABLE["cpu"], half={"half": "1"}))
    with pytest.raises(ConfigError, match=r"float16.*provider 'cpu'"):
        run_parity_gate(model, load(copied_bundle(NAME)))


@pytest.mark.usefixtures("quick_gate")
@pytest.mark.parametrize("file", AFFECTED)
def test_one_changed_weight_is_seen(
    file: str, model: SpeechModel, one_weight_changed: Callable[[str], Path]
) -> None:
    """A bundle with one weight changed and hashes redone fails, and its outputs are named."""
    bundle = load(one_weight_changed(file))
    failures = _failures(run_parity_gate(model, bundle))
    assert {row.output for row in failures} == AFFECTED[file]
    assert {"speech", "noise", "ragged"} <= {row.case.split()[-1] for row in failures}
    rows, _ = check_golden(bundle)
    assert {row.output for row in rows if not row.ok} == AFFECTED[file]


def test_weights_that_no_clip_touches_are_seen(
    model: SpeechModel,
    copied_bundle: Callable[[str], Path],
    tensor_at: Any,
    reseal: Callable[..., None],
) -> None:
    """Holding a bundle against its checkpoint finds any changed weight, and names it."""
    folder = copied_bundle(NAME)
    assert compare_weights(model, load(folder)) == []
    tensor_at(folder, "quantizer.bin", "codebook")[7] += 1e-3
    reseal(folder)
    (row,) = compare_weights(model, load(folder))
    assert not row.ok
    assert row.output == "quantizer.codebook"


@pytest.mark.usefixtures("quick_gate")
def test_one_code_proves_nothing(
    model: SpeechModel,
    copied_bundle: Callable[[str], Path],
    tensor_at: Any,
    reseal: Callable[..., None],
) -> None:
    """A gate that saw a single code reports it, even if all values are equal."""
    folder = copied_bundle(NAME)
    bias = tensor_at(folder, "quantizer.bin", "scorer.bias")
    scorer = model.get_parameter("quantizer.scorer.bias")
    with torch.no_grad():
        for entry in (3, 40 + 17):
            bias[entry] += 1e4
            scorer[entry] += 1e4
    write_golden(model, folder / "golden.npz")
    reseal(folder)
    report = run_parity_gate(model, load(folder))
    assert report.passed
    assert report.distinct_codes == (1, 1)
    assert any("only one code" in remark for remark in report.remarks)
    assert report.to_dict()["remarks"] == report.remarks


def test_a_whole_gate(bundle: Callable[[str], Path]) -> None:
    """A manifest has the parity report: 20 000 codes of many kinds, every case, no remark."""
    parity = load(bundle(NAME)).manifest.parity
    assert parity is not None
    assert parity["passed"]
    assert parity["failures"] == parity["remarks"] == []
    assert parity["codes_compared"] >= 20_000
    assert parity["codes_wrong"] == 0
    assert min(parity["distinct_codes"]) >= 30
    compared = {(row["case"].split()[0], row["output"]) for row in parity["worst"]}
    assert compared >= {
        *(("encoder", x) for x in ("features", "context", "frame_lengths")),
        *(("tokenizer", x) for x in ("codes", "frame_lengths")),
        *(("quantizer", x) for x in ("codes", "vectors")),
        *(("frontend", x) for x in ("features", "frame_lengths")),
        ("context", "context"),
    }


def test_little_memory_shortens_the_longest_case(
    bundle: Callable[[str], Path],
    model: SpeechModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where float64 of 20 s does not fit, the longest case is shorter, and a remark says so."""
    opened = load(bundle(NAME))
    monkeypatch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 600)
    monkeypatch.setattr("w2v_edge_export.parity.available_memory", lambda: 10**8)
    report = run_parity_gate(model, opened)
    assert report.passed
    assert cases.SPEECH_SECONDS <= report.longest_seconds < cases.LONG_SECONDS
    assert any(f"up to {report.longest_seconds:g} s only" in x for x in report.remarks)
    assert report.to_dict()["longest_seconds"] == report.longest_seconds


@pytest.mark.parametrize("name", ["tiny", "base-small", "large-small", "tutorial-small"])
def test_the_longest_case_grows_with_memory(name: str, checkpoint: Callable[[str], Path]) -> None:
    """It is between 3.7 s and any length; unknown memory shortens nothing."""
    config = load_checkpoint(checkpoint(name)).config
    assert longest_that_fits(config, None) == np.inf
    assert longest_that_fits(config, 0) == 3.7
    lengths = [longest_that_fits(config, 2**n) for n in range(20, 45)]
    assert lengths == sorted(lengths)
    assert lengths[-1] > 100


def test_one_large_graph_is_open_at_a_time(
    bundle: Callable[[str], Path], model: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `encoder` and `context`, which hold all weights, the gate never holds both."""
    opened = load(bundle(NAME))
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 0.5)
    monkeypatch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 600)
    seen: list[set[str]] = []
    run = opened.session.run

    def watched(graph: str, inputs: Any) -> Any:
        found = run(graph, inputs)
        seen.append(set(opened.placement))
        return found

    monkeypatch.setattr(opened.session, "run", watched)
    assert run_parity_gate(model, opened).passed
    assert {x for graphs in seen for x in graphs} == set(opened.manifest.graphs)
    assert not any({"encoder", "context"} <= graphs for graphs in seen)

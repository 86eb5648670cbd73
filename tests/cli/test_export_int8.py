"""export --precision int8, --explain, and verify of the result."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from w2v_edge.cli.export_output import print_quantization

Verb = Callable[..., Any]

NAME = "base-small"

PASSES = [
    "trace",
    "quantize-weights",
    "lower-attention",
    "lower-windows",
    "lower-grouped-conv",
    "residual-sums",
    "fold-constants",
    "share-subexpressions",
    "drop-identities",
    "drop-unused",
    "strip-metadata",
]

INT8 = ("--precision", "int8", "--require-speedup", "0")


@pytest.fixture(autouse=True)
def short_thorough_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the thorough set, which `verify --checkpoint` compares."""
    monkeypatch.setattr("w2v_edge_export.cases.THOROUGH_SECONDS", (0.5, 7.3))
    monkeypatch.setattr("w2v_edge_export.exact_gate.THOROUGH_CODES", 4_000)


def _explained(out: str) -> list[list[str]]:
    """Return the cells of each row of the table of passes."""
    rows = [re.findall(r"[^\s│┃|]+", line) for line in out.splitlines()]
    return [row for row in rows if row and row[0] in PASSES]


@pytest.fixture
def short_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the gate, for tests of the output."""
    _shorten(monkeypatch)


def _shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 7.3)
    monkeypatch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 600)


@pytest.mark.usefixtures("short_gate")
def test_export_to_int8(w2v_edge: Verb, checkpoint: Verb, tmp_path: Path) -> None:
    """The bundle appears beside the checkpoint; passes, layers, budgets and gate are shown."""
    source = tmp_path / "ckpt.pt"
    shutil.copy(checkpoint(NAME), source)
    outcome = w2v_edge("export", source, *INT8, "--explain", "--details")
    assert outcome.code == 0, outcome.err
    assert sorted(x.name for x in tmp_path.iterdir()) == ["ckpt-int8", "ckpt.pt"]
    assert [row[0] for row in _explained(outcome.out)] == PASSES
    for word in (
        "frontend.conv.1",
        "context.position.conv",
        "code drift",
        "times float32",
        "within the budgets in",
        "1 - cosine",
        "share of codes",
        "ckpt-int8: verified",
    ):
        assert word in outcome.out, word
    folder = tmp_path / "ckpt-int8"
    size = sum(x.stat().st_size for x in folder.iterdir()) / 1e6
    assert f"{size:.3g} MB" in outcome.out
    assert f"{size:.3g} MB in" in w2v_edge("inspect", folder).out
    verified = w2v_edge("verify", tmp_path / "ckpt-int8")
    assert verified.code == 0, verified.err
    assert "verified" in verified.out


def test_layers_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    """Without details, two lines say how many layers are int8 and which are not, and why."""
    layers = [
        {"name": name, "precision": precision, "ranges": "static", "noise": noise, "cost": 0.25}
        | {"balanced": False}
        for name, precision, noise in (
            ("frontend.conv.1", "fp32", 1e-2),
            ("context.blocks.0.attention.key", "int8", 1e-3),
            ("context.blocks.1.attention.key", "int8", 1e-4),
            ("context.blocks.2.attention.key", "fp32", 1e-2),
        )
    ]
    measured = {"speedup": 2.0, "context_cosine": 0.999, "codes": 0, "label_drift": None}
    budgets = {"min_cosine": 0.998, "max_code_drift": 0.05, "require_speedup": 1.2}
    found = {"layers": layers, "largest_values": {}, "measured": measured, "budgets": budgets}
    print_quantization(found, details=False, float_frontend=True)
    first, held, asked, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("2 of 4 layers in int8, 50.0% of the work; largest noise -30.0 dB")
    assert first.endswith("context.blocks.0.attention.key")
    assert held == "in float32 to hold the budgets: context.blocks.2.attention.key"
    assert asked == "in float32 by --frontend-precision: frontend.conv.1"
    assert len(rest) == 1
    print_quantization(found)
    assert "layers by sensitivity" in capsys.readouterr().out


@pytest.mark.usefixtures("short_gate")
def test_export_to_int8_for_programs(w2v_edge: Verb, checkpoint: Verb, tmp_path: Path) -> None:
    """--json prints one document: bundle, parity, layers and passes."""
    output = tmp_path / "out"
    given = ("--frontend-precision", "fp32", "--max-code-drift", "0.04", "--json", "--explain")
    outcome = w2v_edge("export", checkpoint(NAME), "-o", output, *INT8, *given)
    assert outcome.code == 0, outcome.err
    found = outcome.json
    of_every_export = {"bundle", "parity", "seconds", "decisions", "source", "language_model"}
    assert set(found) == of_every_export | {"weight_quantization", "passes"}
    assert found["bundle"] == str(output)
    assert found["parity"]["passed"]
    assert [row["name"] for row in found["passes"]] == PASSES
    stated = found["weight_quantization"]
    assert stated["budgets"]["max_code_drift"] == 0.04
    for layer in stated["layers"]:
        assert set(layer) >= {"name", "precision", "ranges", "noise", "cost", "balanced"}
        assert layer["precision"] == ("fp32" if "frontend" in layer["name"] else "int8")
    assert sum(layer["cost"] for layer in stated["layers"]) == pytest.approx(1, abs=1e-3)
    inspected = w2v_edge("inspect", output, "--json").json
    assert inspected["precision"] == "int8"


def test_a_speed_that_cannot_be(
    w2v_edge: Verb, refused: Verb, checkpoint: Verb, tmp_path: Path
) -> None:
    """An impossible speed budget is exit code 3, with measurements and without a bundle."""
    output = tmp_path / "out"
    given = ("--precision", "int8", "--require-speedup", "1e9")
    outcome = w2v_edge("export", checkpoint(NAME), "-o", output, *given)
    refused(outcome, 3, "the speed of float32", "no bundle was written")
    for word in ("frontend.conv.1", "layers by sensitivity", "noise", "(budget 1e+09)"):
        assert word in outcome.out, word
    assert list(tmp_path.iterdir()) == []
    outcome = w2v_edge("export", checkpoint(NAME), "-o", output, *given, "--json")
    refused(outcome, 3, "the speed of float32")
    assert set(outcome.json) == {"bundle", "weight_quantization"}
    assert outcome.json["bundle"] is None
    stated = outcome.json["weight_quantization"]
    assert stated["budgets"]["require_speedup"] == 1e9
    assert 0 < stated["measured"]["speedup"] < 1e9
    assert len(stated["layers"]) == 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("short_gate")
def test_explain_shows_every_pass(w2v_edge: Verb, checkpoint: Verb, tmp_path: Path) -> None:
    """Each pass has a row in its order, with nodes, megabytes and changes that add up."""
    outcome = w2v_edge("export", checkpoint(NAME), "-o", tmp_path / "out", "--explain")
    assert outcome.code == 0, outcome.err
    rows = _explained(outcome.out)
    assert [row[0] for row in rows] == [x for x in PASSES if x != "quantize-weights"]
    nodes = [int(row[1]) for row in rows]
    assert nodes[0] > nodes[-1] > 100
    sizes = [float(row[3]) for row in rows]
    # The float32 weights of this model are in all parts together.
    weights = sum(x.stat().st_size for x in (tmp_path / "out").glob("*.bin")) / 1e6
    assert sizes[0] >= sizes[-1] > 0.9 * weights
    for before, row in zip([rows[0], *rows], rows, strict=False):
        assert int(row[2]) == int(row[1]) - int(before[1])
        assert float(row[4]) == pytest.approx(float(row[3]) - float(before[3]), abs=0.0011)


def test_verify_in_int8(
    w2v_edge: Verb, int8_bundle: Verb, checkpoint: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle verifies against its golden vectors and, layer by layer, its checkpoint."""
    folder = int8_bundle(NAME)
    outcome = w2v_edge("verify", folder, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["passed"]
    assert outcome.json["codes_compared"] > 0
    # The shared bundle went through the whole gate, by now.
    _shorten(monkeypatch)
    outcome = w2v_edge("verify", folder, "--checkpoint", checkpoint(NAME), "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["passed"]


def test_verify_finds_other_weights(
    w2v_edge: Verb,
    refused: Verb,
    int8_bundle: Verb,
    checkpoint: Verb,
    reseal: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Changed int8 weights are exit code 3 with their layer, even with valid hashes."""
    folder = shutil.copytree(int8_bundle(NAME), tmp_path / "bundle")
    layer = "context.blocks.0.feed_forward.expand.weight"
    tensors = onnx.load(folder / "context.onnx", load_external_data=False).graph.initializer
    (tensor,) = (x for x in tensors if x.name == f"{layer}.int8")
    at = {x.key: x.value for x in tensor.external_data}
    size = int(at["length"])
    values = np.memmap(folder / at["location"], np.int8, "r+", int(at["offset"]), (size,))
    values[:] = np.roll(values, 1)
    values.flush()
    reseal(folder)
    refused(w2v_edge("verify", folder), 3, "comparisons failed")
    _shorten(monkeypatch)
    outcome = w2v_edge("verify", folder, "--checkpoint", checkpoint(NAME))
    refused(outcome, 3, "weights")
    assert layer in outcome.out


@pytest.mark.parametrize(
    "options",
    [
        ("--min-cosine", "0.9"),
        ("--precision", "fp16", "--frontend-precision", "fp32"),
        ("--precision", "int4", "--require-speedup", "2"),
        ("--precision", "bf16", "--frontend-precision", "fp32"),
    ],
)
def test_an_option_without_effect_is_refused(
    w2v_edge: Verb, checkpoint: Verb, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """An option without effect at the given precision is a usage error."""
    outcome = w2v_edge("export", checkpoint(NAME), "-o", tmp_path / "out", *options)
    assert outcome.code == 2
    assert f"{options[-2]} has no effect" in outcome.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--min-cosine", "nan"),
        ("--max-code-drift", "nan"),
        ("--require-speedup", "nan"),
        ("--require-speedup", "inf"),
    ],
)
def test_a_budget_is_a_number(
    w2v_edge: Verb, checkpoint: Verb, tmp_path: Path, option: str, value: str
) -> None:
    """A budget that is not finite is a usage error before any work."""
    given = ("--precision", "int8", option, value)
    outcome = w2v_edge("export", checkpoint(NAME), "-o", tmp_path / "out", *given)
    assert outcome.code == 2
    assert option in outcome.err
    assert f"found {value}" in outcome.err
    assert list(tmp_path.iterdir()) == []

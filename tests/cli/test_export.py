"""init, export, verify and inspect."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from w2v_edge.agreement import Deviation
from w2v_edge.cli.output import print_comparison
from w2v_edge.names import TargetName
from w2v_edge_export.targets import target_names

Verb = Callable[..., Any]


@pytest.fixture(autouse=True)
def short_thorough_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the thorough set, which `verify --checkpoint` compares."""
    monkeypatch.setattr("w2v_edge_export.cases.THOROUGH_SECONDS", (0.5, 7.3))
    monkeypatch.setattr("w2v_edge_export.exact_gate.THOROUGH_CODES", 4_000)


def test_init_is_reproducible(w2v_edge: Verb, tmp_path: Path) -> None:
    """The same preset and seed give the same tensors; another seed gives others."""
    from w2v_edge.model import load_checkpoint

    models = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        path = tmp_path / f"{name}.pt"
        outcome = w2v_edge("init", "--preset", "tiny", "--seed", str(seed), "-o", path, "--json")
        assert outcome.code == 0, outcome.err
        assert outcome.json["parameters"] > 1_000_000
        models.append(load_checkpoint(path).state_dict())
    same, other = models[1:]
    assert all((models[0][k] == same[k]).all() for k in same)
    assert any((models[0][k] != other[k]).any() for k in other)


def test_init_refuses_to_overwrite(w2v_edge: Verb, refused: Verb, tmp_path: Path) -> None:
    """An existing file is kept, unless --force is given."""
    path = tmp_path / "ckpt.pt"
    path.write_text("mine")
    refused(w2v_edge("init", "--preset", "tiny", "-o", path), 1, "ckpt.pt", "--force")
    assert path.read_text() == "mine"


def test_export_beside_the_checkpoint(w2v_edge: Verb, checkpoint: Verb, tmp_path: Path) -> None:
    """Without --output, the bundle is written beside the checkpoint, after the whole gate."""
    source = tmp_path / "my.model.pt"
    shutil.copy(checkpoint("large-small"), source)
    outcome = w2v_edge("export", source, "--json")
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "my.model-fp32"
    assert sorted(x.name for x in tmp_path.iterdir()) == ["my.model-fp32", "my.model.pt"]
    parity = outcome.json["parity"]
    assert parity["passed"]
    assert parity["codes_compared"] >= 20_000
    assert parity["codes_wrong"] == 0
    inspected = w2v_edge("inspect", folder, "--json").json
    assert inspected["parity"]["passed"]
    assert inspected["decisions"] == outcome.json["decisions"]
    assert outcome.json["source"] == inspected["source"]
    assert set(inspected["file_states"].values()) == {"ok"}


def test_export_refuses_bad_checkpoints(w2v_edge: Verb, refused: Verb, tmp_path: Path) -> None:
    """An invalid checkpoint is one line, and nothing is written."""
    path = tmp_path / "bad.pt"
    path.write_bytes(b"\x80not a checkpoint")
    refused(w2v_edge("export", path), 1, "bad.pt")
    refused(w2v_edge("export", tmp_path / "missing.pt"), 1, "missing.pt")
    assert [x.name for x in tmp_path.iterdir()] == ["bad.pt"]


@pytest.mark.parametrize("options", [["--target", "toaster"], ["--precision", "int3"]])
def test_export_refuses_unknown_names(
    w2v_edge: Verb, checkpoint: Verb, tmp_path: Path, options: list[str]
) -> None:
    """An unknown name is a usage error that lists the known ones."""
    outcome = w2v_edge("export", checkpoint("tiny"), "-o", tmp_path / "out", *options)
    assert outcome.code == 2
    assert "cpu" in outcome.err or "fp32" in outcome.err
    assert not list(tmp_path.iterdir())


def test_every_target_profile_is_a_choice() -> None:
    """--target accepts the names of all target profiles."""
    assert sorted(get_args(TargetName)) == target_names()


def test_verify_needs_no_checkpoint(w2v_edge: Verb, bundle: Verb) -> None:
    """A bundle verifies against its own golden vectors."""
    outcome = w2v_edge("verify", bundle("tiny"), "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["passed"]
    assert outcome.json["codes_compared"] > 0


def test_verify_names_the_damaged_file(
    w2v_edge: Verb, refused: Verb, bundle: Verb, tmp_path: Path
) -> None:
    """One flipped byte is refused by name; inspect shows it as damaged."""
    folder = tmp_path / "copy"
    shutil.copytree(bundle("tiny"), folder)
    data = bytearray((folder / "context.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "context.bin").write_bytes(data)
    refused(w2v_edge("verify", folder), 1, "context.bin")
    inspected = w2v_edge("inspect", folder, "--json")
    assert inspected.json["file_states"]["context.bin"] == "damaged"
    assert inspected.code == 1


def test_verify_finds_a_changed_weight(
    w2v_edge: Verb, refused: Verb, bundle: Verb, checkpoint: Verb, tmp_path: Path
) -> None:
    """A slightly changed weight with updated hashes is exit code 3."""
    folder = tmp_path / "copy"
    shutil.copytree(bundle("base-small"), folder)
    values = np.fromfile(folder / "quantizer.bin", dtype=np.float32)
    values[-1] += 1e-3
    values.tofile(folder / "quantizer.bin")
    _redo_hashes(folder)
    outcome = w2v_edge("verify", folder, "--checkpoint", checkpoint("base-small"))
    refused(outcome, 3, "weights")
    assert "quantizer." in outcome.out


def test_verify_against_another_checkpoint(
    w2v_edge: Verb, refused: Verb, bundle: Verb, checkpoint: Verb
) -> None:
    """A checkpoint with another configuration fails verification."""
    outcome = w2v_edge("verify", bundle("base-small"), "--checkpoint", checkpoint("large-small"))
    refused(outcome, 3, "config")


def test_verify_against_its_checkpoint(
    w2v_edge: Verb, bundle: Verb, checkpoint: Verb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An intact bundle passes the gate against its checkpoint."""
    bundle("tutorial-small")
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 7.3)
    monkeypatch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 4_000)
    outcome = w2v_edge(
        "verify", bundle("tutorial-small"), "--checkpoint", checkpoint("tutorial-small"), "--json"
    )
    assert outcome.code == 0, outcome.err
    assert outcome.json["passed"]


@pytest.mark.parametrize("changes", [{"sample_rate": 8000}, {"hop": 160}, {"min_samples": 1}])
def test_verify_finds_a_changed_manifest(
    w2v_edge: Verb,
    refused: Verb,
    bundle: Verb,
    checkpoint: Verb,
    tmp_path: Path,
    changes: dict[str, Any],
) -> None:
    """A manifest that contradicts the checkpoint is exit code 3, even with valid hashes."""
    folder = tmp_path / "copy"
    shutil.copytree(bundle("large-small"), folder)
    _redo_hashes(folder, **changes)
    outcome = w2v_edge("verify", folder, "--checkpoint", checkpoint("large-small"))
    refused(outcome, 3, f"{next(iter(changes))} of manifest")


def test_verify_finds_a_missing_graph(
    w2v_edge: Verb, refused: Verb, bundle: Verb, checkpoint: Verb, tmp_path: Path
) -> None:
    """A manifest that lacks a graph is a damaged bundle."""
    folder = tmp_path / "copy"
    shutil.copytree(bundle("large-small"), folder)
    _redo_hashes(folder, graphs={})
    outcome = w2v_edge("verify", folder, "--checkpoint", checkpoint("large-small"))
    refused(outcome, 1, "the manifest has no such graph")


@pytest.mark.parametrize("changes", [{"hop": 0}, {"sample_rate": -1}, {"left_padding": -3}])
def test_a_manifest_without_sense_is_refused(
    w2v_edge: Verb, refused: Verb, bundle: Verb, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Impossible numbers in a manifest are refused by every command."""
    folder = tmp_path / "copy"
    shutil.copytree(bundle("large-small"), folder)
    path = folder / "manifest.json"
    text = path.read_text(encoding="utf-8")
    (key, value), *_ = changes.items()
    path.write_text(re.sub(rf'"{key}": \d+', f'"{key}": {value}', text), encoding="utf-8")
    refused(w2v_edge("verify", folder), 1, "manifest.json")
    refused(w2v_edge("inspect", folder), 1, "manifest.json")


def test_force_replaces_bundles_only(
    w2v_edge: Verb, refused: Verb, checkpoint: Verb, tmp_path: Path
) -> None:
    """Even with --force, files and folders other than bundles are kept."""
    source = tmp_path / "ckpt.pt"
    shutil.copy(checkpoint("large-small"), source)
    site = tmp_path / "site"
    site.mkdir()
    (site / "manifest.json").write_text("{}")
    (site / "index.js").write_text("mine")
    before = source.read_bytes()
    for output in (source, site):
        refused(w2v_edge("export", source, "-o", output, "--force"), 1, "choose another output")
    assert source.read_bytes() == before
    assert (site / "index.js").read_text() == "mine"
    assert sorted(x.name for x in tmp_path.iterdir()) == ["ckpt.pt", "site"]


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_checkpoint_that_is_no_file(w2v_edge: Verb, refused: Verb, path: str) -> None:
    """A folder or an empty name is refused with the expected kind of file."""
    refused(w2v_edge("export", path), 1, "expected a checkpoint file")


def test_inspect_shows_what_is_inside(
    w2v_edge: Verb, bundle: Verb, ctc_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs, tensors with axes, opset, files and parity fit 80 columns; operators on request.

    Nothing is said of codes that a model does not have.
    """
    monkeypatch.setenv("COLUMNS", "80")
    outcome = w2v_edge("inspect", bundle("base-small"))
    assert outcome.code == 0
    for word in ("statistics", "waveform [batch, samples]", "20, 10", "golden.npz", "passed"):
        assert word in outcome.out, word
    assert "codes compared" in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "Scan" not in outcome.out
    detailed = w2v_edge("inspect", bundle("base-small"), "--operators").out
    assert re.search(r"\bScan \d", detailed)
    assert max(map(len, detailed.splitlines())) <= 80
    without = w2v_edge("inspect", ctc_bundle).out
    assert not re.search(r"^ codes ", without, re.MULTILINE)
    assert "codes compared" not in without


def test_a_comparison_names_the_measure_of_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Each row has its own measure, and a column without any entry is left out."""
    good = [
        Deviation("encoder golden", "context", 2e-4, 1e-3, measure="1 - cosine"),
        Deviation("tokenizer golden", "codes", 3.0, 11.0, measure="codes"),
    ]
    print_comparison("equal", good)
    out = capsys.readouterr().out
    rows = [line.split("  ") for line in out.splitlines() if "golden" in line]
    assert [[x.strip() for x in row if x.strip()][2:] for row in rows] == [
        ["1 - cosine", "2.0e-04", "1.0e-03"],
        ["codes", "3", "11"],
    ]
    assert not re.search("first bad|rounding|result", out)
    bad = Deviation("encoder golden", "features", 2.0, 1e-3, (1, 7))
    print_comparison("differs", [bad, *good], {"features": 1e-6, "codes": 1e-2})
    out = capsys.readouterr().out
    for word in ("first bad", "batch 1, frame 7", "max abs", "1.0e-06", "differs", "own float32"):
        assert word in out
    assert "1.0e-02" not in out


def test_inspect_refuses_a_folder_that_is_no_bundle(
    w2v_edge: Verb, refused: Verb, tmp_path: Path
) -> None:
    """A folder without a manifest is refused with a remedy."""
    refused(w2v_edge("inspect", tmp_path), 1, "w2v-edge export")


def _redo_hashes(folder: Path, **changes: Any) -> None:
    from dataclasses import replace

    from w2v_edge.bundle import MANIFEST, file_info, read_manifest

    manifest = read_manifest(folder)
    files = {name: file_info(folder / name) for name in manifest.files}
    sealed = replace(manifest, files=files, **changes).sealed()
    (folder / MANIFEST).write_text(sealed.text(), encoding="utf-8")

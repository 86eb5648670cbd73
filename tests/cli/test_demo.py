"""`w2v-edge demo`: the trained model that ships, and random weights on request."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.conftest import Runner as Verb
from w2v_edge import data
from w2v_edge.cli.demo_record import DemoRecord
from w2v_edge.errors import OutputExistsError


def test_every_output_is_written(
    w2v_edge: Verb, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint, two bundles, codes and a picture; again with random weights in one folder."""
    monkeypatch.setattr("w2v_edge_export.cases.LONG_SECONDS", 1.0)
    monkeypatch.setattr("w2v_edge_export.exact_gate.MIN_CODES", 600)
    outcome = w2v_edge("demo", "-o", tmp_path / "demo", "--json")
    assert outcome.code == 0, outcome.err
    result = outcome.json
    assert result["weights"] == "trained"
    assert result["parity"]["passed"]
    assert len(result["codes"]) == len(np.load(tmp_path / "demo/codes.npz")["codes"])
    assert result["frames_per_second"] == 50
    assert result["encode_ms"] > 0
    assert result["int8_codes_alike"] > 0.95
    assert (tmp_path / "demo/tiny.pt").read_bytes() == data.TINY.read_bytes()
    assert [Path(x).name for x in result["bundles"]] == ["tiny-fp32", "tiny-int8"]
    picture = (tmp_path / "demo/codes.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 50_000
    again = w2v_edge("demo", "--preset", "tiny", "-o", tmp_path / "demo")
    assert again.code == 0, again.err
    assert "real-time factor" in again.out
    (shown,) = (line for line in again.out.splitlines() if line.startswith("codes "))
    first = np.load(tmp_path / "demo/codes.npz")["codes"][0]
    assert shown.split()[1] == ",".join(map(str, first))
    # A second run replaced what the first wrote; what a user changes since is refused.
    before = (tmp_path / "demo/codes.npz").read_bytes()
    with (tmp_path / "demo/tiny.pt").open("ab") as checkpoint:
        checkpoint.write(b"mine")
    refused(w2v_edge("demo", "-o", tmp_path / "demo"), 1, "tiny.pt already exists", "--force")
    assert (tmp_path / "demo/codes.npz").read_bytes() == before
    assert "random weights" in again.out
    assert (tmp_path / "demo/tiny.pt").read_bytes() != data.TINY.read_bytes()
    with (tmp_path / "demo/tiny-int8/encoder.onnx").open("ab") as graph:
        graph.write(b"mine")
    record = DemoRecord(tmp_path / "demo", force=False)
    with pytest.raises(OutputExistsError, match="tiny-int8"):
        record.check(tmp_path / "demo/tiny-int8", force=False)


def test_nothing_is_overwritten(w2v_edge: Verb, refused: Any, tmp_path: Path) -> None:
    """Files with the names of the demo's outputs are kept without --force."""
    for name in ("tiny.pt", "tiny-fp32/mine.txt", "tiny-int8/mine.txt", "codes.npz", "demo.json"):
        folder = tmp_path / name.replace("/", "-")
        mine = folder / name
        mine.parent.mkdir(parents=True)
        mine.write_text("mine")
        refused(w2v_edge("demo", "-o", folder), 1, "already exists", "--force")
        assert [path for path in folder.rglob("*") if path.is_file()] == [mine]
        assert mine.read_text() == "mine"

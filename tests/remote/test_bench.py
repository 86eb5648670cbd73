"""bench --on: the same report as here, from a device that keeps nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.remote.conftest import Device
from w2v_edge import data
from w2v_edge.cli.group import run
from w2v_edge.latency.report.files import read_report
from w2v_edge.latency.report.schema import shipped

Verb = Callable[..., Any]
QUICK = ("--rounds", "3", "--min-steady-seconds", "0.02", "--seconds", "0.3")
BENCH = ("bench", data.TINY_INT8, "--graph", "tokenizer", *QUICK)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report that was measured without `--on`."""
    path = tmp_path_factory.mktemp("here") / "here.json"
    assert run([str(x) for x in (*BENCH, "--report", path)]) == 0
    return path


@pytest.mark.parametrize("where", ["ssh", "local"])
def test_a_report_from_a_device_is_like_one_from_here(
    w2v_edge: Verb, device: Device, python: str, here: Path, tmp_path: Path, where: str
) -> None:
    """Schema, bundle, cases and identity are those of a run here; nothing is left there."""
    there = tmp_path / "there.json"
    on = ("--on", device.host if where == "ssh" else "local", "--ssh", device.ssh, "--use", python)
    outcome = w2v_edge(*BENCH, *on, "--report", there)
    assert outcome.code == 0, outcome
    jsonschema.validate(json.loads(there.read_text()), json.loads(shipped()))
    local, remote = read_report(here), read_report(there)
    assert remote.bundles == local.bundles
    assert remote.device.identity == local.device.identity
    assert [x.case for x in remote.cases] == [x.case for x in local.cases]
    assert f"--on {on[1]}" in remote.command
    assert "tiny-int8" in outcome.out
    assert device.left == []

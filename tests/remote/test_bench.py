"""bench --on: the same report as here, from a device that keeps nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.remote.conftest import ENDS_AT_ONCE, Device, link
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
    """Schema, bundle, cases and identity equal a local run's; nothing is left there."""
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


def test_a_private_environment_on_a_device_without_internet(
    w2v_edge: Verb, refused: Any, offline_device: Device, tmp_path: Path
) -> None:
    """The desk brings the packages; kept, they are not copied again, until a run removes them."""
    device, report = offline_device, tmp_path / "report.json"
    on = ("--on", device.host, "--ssh")
    outcome = w2v_edge(*BENCH, *on, device.ssh, "--keep", "--report", report)
    if "cannot get wheels" in outcome.err:
        pytest.skip(f"pip cannot download here: {outcome.err}")
    assert outcome.code == 0, outcome
    assert "numpy" in read_report(report).device.packages
    assert any(x.endswith("tiny-int8/encoder.onnx") for x in device.left)
    log = tmp_path / "passed"
    again = w2v_edge(*ENDS_AT_ONCE, *on, link(device, log))
    refused(again, 1, "found 999 threads")
    assert int(log.read_text()) < 100_000
    assert device.left == []


def test_several_devices_at_the_same_time(
    w2v_edge: Verb,
    device: Device,
    python: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One report file each, and a table; a device that is unreachable does not end the others."""
    # Not that of the device: this machine stands for both, and a device has one lock.
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    on = ("--on", device.host, "--on", "local", "--ssh", device.ssh, "--use", python)
    outcome = w2v_edge(*BENCH, *on, "--on", "nowhere.invalid", "--report", tmp_path / "all.json")
    assert outcome.code == 1
    assert "error: nowhere.invalid: cannot connect" in outcome.err
    names = (device.host.replace("@", "-"), "local")
    commands = [read_report(tmp_path / f"all-{name}.json").command for name in names]
    assert [x.rpartition("# ")[2] for x in commands] == [device.host, "local"]
    assert "ratio to the first device" in outcome.out
    assert device.left == []

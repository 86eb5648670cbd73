"""verify, doctor, encode and stream on a device: what they print and write is as if run here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.remote.conftest import Device
from w2v_edge import data

Verb = Callable[..., Any]
CLIP = Path(data.__file__).with_name("en-activated.flac")


@pytest.fixture
def on(device: Device, python: str) -> tuple[str, ...]:
    """Options for a run on the device."""
    return ("--on", device.host, "--ssh", device.ssh, "--use", python)


def test_verify_and_doctor(w2v_edge: Verb, device: Device, on: tuple[str, ...]) -> None:
    """Results are printed as JSON without a word more."""
    found = w2v_edge("verify", data.TINY_INT8, "--json", *on)
    assert found.code == 0, found
    assert found.json["passed"]
    assert device.host in w2v_edge("devices", "--json").json
    assert "numpy" in w2v_edge("doctor", "--json", *on).json["versions"]
    assert device.left == []


def test_encode(
    w2v_edge: Verb, refused: Any, device: Device, on: tuple[str, ...], tmp_path: Path
) -> None:
    """Files and folders are copied there, and all that was written comes back, also on failure."""
    talks = tmp_path / "talks"
    (talks / "inner").mkdir(parents=True)
    (talks / "inner/good.flac").write_bytes(CLIP.read_bytes())
    (talks / "bad.flac").write_bytes(b"fLaC")
    here, there = tmp_path / "here", tmp_path / "there"
    outcome = w2v_edge("encode", data.TINY_INT8, CLIP, talks, "-o", there, *on)
    assert outcome.code == 1
    assert "1 of 3 files failed" in outcome.err
    assert w2v_edge("encode", data.TINY_INT8, CLIP, "-o", here).code == 0
    files = sorted(x.relative_to(there).as_posix() for x in there.rglob("*.npz"))
    assert files == ["en-activated.npz", "inner/good.npz"]
    for name in files:
        with np.load(there / name) as found, np.load(here / "en-activated.npz") as expected:
            np.testing.assert_array_equal(found["codes"], expected["codes"])
    again = w2v_edge("encode", data.TINY_INT8, CLIP, "-o", there, *on)
    refused(again, 1, "already exists", "--force")
    assert device.left == []


def test_stream(w2v_edge: Verb, device: Device, on: tuple[str, ...]) -> None:
    """Lines and the summary equal a local stream's."""
    command = ("stream", data.TINY_INT8, CLIP, "--fast")
    there, here = w2v_edge(*command, *on), w2v_edge(*command)
    assert there.code == 0, there
    assert there.out == here.out
    assert "algorithmic latency" in there.err
    assert device.left == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("stream", data.TINY_INT8, "-"), "standard input stays here"),
        (("stream", data.TINY_INT8, "--mic"), "--mic cannot be combined with --on"),
        (("stream", data.TINY_INT8, "nothing.wav"), "nothing.wav: no file"),
        (("verify", data.TINY_INT8, "--checkpoint", "x.pt"), "cannot be combined with --on"),
        (("encode", data.TINY_INT8, "x", "--engine", "local"), "cannot be combined with --on"),
        (("verify", "nothing"), "nothing"),
        (("verify", data.TINY_INT8, "--on", "a"), "--on applies once"),
    ],
)
def test_refused_before_a_device_is_reached(
    w2v_edge: Verb, command: tuple[Any, ...], words: str
) -> None:
    """Files that are missing, and options that have no meaning on a device."""
    outcome = w2v_edge(*command, "--on", "nowhere.invalid")
    assert outcome.code in {1, 2}
    assert words in outcome.err

"""`w2v-edge tune`, from a bundle to a file that `load` takes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soundfile

import w2v_edge as package
from w2v_edge.bundle import Bundle
from w2v_edge.providers import usable_cores
from w2v_edge.providers.tuned import read_tuning, usual_path

Verb = Any
pytestmark = pytest.mark.usefixtures("settings_folder")


@pytest.fixture
def tiny(bundle: Callable[[str], Path]) -> Path:
    return bundle("tiny")


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_tune_writes_load_uses(w2v_edge: Verb, tiny: Path, settings_folder: Path) -> None:
    """A short tuning ends, and `load(tuned=True)` and `--tuned` use its file."""
    outcome = w2v_edge("tune", tiny, "--time", "3", "--seconds", "0.5")
    assert outcome.code == 0, outcome.err
    (path,) = files(settings_folder)
    assert path == usual_path(Bundle.open(tiny).manifest, "cpu")
    assert str(path) in outcome.out.replace("\n", "")
    assert "tuned=True" in outcome.out
    found = read_tuning(path)
    model = package.load(tiny, tuned=True)
    assert model.threads == (found.tuning.threads or usable_cores())
    clip = package.__path__[0] + "/data/en-activated.flac"
    tuned = w2v_edge("encode", tiny, clip, "-o", settings_folder / "tuned", "--tuned")
    usual = w2v_edge("encode", tiny, clip, "-o", settings_folder / "usual")
    assert (tuned.code, usual.code) == (0, 0), tuned.err
    arrays = [np.load(next((settings_folder / x).glob("*.npz"))) for x in ("tuned", "usual")]
    for name in arrays[0].files:
        np.testing.assert_array_equal(arrays[0][name], arrays[1][name])


def test_output_and_json(w2v_edge: Verb, tiny: Path, tmp_path: Path, settings_folder: Path) -> None:
    """`-o` sets the file, `--json` prints all attempts, `--dry-run` writes nothing."""
    path = tmp_path / "mine.json"
    small = ("--time", "1", "--seconds", "0.5", "--graph", "tokenizer")
    report = w2v_edge("tune", tiny, *small, "-o", path, "--json").json
    assert report["written"] == str(path)
    assert report["tuning"] == json.loads(path.read_text())["tuning"]
    assert {"spinning", "block_base", "batch_seconds"} <= {x["knob"] for x in report["attempts"]}
    # In a second nothing can be confirmed: nothing is taken, and that is said.
    assert {x["result"] for x in report["attempts"]} == {"no time"}
    assert report["gains"] == []
    assert package.load(tiny, tuned=path).threads == usable_cores()
    before = path.read_bytes()
    outcome = w2v_edge("tune", tiny, *small, "-o", path, "--dry-run")
    assert path.read_bytes() == before
    assert "not everything could be tried" in outcome.out
    assert "the defaults" in outcome.out
    assert "written" not in outcome.out
    assert not files(settings_folder)


def test_bad_input_is_one_line(
    w2v_edge: Verb,
    refused: Verb,
    tiny: Path,
    tmp_path: Path,
    settings_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Invalid input is refused before any measurement, and nothing is written."""
    empty = tmp_path / "empty"
    empty.mkdir()
    silent = tmp_path / "none.wav"
    soundfile.write(silent, np.zeros(0, np.float32), 16_000)
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    cases: dict[tuple[Any, ...], tuple[str, ...]] = {
        (tmp_path / "gone",): ("expected a bundle",),
        (tiny, "--threads", "999"): ("999 threads", "cores"),
        (tiny, "--provider", "qnn"): ("'qnn'",),
        (tiny, "--audio", empty): ("no audio",),
        (tiny, "--audio", silent): ("holds no samples",),
        (tiny, "--seconds", "0.0001"): ("0.0001 s",),
        (tiny, "-o", tmp_path): ("is a folder",),
        (tiny, "-o", in_the_way / "x.json"): ("cannot be written", "choose another file"),
        (tiny, "-o", tmp_path / "no" / "x.json"): ("cannot be written",),
    }
    if Path("/dev/null").exists():
        cases[(tiny, "-o", "/dev/null")] = ("/dev/null is not a regular file",)
    for arguments, words in cases.items():
        refused(w2v_edge("tune", *arguments), 1, *words)
    assert not files(settings_folder)
    for name in ("XDG_CONFIG_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(name, str(in_the_way))
    refused(w2v_edge("tune", tiny), 1, "cannot be written")


def test_usage_errors(w2v_edge: Verb, tiny: Path) -> None:
    """Invalid values are usage errors."""
    for wrong in (("--threads", "0"), ("--time", "-1"), ("--seconds", "x"), ("--graph", "y"), ()):
        target = (tiny,) if wrong else ()
        assert w2v_edge("tune", *target, *wrong).code == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to interrupt")
def test_an_interrupt_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    """Ctrl-C is one line, ends all processes and keeps an existing tuning."""
    path = tmp_path / "mine" / "tuning.json"
    path.parent.mkdir()
    path.write_text("before")
    # A background job of a shell ignores Ctrl-C, and so would what it starts.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from w2v_edge.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "tune", str(tiny), "--time", "60", "-o", str(path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        measuring = psutil.Process(process.pid)
        while not measuring.children():
            time.sleep(0.05)
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        try:
            _, said = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, said
    *_, line = said.decode().strip().splitlines()
    assert line == "error: interrupted; nothing half-written was left"
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]
    deadline = time.monotonic() + 10
    while _running(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _running(process.pid)


def _running(group: int) -> list[str]:
    """Return the processes of a group that have not ended; an orphan may wait to be buried."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            ended = process.status() == psutil.STATUS_ZOMBIE
            if os.getpgid(process.pid) == group and not ended:
                found.append(" ".join(process.cmdline()))
    return found

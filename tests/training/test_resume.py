"""Resuming: an interrupted run gives the same result as an uninterrupted one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.training.helpers import assert_same_run, interrupt_at
from w2v_edge import data
from w2v_edge.errors import AudioFileError, OutputExistsError, TrainingError
from w2v_edge.training.metrics import read_log

if TYPE_CHECKING:
    from w2v_edge.training.loop import Trained

Run = Callable[..., "Trained"]


def _losses(folder: Path) -> dict[int, float]:
    lines = read_log(folder / "log.jsonl")
    return {int(line["update"]): line["loss"] for line in lines if "loss" in line}


def test_an_interrupted_run_equals_an_uninterrupted_one(
    initial: Callable[..., Path], pretrain: Run, tmp_path: Path
) -> None:
    """Losses and weights agree, with dropout, layer drop, accumulation and several epochs."""
    start = initial("base-small", dropout=0.1, layer_drop=0.2)
    given: dict[str, Any] = {"updates": 6, "accumulate": 2, "batch_seconds": 4.0}
    given |= {"validation_fraction": 0.3}
    pretrain("whole", init=start, **given)
    callbacks = interrupt_at(3, 4)
    with pytest.raises(KeyboardInterrupt):
        pretrain("parts", init=start, callbacks=callbacks, **given)
    with pytest.raises(KeyboardInterrupt):
        pretrain("parts", resume=True, callbacks=callbacks, **given)
    pretrain("parts", resume=True, **given)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_run_resumes_with_more_updates(pretrain: Run, tmp_path: Path) -> None:
    """The number of updates may grow; no update is repeated."""
    pretrain("run", updates=2)
    assert pretrain("run", updates=2, resume=True).update == 2
    assert pretrain("run", updates=3, resume=True).update == 3
    assert sorted(_losses(tmp_path / "run")) == [1, 2, 3]


def test_another_run_is_refused(pretrain: Run, tmp_path: Path) -> None:
    """The error says what differs; the existing folder stays unchanged."""
    pretrain("run", updates=1)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}
    with pytest.raises(OutputExistsError, match="--resume"):
        pretrain("run")
    with pytest.raises(TrainingError, match=r"learning_rate 0\.001, found 0\.5"):
        pretrain("run", resume=True, learning_rate=0.5)
    with pytest.raises(TrainingError, match="other recordings"):
        pretrain("run", resume=True, sources=[data.DEMO_CLIP])
    with pytest.raises(TrainingError, match="no run to resume"):
        pretrain("nowhere", resume=True)
    assert before == {path: path.read_bytes() for path in before}
    (tmp_path / "run" / "training.pt").write_bytes(b"PK damaged")
    with pytest.raises(TrainingError, match=r"start a new run from .*model\.pt"):
        pretrain("run", resume=True)
    assert (tmp_path / "run" / "training.pt").read_bytes() == b"PK damaged"


def test_a_recording_that_becomes_unreadable_ends_the_run(pretrain: Run, tmp_path: Path) -> None:
    """The updates so far are saved."""
    folder = tmp_path / "speech"
    shutil.copytree(data.FOLDER, folder, ignore=shutil.ignore_patterns("tiny*"))
    from w2v_edge.training.recordings import Crop

    calls = 0
    read = Crop.read

    def failing(self: Crop, sample_rate: int) -> object:
        nonlocal calls
        calls += 1
        if calls > 12:
            (folder / "fr-demo-abouttotry.flac").write_bytes(b"fLaC damaged")
        return read(self, sample_rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Crop, "read", failing)
        with pytest.raises(AudioFileError, match="fr-demo"):
            # One worker reads batches in their order: the first is whole.
            pretrain("run", updates=60, sources=[folder], every=100, num_workers=1)
    state = torch.load(tmp_path / "run" / "training.pt", weights_only=True)
    assert 0 < state["update"] < 60


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without a signal")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 0)])
def test_a_killed_or_stopped_run_resumes(
    number: signal.Signals, code: int, pretrain: Run, tmp_path: Path
) -> None:
    """SIGKILL leaves the last save; SIGTERM saves first."""
    folder = tmp_path / "run"
    overrides = ["--updates", "300", "--batch-seconds", "8", "--crop-seconds", "2"]
    overrides += ["--min-seconds", "0.3", "--validation-fraction", "0", "--learning-rate", "0.001"]
    command = [sys.executable, "-m", "w2v_edge", "pretrain", str(data.FOLDER), "--preset", "tiny"]
    command += [*overrides, "-o", str(folder), "--cpu", "--save-every", "2", "--log-every", "1"]
    with subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as process:
        deadline = time.monotonic() + 120
        while not (folder / "training.pt").is_file() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == code
    state = torch.load(folder / "training.pt", weights_only=True)
    assert state["update"] >= 2
    if number == signal.SIGTERM:
        assert json.loads(out)["update"] == state["update"]
        assert not json.loads(out)["finished"]
    assert not list(folder.glob("*.part*")) or number == signal.SIGKILL
    more = state["update"] + 1
    assert pretrain("run", updates=more, resume=True).update == more
    assert sorted(_losses(folder)) == list(range(1, more + 1))

"""Runs that end and go on: as if nothing had been."""

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
from typing import TYPE_CHECKING

import pytest
import torch

from w2v_edge import data
from w2v_edge.errors import AudioFileError, OutputExistsError, TrainingError
from w2v_edge.model import load_checkpoint
from w2v_edge.training.tracking import read_log

if TYPE_CHECKING:
    from w2v_edge.training.loop import Trained

Run = Callable[..., "Trained"]


def _losses(folder: Path) -> dict[int, float]:
    lines = read_log(folder / "log.jsonl")
    return {int(line["update"]): line["loss"] for line in lines if "loss" in line}


def _same(one: Path, other: Path) -> None:
    a, b = (load_checkpoint(path / "model.pt").state_dict() for path in (one, other))
    for name, tensor in a.items():
        torch.testing.assert_close(tensor, b[name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("name", ["base-small", "tutorial-small"])
def test_a_run_in_parts_is_the_run_in_one(
    name: str, initial: Callable[..., Path], pretrain: Run, tmp_path: Path
) -> None:
    """With dropout, layer drop, accumulation and another epoch on the way: losses and weights."""
    start = initial(name, dropout=0.1, layer_drop=0.2) if name == "base-small" else initial(name)
    pretrain("whole", init=start, updates=6, accumulate=2, batch_seconds=4.0)
    pretrain("parts", init=start, updates=6, accumulate=2, batch_seconds=4.0, every=6)
    parts = tmp_path / "parts"
    for name_ in ("training.pt", "model.pt", "log.jsonl"):
        (parts / name_).unlink(missing_ok=True)
    for update in (2, 3, 6):
        # A shorter run with the longer one's schedule: what a kill leaves behind.
        _until(parts, update, pretrain, start)
    _same(tmp_path / "whole", parts)
    assert _losses(parts) == pytest.approx(_losses(tmp_path / "whole"), abs=1e-4)


def _until(folder: Path, update: int, pretrain: Run, start: Path) -> None:
    from w2v_edge.training import loop

    step = loop._Loop._step

    def stopping(self: loop._Loop, batches: object) -> None:
        if self.update == update:
            raise KeyboardInterrupt
        step(self, batches)  # type: ignore[arg-type]

    model = folder / "model.pt"
    if not model.exists():
        model.write_bytes(start.read_bytes())
    loop._Loop._step = stopping  # type: ignore[method-assign]
    try:
        pretrain(folder.name, updates=6, accumulate=2, batch_seconds=4.0, resume=True)
    except KeyboardInterrupt:
        pass
    finally:
        loop._Loop._step = step  # type: ignore[method-assign]


def test_a_finished_run_goes_on_with_more_updates(pretrain: Run, tmp_path: Path) -> None:
    """What was asked for may grow; nothing is done twice."""
    pretrain("run", updates=2)
    assert pretrain("run", updates=2, resume=True).update == 2
    assert pretrain("run", updates=3, resume=True).update == 3
    assert sorted(_losses(tmp_path / "run")) == [1, 2, 3]


def test_another_run_is_refused(pretrain: Run, tmp_path: Path) -> None:
    """It says what differs; a folder that is there is not begun anew, and stays as it is."""
    pretrain("run", updates=1)
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}
    with pytest.raises(OutputExistsError, match="--resume"):
        pretrain("run")
    with pytest.raises(TrainingError, match=r"learning_rate 0\.001, found 0\.5"):
        pretrain("run", resume=True, learning_rate=0.5)
    with pytest.raises(TrainingError, match="other recordings"):
        pretrain("run", resume=True, sources=[data.DEMO_CLIP])
    with pytest.raises(TrainingError, match="no run to go on with"):
        pretrain("nowhere", resume=True)
    assert before == {path: path.read_bytes() for path in before}
    (tmp_path / "run" / "training.pt").write_bytes(b"PK damaged")
    with pytest.raises(TrainingError, match="--init"):
        pretrain("run", resume=True)
    assert (tmp_path / "run" / "training.pt").read_bytes() == b"PK damaged"


def test_a_recording_that_goes_bad_costs_nothing(pretrain: Run, tmp_path: Path) -> None:
    """The updates that were made are saved."""
    folder = tmp_path / "speech"
    shutil.copytree(data.FOLDER, folder, ignore=shutil.ignore_patterns("tiny*"))
    from w2v_edge.training.clips import Piece

    calls = 0
    read = Piece.read

    def failing(self: Piece, sample_rate: int) -> object:
        nonlocal calls
        calls += 1
        if calls > 12:
            (folder / "fr-demo-abouttotry.flac").write_bytes(b"fLaC damaged")
        return read(self, sample_rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Piece, "read", failing)
        with pytest.raises(AudioFileError, match="fr-demo"):
            pretrain("run", updates=60, sources=[folder], every=100)
    state = torch.load(tmp_path / "run" / "training.pt", weights_only=True)
    assert 0 < state["update"] < 60


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends processes without a signal")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 0)])
def test_a_run_that_is_ended_leaves_what_it_takes_to_go_on(
    number: signal.Signals, code: int, pretrain: Run, tmp_path: Path
) -> None:
    """Killed at any moment it goes on from its last save; asked to end it saves first."""
    folder = tmp_path / "run"
    wishes = ["--updates", "300", "--batch-seconds", "8", "--crop-seconds", "2"]
    wishes += ["--min-seconds", "0.3", "--validation-fraction", "0", "--learning-rate", "0.001"]
    command = [sys.executable, "-m", "w2v_edge", "pretrain", str(data.FOLDER), "--preset", "tiny"]
    command += [*wishes, "-o", str(folder), "--cpu", "--save-every", "2", "--log-every", "1"]
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
